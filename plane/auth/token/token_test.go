package token_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"

	"copepod/plane/auth/keyfile"
	"copepod/plane/auth/token"
)

const issuerURL = "https://kubernetes.default.svc.cluster.local"

// objects finds by "resource/namespace/name".
type objects map[string]metav1.Object

func (o objects) Object(_ context.Context, gr schema.GroupResource, namespace, name string) (metav1.Object, error) {
	if obj, ok := o[gr.Resource+"/"+namespace+"/"+name]; ok {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(gr, name)
}

func meta(namespace, name string, uid types.UID) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid}
}

// world has a service account web, a pod of it on node n1, and a secret.
func world() objects {
	return objects{
		"serviceaccounts/default/web": &corev1.ServiceAccount{ObjectMeta: meta("default", "web", "sa-1")},
		"pods/default/web-0": &corev1.Pod{ObjectMeta: meta("default", "web-0", "pod-1"),
			Spec: corev1.PodSpec{NodeName: "n1", ServiceAccountName: "web"}},
		"secrets/default/key": &corev1.Secret{ObjectMeta: meta("default", "key", "secret-1")},
		"nodes//n1":           &corev1.Node{ObjectMeta: meta("", "n1", "node-1")},
	}
}

func newIssuer(t testing.TB) *token.Issuer {
	keys, err := token.LoadOrCreateKeys(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return issuerWith(t, token.Config{URL: issuerURL, Keys: keys})
}

func issuerWith(t testing.TB, cfg token.Config) *token.Issuer {
	issuer, err := token.NewIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func web() token.Request { return token.Request{Namespace: "default", Name: "web", UID: "sa-1"} }

func issue(t testing.TB, issuer *token.Issuer, req token.Request) string {
	issued, err := issuer.Issue(req)
	if err != nil {
		t.Fatal(err)
	}
	return issued.Token
}

func Example() {
	dir, err := os.MkdirTemp("", "token")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	keys, err := token.LoadOrCreateKeys(filepath.Join(dir, "keys"))
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer, err := token.NewIssuer(token.Config{URL: issuerURL, Keys: keys})
	if err != nil {
		fmt.Println(err)
		return
	}
	issued, err := issuer.Issue(web())
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, ok, err := token.NewAuthenticator(issuer, world()).AuthenticateToken(context.Background(), issued.Token)
	fmt.Println(resp.User.GetName(), ok, err)
	// Output: system:serviceaccount:default:web true <nil>
}

func TestTokenTellsTheAPIServerWhoAndFromWhere(t *testing.T) {
	issuer := newIssuer(t)
	req := web()
	req.Pod, req.Node = &token.Ref{Name: "web-0", UID: "pod-1"}, &token.Ref{Name: "n1", UID: "node-1"}
	issued, err := issuer.Issue(req)
	if err != nil {
		t.Fatal(err)
	}
	resp, ok, err := token.NewAuthenticator(issuer, world()).AuthenticateToken(t.Context(), issued.Token)
	if !ok || err != nil {
		t.Fatalf("got %v, %v", ok, err)
	}
	if resp.User.GetUID() != "sa-1" || strings.Join(resp.User.GetGroups(), " ") != "system:serviceaccounts system:serviceaccounts:default" {
		t.Errorf("got uid %s, groups %v", resp.User.GetUID(), resp.User.GetGroups())
	}
	want := map[string][]string{
		"authentication.kubernetes.io/pod-name":      {"web-0"},
		"authentication.kubernetes.io/pod-uid":       {"pod-1"},
		"authentication.kubernetes.io/node-name":     {"n1"},
		"authentication.kubernetes.io/node-uid":      {"node-1"},
		"authentication.kubernetes.io/credential-id": {"JTI=" + issued.ID},
	}
	if got := resp.User.GetExtra(); !maps.EqualFunc(got, want, func(a, b []string) bool { return strings.Join(a, ",") == strings.Join(b, ",") }) {
		t.Errorf("got extra %v, want %v", got, want)
	}
	if len(resp.Audiences) != 1 || resp.Audiences[0] != issuerURL {
		t.Errorf("got audiences %v", resp.Audiences)
	}
}

func TestClaimsHaveKubernetesLayout(t *testing.T) {
	issuer := newIssuer(t)
	req := web()
	req.Pod = &token.Ref{Name: "web-0", UID: "pod-1"}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(issue(t, issuer, req), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"exp", "iat", "nbf", "jti"} {
		if claims[name] == nil {
			t.Errorf("claim %s is missing in %s", name, payload)
		}
	}
	got, _ := json.Marshal([]any{claims["iss"], claims["sub"], claims["aud"], claims["kubernetes.io"]})
	want := `["` + issuerURL + `","system:serviceaccount:default:web",["` + issuerURL + `"],` +
		`{"namespace":"default","pod":{"name":"web-0","uid":"pod-1"},"serviceaccount":{"name":"web","uid":"sa-1"}}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTokenEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		authn := token.NewAuthenticator(issuer, world())
		raw := issue(t, issuer, web())
		time.Sleep(token.DefaultTTL + 30*time.Second)
		if _, ok, err := authn.AuthenticateToken(t.Context(), raw); !ok {
			t.Errorf("within the leeway for clocks: got %v", err)
		}
		time.Sleep(time.Minute)
		if _, ok, err := authn.AuthenticateToken(t.Context(), raw); ok || !errors.Is(err, token.ErrExpired) {
			t.Errorf("after it: got %v, %v, want ErrExpired", ok, err)
		}
	})
}

func TestTokenOfTheFutureIsRefused(t *testing.T) {
	issuer := newIssuer(t)
	raw := issue(t, issuer, web())
	if _, err := issuer.Verify(raw, time.Now().Add(-2*time.Minute)); !errors.Is(err, token.ErrNotYetValid) {
		t.Errorf("got %v, want ErrNotYetValid", err)
	}
}

func TestTokenEndsWithTheObjectItIsBoundTo(t *testing.T) {
	pod, secret, node := web(), web(), web()
	pod.Pod, pod.Node = &token.Ref{Name: "web-0", UID: "pod-1"}, &token.Ref{Name: "n1", UID: "node-1"}
	secret.Secret = &token.Ref{Name: "key", UID: "secret-1"}
	node.Node = &token.Ref{Name: "n1", UID: "node-1"}
	gone := func(key string) func(objects) { return func(o objects) { delete(o, key) } }
	reborn := func(key string) func(objects) { return func(o objects) { o[key].SetUID("another") } }
	deleted := func(key string, ago time.Duration) func(objects) {
		return func(o objects) {
			at := metav1.NewTime(time.Now().Add(-ago))
			o[key].SetDeletionTimestamp(&at)
		}
	}
	for _, tt := range []struct {
		name   string
		req    token.Request
		change func(objects)
		want   bool
	}{
		{"nothing happened", pod, func(objects) {}, true},
		{"account gone", web(), gone("serviceaccounts/default/web"), false},
		{"account made again", web(), reborn("serviceaccounts/default/web"), false},
		{"account being deleted for long", web(), deleted("serviceaccounts/default/web", time.Hour), false},
		{"pod gone", pod, gone("pods/default/web-0"), false},
		{"pod made again", pod, reborn("pods/default/web-0"), false},
		{"pod shutting down", pod, deleted("pods/default/web-0", 30*time.Second), true},
		{"pod past its end", pod, deleted("pods/default/web-0", 2*time.Minute), false},
		{"pod's node gone: the pod decides", pod, gone("nodes//n1"), true},
		{"secret gone", secret, gone("secrets/default/key"), false},
		{"node gone", node, gone("nodes//n1"), false},
		{"node made again", node, reborn("nodes//n1"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			issuer, o := newIssuer(t), world()
			raw := issue(t, issuer, tt.req)
			tt.change(o)
			_, ok, err := token.NewAuthenticator(issuer, o).AuthenticateToken(t.Context(), raw)
			if ok != tt.want || (!ok && !errors.Is(err, token.ErrInvalidated)) {
				t.Errorf("got %v, %v, want %v", ok, err, tt.want)
			}
		})
	}
}

func TestTokenIsForItsAudienceOnly(t *testing.T) {
	issuer := newIssuer(t)
	authn := token.NewAuthenticator(issuer, world())
	req := web()
	req.Audiences = []string{"vault", "ci"}
	raw := issue(t, issuer, req)
	_, ok, err := authn.AuthenticateToken(t.Context(), raw)
	var audience *token.AudienceError
	if ok || !errors.As(err, &audience) {
		t.Errorf("at the API server: got %v, %v, want *AudienceError", ok, err)
	}
	ctx := authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault", "other"})
	resp, ok, err := authn.AuthenticateToken(ctx, raw)
	if !ok || len(resp.Audiences) != 1 || resp.Audiences[0] != "vault" {
		t.Errorf("for vault: got %v, %v, %v", resp, ok, err)
	}
}

func TestTokensOfOthersAreNoneOfOurBusiness(t *testing.T) {
	other := issuerWith(t, token.Config{URL: "https://other.example", Keys: mustKeys(t)})
	authn := token.NewAuthenticator(newIssuer(t), world())
	for name, raw := range map[string]string{
		"another issuer": issue(t, other, web()),
		"no JWT":         "abcdef.0123456789abcdef",
		"empty":          "",
		"huge":           strings.Repeat("a", 1<<20),
	} {
		if resp, ok, err := authn.AuthenticateToken(t.Context(), raw); resp != nil || ok || err != nil {
			t.Errorf("%s: got %v, %v, %v, want no opinion", name, resp, ok, err)
		}
	}
}

func mustKeys(t testing.TB) *token.Keys {
	keys, err := token.LoadOrCreateKeys(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestRotatedKeysStillVerifyWhatTheySigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys, err := token.LoadOrCreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	old := issue(t, issuerWith(t, token.Config{URL: issuerURL, Keys: keys}), web())
	if keys, err = token.RotateKeys(dir, 2); err != nil {
		t.Fatal(err)
	}
	issuer := issuerWith(t, token.Config{URL: issuerURL, Keys: keys})
	if _, err := issuer.Verify(old, time.Now()); err != nil {
		t.Errorf("after one rotation: got %v, want it valid", err)
	}
	var set jose.JSONWebKeySet
	if data, err := issuer.JWKS(); err != nil || json.Unmarshal(data, &set) != nil || len(set.Keys) != 2 {
		t.Errorf("got %d keys published, want 2", len(set.Keys))
	}
	if keys, err = token.RotateKeys(dir, 2); err != nil {
		t.Fatal(err)
	}
	issuer = issuerWith(t, token.Config{URL: issuerURL, Keys: keys})
	if _, err := issuer.Verify(old, time.Now()); !errors.Is(err, token.ErrSignature) {
		t.Errorf("after two rotations with two keys kept: got %v, want ErrSignature", err)
	}
}

func TestKeysThatOthersCanReadAreRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := token.LoadOrCreateKeys(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, token.KeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := token.LoadOrCreateKeys(dir)
	var wide *keyfile.PermissionError
	if !errors.As(err, &wide) {
		t.Errorf("got %v, want *keyfile.PermissionError", err)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	keys := mustKeys(t)
	for name, cfg := range map[string]token.Config{
		"no URL":        {Keys: keys},
		"plain http":    {URL: "http://x", Keys: keys},
		"no keys":       {URL: issuerURL},
		"tiny lifetime": {URL: issuerURL, Keys: keys, MaxTTL: time.Second},
	} {
		if _, err := token.NewIssuer(cfg); err == nil {
			t.Errorf("%s: got an issuer, want an error", name)
		}
	}
	if _, err := newIssuer(t).Issue(token.Request{Namespace: "default", Name: "web"}); err == nil {
		t.Error("account without uid: got a token, want an error")
	}
}

func FuzzVerify(f *testing.F) {
	issuer := newIssuer(f)
	authn := token.NewAuthenticator(issuer, world())
	good := issue(f, issuer, web())
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2t1YmVybmV0ZXMuZGVmYXVsdC5zdmMuY2x1c3Rlci5sb2NhbCJ9.")
	f.Add(`{"payload":"","signatures":[]}`)
	f.Fuzz(func(t *testing.T, raw string) {
		claims, err := issuer.Verify(raw, time.Now())
		if err == nil && (claims.Subject != "system:serviceaccount:default:web" || claims.Kubernetes.ServiceAccount.UID != "sa-1") {
			t.Errorf("accepted %q as %+v", raw, claims)
		}
		if resp, ok, _ := authn.AuthenticateToken(t.Context(), raw); ok && resp.User.GetUID() != "sa-1" {
			t.Errorf("let %q in as %v", raw, resp.User)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "keys")
	if _, err := token.RotateKeys(dir, 2); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, token.KeyFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if keys, err := token.ParseKeys(data); err == nil {
			if _, err := token.NewIssuer(token.Config{URL: issuerURL, Keys: keys}); err != nil {
				t.Errorf("parsed keys that do not sign: %v", err)
			}
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	issuer := newIssuer(b)
	for b.Loop() {
		issue(b, issuer, web())
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	issuer := newIssuer(b)
	authn := token.NewAuthenticator(issuer, world())
	raw := issue(b, issuer, web())
	for b.Loop() {
		if _, ok, err := authn.AuthenticateToken(b.Context(), raw); !ok {
			b.Fatal(err)
		}
	}
}
