package join_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/token/join"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const pin = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func newToken(t testing.TB, spec join.Spec) (join.Token, join.Record) {
	if spec.Pin == "" {
		spec.Pin = pin
	}
	if spec.Now.IsZero() {
		spec.Now = now
	}
	tok, rec, err := join.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return tok, rec
}

func Example() {
	tok, rec, err := join.New(join.Spec{Pin: pin, Now: now, Uses: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	pasted, err := join.Parse("  " + tok.String() + "\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	rec, err = rec.Spend(pasted.Secret, now.Add(time.Minute))
	fmt.Println(rec.Used, err)
	_, err = rec.Spend(pasted.Secret, now.Add(2*time.Minute))
	fmt.Println(errors.Is(err, join.ErrUsedUp))
	// Output:
	// 1 <nil>
	// true
}

func TestTokenSurvivesPasting(t *testing.T) {
	tok, _ := newToken(t, join.Spec{})
	for _, s := range []string{tok.String(), " " + tok.String() + "\r\n", strings.ToUpper(tok.String())} {
		got, err := join.Parse(s)
		if err != nil || got != tok {
			t.Errorf("%q: got %v, %v, want %v", s, got, err, tok)
		}
	}
}

func TestEveryWrongTokenSaysWhatToDo(t *testing.T) {
	tok, _ := newToken(t, join.Spec{})
	s := tok.String()
	swapped := []byte(s)
	swapped[20], swapped[21] = swapped[21], swapped[20]
	if swapped[20] == swapped[21] {
		swapped[20] = 'a' + (swapped[20]-'a'+1)%26
	}
	for _, tt := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", join.ErrForm},
		{"a bearer token", "eyJhbGciOi.eyJpc3Mi.c2ln", join.ErrForm},
		{"a kubeadm token", "abcdef.0123456789abcdef", join.ErrForm},
		{"another version", "cpd2" + s[4:], join.ErrVersion},
		{"cut at the end", s[:len(s)-1], join.ErrMistyped},
		{"cut before the end", s[:len(s)-8], join.ErrForm},
		{"two letters swapped", string(swapped), join.ErrMistyped},
		{"a megabyte", strings.Repeat("a.", 1<<19), join.ErrForm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := join.Parse(tt.token); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestEverySingleTypingErrorIsSeen(t *testing.T) {
	tok, _ := newToken(t, join.Spec{})
	s := tok.String()
	for i := range s {
		for _, c := range []byte("a7f0.") {
			typo := []byte(s)
			if typo[i] == c {
				continue
			}
			typo[i] = c
			if got, err := join.Parse(string(typo)); err == nil {
				t.Errorf("%c at %d: got %v, want an error", c, i, got)
			}
		}
	}
}

func TestRecordDoesNotHoldTheSecret(t *testing.T) {
	tok, rec := newToken(t, join.Spec{Note: "rack 4"})
	data, err := rec.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(tok.Secret)) || strings.Contains(tok.Redacted(), tok.Secret) {
		t.Errorf("the secret is in %s or %s", data, tok.Redacted())
	}
	got, err := join.DecodeRecord(data)
	if err != nil || got != rec {
		t.Errorf("got %+v, %v, want %+v", got, err, rec)
	}
}

func TestSpendingIsBoundedBySecretTimeAndUses(t *testing.T) {
	tok, rec := newToken(t, join.Spec{TTL: time.Hour, Uses: 2})
	other, _ := newToken(t, join.Spec{})
	spent := rec
	spent.Used = 2
	for _, tt := range []struct {
		name   string
		rec    join.Record
		secret string
		at     time.Time
		want   error
	}{
		{"fresh", rec, tok.Secret, now, nil},
		{"a moment before the end", rec, tok.Secret, now.Add(time.Hour - 1), nil},
		{"at the end", rec, tok.Secret, now.Add(time.Hour), join.ErrExpired},
		{"used up", spent, tok.Secret, now, join.ErrUsedUp},
		{"secret of another token", rec, other.Secret, now, join.ErrUnknown},
		{"no secret", rec, "", now, join.ErrUnknown},
		{"its hash as the secret", rec, rec.Hash, now, join.ErrUnknown},
		{"wrong secret of an expired one tells nothing", rec, other.Secret, now.Add(2 * time.Hour), join.ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.rec.Spend(tt.secret, tt.at)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			want := tt.rec.Used
			if tt.want == nil {
				want++
			}
			if got.Used != want {
				t.Errorf("got %d uses, want %d", got.Used, want)
			}
		})
	}
}

func TestSpecsOutOfBoundsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec join.Spec
	}{
		{"no pin", join.Spec{Now: now}},
		{"unknown role", join.Spec{Pin: pin, Now: now, Role: "king"}},
		{"too long", join.Spec{Pin: pin, Now: now, TTL: 365 * 24 * time.Hour}},
		{"negative", join.Spec{Pin: pin, Now: now, TTL: -1}},
		{"too often", join.Spec{Pin: pin, Now: now, Uses: join.MaxUses + 1}},
		{"no time", join.Spec{Pin: pin}},
		{"a novel", join.Spec{Pin: pin, Now: now, Note: strings.Repeat("x", 201)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := join.New(tt.spec); err == nil {
				t.Error("got a token, want an error")
			}
		})
	}
}

// connect dials a server that presents pair, as a joiner with the token.
func connect(t *testing.T, tok join.Token, pair certs.Pair) error {
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	conn, err := tls.Dial("tcp", ln.Addr().String(), tok.TLS())
	if err == nil {
		conn.Close()
	}
	return err
}

func newCA(t *testing.T) *certs.CA {
	ca, err := certs.LoadOrCreateCA(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestJoinerTalksToTheAPIServerOfThePinnedCAOnly(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	tok, _ := newToken(t, join.Spec{Pin: ca.Hash()})
	hosts := certs.APIHosts("10.96.0.1")
	ours, err := ca.Server("kube-apiserver", hosts)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := other.Server("kube-apiserver", hosts)
	if err != nil {
		t.Fatal(err)
	}
	// The CA is public: anyone can send it along.
	posing := theirs
	posing.CertPEM = append(append([]byte(nil), theirs.CertPEM...), ca.PEM()...)

	if err := connect(t, tok, ours); err != nil {
		t.Errorf("API server: got %v, want a handshake", err)
	}
	if err := connect(t, tok, theirs); !errors.Is(err, join.ErrPin) {
		t.Errorf("another cluster: got %v, want ErrPin", err)
	}
	if err := connect(t, tok, posing); !errors.Is(err, join.ErrPin) {
		t.Errorf("another cluster with our CA beside: got %v, want ErrPin", err)
	}
	if err := connect(t, tok, nodeServing(t, ca)); !errors.Is(err, join.ErrPin) {
		t.Errorf("a node that poses as the API server: got %v, want ErrPin", err)
	}
}

// nodeServing is what a node of the cluster itself can present.
func nodeServing(t *testing.T, ca *certs.CA) certs.Pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}},
		IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	certPEM, err := ca.SignNode(csr, certs.NodeProfile{Name: "n1", Hosts: []string{"192.0.2.1"}})
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certs.Pair{
		CertPEM: append(certPEM, ca.PEM()...),
		KeyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

func TestWrongClockIsToldApartFromAWrongCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		tok, _ := newToken(t, join.Spec{Pin: ca.Hash()})
		pair, err := ca.Server("kube-apiserver", certs.APIHosts(""))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(certs.ServerLifetime + time.Hour)
		var clock *join.ClockError
		if err := connect(t, tok, pair); !errors.As(err, &clock) {
			t.Errorf("got %v, want *ClockError", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	tok, _ := newToken(f, join.Spec{})
	f.Add(tok.String())
	f.Add("cpd1....")
	f.Add("cpd9.a.b.c.d")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := join.Parse(s)
		if err != nil {
			return
		}
		if got, want := tok.String(), strings.ToLower(strings.TrimSpace(s)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	_, rec := newToken(f, join.Spec{})
	data, _ := rec.Encode()
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := join.DecodeRecord(data)
		if err != nil {
			return
		}
		out, err := rec.Encode()
		if err != nil {
			t.Fatalf("cannot encode %+v again: %v", rec, err)
		}
		if again, err := join.DecodeRecord(out); err != nil || again.Hash != rec.Hash || !again.Expires.Equal(rec.Expires) {
			t.Errorf("got %+v, %v, want %+v", again, err, rec)
		}
	})
}
