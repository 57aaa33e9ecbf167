package redteam

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/gossip"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

func TestRevokedMachineIsCutFromEveryPort(t *testing.T) {
	w := newWitness(t)
	dir, err := enter(t, victim.n1, "stolen", 150, newToken(t, join.Spec{}).String())
	if err != nil {
		t.Fatal(err)
	}
	pair := pairOf(t, dir)
	ring, err := enroll.OpenRing(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	create(t, clientOf(t, victim.as(victim.n1, pair)).CoreV1().Nodes().Create, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "stolen"}})
	var watches []<-chan bool
	for _, m := range victim.machines() {
		c := clientOf(t, victim.as(m, pair))
		pods, err := c.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=stolen"})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan bool)
		go func() {
			defer close(ended)
			for range pods.ResultChan() {
			}
		}()
		t.Cleanup(func() {
			pods.Stop()
			<-ended
		})
		watches = append(watches, ended)
	}
	session := mesh(t, victim.n1, pair)
	if _, err := session.Ping(); err != nil {
		t.Fatal(err)
	}
	for _, m := range victim.machines() {
		if code, _, err := m.node(ctx, &pair, http.MethodGet, "/v2/"); err != nil || code == http.StatusForbidden {
			t.Fatalf("images of %s before it is revoked: %d, %v", m.name, code, err)
		}
	}
	refused := victim.n1.metric(t, "copepod_gossip_refused_total", `reason="key"`)

	if _, err := enroll.Revoke(ctx, victim.client, "stolen"); err != nil {
		t.Fatal(err)
	}

	for i, ended := range watches {
		eventually(t, fmt.Sprintf("the watch through n%d ends", i+1), func() (bool, string) {
			select {
			case <-ended:
				return true, ""
			default:
				return false, "it goes on"
			}
		})
	}
	for _, m := range victim.machines() {
		eventually(t, "the API is closed at "+m.name, func() (bool, string) {
			_, err := clientOf(t, victim.as(m, pair)).CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
			return apierrors.IsUnauthorized(err), fmt.Sprint(err)
		})
		eventually(t, "images are closed at "+m.name, func() (bool, string) {
			code, _, err := m.node(ctx, &pair, http.MethodGet, "/v2/")
			return code == http.StatusForbidden, fmt.Sprint(code, err)
		})
	}
	eventually(t, "the session of the mesh ends", func() (bool, string) { return session.IsClosed(), "it goes on" })
	if _, err := mesh(t, victim.n1, pair).Ping(); err == nil {
		t.Error("the mesh lets it in again")
	}
	// Its gossip key opens nothing from when all others have the next.
	eventually(t, "the gossip key is replaced", func() (bool, string) {
		for _, m := range victim.machines() {
			now, err := enroll.OpenRing(m.dir)
			if err != nil {
				return false, err.Error()
			}
			for _, k := range now.Keys {
				if gossip.IDOf(k) == gossip.IDOf(ring.Keys[0]) {
					return false, m.name + " still has it"
				}
			}
		}
		return true, ""
	})
	g := whisperer(t, "stolen", 150, func(cfg *gossip.Config) {
		cfg.Keys, cfg.Bind, cfg.Log = ring.Keys, netip.AddrPortFrom(victim.addr(150), gossipPort), slog.New(slog.DiscardHandler)
	})
	if n, err := g.Join(ctx, []string{victim.n1.at(gossipPort), victim.n3.at(gossipPort)}); err == nil {
		t.Errorf("%d members answer to the old gossip key", n)
	}
	victim.n1.counts(t, refused, 1, "copepod_gossip_refused_total", `reason="key"`)
	w.unharmed(t)
}
