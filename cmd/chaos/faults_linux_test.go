package chaos

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// fault is one thing that goes wrong, for a while.
type fault struct {
	kind   string
	victim int           // of the nodes; with leader, whoever leads counts instead
	leader bool          // hits the leader
	other  int           // another node, where two are concerned
	after  time.Duration // of calm before
	for_   time.Duration
	amount float64 // of 0 to 1: how bad
	with   *fault  // at the same time
}

func (f fault) String() string {
	who := fmt.Sprintf("n%d", f.victim+1)
	if f.leader {
		who = "leader"
	}
	s := fmt.Sprintf("%s(%s, n%d, %.2f) for %v", f.kind, who, f.other+1, f.amount, f.for_.Round(time.Millisecond))
	if f.with != nil {
		s += " with " + f.with.String()
	}
	return s
}

// Faults by what they need.
var (
	ofProcesses = []string{"kill", "kill", "stop", "stop", "murder", "minority-reboot", "blackout"}
	ofNetworks  = []string{"isolate", "isolate", "one-way", "bridge", "flap", "delay", "loss"}
	ofDisks     = []string{"slow-disk", "full-disk"}
)

// kinds are the faults that this machine can have, or those among them that are asked for.
func kinds(isolated bool, only string) []string {
	all := slices.Clone(ofProcesses)
	if isolated {
		all = slices.Concat(all, ofNetworks, ofDisks)
	}
	if only == "" {
		return all
	}
	want := strings.Split(only, ",")
	return slices.DeleteFunc(all, func(k string) bool { return !slices.Contains(want, k) })
}

// plan makes the next fault. The same seed makes the same faults in the same order;
// who leads when one hits is another matter.
func plan(r *rand.Rand, kinds []string, nodes int) fault {
	f := planOne(r, kinds, nodes)
	if r.IntN(4) == 0 {
		g := planOne(r, kinds, nodes)
		f.with = &g
	}
	return f
}

func planOne(r *rand.Rand, kinds []string, nodes int) fault {
	f := fault{kind: kinds[r.IntN(len(kinds))], victim: r.IntN(nodes), leader: r.IntN(2) == 0, amount: r.Float64()}
	f.other = (f.victim + 1 + r.IntN(nodes-1)) % nodes
	f.after = time.Duration(500+r.IntN(2500)) * time.Millisecond
	f.for_ = time.Duration(200+r.IntN(4800)) * time.Millisecond
	return f
}

// inflict lets f and what goes with it happen, and heals all. It returns when every
// process has been started again.
func (c *cluster) inflict(f fault) error {
	errs := make(chan error, 2)
	count := 0
	for g := &f; g != nil; g = g.with {
		count++
		go func() { errs <- c.one(*g) }()
	}
	var failed error
	for range count {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return failed
}

func (c *cluster) one(f fault) error {
	n := c.nodes[f.victim]
	if f.leader {
		if l := c.leader(); l != nil {
			n = l
		}
	}
	other := c.nodes[f.other]
	if other == n {
		other = c.nodes[(f.other+1)%len(c.nodes)]
	}
	switch f.kind {
	case "kill":
		n.kill()
		time.Sleep(f.for_)
		return c.restart(n)
	case "stop":
		n.signal(syscall.SIGSTOP)
		time.Sleep(f.for_)
		n.signal(syscall.SIGCONT)
		return nil
	case "murder": // whoever leads dies, again and again
		for range 3 {
			if l := c.leader(); l != nil {
				n = l
			}
			n.kill()
			time.Sleep(f.for_ / 3)
			if err := c.restart(n); err != nil {
				return err
			}
		}
		return nil
	case "minority-reboot": // two of three: no majority
		n.kill()
		other.kill()
		time.Sleep(f.for_)
		return firstError(c.restart(n), c.restart(other))
	case "blackout":
		for _, n := range c.nodes {
			n.kill()
		}
		time.Sleep(f.for_ / 4)
		var failed error
		for _, n := range c.nodes {
			failed = firstError(failed, c.restart(n))
		}
		return failed
	case "slow-disk":
		n.disk.delay.Store(int64(20*time.Millisecond + time.Duration(f.amount*float64(time.Second))))
		time.Sleep(f.for_)
		return n.disk.heal()
	case "full-disk":
		err := n.disk.fill()
		time.Sleep(f.for_)
		return firstError(n.disk.heal(), err)
	}
	defer c.network.heal()
	cut := quality{cut: true}
	apart := func(a, b netip.Addr) { c.network.set(a, b, cut); c.network.set(b, a, cut) }
	switch f.kind {
	case "isolate":
		for _, m := range c.nodes {
			if m != n {
				apart(n.addr, m.addr)
			}
		}
		time.Sleep(f.for_)
	case "one-way": // what n says is lost; or only what it says to one
		for _, m := range c.nodes {
			if m == other || m != n && f.amount < 0.5 {
				c.network.set(n.addr, m.addr, cut)
			}
		}
		time.Sleep(f.for_)
	case "bridge": // n and other meet only by way of the rest
		apart(n.addr, other.addr)
		time.Sleep(f.for_)
	case "flap":
		for end := time.Now().Add(f.for_); time.Now().Before(end); {
			apart(n.addr, other.addr)
			time.Sleep(time.Duration(100+f.amount*400) * time.Millisecond)
			c.network.set(n.addr, other.addr, quality{})
			c.network.set(other.addr, n.addr, quality{})
			time.Sleep(time.Duration(100+f.amount*400) * time.Millisecond)
		}
	case "delay", "loss":
		q := quality{loss: 0.02 + 0.3*f.amount}
		if f.kind == "delay" {
			d := time.Duration((0.01 + 0.3*f.amount) * float64(time.Second))
			q = quality{delay: d, jitter: d}
		}
		for _, a := range c.nodes {
			for _, b := range c.nodes {
				c.network.set(a.addr, b.addr, q)
			}
		}
		time.Sleep(f.for_)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// revive starts processes that ended by themselves, and says which did.
func (c *cluster) revive() (ended []string, err error) {
	for _, n := range c.nodes {
		if n.running() {
			continue
		}
		n.mu.Lock()
		killed, out := n.killed, n.out
		n.mu.Unlock()
		if !killed {
			ended = append(ended, fmt.Sprintf("%s ended by itself:\n%s", n.name, tail(out.String(), 30)))
		}
		err = firstError(err, c.restart(n))
	}
	return ended, err
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
