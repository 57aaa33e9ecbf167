package nodedial

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/auth/certs"
)

func TestNodeAddressPrefersTheInternalOne(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	if _, err := Address(node); err == nil || !strings.Contains(err.Error(), "kubeletEndpoint.port is not set") {
		t.Errorf("got %v for a node without a port", err)
	}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	if _, err := Address(node); err == nil || !strings.Contains(err.Error(), "status.addresses has no address") {
		t.Errorf("got %v for a node without addresses", err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "1.2.3.4"}, {Type: corev1.NodeInternalIP, Address: "fd00::1"}}
	if got, err := Address(node); err != nil || got != "[fd00::1]:10250" {
		t.Errorf("got %s, %v; want [fd00::1]:10250", got, err)
	}
}

// server is a TLS server that shows a certificate for cn and answers "ok".
func server(t *testing.T, ca *certs.CA, cn string) (address string) {
	t.Helper()
	pair, err := ca.Server(cn, []string{"elsewhere.example"}) // no address of ours
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+" to "+r.TLS.PeerCertificates[0].Subject.CommonName)
	})}
	go func() {
		_ = s.Serve(tls.NewListener(l, &tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		}))
	}()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

func authority(t *testing.T) *certs.CA {
	t.Helper()
	ca, err := certs.LoadOrCreateCA(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestOnlyTheNodeItselfIsBelieved(t *testing.T) {
	ca, stranger := authority(t), authority(t)
	client, err := ca.Client("apiserver", nil)
	if err != nil {
		t.Fatal(err)
	}
	d := New(Config{Roots: ca.Pool(), Client: func() certs.Pair { return client }})
	for _, row := range []struct {
		name, address, want string
	}{
		{"the node", server(t, ca, "system:node:n1"), ""},
		{"another node at its address", server(t, ca, "system:node:n2"), `is not node n1: its certificate is for "system:node:n2"`},
		{"an API server", server(t, ca, "kube-apiserver"), `is not node n1: its certificate is for "kube-apiserver"`},
		{"its name, signed by nobody we know", server(t, stranger, "system:node:n1"), "certificate signed by unknown authority"},
	} {
		conn, err := d.Dial(t.Context(), "n1", row.address)
		if err == nil {
			_ = conn.Close()
		}
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", row.name, err)
		case row.want == "":
		case err == nil || !strings.Contains(err.Error(), row.want):
			t.Errorf("%s: got %v, want an error that says %q", row.name, err, row.want)
		default:
			if _, ok := errors.AsType[*ImpostorError](err); !ok {
				t.Errorf("%s: got %T, want an impostor", row.name, err)
			}
		}
	}
}

func TestATransportKnowsNodesByName(t *testing.T) {
	ca := authority(t)
	client, err := ca.Client("apiserver", nil)
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{"n1": server(t, ca, "system:node:n1"), "n2": server(t, ca, "system:node:n2")}
	tr := New(Config{Roots: ca.Pool(), Client: func() certs.Pair { return client }}).Transport(func(_ context.Context, node string) (string, error) {
		if a, ok := addresses[node]; ok {
			return a, nil
		}
		return "", errors.New("there is no node " + node)
	})
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: tr}
	for _, node := range []string{"n1", "n2", "n1"} {
		resp, err := c.Get("https://" + node + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got, want := string(body), node+" to apiserver"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	resp, err := c.Get("https://n3/livez")
	if err == nil {
		_ = resp.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "there is no node n3") {
		t.Errorf("got %v, want that there is no such node", err)
	}
}
