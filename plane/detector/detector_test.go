package detector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/gossip"
	"copepod/plane/controllers/looptest"
)

// world is nodes, what can be seen of them from where, and what gossip says.
type world struct {
	t      *testing.T
	api    *looptest.API
	events chan gossip.Event

	mu    sync.Mutex           // guards what follows
	seen  map[[2]string]Answer // from, node; the leader is ""
	looks map[[2]string]int
}

func newWorld(t *testing.T, nodes ...string) *world {
	w := &world{t: t, api: looptest.New(), events: make(chan gossip.Event), seen: map[[2]string]Answer{}, looks: map[[2]string]int{}}
	for _, name := range nodes {
		w.join(name)
	}
	return w
}

// join makes a node that is ready and can be seen from everywhere.
func (w *world) join(name string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		Conditions:      []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}}
	if _, err := w.api.Create(w.t.Context(), n); err != nil {
		w.t.Fatal(err)
	}
	made := looptest.Get[*corev1.Node](w.t, w.api, "", name).DeepCopy()
	made.Status = n.Status
	if _, err := w.api.UpdateStatus(w.t.Context(), made); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) Events(ctx context.Context) <-chan gossip.Event { return w.events }

func (w *world) see(from, node string, a Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[[2]string{from, node}] = a
}

func (w *world) answer(from, node string) Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks[[2]string{from, node}]++
	if a := w.seen[[2]string{from, node}]; a != "" {
		return a
	}
	if a := w.seen[[2]string{"*", node}]; a != "" {
		return a
	}
	return Alive
}

// Look implements Ports: silence takes its time.
func (w *world) Look(ctx context.Context, node, _ string) Answer {
	a := w.answer("", node)
	if a == Silent {
		pause(ctx, 2*lookTimeout)
	}
	return a
}

// Ask implements Ports. A helper that does not answer has no opinion.
func (w *world) Ask(ctx context.Context, helper, node, _ string) (Answer, error) {
	if w.answer("", helper) != Alive {
		pause(ctx, askTimeout)
		return "", errors.New("no answer")
	}
	a := w.answer(helper, node)
	if a == Silent {
		pause(ctx, 2*lookTimeout)
	}
	return a, nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (w *world) hint(state gossip.State, nodes ...string) {
	for _, n := range nodes {
		w.events <- gossip.Event{Member: gossip.Member{Name: n, State: state}}
	}
}

// start runs a detector on n1, the leader.
func (w *world) start() *Detector {
	d, err := New(Config{Gossip: w, Nodes: w.api, Ports: w, Self: "n1"})
	if err != nil {
		w.t.Fatal(err)
	}
	looptest.Start(w.t, d.Run)
	return d
}

func (w *world) dead(d *Detector, nodes ...string) string {
	var list []string
	for _, n := range nodes {
		if _, ok := d.Dead(n); ok {
			list = append(list, n)
		}
	}
	return strings.Join(list, " ")
}

func TestNodeWhoseProcessIsGoneIsDeadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3", "n4")
		d := w.start()
		var told []string
		defer d.Follow(func(n string) { told = append(told, n) })()
		w.hint(gossip.StateAlive, "n1", "n2", "n3", "n4")
		w.see("*", "n2", Refused)
		w.hint(gossip.StateSuspect, "n2")
		synctest.Wait()
		if got := w.dead(d, "n1", "n2", "n3", "n4"); got != "n2" {
			t.Errorf("got %q dead, want n2", got)
		}
		if !slices.Equal(told, []string{"n2"}) {
			t.Errorf("got news of %v, want n2", told)
		}
	})
}

func TestSilentNodeIsDeadWhenOthersDoNotReachItEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3", "n4")
		d := w.start()
		w.hint(gossip.StateAlive, "n1", "n2", "n3", "n4")
		w.see("*", "n2", Silent)
		w.hint(gossip.StateSuspect, "n2")
		time.Sleep(hedge + 2*lookTimeout + time.Millisecond)
		synctest.Wait()
		if got := w.dead(d, "n2", "n3"); got != "n2" {
			t.Errorf("got %q dead, want n2", got)
		}
	})
}

func TestACutBetweenTheLeaderAndANodeKillsNobody(t *testing.T) {
	for _, a := range []Answer{Silent, Refused, Impostor} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "n1", "n2", "n3", "n4")
			d := w.start()
			w.see("", "n2", a) // the others see it
			w.hint(gossip.StateSuspect, "n2")
			time.Sleep(time.Minute)
			if got := w.dead(d, "n2"); got != "" {
				t.Errorf("%s from the leader: got %q dead, want none", a, got)
			}
		})
	}
}

func TestALeaderThatIsCutOffKillsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3", "n4")
		d := w.start()
		for _, n := range []string{"n2", "n3", "n4"} {
			w.see("", n, Silent)
		}
		w.hint(gossip.StateSuspect, "n2") // the first that gossip misses
		time.Sleep(time.Minute)
		if got := w.dead(d, "n2", "n3", "n4"); got != "" {
			t.Errorf("got %q dead, want none: nobody else has an opinion", got)
		}
	})
}

func TestAHolderOfTheGossipKeyKillsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		d := w.start()
		for range 1000 {
			w.hint(gossip.StateSuspect, "n2", "no-such-node", "n1")
			w.hint(gossip.StateFailed, "n2", "n3")
			w.hint(gossip.StateLeft, "n3")
		}
		time.Sleep(time.Minute)
		if got := w.dead(d, "n1", "n2", "n3", "no-such-node"); got != "" {
			t.Errorf("got %q dead, want none", got)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for who, n := range w.looks {
			if who[1] == "n1" || who[1] == "no-such-node" {
				t.Errorf("got %d looks at %s", n, who[1])
			}
		}
	})
}

func TestNodeThatAnswersAgainIsNoLongerDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		d := w.start()
		w.see("*", "n2", Refused)
		w.hint(gossip.StateFailed, "n2")
		time.Sleep(10 * time.Second)
		if got := w.dead(d, "n2"); got != "n2" {
			t.Fatalf("got %q dead, want n2", got)
		}
		w.hint(gossip.StateAlive, "n2") // gossip alone brings nobody back
		time.Sleep(30 * time.Second)
		if got := w.dead(d, "n2"); got != "n2" {
			t.Errorf("got %q dead, want n2: its port still refuses", got)
		}
		w.see("*", "n2", Alive)
		time.Sleep(mostAgain)
		synctest.Wait()
		if got := w.dead(d, "n2"); got != "" {
			t.Errorf("got %q dead, want none", got)
		}
	})
}

func TestALeaderThatBeginsLooksAtWhomGossipDoesNotHoldAsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "failed", "unknown", "unknown-but-well", "alive")
		w.see("*", "failed", Refused)
		w.see("*", "unknown", Refused)
		d := w.start()
		w.hint(gossip.StateFailed, "failed") // first of all: what gossip knows already
		w.hint(gossip.StateAlive, "alive")
		time.Sleep(5 * time.Second)
		if got := w.dead(d, "failed", "unknown", "unknown-but-well", "alive"); got != "failed unknown" {
			t.Errorf("got %q dead, want failed and unknown", got)
		}
	})
}

func TestNothingIsCarriedIntoAnotherTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		w.see("*", "n2", Refused)
		d, err := New(Config{Gossip: w, Nodes: w.api, Ports: w, Self: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			stop := looptest.Start(t, d.Run)
			w.hint(gossip.StateFailed, "n2")
			synctest.Wait()
			if got := w.dead(d, "n2"); got != "n2" {
				t.Errorf("got %q dead, want n2", got)
			}
			stop()
			if got := w.dead(d, "n2"); got != "" {
				t.Errorf("got %q dead after the term, want none", got)
			}
		}
	})
}

func TestWithoutGossipNothingIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		w.see("*", "n2", Refused)
		d, err := New(Config{Nodes: w.api, Ports: w, Self: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		looptest.Start(t, d.Run)
		time.Sleep(time.Hour)
		if got := w.dead(d, "n2"); got != "" {
			t.Errorf("got %q dead: leases decide", got)
		}
	})
}

func TestJudgeNeedsEverybody(t *testing.T) {
	for _, row := range []struct {
		own     Answer
		others  []Answer
		company bool
		want    Finding
	}{
		{Refused, []Answer{Refused, Silent}, true, FoundDead},
		{Silent, []Answer{Silent}, true, FoundDead},
		{Impostor, []Answer{Impostor}, true, FoundDead},
		{Silent, []Answer{Alive, Silent}, true, FoundAlive},
		{Refused, []Answer{Alive}, true, FoundAlive},
		{Silent, nil, true, FoundUnsure},
		{Impostor, nil, true, FoundUnsure},
		{Refused, nil, true, FoundDead},
		{Silent, nil, false, FoundDead}, // a cluster of two
		{Silent, []Answer{Silent, Unsure}, true, FoundUnsure},
		{Silent, []Answer{"nonsense"}, true, FoundUnsure},
		{Alive, nil, true, FoundAlive},
	} {
		if got := judge(row.own, row.others, row.company); got != row.want {
			t.Errorf("%s, others %v, company %v: got %s, want %s", row.own, row.others, row.company, got, row.want)
		}
	}
}

func TestManyDeadNodesAreAllFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 3 * mostRounds {
			names = append(names, fmt.Sprintf("m%d", i))
		}
		w := newWorld(t, append([]string{"n1", "n2", "n3"}, names...)...)
		d := w.start()
		for _, n := range names {
			w.see("*", n, Silent)
		}
		w.hint(gossip.StateFailed, names...)
		time.Sleep(time.Minute)
		if got := w.dead(d, names...); got != strings.Join(names, " ") {
			t.Errorf("got only %q dead", got)
		}
	})
}

func FuzzParseOpinion(f *testing.F) {
	f.Add(`{"answer":"alive"}`)
	f.Add(`{"answer":"dead","why":"because"}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseOpinion(strings.NewReader(text))
		if err == nil && !slices.Contains([]Answer{Alive, Refused, Silent, Impostor, Unsure}, a) {
			t.Errorf("got %q taken", a)
		}
	})
}
