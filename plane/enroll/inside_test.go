package enroll

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"copepod/plane/auth/token/join"
	"copepod/plane/controllers/api"
)

// fixed is a view of a few objects.
type fixed []api.Object

func (f fixed) Revision() uint64 { return 1 }

func (f fixed) Get(gr schema.GroupResource, namespace, name string) (api.Object, bool) {
	for obj := range f.List(gr, namespace) {
		if obj.GetName() == name {
			return obj, true
		}
	}
	return nil, false
}

func (f fixed) List(gr schema.GroupResource, namespace string) iter.Seq[api.Object] {
	return func(yield func(api.Object) bool) {
		for _, obj := range f {
			_, node := obj.(*corev1.Node)
			if node == (gr == api.Nodes) && (namespace == "" || obj.GetNamespace() == namespace) && !yield(obj) {
				return
			}
		}
	}
}

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestAddressIsWhereTheConnectionComesFrom(t *testing.T) {
	s := &Server{cfg: ServerConfig{Planes: func() []Member {
		return []Member{{Name: "p1", Address: address("192.0.2.1"), Ports: Ports{API: 6443}}}
	}}}
	view := fixed{&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.9"}}},
	}}
	for _, tt := range []struct {
		what, name, claimed, source string
		want                        Code // "" = accepted
	}{
		{"its own", "n2", "192.0.2.7", "192.0.2.7", ""},
		{"its own, of IPv6", "n2", "2001:db8::7", "2001:db8::7", ""},
		{"another's", "n2", "192.0.2.8", "192.0.2.7", CodeAddress},
		{"a plane's", "n2", "192.0.2.1", "192.0.2.7", CodeAddress},
		{"a loopback one from elsewhere", "n2", "127.0.0.1", "192.0.2.7", CodeAddress},
		{"another loopback one", "n2", "127.0.0.3", "127.0.0.1", ""},
		{"through a plane", "n2", "192.0.2.7", "192.0.2.1", CodeIndirect},
		{"through a node", "n2", "192.0.2.7", "192.0.2.9", CodeIndirect},
		{"a node that moved", "n1", "192.0.2.7", "192.0.2.9", CodeAddress},
		{"none", "n2", "0.0.0.0", "192.0.2.7", CodeAddress},
	} {
		got := s.checkAddress(view, tt.name, address(tt.claimed), address(tt.source))
		switch {
		case got == nil && tt.want != "", got != nil && got.Code != tt.want:
			t.Errorf("%s: got %v, want %q", tt.what, got, tt.want)
		case got != nil && got.Code == CodeIndirect && fmt.Sprint(got.Servers) != "[192.0.2.1:6443]":
			t.Errorf("%s: sent to %v", tt.what, got.Servers)
		}
	}
	if s.checkAddress(view, "n2", netip.Addr{}, address("192.0.2.7")) == nil || s.checkAddress(view, "n2", address("fe80::1%eth0"), address("fe80::1")) == nil {
		t.Error("no address, or one of a zone, was accepted")
	}
}

func TestVersionsMayBeOneMinorApart(t *testing.T) {
	for _, tt := range []struct {
		ours, theirs string
		ok           bool
	}{
		{"v1.4.2", "v1.4.0", true}, {"v1.4.2", "v1.5.9", true}, {"v1.4.2", "v1.3.0", true}, {"v1.4.2", "v1.4.2-rc.1", true},
		{"v1.4.2", "v1.6.0", false}, {"v1.4.2", "v1.2.9", false}, {"v1.4.2", "v2.4.2", false}, {"v1.0.0", "v0.9.0", false},
		{"v1.4.2", "latest", false}, {"devel", "v9.9.9", true}, {"", "v1.0.0", true}, {"v1.0.0", "", true},
	} {
		if got := checkVersion(tt.ours, tt.theirs); (got == nil) != tt.ok {
			t.Errorf("%q with %q: got %v", tt.ours, tt.theirs, got)
		}
	}
}

func TestNobodyUsesUpTheDoorForOthers(t *testing.T) {
	l, now := newLimits(), time.Now()
	greedy, modest := address("192.0.2.1"), address("192.0.2.2")
	entered := 0
	for range 1000 {
		if leave, ok := l.enter(greedy, now); ok {
			entered++
			leave()
		}
	}
	if entered != sourceBurst {
		t.Errorf("one address got in %d times at once, want %d", entered, sourceBurst)
	}
	if _, ok := l.enter(modest, now); !ok {
		t.Error("another address is kept out")
	}
	if _, ok := l.enter(greedy, now.Add(time.Second)); !ok {
		t.Error("a second later the first is still kept out")
	}
}

func TestWhoTriesCannotFillTheMemory(t *testing.T) {
	l, now := newLimits(), time.Now()
	for i := range 2 * maxSources {
		l.source(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		l.wrongSecret(fmt.Sprint(i), now)
	}
	if len(l.sources) > maxSources || len(l.wrong) > maxLocks {
		t.Errorf("%d sources and %d tokens are remembered", len(l.sources), len(l.wrong))
	}
	// Of IPv6 a customer has a network of addresses.
	if l.source(address("2001:db8::1"), now) != l.source(address("2001:db8::2"), now) {
		t.Error("each address of a network has a limit of its own")
	}
	if l.source(netip.Addr{}, now) == nil {
		t.Error("no limit without an address")
	}
}

func TestLockOfATokenEnds(t *testing.T) {
	l, now := newLimits(), time.Now()
	for range wrongSecrets {
		if l.locked("a", now) {
			t.Fatal("locked too early")
		}
		l.wrongSecret("a", now)
	}
	if !l.locked("a", now) || l.locked("b", now) || l.locked("a", now.Add(lockTime+time.Second)) {
		t.Error("want the one token locked, and for a while")
	}
}

func TestOnlyRequestsAreAnsweredAtOnce(t *testing.T) {
	l, now := newLimits(), time.Now()
	var leaves []func()
	for i := range atOnce {
		leave, ok := l.enter(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), now)
		if !ok {
			t.Fatalf("place %d is not given", i)
		}
		leaves = append(leaves, leave)
	}
	if _, ok := l.enter(address("10.1.0.1"), now); ok {
		t.Error("one more got in")
	}
	leaves[0]()
	if _, ok := l.enter(address("10.1.0.1"), now); !ok {
		t.Error("a place that was given back is not given again")
	}
}

func TestWhatNobodyNeedsIsSwept(t *testing.T) {
	now := time.Now()
	tok := func(ttl, ago time.Duration) *corev1.Secret {
		_, rec, err := join.New(join.Spec{Pin: "sha256:" + strings.Repeat("0", 64), TTL: ttl, Now: now.Add(-ago)})
		if err != nil {
			t.Fatal(err)
		}
		data, err := rec.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: TokenPrefix + rec.ID}, Type: TokenType, Data: map[string][]byte{tokenField: data}}
	}
	id := func(name string, ago time.Duration) *corev1.Secret {
		s, err := Identity{Name: name, Role: join.RoleNode, Issued: now.Add(-ago)}.secret()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	view := fixed{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "has-node"}}}
	for what, tt := range map[string]struct {
		secret *corev1.Secret
		want   bool
	}{
		"fresh token":               {tok(time.Hour, 0), false},
		"token that just expired":   {tok(time.Hour, 2*time.Hour), false},
		"token of last week":        {tok(time.Hour, 7*24*time.Hour), true},
		"machine of last week":      {id("away", 7*24*time.Hour), false},
		"machine of last year":      {id("away", 365*24*time.Hour), true},
		"old, but it has a Node":    {id("has-node", 365*24*time.Hour), false},
		"somebody else's secret":    {&corev1.Secret{Type: "Opaque"}, false},
		"one that claims to be one": {&corev1.Secret{Type: TokenType}, false},
	} {
		if got := expired(view, tt.secret, now); got != tt.want {
			t.Errorf("%s: got %t", what, got)
		}
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	good, err := Identity{Name: "n", Role: join.RoleNode, Address: address("192.0.2.1")}.secret()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Data[identityField])
	f.Fuzz(func(t *testing.T, data []byte) {
		id, err := decodeIdentity(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: IdentityPrefix + "n"}, Type: IdentityType, Data: map[string][]byte{identityField: data}})
		if err == nil && (id.Name != "n" || id.Role == "") {
			t.Errorf("got %+v", id)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"name":"n","role":"node","client":"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var a answer
		if json.Unmarshal(data, &a) != nil || a.Keys == nil {
			return
		}
		if err := a.Keys.write(t.TempDir()); err == nil {
			t.Errorf("took keys %q", data)
		}
	})
}
