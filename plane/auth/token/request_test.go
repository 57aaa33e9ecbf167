package token_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"copepod/plane/auth/token"
)

func TestAnyOIDCClientCanVerifyByTheDocuments(t *testing.T) {
	issuer := newIssuer(t)
	doc, err := issuer.Discovery("https://192.0.2.1:6443" + token.JWKSPath)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"issuer":"` + issuerURL + `","jwks_uri":"https://192.0.2.1:6443/openid/v1/jwks",` +
		`"response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`
	if string(doc) != want {
		t.Errorf("got  %s\nwant %s", doc, want)
	}
	jwks, err := issuer.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(jwks), `"d"`) {
		t.Fatalf("the document tells the private key: %s", jwks)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(issue(t, issuer, web()), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(set.Key(parsed.Headers[0].KeyID)[0], &claims); err != nil || claims.Issuer != issuerURL {
		t.Errorf("got %v, issuer %s", err, claims.Issuer)
	}
}

func TestTokenRequestsAreGrantedWithinBounds(t *testing.T) {
	issuer := newIssuer(t)
	sa := world()["serviceaccounts/default/web"].(*corev1.ServiceAccount)
	ref := func(kind, name string) *authenticationv1.BoundObjectReference {
		return &authenticationv1.BoundObjectReference{Kind: kind, APIVersion: "v1", Name: name}
	}
	seconds := func(n int64) *int64 { return &n }
	for _, tt := range []struct {
		name   string
		spec   authenticationv1.TokenRequestSpec
		want   int64 // seconds granted, 0 = refused
		reason func(error) bool
	}{
		{"nothing said", authenticationv1.TokenRequestSpec{}, 3600, nil},
		{"two hours", authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(7200)}, 7200, nil},
		{"a year is cut", authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(365 * 86400)}, 86400, nil},
		{"a minute", authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(60)}, 0, apierrors.IsInvalid},
		{"an age", authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(1<<32 + 1)}, 0, apierrors.IsInvalid},
		{"bound to its pod", authenticationv1.TokenRequestSpec{BoundObjectRef: ref("Pod", "web-0")}, 3600, nil},
		{"bound to a secret", authenticationv1.TokenRequestSpec{BoundObjectRef: ref("Secret", "key")}, 3600, nil},
		{"bound to a node", authenticationv1.TokenRequestSpec{BoundObjectRef: ref("Node", "n1")}, 3600, nil},
		{"bound to no pod", authenticationv1.TokenRequestSpec{BoundObjectRef: ref("Pod", "web-1")}, 0, apierrors.IsNotFound},
		{"bound to what cannot be", authenticationv1.TokenRequestSpec{BoundObjectRef: ref("ConfigMap", "c")}, 0, apierrors.IsBadRequest},
		{"bound to a pod that was replaced", authenticationv1.TokenRequestSpec{
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "web-0", UID: "older"},
		}, 0, apierrors.IsConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := &authenticationv1.TokenRequest{Spec: tt.spec}
			got, err := issuer.Grant(t.Context(), world(), sa, asked)
			if tt.want == 0 {
				if err == nil || !tt.reason(err) {
					t.Errorf("got %v, want a refusal of its kind", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if *got.Spec.ExpirationSeconds != tt.want || len(got.Spec.Audiences) != 1 {
				t.Errorf("got %d seconds for %v, want %d", *got.Spec.ExpirationSeconds, got.Spec.Audiences, tt.want)
			}
			if left := time.Until(got.Status.ExpirationTimestamp.Time); left > time.Duration(tt.want)*time.Second {
				t.Errorf("got %s left, want at most %ds", left, tt.want)
			}
			if asked.Status.Token != "" || asked.Spec.Audiences != nil {
				t.Error("the request was changed")
			}
			if _, ok, err := token.NewAuthenticator(issuer, world()).AuthenticateToken(t.Context(), got.Status.Token); !ok {
				t.Errorf("the token does not work: %v", err)
			}
		})
	}
}

func TestTokenIsNotBoundToThePodOfAnotherAccount(t *testing.T) {
	o := world()
	o["pods/default/web-0"].(*corev1.Pod).Spec.ServiceAccountName = "other"
	_, err := newIssuer(t).Grant(t.Context(), o, o["serviceaccounts/default/web"].(*corev1.ServiceAccount), &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "web-0"}},
	})
	want := `cannot bind token for serviceaccount "web" to pod running with different serviceaccount name.`
	if !apierrors.IsBadRequest(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPodBoundTokenNotesTheNode(t *testing.T) {
	issuer, o := newIssuer(t), world()
	got, err := issuer.Grant(t.Context(), o, o["serviceaccounts/default/web"].(*corev1.ServiceAccount), &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "web-0", UID: "pod-1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := issuer.Verify(got.Status.Token, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if n := claims.Kubernetes.Node; n == nil || n.Name != "n1" || n.UID != "node-1" {
		t.Errorf("got node %v, want n1", n)
	}
}

func TestReviewAnswersWhoATokenIs(t *testing.T) {
	issuer := newIssuer(t)
	authn := token.NewAuthenticator(issuer, world())
	forVault := web()
	forVault.Audiences = []string{"vault"}
	for _, tt := range []struct {
		name string
		spec authenticationv1.TokenReviewSpec
		want string // user, "" = not authenticated
		says string
	}{
		{"good", authenticationv1.TokenReviewSpec{Token: issue(t, issuer, web())}, "system:serviceaccount:default:web", ""},
		{"for an audience", authenticationv1.TokenReviewSpec{Token: issue(t, issuer, forVault), Audiences: []string{"vault"}}, "system:serviceaccount:default:web", ""},
		{"for another audience", authenticationv1.TokenReviewSpec{Token: issue(t, issuer, forVault)}, "", "invalid for the target audiences"},
		{"noise", authenticationv1.TokenReviewSpec{Token: "noise"}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := token.Review(t.Context(), authn, tt.spec, issuer.Audiences())
			if got.Authenticated != (tt.want != "") || got.User.Username != tt.want || !strings.Contains(got.Error, tt.says) {
				t.Errorf("got %+v, want user %q, error %q", got, tt.want, tt.says)
			}
		})
	}
}

func TestDamagedKeyFilesAreRefused(t *testing.T) {
	for name, content := range map[string]string{
		"empty":       "",
		"noise":       "noise",
		"certificate": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
		"no key":      "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
	} {
		if _, err := token.ParseKeys([]byte(content)); err == nil {
			t.Errorf("%s: got keys, want an error", name)
		}
	}
}
