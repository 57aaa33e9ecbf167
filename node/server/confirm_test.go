package server_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"

	"copepod/node/identity"
	"copepod/node/server"
)

// peer is another node's port: a TLS server with a certificate.
func peer(t *testing.T, cert tls.Certificate) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.(*tls.Conn).Handshake()
			}()
		}
	}()
	return l.Addr().String()
}

func TestANodeLooksAtAnotherForTheAPIServerOnly(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	cert := ca.issue(t, "system:node:n1")
	id, err := identity.New(identity.Config{Name: "n1", ClientCA: ca.pool(), Callers: []string{"apiserver"}, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	s, err := server.New(server.Config{Listener: l, TLS: id.ServerTLS(), Gate: id, Pods: &house{}, Peers: ca.pool()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	as := func(user string, groups ...string) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.issue(t, user, groups...)}}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	ask := func(c *http.Client, node, address string) (int, string) {
		resp, err := c.Post("https://"+l.Addr().String()+"/confirm?"+url.Values{"node": {node}, "address": {address}}.Encode(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var o struct{ Answer string }
		body, _ := io.ReadAll(resp.Body)
		_ = json.Unmarshal(body, &o)
		return resp.StatusCode, o.Answer
	}
	quiet, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	alive := peer(t, ca.issue(t, "system:node:n2", "system:nodes"))
	apiserver := as("apiserver")
	for _, row := range []struct{ name, node, address, want string }{
		{"itself", "n2", alive, "alive"},
		{"another node at its address", "n3", alive, "impostor"},
		{"a certificate of another authority", "n2", peer(t, stranger.issue(t, "system:node:n2")), "impostor"},
		{"nobody listens", "n2", closed.Addr().String(), "refused"},
		{"nobody answers", "n2", quiet.Addr().String(), "silent"},
	} {
		if code, got := ask(apiserver, row.node, row.address); code != http.StatusOK || got != row.want {
			t.Errorf("%s: got %d %q, want %q", row.name, code, got, row.want)
		}
	}
	for _, row := range []struct{ node, address string }{
		{"n2", "localhost:1"}, {"n2", "127.0.0.1"}, {"n2", ""}, {"", alive}, {"../n2", alive},
	} {
		if code, _ := ask(apiserver, row.node, row.address); code != http.StatusBadRequest {
			t.Errorf("node %q at %q: got %d, want 400", row.node, row.address, code)
		}
	}
	for _, user := range []string{"system:node:n2", "alice"} {
		if code, got := ask(as(user, "system:nodes"), "n2", alive); code != http.StatusForbidden || got != "" {
			t.Errorf("%s: got %d %q, want 403", user, code, got)
		}
	}
}
