package certs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/keyfile"
)

func Example() {
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ca, err := certs.LoadOrCreateCA(filepath.Join(dir, "pki"))
	if err != nil {
		fmt.Println(err)
		return
	}
	pair, err := ca.Client("jane", []string{"developers"})
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, err := pair.TLS()
	fmt.Println(cert.Leaf.Subject, err)
	// Output: CN=jane,O=developers <nil>
}

func newCA(t testing.TB) *certs.CA {
	ca, err := certs.LoadOrCreateCA(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestSecondStartFindsTheSameCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	first, err := certs.LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := certs.LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.PEM(), second.PEM()) {
		t.Error("the second start has another certificate")
	}
}

func TestCAIsP256WithConstraints(t *testing.T) {
	cert := newCA(t).Certificate()
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		t.Errorf("got key %T, want ECDSA P-256", cert.PublicKey)
	}
	if !cert.IsCA || !cert.MaxPathLenZero || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("got IsCA %v, path length zero %v, usage %b", cert.IsCA, cert.MaxPathLenZero, cert.KeyUsage)
	}
}

func TestLostCertificateComesBackWithTheSamePin(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	first, err := certs.LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := first.Client("jane", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, certs.CACertFile)); err != nil {
		t.Fatal(err)
	}
	second, err := certs.LoadOrCreateCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.Hash() != second.Hash() {
		t.Errorf("got hash %s, want %s", second.Hash(), first.Hash())
	}
	cert, _ := pair.TLS()
	opts := x509.VerifyOptions{Roots: second.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := cert.Leaf.Verify(opts); err != nil {
		t.Errorf("certificate of before: got %v, want it to verify", err)
	}
}

func TestLostCAKeySaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := certs.LoadOrCreateCA(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, certs.CAKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.LoadOrCreateCA(dir); !errors.Is(err, certs.ErrKeyMissing) {
		t.Errorf("got %v, want ErrKeyMissing", err)
	}
}

func TestCAKeyThatOthersCanReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := certs.LoadOrCreateCA(dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, certs.CAKeyFile)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := certs.LoadOrCreateCA(dir)
	var wide *keyfile.PermissionError
	if !errors.As(err, &wide) || wide.Path != key {
		t.Errorf("got %v, want *keyfile.PermissionError for %s", err, key)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, certs.CACertFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := certs.LoadOrCreateCA(dir); err != nil {
		t.Errorf("readable certificate: got %v, want it accepted: it is public", err)
	}
}

func TestDamagedCASaysWhichFile(t *testing.T) {
	stranger, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	der, _ := x509.MarshalPKCS8PrivateKey(stranger)
	for _, tt := range []struct{ name, file, content, want string }{
		{"key is noise", certs.CAKeyFile, "noise", "ca.key: no PEM block PRIVATE KEY"},
		{"key is P-384", certs.CAKeyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "want ECDSA P-256"},
		{"certificate is noise", certs.CACertFile, "noise", "ca.crt: no PEM block CERTIFICATE"},
		{"certificate of another CA", certs.CACertFile, string(newCA(t).PEM()), "does not belong to ca.key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "pki")
			if _, err := certs.LoadOrCreateCA(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := certs.LoadOrCreateCA(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestIssueRefusesWhatCannotWork(t *testing.T) {
	ca := newCA(t)
	for _, tt := range []struct {
		name string
		req  certs.Request
		want string
	}{
		{"no name", certs.Request{Client: true}, "common name is empty"},
		{"no use", certs.Request{CommonName: "x"}, "neither server nor client"},
		{"server without host", certs.Request{CommonName: "x", Server: true}, "at least one host"},
		{"host with a port", certs.Request{CommonName: "x", Server: true, Hosts: []string{"a:6443"}}, `host "a:6443"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ca.Issue(tt.req)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNoCertificateOutlivesTheCA(t *testing.T) {
	ca := newCA(t)
	pair, err := ca.Issue(certs.Request{CommonName: "x", Client: true, Lifetime: 100 * 365 * 24 * 3600 * 1e9})
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := pair.TLS()
	if got, want := cert.Leaf.NotAfter, ca.Certificate().NotAfter; !got.Equal(want) {
		t.Errorf("got end %s, want %s", got, want)
	}
}
