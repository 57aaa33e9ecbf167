package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"copepod/plane/auth/certs"
)

// rotator returns a Rotator over a fixed pair.
func rotator(t testing.TB, pair certs.Pair, err error) *certs.Rotator {
	if err != nil {
		t.Fatal(err)
	}
	r, err := certs.NewRotator(certs.RotatorConfig{Source: func(context.Context) (certs.Pair, error) { return pair, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// handshake runs a TLS handshake over loopback and returns what the server saw of
// the client, and both errors.
func handshake(t testing.TB, server, client *tls.Config) (peer []*x509.Certificate, serverErr, clientErr error) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		err = conn.(*tls.Conn).Handshake()
		peer = conn.(*tls.Conn).ConnectionState().PeerCertificates
		done <- err
	}()
	conn, clientErr := tls.Dial("tcp", ln.Addr().String(), client)
	serverErr = <-done
	if clientErr == nil {
		conn.Close()
	}
	return peer, serverErr, clientErr
}

func TestEveryNameOfTheAPIServerVerifies(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Server("kube-apiserver", certs.APIHosts("10.96.0.1", "192.0.2.7", "plane.example"))
	server := rotator(t, pair, err).ServerTLS(nil)
	for _, name := range []string{
		"127.0.0.1", "::1", "localhost", "10.96.0.1", "192.0.2.7", "plane.example",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	} {
		t.Run(name, func(t *testing.T) {
			_, serverErr, clientErr := handshake(t, server, &tls.Config{RootCAs: ca.Pool(), ServerName: name})
			if serverErr != nil || clientErr != nil {
				t.Errorf("got %v, %v, want a handshake", serverErr, clientErr)
			}
		})
	}
	_, _, clientErr := handshake(t, server, &tls.Config{RootCAs: ca.Pool(), ServerName: "other.example"})
	var wrong x509.HostnameError
	if !errors.As(clientErr, &wrong) {
		t.Errorf("other.example: got %v, want x509.HostnameError", clientErr)
	}
}

func TestServerReadsUserAndGroupsFromTheClientCertificate(t *testing.T) {
	ca := newCA(t)
	serverPair, err := ca.Server("kube-apiserver", []string{"localhost"})
	server := rotator(t, serverPair, err).PeerTLS(ca.Pool())
	clientPair, err := ca.Admin()
	client := rotator(t, clientPair, err).ClientTLS(ca.Pool())
	client.ServerName = "localhost"
	peer, serverErr, clientErr := handshake(t, server, client)
	if serverErr != nil || clientErr != nil {
		t.Fatalf("got %v, %v, want a handshake", serverErr, clientErr)
	}
	if got, want := peer[0].Subject.String(), "CN=kubernetes-admin,O=system:masters"; got != want {
		t.Errorf("got subject %s, want %s", got, want)
	}
}

func TestCertificatesServeOneUseOnly(t *testing.T) {
	ca := newCA(t)
	clientPair, errC := ca.Client("jane", nil)
	serverPair, errS := ca.Server("node", []string{"localhost"})
	asClient, asServer := rotator(t, clientPair, errC), rotator(t, serverPair, errS)

	t.Run("a client certificate serves nobody", func(t *testing.T) {
		_, _, err := handshake(t, asClient.ServerTLS(nil), &tls.Config{RootCAs: ca.Pool(), ServerName: "jane"})
		if err == nil {
			t.Error("got a handshake, want a refusal")
		}
	})
	t.Run("a server certificate logs nobody in", func(t *testing.T) {
		cfg := asServer.ClientTLS(ca.Pool())
		cfg.ServerName = "localhost"
		_, err, _ := handshake(t, asServer.PeerTLS(ca.Pool()), cfg)
		if err == nil {
			t.Error("got a handshake, want a refusal")
		}
	})
}

func TestCertificatesOfAnotherClusterAreRefused(t *testing.T) {
	ours, theirs := newCA(t), newCA(t)
	serverPair, err := ours.Server("kube-apiserver", []string{"localhost"})
	server := rotator(t, serverPair, err)
	clientPair, err := theirs.Admin()
	stranger := rotator(t, clientPair, err).ClientTLS(ours.Pool())
	stranger.ServerName = "localhost"

	if _, err, _ := handshake(t, server.ServerTLS(ours.Pool()), stranger); err == nil {
		t.Error("server let in an admin of another cluster")
	}
	_, _, err = handshake(t, server.ServerTLS(nil), &tls.Config{RootCAs: theirs.Pool(), ServerName: "localhost"})
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("client of another cluster: got %v, want x509.UnknownAuthorityError", err)
	}
}

func TestServerLetsBearersOfTokensInWithoutACertificate(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Server("kube-apiserver", []string{"localhost"})
	server := rotator(t, pair, err)
	bare := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
	if _, serverErr, clientErr := handshake(t, server.ServerTLS(ca.Pool()), bare); serverErr != nil || clientErr != nil {
		t.Errorf("API port: got %v, %v, want a handshake", serverErr, clientErr)
	}
	if _, serverErr, _ := handshake(t, server.PeerTLS(ca.Pool()), bare); serverErr == nil {
		t.Error("peer port: got a handshake, want a refusal")
	}
}

func TestKubeconfigIsSecretAndWhole(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Admin()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "data", "kubeconfig")
	if err := certs.WriteKubeconfig(path, "https://127.0.0.1:6443", ca.PEM(), pair, "copepod"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o600) {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://127.0.0.1:6443" {
		t.Errorf("got host %q", cfg.Host)
	}
	if string(cfg.CAData) != string(ca.PEM()) || string(cfg.CertData) != string(pair.CertPEM) || string(cfg.KeyData) != string(pair.KeyPEM) {
		t.Error("the kubeconfig does not hold what went in")
	}
}
