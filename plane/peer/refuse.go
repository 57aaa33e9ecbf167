package peer

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Why connections are refused.
const (
	reasonHandshake    = "handshake"    // no TLS 1.3, no certificate, another CA
	reasonUnauthorized = "unauthorized" // Authorize said no
	reasonTimeout      = "timeout"
	reasonLimit        = "limit"
	reasonFrame        = "frame"
	reasonAccept       = "accept"
)

// tellEvery is the pause between two lines of the log for one reason, so that
// a stranger cannot fill it.
const tellEvery = 10 * time.Second

// metrics are what a Peer counts. They work without a registerer too.
type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector
	refused    *prometheus.CounterVec

	mu   sync.Mutex // guards what follows
	told map[string]told
}

type told struct {
	at    time.Time
	since int // refused since then without a word
}

func newMetrics(p *Peer, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: reg,
		told:       map[string]told{},
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_peer_refused_total", Help: "Connections refused or ended by reason: handshake, unauthorized, timeout, limit, frame, accept."}, []string{"reason"}),
	}
	if reg == nil {
		return m, nil
	}
	conns := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copepod_peer_connections", Help: "Open connections between members."},
		func() float64 {
			p.mu.Lock()
			defer p.mu.Unlock()
			return float64(len(p.conns.all))
		})
	for _, c := range []prometheus.Collector{m.refused, conns} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}

// quiet counts a refusal and says whether it is to be told, with how many
// others.
func (m *metrics) quiet(reason string, now time.Time) (others int, quiet bool) {
	m.refused.WithLabelValues(reason).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.told[reason]
	if !t.at.IsZero() && now.Sub(t.at) < tellEvery {
		t.since++
		m.told[reason] = t
		return 0, true
	}
	m.told[reason] = told{at: now}
	return t.since, false
}

// refused counts a refused connection, and tells of it now and then.
func (p *Peer) refused(reason string, from net.Addr, err error) {
	if others, quiet := p.metrics.quiet(reason, time.Now()); !quiet {
		p.log.Warn("a connection is refused", "reason", reason, "from", from.String(), "error", err, "others", others)
	}
}
