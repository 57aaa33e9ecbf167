package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	duration = flag.Duration("chaos.for", 0, "how long TestChaos breaks things; 0: it skips")
	seed     = flag.Uint64("chaos.seed", 0, "of the faults; 0: another each time")
	prebuilt = flag.String("chaos.binary", "", "copepod, built already")
	size     = flag.Int("chaos.nodes", 3, "nodes of the cluster: 3 or 5")
	only     = flag.String("chaos.faults", "", "only these, as kill,isolate; empty: all that can be had here")
	plain    = flag.Bool("chaos.plain", false, "nodes on 127.0.0.x, without faults of network and disk, also as root")
	keep     = flag.String("chaos.keep", "", "directory for the logs of a run that failed (default: one that the test names)")
)

// recovery is how long the cluster may take to serve through every node, once
// nothing is broken: far more than it takes, as machines are busy.
const recovery = 60 * time.Second

// Real processes, killed, stopped, cut off and starved while clients read and
// write: afterwards all that clients were told fits one history, nothing that
// was acknowledged is lost, watches told everything once and in order, and the
// Deployment has the pods that were asked for.
func TestChaos(t *testing.T) {
	if *duration == 0 {
		t.Skip("it takes minutes: ask for it with -chaos.for 60s, or `just chaos`")
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano()) % 1e9
	}
	why := isolation()
	if *plain {
		why = fmt.Errorf("-chaos.plain")
	}
	if why != nil {
		t.Logf("no faults of network and disk: %v", why)
	}
	isolated := why == nil
	faults := kinds(isolated, *only)
	if len(faults) == 0 {
		t.Skipf("none of -chaos.faults=%s can be had here", *only)
	}
	t.Logf("seed %d", *seed)
	c := newCluster(t, *size, isolated)
	defer func() {
		if t.Failed() {
			c.keepLogs(t)
		}
	}()
	run := &run{t: t, c: c, h: &clients{c: c, errors: map[string]int{}}}
	run.begin()
	run.break_(faults)
	run.finish()
	run.check()
}

// run is one run of TestChaos.
type run struct {
	t        *testing.T
	c        *cluster
	h        *clients
	watchers []*watcher
	work     sync.WaitGroup // clients and the scaler
	stopWork context.CancelFunc
	watching sync.WaitGroup
	stop     context.CancelFunc // of the watchers
	faults   map[string]int
}

// begin starts everything that goes on while things break.
func (r *run) begin() {
	t, c := r.t, r.c
	if err := c.deploy(3); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := c.nodes[0].client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	list, err := c.nodes[0].client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.h.start = time.Now()
	watch, stop := context.WithCancel(context.Background())
	for _, n := range c.nodes {
		w := &watcher{n: n, start: revision(list.ResourceVersion)}
		r.watchers = append(r.watchers, w)
		r.watching.Go(func() { w.run(watch) })
	}
	ctx, stopWork := context.WithCancel(context.Background())
	r.stop, r.stopWork = stop, stopWork
	for i := range 2 * len(c.nodes) {
		n := c.nodes[i%len(c.nodes)]
		r.work.Go(func() { r.h.run(ctx, i, n, rand.New(rand.NewPCG(*seed, uint64(i)))) })
	}
	r.work.Go(func() { c.scaler(ctx, rand.New(rand.NewPCG(*seed, 1000))) })
	t.Cleanup(func() { r.stopWork(); r.stop(); r.work.Wait(); r.watching.Wait() })
}

// break_ lets one fault follow another until the time is over.
func (r *run) break_(kinds []string) {
	r.faults = map[string]int{}
	random := rand.New(rand.NewPCG(*seed, 2000))
	for count := 1; time.Since(r.h.start) < *duration; count++ {
		f := plan(random, kinds, len(r.c.nodes))
		time.Sleep(f.after)
		r.t.Logf("%6.1fs fault %d: %v", time.Since(r.h.start).Seconds(), count, f)
		if err := r.c.inflict(f); err != nil {
			r.t.Fatalf("seed %d: %v: %v", *seed, f, err)
		}
		full := false
		for g := &f; g != nil; g = g.with {
			r.faults[g.kind]++
			full = full || g.kind == "full-disk"
		}
		ended, err := r.c.revive()
		if err != nil {
			r.t.Fatalf("seed %d: after %v: %v", *seed, f, err)
		}
		for _, e := range ended {
			if full { // to give up is one way to meet a full disk
				r.t.Logf("after %v: %s", f, e)
			} else {
				r.t.Errorf("seed %d: after %v: %s", *seed, f, e)
			}
		}
		from := time.Now()
		if err := r.c.healthy(recovery); err != nil {
			r.t.Errorf("seed %d: after %v: %v", *seed, f, err)
			r.c.dump(r.t)
			r.t.FailNow()
		}
		r.t.Logf("%6.1fs every node serves (%v)", time.Since(r.h.start).Seconds(), time.Since(from).Round(time.Millisecond))
	}
}

// finish waits until all is calm and every watcher has seen the end.
func (r *run) finish() {
	r.stopWork()
	r.work.Wait()
	for i, n := range r.c.nodes { // one end for each node: none may be lost
		in := input{kind: create, key: fmt.Sprintf("end-%d", i), value: "end"}
		call := r.h.now()
		out, err := r.h.do(n, in)
		if err != nil {
			r.t.Errorf("seed %d: the last write at %s: %v", *seed, n.name, err)
		}
		r.h.record(1000+i, in, out, call, err)
	}
	for _, w := range r.watchers {
		if err := r.c.eventually(recovery, "the watcher at "+w.n.name+" sees the end", func(context.Context) error {
			return w.told(fmt.Sprintf("end-%d", len(r.c.nodes)-1))
		}); err != nil {
			r.t.Errorf("seed %d: %v", *seed, err)
		}
	}
	r.stop()
	r.watching.Wait()
	for _, n := range r.c.nodes {
		r.h.list(n)
	}
	const replicas = 5
	err := r.c.eventually(recovery, "scale", func(ctx context.Context) error { return r.c.nodes[0].scale(ctx, replicas) })
	if err == nil {
		err = r.c.exactly(replicas, recovery)
	}
	if err != nil {
		r.t.Errorf("seed %d: %v", *seed, err)
	}
}

// check compares all that was told.
func (r *run) check() {
	var all []told
	for _, w := range r.watchers {
		all = append(all, told{w.n.name, w.events})
		for _, l := range w.lost {
			r.t.Errorf("seed %d: the watch at %s could not be taken up: %s", *seed, w.n.name, l)
		}
	}
	record, faults := merge(all)
	r.report("watches", faults)
	history, faults := record.settle(r.h.history)
	r.report("acknowledged writes", faults)
	r.report("order of revisions", ordered(history))
	r.report("lists", record.listed(history, r.h.lists))
	faults, unsure := linearizable(history, time.Minute)
	r.report("linearizability", faults)
	if unsure > 0 {
		r.t.Logf("%d keys are too much to decide", unsure)
	}
	answers, begun := map[string]int{}, 0
	for _, op := range r.h.history {
		answers[string(op.Input.(input).kind)+" "+string(op.Output.(output).answer)]++
	}
	for _, w := range r.watchers {
		begun += w.begun
	}
	r.t.Logf("seed %d: %d operations, %d lists, %d events at each of %d watchers (%d watches), %d keys; faults %s; answers %s; errors %s",
		*seed, len(r.h.history), len(r.h.lists), len(record), len(r.watchers), begun, len(registers.Partition(history)),
		counts(r.faults), counts(answers), counts(r.h.errors))
}

// report fails the test by what a check found, the first of it in full.
func (r *run) report(check string, faults []string) {
	for i, f := range faults {
		if i == 10 {
			break
		}
		r.t.Errorf("seed %d: %s: %s", *seed, check, f)
	}
	if len(faults) > 0 {
		r.t.Errorf("seed %d: %s: %d faults", *seed, check, len(faults))
	}
}

func counts(m map[string]int) string {
	s := ""
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s += fmt.Sprintf("%s: %d, ", k, m[k])
	}
	return s
}

// keepLogs copies what the nodes said.
func (c *cluster) keepLogs(t *testing.T) {
	dir := *keep
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("chaos-%d", *seed))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Log(err)
		return
	}
	for _, n := range c.nodes {
		if err := n.save(dir); err != nil {
			t.Log(err)
		}
	}
	t.Logf("logs of the nodes: %s", dir)
}

// dump has every process end with its goroutines in its output, which is kept.
func (c *cluster) dump(*testing.T) {
	for _, n := range c.nodes {
		n.dump()
	}
}
