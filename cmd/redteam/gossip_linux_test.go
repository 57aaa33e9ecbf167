package redteam

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"copepod/gossip"
	"copepod/plane/enroll"
	"copepod/plane/entry"
)

// whisperer is an attacker with the gossip key, and nothing else.
func whisperer(t *testing.T, name string, host byte, change func(*gossip.Config)) *gossip.Gossip {
	t.Helper()
	ring, err := enroll.OpenRing(victim.n3.dir)
	if err != nil {
		t.Fatal(err)
	}
	cfg := gossip.Config{
		Name: name, Bind: netip.AddrPortFrom(victim.addr(host), gossipPort), Keys: ring.Keys, Pace: gossip.Loopback(),
		Meta: gossip.Meta{Role: gossip.RolePlane, APIPort: apiPort, MeshPort: meshPort, Version: "v0.1.0"},
		Log:  slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	g, err := gossip.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	<-g.Ready()
	return g
}

// join meets n1.
func meet(t *testing.T, g *gossip.Gossip) {
	t.Helper()
	eventually(t, "the attacker is among those who gossip", func() (bool, string) {
		_, err := g.Join(t.Context(), []string{victim.n1.at(gossipPort)})
		return err == nil, "no answer"
	})
}

// liar answers where an API server would, under a CA of its own, and counts the
// requests that anybody makes of it.
func liar(t *testing.T, at string) *atomic.Int64 {
	t.Helper()
	var heard atomic.Int64
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard.Add(1)
		_, _ = w.Write([]byte("ok"))
	}))
	_ = s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	return &heard
}

func TestHolderOfTheGossipKeyWhoSaysThatItIsAPlaneIsNone(t *testing.T) {
	w := newWitness(t)
	heard := liar(t, netip.AddrPortFrom(victim.addr(101), apiPort).String())
	meet(t, whisperer(t, "n9", 101, nil))
	for _, m := range victim.machines() {
		m.logged(t, "member changed", "name=n9")
	}
	w.unharmed(t) // n3 hands through what it takes for planes, the liar among them
	_, err := victim.client.CoreV1().Nodes().Get(t.Context(), "n9", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("got %v, want no node of that name", err)
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("the liar was asked %d times; its certificate is nobody's", n)
	}
}

func TestClientThatIsHandedToALyingPlaneFindsOut(t *testing.T) {
	heard := liar(t, netip.AddrPortFrom(victim.addr(102), apiPort).String())
	l, err := net.Listen("tcp", netip.AddrPortFrom(victim.addr(103), apiPort).String())
	if err != nil {
		t.Fatal(err)
	}
	e, err := entry.New(entry.Config{
		Listener: l, Planes: func() []netip.AddrPort { return []netip.AddrPort{netip.AddrPortFrom(victim.addr(102), apiPort)} },
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = e.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	cfg := victim.at(victim.n3)
	cfg.Host = "https://" + l.Addr().String()
	_, err = clientOf(t, cfg).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
	var wrong *tls.CertificateVerificationError
	if !errors.As(err, &wrong) {
		t.Errorf("got %v, want the certificate refused", err)
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("the liar heard %d requests", n)
	}
}

// deaf hears nothing any more from when it is told: so it takes all others for
// dead, and says so to each of them.
type deaf struct {
	*memberlist.NetTransport
	now     atomic.Bool
	packets chan *memberlist.Packet
}

func newDeaf(t *testing.T, host byte) *deaf {
	t.Helper()
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{victim.addr(host).String()}, BindPort: gossipPort, Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &deaf{NetTransport: inner, packets: make(chan *memberlist.Packet)}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			var p *memberlist.Packet
			select {
			case p = <-inner.PacketCh():
			case <-ctx.Done():
				return
			}
			if d.now.Load() {
				continue
			}
			select {
			case d.packets <- p:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	return d
}

func (d *deaf) PacketCh() <-chan *memberlist.Packet { return d.packets }

func (d *deaf) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return d.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (d *deaf) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if d.now.Load() {
		return nil, errors.New("deaf")
	}
	return d.NetTransport.DialAddressTimeout(a, timeout)
}

func TestHolderOfTheGossipKeyWhoSaysThatOthersAreDeadKillsNobody(t *testing.T) {
	w := newWitness(t)
	ns := namespace(t, "said-dead")
	p := pod(t, ns, "p", "n3", "s", "a")
	deaths := victim.n1.metric(t, "copepod_detector_rounds_total", `found="dead"`)
	ears := newDeaf(t, 104)
	g := whisperer(t, "n8", 104, func(cfg *gossip.Config) {
		cfg.Transport, cfg.Pace.SuspicionMult = ears, 1
		cfg.Advertise, cfg.Bind = cfg.Bind, netip.AddrPort{}
	})
	meet(t, g)
	ears.now.Store(true)
	eventually(t, "the attacker says that n3 is dead", func() (bool, string) {
		return slices.ContainsFunc(g.Members(), func(m gossip.Member) bool {
			return m.Name == "n3" && m.State == gossip.StateFailed
		}), "not yet"
	})
	// Whether anybody believed it before n3 denied it is chance. Where one did, the
	// plane looked for itself: package detector tests what it says then.
	w.unharmed(t)
	if dead := victim.n1.metric(t, "copepod_detector_rounds_total", `found="dead"`); dead != deaths {
		t.Errorf("got %v nodes found dead, want none", dead-deaths)
	}
	now, err := victim.client.CoreV1().Pods(ns).Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || now.UID != p.UID || now.DeletionTimestamp != nil {
		t.Errorf("pod of the node that was said to be dead: %v, %v", now, err)
	}
}

func TestHolderOfTheGossipKeyDoesNotTakeAnothersName(t *testing.T) {
	w := newWitness(t)
	g := whisperer(t, "n3", 105, nil)
	_, _ = g.Join(t.Context(), []string{victim.n1.at(gossipPort), victim.n2.at(gossipPort)})
	w.unharmed(t)
	// The attacker is a plane by its own word: nothing goes to it, whoever is
	// believed to be n3.
	if code, _, err := victim.n3.node(t.Context(), nil, "GET", "/v2/"); err == nil {
		t.Errorf("n3 answers %d to somebody without a certificate", code)
	}
	w.unharmed(t)
}
