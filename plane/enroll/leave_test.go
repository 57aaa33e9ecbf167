package enroll_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/gossip"
	"copepod/plane/auth/certs"
	"copepod/plane/auth/revoke"
	"copepod/plane/auth/token/join"
	"copepod/plane/enroll"
)

// sees tells whether the API takes the machine for its node.
func sees(t *testing.T, m *enroll.Membership) bool {
	t.Helper()
	_, err := one.as(t, m).CoreV1().Nodes().Get(t.Context(), m.Name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsUnauthorized(err) {
		t.Fatal(err)
	}
	return !apierrors.IsUnauthorized(err)
}

func TestMachineRenewsWithItsKey(t *testing.T) {
	m, req := one.machine(t, "renews", join.RoleNode)
	renewer := m.Renewer(enroll.RenewerConfig{Version: release})
	for name, renew := range map[string]certs.Source{"client": renewer.Client, "serving": renewer.Serving} {
		pair, err := renew(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := pair.TLS(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !sees(t, m) {
		t.Error("the renewed certificate is refused")
	}
	client, serving, err := renewer.Rotators(t.Context())
	if err != nil || client.Pair().CertPEM == nil || serving.Pair().CertPEM == nil {
		t.Errorf("rotators: %v", err)
	}
	m, err = enroll.Load(req.Dir)
	if err != nil || len(m.Planes) != 1 {
		t.Errorf("got planes %v, %v", m.Planes, err)
	}
}

func TestMachineThatLostItsNodeObjectComesBack(t *testing.T) {
	m, _ := one.machine(t, "deleted", join.RoleNode)
	one.register(t, m)
	if err := one.CoreV1().Nodes().Delete(t.Context(), m.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Renewer(enroll.RenewerConfig{Version: release}).Client(t.Context()); err != nil {
		t.Error(err)
	}
	one.register(t, m)
}

func TestRevokedMachineIsOutWithinAMoment(t *testing.T) {
	m, req := one.machine(t, "stolen", join.RoleNode)
	one.register(t, m)
	// A watch that is open is cut too.
	w, err := one.as(t, m).CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=stolen"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()

	out, err := enroll.Revoke(t.Context(), one, "stolen")
	if err != nil || out.Plane {
		t.Fatalf("got %+v, %v", out, err)
	}
	eventually(t, "the certificate is refused", func() bool { return !sees(t, m) })
	ended := time.After(patient)
	for open := true; open; {
		select {
		case _, open = <-w.ResultChan():
		case <-ended:
			t.Fatal("the open watch goes on")
		}
	}
	_, err = m.Renewer(enroll.RenewerConfig{Version: release}).Client(t.Context())
	wantCode(t, err, enroll.CodeRevoked)
	_, err = one.CoreV1().Nodes().Get(t.Context(), "stolen", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("Node: got %v, want it gone", err)
	}

	// The stolen key does not come back, whoever has a token.
	stolen := one.request(t, "stolen", one.token(t, join.Spec{}))
	copyFile(t, filepath.Join(req.Dir, "node", "client.key"), filepath.Join(stolen.Dir, "node", "client.key"))
	_, err = enroll.Join(t.Context(), stolen)
	wantCode(t, err, enroll.CodeRevoked)
	// Nor under another name.
	stolen.Name = "another" // which stays free
	_, err = enroll.Join(t.Context(), stolen)
	wantCode(t, err, enroll.CodeRevoked)
	// The name is free for another machine, which is not taken for the old one.
	fresh, _ := one.machine(t, "stolen", join.RoleNode)
	if !sees(t, fresh) {
		t.Error("the new machine of that name is refused")
	}
	if sees(t, m) {
		t.Error("the old machine is back with the new one")
	}
}

func TestRevokingTwiceIsNoError(t *testing.T) {
	one.machine(t, "twice", join.RoleNode)
	if _, err := enroll.Revoke(t.Context(), one, "twice"); err != nil {
		t.Fatal(err)
	}
	if _, err := enroll.Revoke(t.Context(), one, "twice"); err != nil && !errors.Is(err, enroll.ErrNoNode) {
		t.Error(err)
	}
	if _, err := enroll.Revoke(t.Context(), one, "never-there"); !errors.Is(err, enroll.ErrNoNode) {
		t.Errorf("got %v, want ErrNoNode", err)
	}
}

func TestManyAreRevokedAtOnce(t *testing.T) {
	var names []string
	for i := range 4 {
		name := fmt.Sprint("batch-", i)
		one.machine(t, name, join.RoleNode)
		names = append(names, name)
	}
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			if _, err := enroll.Revoke(t.Context(), one, name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, "all are listed", func() bool {
		return !slices.ContainsFunc(names, func(n string) bool {
			_, ok := one.enroll.Revoked().Entries().Find(n)
			return !ok
		})
	})
}

func TestMachineThatLeftMayComeBackWithItsKey(t *testing.T) {
	m, req := one.machine(t, "leaves", join.RoleNode)
	if out, err := enroll.Release(t.Context(), one, "leaves"); err != nil || out.Plane {
		t.Fatalf("got %+v, %v", out, err)
	}
	eventually(t, "the certificate is refused", func() bool { return !sees(t, m) })
	back := one.request(t, "leaves", one.token(t, join.Spec{}))
	copyFile(t, filepath.Join(req.Dir, "node", "client.key"), filepath.Join(back.Dir, "node", "client.key"))
	m, err := enroll.Join(t.Context(), back)
	if err != nil {
		t.Fatal(err)
	}
	if !sees(t, m) {
		t.Error("the machine is refused after it came back")
	}
}

func TestLeavingPlaneIsToldApart(t *testing.T) {
	one.machine(t, "leaving-plane", join.RolePlane)
	out, err := enroll.Revoke(t.Context(), one, "leaving-plane")
	if err != nil || !out.Plane {
		t.Errorf("got %+v, %v, want it known as a plane", out, err)
	}
}

// follow runs what every machine runs, with a keyring as gossip has it.
func follow(t *testing.T, m *enroll.Membership, dir string) (*gossip.Keyring, *revoke.List) {
	t.Helper()
	ring, err := enroll.OpenRing(dir)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gossip.New(gossip.Config{Name: m.Name, Keys: ring.Keys, Advertise: netip.AddrPortFrom(m.Address, 0), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	list := &revoke.List{}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	client := one.as(t, m)
	go func() {
		ended <- enroll.Follow(ctx, enroll.FollowConfig{Dir: dir, Node: m.Name, Client: client, Revoked: list, Keyring: g.Keys(), Log: quiet()})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return g.Keys(), list
}

func TestRevocationReplacesTheGossipKeyOnAllButTheRevoked(t *testing.T) {
	one.machine(t, "listener", join.RoleNode)
	var rings []*gossip.Keyring
	var lists []*revoke.List
	for _, name := range []string{"follower-1", "follower-2"} {
		m, req := one.machine(t, name, join.RoleNode)
		one.register(t, m)
		ring, list := follow(t, m, req.Dir)
		rings, lists = append(rings, ring), append(lists, list)
	}
	// Revocations of other tests may be on their way.
	var before []gossip.KeyID
	for _, r := range rings {
		before = append(before, r.IDs()...)
	}
	if _, err := enroll.Revoke(t.Context(), one, "listener"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have one new key", func() bool {
		a, b := rings[0].IDs(), rings[1].IDs()
		return len(a) == 1 && slices.Equal(a, b) && !slices.Contains(before, a[0])
	})
	eventually(t, "both know who was revoked", func() bool {
		return !slices.ContainsFunc(lists, func(l *revoke.List) bool {
			_, ok := l.Entries().Find("listener")
			return !ok
		})
	})
}

func TestFollowerWithoutAPlaneRemembersWhoWasRevoked(t *testing.T) {
	one.machine(t, "gone", join.RoleNode)
	m, req := one.machine(t, "remembers", join.RoleNode)
	_, list := follow(t, m, req.Dir)
	if _, err := enroll.Revoke(t.Context(), one, "gone"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is known", func() bool { _, ok := list.Entries().Find("gone"); return ok })
	eventually(t, "it is on disk", func() bool {
		later := &revoke.List{}
		if err := enroll.LoadRevoked(req.Dir, later); err != nil {
			t.Fatal(err)
		}
		_, ok := later.Entries().Find("gone")
		return ok
	})
}

func TestPlaneDoesNotAnnounceItselfOverANodeNorAfterItsRevocation(t *testing.T) {
	one.machine(t, "a-node", join.RoleNode)
	if err := one.enroll.Announce(t.Context(), enroll.Member{Name: "a-node"}); err == nil {
		t.Error("a node's key became a plane's")
	}
	began := enroll.Member{Name: fmt.Sprint("began-", time.Now().UnixNano()), Address: netip.MustParseAddr("127.0.0.1")}
	one.forget(t, began.Name)
	if err := one.enroll.Announce(t.Context(), began); err != nil {
		t.Fatal(err)
	}
	if id := mustIdentities(t)[began.Name]; id.Role != join.RolePlane || id.Key != "" {
		t.Errorf("got %+v", id)
	}
	if out, err := enroll.Revoke(t.Context(), one, began.Name); err != nil || !out.Plane {
		t.Errorf("got %+v, %v", out, err)
	}
	if err := one.enroll.Announce(t.Context(), began); err == nil {
		t.Error("it came back by itself")
	}
}

func TestRevokedMachineHearsIt(t *testing.T) {
	m, req := one.machine(t, "hears-it", join.RoleNode)
	ended := make(chan error, 1)
	client := one.as(t, m)
	go func() {
		ended <- enroll.Follow(t.Context(), enroll.FollowConfig{Dir: req.Dir, Node: m.Name, Client: client, Revoked: &revoke.List{}, Log: quiet()})
	}()
	if _, err := enroll.Revoke(t.Context(), one, m.Name); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, enroll.ErrRevoked) {
			t.Errorf("got %v, want ErrRevoked", err)
		}
	case <-time.After(patient):
		t.Error("it goes on")
	}
}

func TestNodesShowTheirPartInRaft(t *testing.T) {
	m, _ := one.machine(t, "shown", join.RolePlane)
	one.register(t, m)
	shows := func(want string) func() bool {
		return func() bool {
			node, err := one.CoreV1().Nodes().Get(t.Context(), m.Name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return node.Annotations[enroll.AnnotationRaft] == want
		}
	}
	one.raft.Store(&map[string]string{m.Name: "voter"})
	eventually(t, "it is shown as a voter", shows("voter"))
	one.raft.Store(&map[string]string{})
	eventually(t, "it is shown as none", shows(""))
}

func TestNodesReadTheListsAndNothingElse(t *testing.T) {
	m, _ := one.machine(t, "curious", join.RoleNode)
	client := one.as(t, m)
	if _, err := client.CoreV1().Secrets(enroll.Namespace).Get(t.Context(), enroll.KeysName, metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	_, err := client.CoreV1().Secrets(enroll.Namespace).List(t.Context(), metav1.ListOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("all secrets: got %v, want forbidden", err)
	}
	_, err = client.CoreV1().Secrets(enroll.Namespace).Get(t.Context(), enroll.IdentityPrefix+"curious", metav1.GetOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("its identity: got %v, want forbidden", err)
	}
	err = client.CoreV1().ConfigMaps(enroll.Namespace).Delete(t.Context(), enroll.RevokedName, metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("the list of revoked nodes: got %v, want forbidden", err)
	}
}

func TestIdentitiesAndTokensAreListed(t *testing.T) {
	tok := one.token(t, join.Spec{Uses: 3, Role: join.RolePlane, Note: "rack 4"})
	m, err := enroll.Join(t.Context(), one.request(t, "listed", tok))
	if err != nil {
		t.Fatal(err)
	}
	all, err := enroll.Identities(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	if id := all["listed"]; id.Role != join.RolePlane || id.Address != m.Address || id.Release != release {
		t.Errorf("got %+v", id)
	}
	tokens, err := enroll.Tokens(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(tokens, func(r join.Record) bool { return strings.Contains(tok, r.ID) })
	if i < 0 || tokens[i].Used != 1 || tokens[i].Uses != 3 || tokens[i].Note != "rack 4" {
		t.Errorf("got %+v", tokens)
	}
	if err := enroll.DeleteToken(t.Context(), one, "nonsense"); err == nil {
		t.Error("deleted nonsense")
	}
}
