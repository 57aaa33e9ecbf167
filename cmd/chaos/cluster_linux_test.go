package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/plane"
	"copepod/plane/store"
)

// cluster is the nodes and what is between them.
type cluster struct {
	nodes    []*node
	network  *network // nil: the loopback of the test, which cannot be broken
	nodePort string   // where hello answers on each node
}

// binary is built once.
var binary = sync.OnceValues(func() (string, error) {
	if *prebuilt != "" {
		return filepath.Abs(*prebuilt)
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "copepod-chaos")) // git ignores it
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "build", "-o", path, "../..").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// newCluster starts nodes that make up one plane. All of it ends with the test.
func newCluster(t testing.TB, size int, isolated bool) *cluster {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "copepod-chaos-") // short: sockets may lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	c := &cluster{}
	if isolated {
		c.network = newNetwork()
	}
	t.Cleanup(c.close)
	for i := range size {
		n := &node{name: fmt.Sprintf("n%d", i+1), binary: path, addr: netip.AddrFrom4([4]byte{127, 0, 0, byte(11 + i)})}
		n.dir = filepath.Join(root, n.name)
		if err := os.Mkdir(n.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if n.host, err = newHost(isolated); err != nil {
			t.Fatal(err)
		}
		c.nodes = append(c.nodes, n)
		if !isolated {
			continue
		}
		n.addr = netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + i)})
		if n.disk, err = newDisk(n.host, n.dir); err != nil {
			t.Fatal(err)
		}
		if err := c.network.plug(n.host, n.addr); err != nil {
			t.Fatal(err)
		}
	}
	if isolated {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		c.network.run(ctx)
	}
	if err := c.boot(); err != nil {
		t.Fatal(err)
	}
	return c
}

// boot makes the nodes one plane, all of them voters.
func (c *cluster) boot() error {
	const patience = 90 * time.Second
	voters := []string{"--plane-voters", fmt.Sprint(len(c.nodes))}
	first := c.nodes[0]
	if err := first.start(append([]string{"up"}, voters...)...); err != nil {
		return err
	}
	if err := first.greeting(patience); err != nil {
		return err
	}
	if err := first.connect(); err != nil {
		return err
	}
	line, err := first.copepod("", "token", "create", "--role", "plane", "--uses", fmt.Sprint(len(c.nodes)-1))
	if err != nil {
		return err
	}
	join := append(strings.Fields(line)[1:], voters...)
	for _, n := range c.nodes[1:] {
		if err := n.start(join...); err != nil {
			return err
		}
		if err := n.greeting(patience); err != nil {
			return err
		}
		if err := n.connect(); err != nil {
			return err
		}
	}
	return c.eventually(patience, "all nodes vote", func(ctx context.Context) error {
		s, err := first.status(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, m := range s.Members {
			if m.Voter {
				n++
			}
		}
		if n != len(c.nodes) {
			return fmt.Errorf("%d voters, want %d", n, len(c.nodes))
		}
		return nil
	})
}

func (c *cluster) close() {
	for _, n := range c.nodes {
		if n.cmd != nil {
			n.kill()
		}
		if n.disk != nil {
			n.disk.close()
		}
		n.host.close()
	}
	if c.network != nil {
		c.network.close()
	}
}

// restart starts the process of a node that has ended.
func (c *cluster) restart(n *node) error {
	return n.start("up", "--plane-voters", fmt.Sprint(len(c.nodes)))
}

// eventually repeats f until it succeeds.
func (c *cluster) eventually(patience time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, 10*time.Second)
		err := f(attempt)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// status is what a node says of the plane.
func (n *node) status(ctx context.Context) (store.Status, error) {
	var s store.Status
	data, err := n.client.RESTClient().Get().AbsPath(plane.StatusPath).MaxRetries(0).DoRaw(ctx)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(data, &s)
}

// leader is who leads by the word of the nodes that answer: that of the latest term counts.
func (c *cluster) leader() *node {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	said := make(chan store.Status, len(c.nodes))
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(func() {
			if s, err := n.status(ctx); err == nil {
				said <- s
			}
		})
	}
	wg.Wait()
	close(said)
	var found *node
	var term uint64
	for s := range said {
		for _, n := range c.nodes {
			if n.name == s.Leader && s.Term >= term {
				found, term = n, s.Term
			}
		}
	}
	return found
}

// healthy waits until every node runs, takes a write, and reads it where it was not written.
func (c *cluster) healthy(patience time.Duration) error {
	return c.eventually(patience, "every node serves", func(ctx context.Context) error {
		for i, n := range c.nodes {
			if !n.running() {
				return fmt.Errorf("%s does not run:\n%s", n.name, n.out)
			}
			cm := register(fmt.Sprintf("probe-%d", time.Now().UnixNano()), "probe", "")
			cm.Namespace = "default"
			if _, err := n.client.CoreV1().ConfigMaps("default").Create(ctx, cm, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("write at %s: %w", n.name, err)
			}
			other := c.nodes[(i+1)%len(c.nodes)]
			if _, err := other.client.CoreV1().ConfigMaps("default").Get(ctx, cm.Name, metav1.GetOptions{}); err != nil {
				return fmt.Errorf("%s was written at %s; read at %s: %w", cm.Name, n.name, other.name, err)
			}
			if err := other.client.CoreV1().ConfigMaps("default").Delete(ctx, cm.Name, metav1.DeleteOptions{}); err != nil {
				return fmt.Errorf("delete at %s: %w", other.name, err)
			}
		}
		return nil
	})
}
