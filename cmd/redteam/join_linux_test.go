package redteam

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

// release is the version that the machines run.
func release(t *testing.T) string {
	t.Helper()
	n, err := victim.client.CoreV1().Nodes().Get(t.Context(), "n3", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := strings.Cut(n.Status.NodeInfo.KubeletVersion, "+copepod-")
	return "v" + version
}

// enter joins as a machine of a name, from an attacker's address, and returns the
// data directory.
func enter(t *testing.T, m *machine, name string, host byte, token string) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := enroll.Join(t.Context(), enroll.Request{
		Dir: dir, Server: m.at(apiPort), Token: token, Name: name, Bind: victim.addr(host), Version: release(t),
		Ports: enroll.Ports{API: apiPort, Node: nodePort, Gossip: gossipPort, Mesh: meshPort},
		Log:   slog.New(slog.DiscardHandler),
	})
	return dir, err
}

func newToken(t *testing.T, spec join.Spec) join.Token {
	t.Helper()
	tok, err := victim.token(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = enroll.DeleteToken(context.Background(), victim.client, tok.ID) })
	return tok
}

// forget takes a machine that a test let in out again.
func forget(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() { _, _ = enroll.Revoke(context.Background(), victim.client, name) })
}

func refusedAs(t *testing.T, what string, err error, want ...enroll.Code) {
	t.Helper()
	r, ok := errors.AsType[*enroll.Refusal](err)
	if !ok || !slices.Contains(want, r.Code) {
		t.Errorf("%s: got %v, want the refusal %v", what, err, want)
	}
}

func TestTokenIsWorthNothingToWhoComesLate(t *testing.T) {
	w := newWitness(t)
	before := victim.n1.metric(t, "copepod_enroll_answers_total", `request="join"`) - victim.n1.metric(t, "copepod_enroll_answers_total", `request="join"`, `outcome="ok"`)
	used := newToken(t, join.Spec{})
	if _, err := enter(t, victim.n1, "late1", 130, used.String()); err != nil {
		t.Fatal(err)
	}
	forget(t, "late1")
	_, err := enter(t, victim.n1, "late2", 131, used.String())
	refusedAs(t, "a used token", err, enroll.CodeUsedUp)
	_, err = enter(t, victim.n1, "late1", 131, used.String())
	refusedAs(t, "a used token, under the name of who used it", err, enroll.CodeUsedUp, enroll.CodeTaken, enroll.CodeAddress)

	made := time.Now()
	expired := newToken(t, join.Spec{TTL: time.Second})
	eventually(t, "the token has expired", func() (bool, string) { return time.Since(made) > 2*time.Second, "" })
	_, err = enter(t, victim.n1, "late3", 132, expired.String())
	refusedAs(t, "an expired token", err, enroll.CodeExpired)

	deleted := newToken(t, join.Spec{})
	if err := enroll.DeleteToken(t.Context(), victim.client, deleted.ID); err != nil {
		t.Fatal(err)
	}
	_, err = enter(t, victim.n1, "late4", 133, deleted.String())
	refusedAs(t, "a token that was deleted", err, enroll.CodeUnknown)

	taken := newToken(t, join.Spec{})
	for _, name := range []string{"n1", "n2", "n3"} {
		_, err = enter(t, victim.n1, name, 134, taken.String())
		refusedAs(t, "the name "+name, err, enroll.CodeTaken, enroll.CodeAddress)
	}
	now := victim.n1.metric(t, "copepod_enroll_answers_total", `request="join"`) - victim.n1.metric(t, "copepod_enroll_answers_total", `request="join"`, `outcome="ok"`)
	if now < before+7 {
		t.Errorf("got %v refusals counted, want at least 7", now-before)
	}
	w.unharmed(t)
}

func TestTokenForOneMachineIsGoodForOneOfManyAtOnce(t *testing.T) {
	w := newWitness(t)
	tok := newToken(t, join.Spec{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for i := range 8 {
		m := []*machine{victim.n1, victim.n2}[i%2] // both planes spend
		name := "many" + string(rune('a'+i))
		wg.Go(func() {
			_, err := enter(t, m, name, byte(140+i), tok.String())
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				in++
				forget(t, name)
				return
			}
			refusedAs(t, "one of many", err, enroll.CodeUsedUp)
		})
	}
	wg.Wait()
	if in != 1 {
		t.Errorf("got %d machines in with a token for one", in)
	}
	w.unharmed(t)
}

func TestGuessingTheSecretOfATokenLocksItAndHarmsNoOther(t *testing.T) {
	w := newWitness(t)
	tok, other := newToken(t, join.Spec{}), newToken(t, join.Spec{})
	before := victim.n1.metric(t, "copepod_enroll_answers_total", `outcome="locked"`)
	wrong := tok
	locked := false
	for i := range 64 {
		wrong.Secret = strings.Repeat("a", len(tok.Secret)-1) + string("abcdefghijklmnopqrstuvwxyz234567"[i%32])
		_, err := enter(t, victim.n1, "guess", 135, wrong.String())
		refusedAs(t, "a guess", err, enroll.CodeUnknown, enroll.CodeLocked)
		if r, ok := errors.AsType[*enroll.Refusal](err); ok && r.Code == enroll.CodeLocked {
			locked = true
			break
		}
	}
	if !locked {
		t.Error("64 guesses, and the token is not locked")
	}
	_, err := enter(t, victim.n1, "guess", 135, tok.String())
	refusedAs(t, "the right secret after the guesses", err, enroll.CodeLocked)
	if _, err := enter(t, victim.n1, "honest", 136, other.String()); err != nil {
		t.Errorf("another token: %v", err)
	}
	forget(t, "honest")
	victim.n1.counts(t, before, 1, "copepod_enroll_answers_total", `outcome="locked"`)
	w.unharmed(t)
}

// ask sends a request of machines as n3, whose key was stolen.
func ask(t *testing.T, method, path string, body map[string]any) (int, string) {
	t.Helper()
	cert, err := pairOf(t, victim.n3.dir).TLS()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: victim.ca.Pool(), ServerName: certs.APIName, Certificates: []tls.Certificate{cert},
	}}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+victim.n1.at(apiPort)+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestStolenNodeKeyGetsNoCertificateButTheNodesOwn(t *testing.T) {
	w := newWitness(t)
	key, _, err := certs.NodeKey(filepath.Join(victim.n3.dir, "node", "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	csr := func(name string, hosts ...string) string {
		data, err := certs.NewNodeCSR(key, name, hosts...)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := victim.n1.metric(t, "copepod_enroll_answers_total", `request="renew"`, `outcome="request"`)
	attacks := []map[string]any{
		{"client": csr("n1")},
		{"serving": csr("n1", victim.n1.addr.String())},
		{"serving": csr("n3", victim.n1.addr.String())},
		{"serving": csr("n3", certs.APIName)},
		{"serving": csr("n3", "localhost")},
		{"serving": csr("n3", "n1")},
	}
	for i, body := range attacks {
		body["address"], body["version"], body["time"] = victim.n3.addr.String(), release(t), time.Now()
		if code, text := ask(t, http.MethodPost, enroll.RenewPath, body); code < 400 || strings.Contains(text, "CERTIFICATE") {
			t.Errorf("request %d: got %d, %s; want it refused", i, code, text)
		}
	}
	now := victim.n1.metric(t, "copepod_enroll_answers_total", `request="renew"`)
	if now < before+float64(len(attacks)) {
		t.Errorf("got %v refusals counted, want %d", now-before, len(attacks))
	}
	if code, text := ask(t, http.MethodGet, enroll.KeysPath, nil); code < 400 || strings.Contains(text, "PRIVATE") {
		t.Errorf("keys of the cluster: got %d, %.100s", code, text)
	}
	w.unharmed(t)
}
