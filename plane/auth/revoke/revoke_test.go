package revoke_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"copepod/plane/auth/certs"
	"copepod/plane/auth/revoke"
)

func newCA(t testing.TB) *certs.CA {
	t.Helper()
	ca, err := certs.LoadOrCreateCA(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t testing.TB, ca *certs.CA, name string) *x509.Certificate {
	t.Helper()
	pair, err := ca.Node(name, false)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.ParseCertificate(pair.CertPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func with(t testing.TB, entries ...revoke.Entry) revoke.Entries {
	t.Helper()
	var l revoke.Entries
	for _, e := range entries {
		var err error
		if l, err = l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestOldCertificatesOfTheNameAreRefusedAndNewOnesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		var list revoke.List
		old, other := issue(t, ca, "n1"), issue(t, ca, "n2")
		if err := list.Check(old); err != nil {
			t.Errorf("empty list: got %v", err)
		}
		time.Sleep(1500 * time.Millisecond)
		same := issue(t, ca, "n1") // in the second of the revocation
		list.Set(with(t, revoke.Entry{Node: "n1", At: time.Now()}))
		time.Sleep(time.Second)
		fresh := issue(t, ca, "n1")
		for name, tt := range map[string]struct {
			cert *x509.Certificate
			ok   bool
		}{"old": {old, false}, "same second": {same, false}, "other node": {other, true}, "younger": {fresh, true}} {
			var refused *revoke.Error
			if err := list.Check(tt.cert); (err == nil) != tt.ok || !tt.ok && !errors.As(err, &refused) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if err := list.Verify([]*x509.Certificate{old}); err == nil {
			t.Error("chain of an old one: got no error")
		}
		if err := list.Verify(nil); err != nil {
			t.Errorf("no chain: got %v", err)
		}
	})
}

func TestRevokedKeyIsRefusedUnderEveryName(t *testing.T) {
	ca := newCA(t)
	key, _, err := certs.NodeKey(filepath.Join(t.TempDir(), "k", "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	hash, err := certs.KeyHash(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var list revoke.List
	list.Set(with(t, revoke.Entry{Node: "n1", At: time.Now().Add(-time.Hour), Keys: []string{hash}}))
	csr, err := certs.NewNodeCSR(key, "n2")
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err := ca.SignNode(csr, certs.NodeProfile{Name: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := certs.ParseCertificate(certPEM)
	if err != nil {
		t.Fatal(err)
	}
	if list.Check(cert) == nil || list.CheckKey(hash) == nil {
		t.Error("the key is accepted")
	}
	if err := list.CheckKey("sha256:" + strings.Repeat("0", 64)); err != nil {
		t.Errorf("another key: got %v", err)
	}
}

func TestPeopleAreNotNodes(t *testing.T) {
	var list revoke.List
	list.Set(with(t, revoke.Entry{Node: "n1", At: time.Now().Add(time.Hour)}))
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "system:node:n1"}}
	if err := list.Check(cert); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsHeldEndsWithTheRevocation(t *testing.T) {
	ca := newCA(t)
	var list revoke.List
	bad, good := issue(t, ca, "bad"), issue(t, ca, "good")
	badCtx, release, err := list.Hold(t.Context(), bad)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	goodCtx, releaseGood, err := list.Hold(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	list.Set(with(t, revoke.Entry{Node: "bad", At: time.Now().Add(time.Second)}))
	<-badCtx.Done()
	var refused *revoke.Error
	if !errors.As(context.Cause(badCtx), &refused) || goodCtx.Err() != nil {
		t.Errorf("got %v and %v", context.Cause(badCtx), goodCtx.Err())
	}
	releaseGood()
	if goodCtx.Err() == nil {
		t.Error("released, but not ended")
	}
	if _, _, err := list.Hold(t.Context(), bad); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
}

func TestManyHoldWhileTheListChanges(t *testing.T) {
	ca := newCA(t)
	var list revoke.List
	cert := issue(t, ca, "n1")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			ctx, release, err := list.Hold(t.Context(), cert)
			if err != nil {
				return
			}
			defer release()
			<-ctx.Done()
		})
	}
	list.Set(with(t, revoke.Entry{Node: "n1", At: time.Now().Add(time.Second)}))
	wg.Wait() // nobody is left holding
}

func TestEntriesExpireWithTheLastCertificateAndAreBounded(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	l := with(t, revoke.Entry{Node: "a", At: at}, revoke.Entry{Node: "b", At: at.Add(revoke.Keep)})
	if _, ok := l.Find("a"); !ok {
		t.Error("a certificate of a may live")
	}
	l = with(t, revoke.Entry{Node: "a", At: at}, revoke.Entry{Node: "b", At: at.Add(revoke.Keep + time.Second)})
	if _, ok := l.Find("a"); ok || l.Sequence != 2 {
		t.Errorf("got %+v", l)
	}
	full := revoke.Entries{}
	for i := range revoke.MaxEntries {
		full.Entries = append(full.Entries, revoke.Entry{Node: fmt.Sprint("n", i), At: at})
	}
	if _, err := full.Add(revoke.Entry{Node: "one-more", At: at}); !errors.Is(err, revoke.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
	if _, err := full.Add(revoke.Entry{Node: "n7", At: at}); err != nil {
		t.Errorf("again: %v", err)
	}
	data, err := full.Encode()
	if err != nil || len(data) > 1<<20 {
		t.Errorf("a full list has %d bytes: more than a config map; %v", len(data), err)
	}
}

func TestSecondRevocationKeepsTheFirstKeyAndTheLaterTime(t *testing.T) {
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	key := func(c string) []string { return []string{"sha256:" + strings.Repeat(c, 64)} }
	l := with(t, revoke.Entry{Node: "a", At: at.Add(time.Hour), Keys: key("1")}, revoke.Entry{Node: "a", At: at, Keys: key("2")})
	e, _ := l.Find("a")
	if len(e.Keys) != 2 || !e.At.Equal(at.Add(time.Hour)) || len(l.Entries) != 1 {
		t.Errorf("got %+v", l)
	}
}

func TestListThatIsNotUnderstoodIsAnError(t *testing.T) {
	for name, data := range map[string]string{
		"nothing": "", "no JSON": "x", "another version": `{"version":2,"sequence":0,"entries":[]}`,
		"an unknown field": `{"version":1,"sequence":0,"entries":[],"more":1}`, "two": `{"version":1,"sequence":0,"entries":[]} {}`,
		"no name": `{"version":1,"sequence":0,"entries":[{"node":"","at":"2026-01-01T00:00:00Z"}]}`,
		"no time": `{"version":1,"sequence":0,"entries":[{"node":"a"}]}`, "no key": `{"version":1,"sequence":0,"entries":[{"node":"a","at":"2026-01-01T00:00:00Z","keys":["x"]}]}`,
		"huge": strings.Repeat(" ", 2<<20),
	} {
		if _, err := revoke.Decode([]byte(data)); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":1,"sequence":3,"entries":[{"node":"a","at":"2026-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := revoke.Decode(data)
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := revoke.Decode(again); err != nil {
			t.Errorf("%q became %q: %v", data, again, err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	var list revoke.List
	var l revoke.Entries
	for i := range 1000 {
		l.Entries = append(l.Entries, revoke.Entry{Node: fmt.Sprint("n", i), At: time.Now()})
	}
	list.Set(l)
	cert := issue(b, newCA(b), "alive")
	for b.Loop() {
		if err := list.Check(cert); err != nil {
			b.Fatal(err)
		}
	}
}
