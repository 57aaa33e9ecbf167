package redteam

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// Bounds of what a stranger may make a machine hold, over what it held before:
// file descriptors, and goroutines.
const (
	flood         = 1500 // connections to a port
	mostFiles     = 4800 // of six floods that are 9000
	mostRoutines  = 30000
	mostMemoryMiB = 2048 // also where races are looked for
)

// files is how many descriptors the process of a machine has open.
func (m *machine) files(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(m.cmd.Process.Pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// doors are all TCP ports where the machines listen for strangers.
func doors() map[string]string {
	return map[string]string{
		"API": victim.n1.at(apiPort), "API handed through": victim.n3.at(apiPort), "gossip": victim.n1.at(gossipPort),
		"planes": victim.n1.at(peerPort), "mesh": victim.n1.at(meshPort), "node": victim.n1.at(nodePort),
	}
}

// crowd opens n connections, says what say gives on each, and keeps them open
// until the test ends.
func crowd(t *testing.T, host byte, at string, n int, say []byte) {
	t.Helper()
	var wg sync.WaitGroup
	conns := make(chan net.Conn, n)
	for range 16 {
		wg.Go(func() {
			for range n / 16 {
				c := from(t, host, "tcp", at)
				_, _ = c.Write(say)
				conns <- c
			}
		})
	}
	wg.Wait()
	close(conns)
	t.Cleanup(func() {
		for c := range conns {
			_ = c.Close()
		}
	})
}

// Where a TLS connection begins: a record of 16 KiB, of which nothing comes.
var half = []byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3}

func TestFloodOfConnectionsThatSayNothingIsBoundedAndKeepsNobodyOut(t *testing.T) {
	w := newWitness(t)
	// Clients that came before the flood keep their connections.
	ns := namespace(t, "flooded")
	var watches []watch.Interface
	for _, m := range victim.machines() {
		watching, err := clientOf(t, victim.at(m)).CoreV1().ConfigMaps(ns).Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer watching.Stop()
		watches = append(watches, watching)
	}
	shed := map[string]float64{"api": victim.n1.metric(t, "copepod_connections_shed_total", `"api"`), "node": victim.n1.metric(t, "copepod_connections_shed_total", `"node"`)}
	files := map[*machine]int{}
	for _, m := range victim.machines() {
		files[m] = m.files(t)
	}
	host := byte(160)
	for _, at := range doors() {
		for _, say := range [][]byte{nil, half} {
			crowd(t, host, at, flood/2, say)
			host++
		}
	}
	for m, before := range files {
		if now := m.files(t); now > before+mostFiles {
			t.Errorf("%s holds %d files, %d before the flood", m.name, now, before)
		}
		if n := m.metric(t, "go_goroutines"); n > mostRoutines {
			t.Errorf("%s holds %v goroutines", m.name, n)
		}
		if n := m.metric(t, "process_resident_memory_bytes") / (1 << 20); n > mostMemoryMiB {
			t.Errorf("%s holds %v MiB", m.name, n)
		}
	}
	w.unharmed(t) // while the flood stands
	for port, before := range shed {
		victim.n1.counts(t, before, 1, "copepod_connections_shed_total", port)
	}
	victim.n1.logged(t, "too many connections whose callers prove nothing")
	create(t, victim.client.CoreV1().ConfigMaps(ns).Create, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "after"}})
	for i, watching := range watches {
		eventually(t, fmt.Sprintf("the watch through n%d, from before the flood, goes on", i+1), func() (bool, string) {
			select {
			case e, open := <-watching.ResultChan():
				if !open {
					t.Fatalf("the watch through n%d was cut", i+1)
				}
				obj, ok := e.Object.(*corev1.ConfigMap)
				return ok && obj.Name == "after", "another event"
			default:
				return false, "no event"
			}
		})
	}
}

func TestNonsenseOnAPortEndsItsConnectionAlone(t *testing.T) {
	w := newWitness(t)
	nonsense := make([]byte, 1<<20)
	if _, err := rand.Read(nonsense); err != nil {
		t.Fatal(err)
	}
	says := [][]byte{
		nonsense[:64], nonsense, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), make([]byte, 4096),
		append([]byte{22, 3, 3, 0xff, 0xff}, nonsense[:1<<16]...), // a record that is too long
		append([]byte{0xff, 0xff, 0xff, 0xff, 0}, nonsense[:1<<12]...), append([]byte{1, 0xff, 0xff, 0xff, 0xff}, nonsense[:1<<12]...),
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	}
	gossiped := victim.n1.metric(t, "copepod_gossip_refused_total")
	peers := victim.n1.metric(t, "copepod_peer_refused_total")
	hostile := victim.n1.metric(t, "copepod_mesh_hostile_total")
	for name, at := range doors() {
		for i, say := range says {
			c := from(t, 180, "tcp", at)
			_, _ = c.Write(say) // it may be cut off in the middle
			if half, ok := c.(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
			for n, err := 0, error(nil); err == nil; n++ { // an answer of TLS or HTTP, then the end
				if _, err = c.Read(make([]byte, 4096)); n > 100 {
					t.Errorf("%s goes on answering to nonsense %d", name, i)
					break
				}
			}
			_ = c.Close()
		}
	}
	udp := from(t, 180, "udp", victim.n1.at(gossipPort))
	defer func() { _ = udp.Close() }()
	for n := range 64 {
		_, _ = udp.Write(nonsense[:n*1000])
	}
	victim.n1.counts(t, gossiped, float64(len(says)), "copepod_gossip_refused_total")
	victim.n1.counts(t, peers, float64(len(says)), "copepod_peer_refused_total")
	victim.n1.counts(t, hostile, float64(len(says)), "copepod_mesh_hostile_total")
	w.unharmed(t)
	for _, m := range victim.machines() {
		select {
		case <-m.done:
			t.Fatal(fmt.Sprint(m.name, " ended: ", m.out))
		default:
		}
	}
}
