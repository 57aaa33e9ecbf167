package nodeipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane/controllers/api"
	"copepod/plane/controllers/cache"
	"copepod/plane/controllers/loop"
	"copepod/plane/controllers/looptest"
	"copepod/plane/controllers/record"
)

func start(t *testing.T, a *looptest.API, cluster string, mask int) {
	t.Helper()
	nodes := cache.New(cache.Config[*corev1.Node]{Source: a, Resource: api.Nodes, Project: cache.As[*corev1.Node]})
	events := record.New(record.Config{Client: a, Component: "cidrAllocator"})
	c, err := New(Config{Client: a, Nodes: nodes, Events: events, Cluster: netip.MustParsePrefix(cluster), MaskSize: mask})
	if err != nil {
		t.Fatal(err)
	}
	looptest.Start(t, nodes.Run, events.Run, loop.After(c.Run, nodes.Synced()))
}

func node(name, cidr string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}}
	if cidr != "" {
		n.Spec.PodCIDRs = []string{cidr}
	}
	return n
}

func ranges(a *looptest.API) map[string]string {
	out := map[string]string{}
	for _, n := range looptest.List[*corev1.Node](a, "") {
		out[n.Name] = n.Spec.PodCIDR
	}
	return out
}

func TestEachNodeGetsARangeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		_, _ = a.Create(t.Context(), node("had-one", "10.64.64.0/18"))
		for i := range 30 {
			_, _ = a.Create(t.Context(), node(fmt.Sprint("early-", i), ""))
		}
		start(t, a, "10.64.0.0/12", 0)
		for i := range 33 {
			_, _ = a.Create(t.Context(), node(fmt.Sprint("late-", i), ""))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		seen := map[string]string{}
		for name, cidr := range ranges(a) {
			p, err := netip.ParsePrefix(cidr)
			if err != nil || p.Bits() != 18 || !netip.MustParsePrefix("10.64.0.0/12").Overlaps(p) {
				t.Errorf("%s got %q, want a /18 of 10.64.0.0/12", name, cidr)
			}
			if seen[cidr] != "" {
				t.Errorf("%s and %s both got %s", name, seen[cidr], cidr)
			}
			seen[cidr] = name
		}
		if len(seen) != 64 || seen["10.64.64.0/18"] != "had-one" {
			t.Errorf("got %d ranges, 10.64.64.0/18 of %q; want 64, had-one's as it was", len(seen), seen["10.64.64.0/18"])
		}
		n, _ := a.View().Get(api.Nodes, "", "late-0")
		if got := n.(*corev1.Node).Spec; !slices.Equal(got.PodCIDRs, []string{got.PodCIDR}) {
			t.Errorf("got podCIDRs %v beside podCIDR %s", got.PodCIDRs, got.PodCIDR)
		}
	})
}

func TestANodeWithoutARangeSaysSoAndGetsTheNextThatIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a, "10.64.0.0/24", 25)
		for _, name := range []string{"a", "b", "c"} {
			_, _ = a.Create(t.Context(), node(name, ""))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if got := ranges(a); got["a"] == "" || got["b"] == "" || got["c"] != "" {
			t.Fatalf("got %v, want ranges for a and b", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		var said []string
		for _, e := range looptest.List[*corev1.Event](a, "") {
			said = append(said, e.Reason+": "+e.Message)
		}
		if !slices.Contains(said, "CIDRNotAvailable: Node c status is now: CIDRNotAvailable") {
			t.Errorf("got events %q, want CIDRNotAvailable of c", said)
		}
		free := ranges(a)["a"]
		_ = a.Delete(t.Context(), api.Nodes, "", "a", metav1.DeleteOptions{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := ranges(a)["c"]; got != free {
			t.Errorf("c has %q, want %s, which a gave back", got, free)
		}
	})
}

func TestANodeThatIsRegisteredAnewGetsTheRangeThatItHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		start(t, a, "10.64.0.0/10", 0)
		_, _ = a.Create(t.Context(), node("n1", ""))
		time.Sleep(time.Second)
		synctest.Wait()
		had := ranges(a)["n1"]
		_ = a.Delete(t.Context(), api.Nodes, "", "n1", metav1.DeleteOptions{})
		_, _ = a.Create(t.Context(), node("n1", ""))
		time.Sleep(time.Second)
		synctest.Wait()
		if got := ranges(a)["n1"]; had == "" || got != had {
			t.Errorf("got %q, want %q as before", got, had)
		}
	})
}

func TestRangesThatCannotBeCutAreRefused(t *testing.T) {
	for _, row := range []struct {
		cluster string
		mask    int
		want    string
	}{
		{"10.64.0.0/10", 0, ""},
		{"10.64.0.0/18", 18, ""},
		{"10.64.0.0/20", 0, "want 20 to 30"},
		{"10.64.0.0/10", 31, "want 10 to 30"},
		{"10.0.0.0/8", 28, "more than 65536"},
		{"fd00::/48", 64, "want an IPv4 range"},
	} {
		err := Check(netip.MustParsePrefix(row.cluster), row.mask)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s in /%d: got %v, want %q", row.cluster, row.mask, err, row.want)
		}
	}
	if Check(netip.Prefix{}, 0) == nil {
		t.Error("no range at all was taken")
	}
}

func TestRangesOfOtherSizesTakeAllThatTheyCover(t *testing.T) {
	b, err := newBook(netip.MustParsePrefix("10.64.0.0/22"), 24)
	if err != nil {
		t.Fatal(err)
	}
	b.occupy("wide", netip.MustParsePrefix("10.64.0.0/23"))
	b.occupy("narrow", netip.MustParsePrefix("10.64.2.16/28"))
	b.occupy("elsewhere", netip.MustParsePrefix("192.168.0.0/16"))
	if other := b.occupy("twice", netip.MustParsePrefix("10.64.2.16/28")); other != "narrow" {
		t.Errorf("got %q for a range that is taken, want narrow", other)
	}
	b.release("twice")
	p, ok := b.reserve("n")
	if !ok || p.String() != "10.64.3.0/24" {
		t.Errorf("got %s, %v; want the one that is left", p, ok)
	}
	if p, ok := b.reserve("m"); ok {
		t.Errorf("got %s of a range that is used up", p)
	}
	b.release("narrow")
	if p, ok := b.reserve("m"); !ok || p.String() != "10.64.2.0/24" {
		t.Errorf("got %s, %v; want what narrow gave back", p, ok)
	}
	b.occupy("all", netip.MustParsePrefix("10.0.0.0/8"))
	b.release("wide")
	if p, ok := b.reserve("o"); ok {
		t.Errorf("got %s, want none beside a node that has all", p)
	}
}

func TestAFailedWriteIsTriedAgainWithTheSameRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := looptest.New()
		failures := 2
		a.Refuse = func(verb string, o api.Object) error {
			if n, ok := o.(*corev1.Node); ok && verb == "update" && n.Spec.PodCIDR != "" && failures > 0 {
				failures--
				return errors.New("the disk is full")
			}
			return nil
		}
		start(t, a, "10.64.0.0/25", 25)
		_, _ = a.Create(t.Context(), node("n1", ""))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := ranges(a)["n1"]; got != "10.64.0.0/25" || failures != 0 {
			t.Errorf("got %q after %d failures, want 10.64.0.0/25", got, 2-failures)
		}
	})
}
