package peers_test

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"copepod/node/mesh/peers"
)

func node(name, ip, cidr, port string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}}
	if ip != "" {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: ip}}
	}
	if port != "" {
		n.Annotations = map[string]string{peers.PortAnnotation: port}
	}
	return n
}

func TestPlacesOfNodesAreReadFromTheirObjects(t *testing.T) {
	for _, row := range []struct {
		node *corev1.Node
		addr string
		pods int
		ok   bool
	}{
		{node("a", "192.0.2.1", "10.64.0.0/18", ""), "192.0.2.1:7948", 1, true},
		{node("b", "192.0.2.1", "10.64.0.7/18", "17948"), "192.0.2.1:17948", 1, true},
		{node("c", "", "", ""), "invalid AddrPort", 0, true},
		{node("d", "192.0.2.1", "", "70000"), "invalid AddrPort", 0, false},
		{node("e", "192.0.2.1", "10.64.0.0", ""), "192.0.2.1:7948", 0, false},
		{node("f", "nowhere", "", ""), "invalid AddrPort", 0, false},
	} {
		p, err := peers.Peer(row.node)
		if p.Name != row.node.Name || p.Addr.String() != row.addr || len(p.Pods) != row.pods || (err == nil) != row.ok {
			t.Errorf("%s: got %v, %v", row.node.Name, p, err)
		}
	}
}

func TestTheDirectoryFollowsNodesAndLetsNobodyTakeAnothersAddresses(t *testing.T) {
	api := fake.NewClientset(node("n1", "192.0.2.1", "10.64.0.0/18", ""), node("n2", "192.0.2.2", "10.64.64.0/18", ""))
	changed := make(chan string, 16)
	d, err := peers.New(peers.Config{API: api, Changed: func(name string) { changed <- name }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	await := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing was heard of %s", what)
		}
	}
	await("one node")
	await("the other")
	owner := func(ip string) string {
		p, ok := d.Owner(netip.MustParseAddr(ip))
		if !ok {
			return ""
		}
		return p.Name
	}
	if a, b, c := owner("10.64.0.9"), owner("10.64.127.255"), owner("10.64.128.0"); a != "n1" || b != "n2" || c != "" {
		t.Errorf("got owners %q, %q, %q; want n1, n2 and nobody", a, b, c)
	}
	d.Set(node("thief", "192.0.2.3", "10.64.0.0/10", ""))
	await("the thief")
	if p, ok := d.Peer("thief"); !ok || len(p.Pods) != 0 || owner("10.64.0.9") != "n1" || owner("10.64.128.0") != "" {
		t.Errorf("got %v for a node that takes the ranges of others", p)
	}
	d.Delete("n2")
	await("the end of n2")
	if got := owner("10.64.64.9"); got != "" {
		t.Errorf("got %q for an address of a node that is gone", got)
	}
}
