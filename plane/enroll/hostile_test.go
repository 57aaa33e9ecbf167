package enroll_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

// body is a good request to join, to be spoiled.
func body(t testing.TB, name, pasted string, key *ecdsa.PrivateKey) map[string]any {
	t.Helper()
	one.forget(t, name)
	tok, err := join.Parse(pasted)
	if err != nil {
		t.Fatal(err)
	}
	client, err1 := certs.NewNodeCSR(key, name)
	serving, err2 := certs.NewNodeCSR(key, name, "127.0.0.1")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return map[string]any{
		"tokenID": tok.ID, "secret": tok.Secret, "name": name, "client": string(client), "serving": string(serving),
		"address": "127.0.0.1", "version": release, "time": time.Now().UTC(),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csr is a request as an attacker would write it.
func csr(t testing.TB, key *ecdsa.PrivateKey, tmpl x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// send posts bytes as a machine would, with a certificate if there is one, and
// gives the status and the answer.
func send(t testing.TB, method, path string, content []byte, pair ...tls.Certificate) (int, []byte) {
	t.Helper()
	client := &http.Client{Timeout: patient, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: one.ca.Pool(), ServerName: certs.APIName, Certificates: pair},
	}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+one.address+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, data
}

// refused posts to join and wants a code.
func refused(t testing.TB, content []byte, want enroll.Code) {
	t.Helper()
	status, data := send(t, http.MethodPost, enroll.JoinPath, content)
	var r enroll.Refusal
	if err := json.Unmarshal(data, &r); err != nil || r.Code != want || status == http.StatusOK || r.Message == "" {
		t.Errorf("got %d %.300s, want code %s", status, data, want)
	}
}

func TestRequestsCannotAskForMoreThanTheirOwn(t *testing.T) {
	tok, key, name := one.token(t, join.Spec{Uses: 100}), newKey(t), "modest"
	node := pkix.Name{CommonName: "system:node:modest", Organization: []string{"system:nodes"}}
	spoil := func(field string, value any) []byte {
		b := body(t, name, tok, key)
		b[field] = value
		return encode(t, b)
	}
	ip := net.IPv4(127, 0, 0, 1)
	for what, tt := range map[string]struct {
		body []byte
		want enroll.Code
	}{
		"client of masters": {spoil("client", csr(t, key, x509.CertificateRequest{Subject: pkix.Name{
			CommonName: "system:node:modest", Organization: []string{"system:nodes", "system:masters"}}})), enroll.CodeRequest},
		"client of planes": {spoil("client", csr(t, key, x509.CertificateRequest{Subject: pkix.Name{
			CommonName: "system:node:modest", Organization: []string{"system:nodes", "copepod:planes"}}})), enroll.CodeRequest},
		"client of another node": {spoil("client", csr(t, key, x509.CertificateRequest{Subject: pkix.Name{
			CommonName: "system:node:other", Organization: []string{"system:nodes"}}})), enroll.CodeRequest},
		"serving another address": {spoil("serving", csr(t, key, x509.CertificateRequest{Subject: node, IPAddresses: []net.IP{ip, net.IPv4(10, 43, 0, 1)}})), enroll.CodeRequest},
		"serving the API's name":  {spoil("serving", csr(t, key, x509.CertificateRequest{Subject: node, IPAddresses: []net.IP{ip}, DNSNames: []string{certs.APIName}})), enroll.CodeRequest},
		"serving of another key":  {spoil("serving", csr(t, newKey(t), x509.CertificateRequest{Subject: node, IPAddresses: []net.IP{ip}})), enroll.CodeRequest},
		"no request":              {spoil("client", ""), enroll.CodeRequest},
		"a huge request":          {spoil("client", strings.Repeat("A", 32<<10)), enroll.CodeRequest},
		"API's name as its own":   {spoil("name", "kubernetes.default.svc"), enroll.CodeRequest}, // the requests say modest
		"address of another":      {spoil("address", "192.0.2.1"), enroll.CodeIndirect},          // a plane has the address that we come from
		"no address":              {spoil("address", "0.0.0.0"), enroll.CodeAddress},
		"group of addresses":      {spoil("address", "224.0.0.1"), enroll.CodeAddress},
		"clock behind":            {spoil("time", time.Now().Add(-10*time.Minute)), enroll.CodeClock},
		"clock ahead":             {spoil("time", time.Now().Add(10*time.Minute)), enroll.CodeClock},
		"id that is a path":       {spoil("tokenID", "../gossip-keys"), enroll.CodeUnknown},
		"no secret":               {spoil("secret", ""), enroll.CodeUnknown},
		"address of words":        {spoil("address", "localhost"), enroll.CodeMalformed},
		"name of a number":        {spoil("name", 7), enroll.CodeMalformed},
		"nothing":                 {nil, enroll.CodeMalformed},
		"no JSON":                 {[]byte("hello"), enroll.CodeMalformed},
		"two requests":            {append(encode(t, body(t, name, tok, key)), "{}"...), enroll.CodeMalformed},
		"deep":                    {[]byte(strings.Repeat("[", 30000)), enroll.CodeMalformed},
		"70 KiB":                  {spoil("name", strings.Repeat("n", 70<<10)), enroll.CodeMalformed},
	} {
		t.Run(what, func(t *testing.T) { refused(t, tt.body, tt.want) })
	}
	if status, _ := send(t, http.MethodGet, enroll.JoinPath, nil); status != http.StatusMethodNotAllowed {
		t.Errorf("GET: got %d", status)
	}
	if status, _ := send(t, http.MethodGet, enroll.Prefix+"v1/other", nil); status != http.StatusNotFound {
		t.Errorf("another path: got %d", status)
	}
	if _, ok := mustIdentities(t)["modest"]; ok {
		t.Error("a refused machine is known")
	}
}

func mustIdentities(t testing.TB) map[string]enroll.Identity {
	t.Helper()
	all, err := enroll.Identities(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReplayedRequestIsWorthNothingToOthers(t *testing.T) {
	tok, key := one.token(t, join.Spec{}), newKey(t)
	request := encode(t, body(t, "heard", tok, key))
	if status, data := send(t, http.MethodPost, enroll.JoinPath, request); status != http.StatusOK {
		t.Fatalf("got %d %s", status, data)
	}
	// The very same bytes give a certificate of a key that the other does not have.
	status, data := send(t, http.MethodPost, enroll.JoinPath, request)
	var a struct{ Client string }
	if err := json.Unmarshal(data, &a); err != nil || status != http.StatusOK {
		t.Fatalf("got %d %s", status, data)
	}
	cert, err := certs.ParseCertificate([]byte(a.Client))
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("got a certificate of another key, or %v", err)
	}
	refused(t, encode(t, body(t, "heard", tok, newKey(t))), enroll.CodeTaken)
	refused(t, encode(t, body(t, "other-name", tok, newKey(t))), enroll.CodeUsedUp)
	refused(t, encode(t, body(t, "other-name", tok, key)), enroll.CodeUsedUp)
}

func TestWrongSecretsLockTheToken(t *testing.T) {
	tok := one.token(t, join.Spec{Uses: 10})
	wrong := body(t, "guesser", tok, newKey(t))
	wrong["secret"] = strings.Repeat("a", 32)
	for range 16 {
		refused(t, encode(t, wrong), enroll.CodeUnknown)
	}
	refused(t, encode(t, wrong), enroll.CodeLocked)
	refused(t, encode(t, body(t, "guesser", tok, newKey(t))), enroll.CodeLocked)
}

func TestBodyThatTricklesInIsCutOff(t *testing.T) {
	server := newServer(t)
	server.SetBodyTimeout(50 * time.Millisecond)
	web := httptest.NewServer(server.Front(http.NotFoundHandler()))
	defer web.Close()
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{", enroll.JoinPath); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patient)); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(conn)
	if err != nil || !bytes.Contains(data, []byte("400 Bad Request")) {
		t.Errorf("got %.200q, %v, want it refused and closed", data, err)
	}
}

// newServer is one more door to the shared cluster.
func newServer(t testing.TB) *enroll.Server {
	t.Helper()
	s, err := enroll.NewServer(enroll.ServerConfig{
		Dir: one.dir, CA: one.ca, Objects: func() enroll.Objects { return one.Local() },
		Planes: func() []enroll.Member { return *one.planes.Load() }, Version: release, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sign makes a certificate of the cluster's CA with dates and a subject that the
// CA itself would not give.
func sign(t testing.TB, key *ecdsa.PrivateKey, subject pkix.Name, from, until time.Time) tls.Certificate {
	t.Helper()
	return signBy(t, one.dir, key, subject, from, until)
}

func TestMachineThatWasOffForAWeekComesBackWithItsKey(t *testing.T) {
	m, req := one.machine(t, "weekend", join.RoleNode)
	key := keyOf(t, req.Dir)
	subject := pkix.Name{CommonName: "system:node:weekend", Organization: []string{certs.NodesGroup}}
	days := func(n int) time.Time { return time.Now().AddDate(0, 0, n) }
	install(t, req.Dir, sign(t, key, subject, days(-8), days(-7)))
	if sees(t, m) {
		t.Error("the API takes an expired certificate")
	}
	client, _, err := m.Renewer(enroll.RenewerConfig{Version: release}).Rotators(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Pair().TLS(); err != nil || !sees(t, m) {
		t.Errorf("not back: %v", err)
	}

	for what, pair := range map[string]tls.Certificate{
		"away for too long":       sign(t, key, subject, days(-101), days(-100)),
		"key of another machine":  sign(t, newKey(t), subject, days(-1), days(1)),
		"of somebody who is none": sign(t, key, pkix.Name{CommonName: "weekend", Organization: []string{certs.NodesGroup}}, days(-1), days(1)),
		"of the future":           sign(t, key, subject, days(1), days(2)),
		"signed by another":       signBy(t, otherCA(t), key, subject, days(-1), days(1)),
	} {
		status, data := send(t, http.MethodPost, enroll.RenewPath, []byte("{}"), pair)
		if status != http.StatusUnauthorized || !bytes.Contains(data, []byte(enroll.CodeStranger)) {
			t.Errorf("%s: got %d %s, want a stranger", what, status, data)
		}
	}
	if status, _ := send(t, http.MethodPost, enroll.RenewPath, []byte("{}")); status != http.StatusUnauthorized {
		t.Errorf("no certificate: got %d", status)
	}
	if status, _ := send(t, http.MethodGet, enroll.KeysPath, nil, sign(t, key, subject, days(-1), days(1))); status != http.StatusUnauthorized {
		t.Errorf("keys of planes for a node: got %d", status)
	}
}

func FuzzJoinRequest(f *testing.F) {
	f.Add([]byte("{}"))
	f.Add([]byte(`{"tokenID":"aaaaaaaa","secret":"x","address":"::1%lo","time":"2026-01-01T00:00:00Z"}`))
	tok := one.token(f, join.Spec{})
	f.Add(encode(f, body(f, "fuzzed", tok, newKey(f))))
	if err := enroll.DeleteToken(f.Context(), one, tok); err != nil {
		f.Fatal(err)
	}
	handler := newServer(f).Front(http.NotFoundHandler())
	f.Fuzz(func(t *testing.T, data []byte) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, enroll.JoinPath, bytes.NewReader(data))
		r.RemoteAddr = "127.0.0.1:1"
		handler.ServeHTTP(w, r)
		var refusal enroll.Refusal
		if w.Code == http.StatusOK || json.Unmarshal(w.Body.Bytes(), &refusal) != nil || refusal.Code == "" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}
