package gossip

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Reason says why something that arrived was refused.
type Reason string

const (
	RefusedKey       Reason = "key"       // does not open: another key, no key, or damage
	RefusedSize      Reason = "size"      // larger than anything a member sends
	RefusedMalformed Reason = "malformed" // opens, but no member of ours writes that
	RefusedMember    Reason = "member"    // a claim about a member that cannot be one
	RefusedName      Reason = "name"      // a second machine claims a name
	RefusedBusy      Reason = "busy"      // too many streams at once
	RefusedSlow      Reason = "slow"      // a stream that did not say anything in time
)

var reasons = [...]Reason{RefusedKey, RefusedSize, RefusedMalformed, RefusedMember, RefusedName, RefusedBusy, RefusedSlow}

// report counts refusals, and logs no more than one a second of them: strangers
// decide how many there are.
type report struct {
	log     *slog.Logger
	lines   *rate.Limiter
	silent  atomic.Uint64 // refusals since the last line
	refused [len(reasons)]atomic.Uint64
}

func newReport(l *slog.Logger) *report {
	return &report{log: l, lines: rate.NewLimiter(rate.Every(time.Second), 10)}
}

func (r *report) refuse(why Reason, from string, err error) {
	r.refused[slices.Index(reasons[:], why)].Add(1)
	if !r.lines.Allow() {
		r.silent.Add(1)
		return
	}
	r.log.Warn("refused", "reason", why, "from", from, "error", err, "unlogged", r.silent.Swap(0))
}

func (r *report) count(why Reason) uint64 {
	i := slices.Index(reasons[:], why)
	if i < 0 {
		return 0
	}
	return r.refused[i].Load()
}

// collectors are the metrics of one member, read when they are asked for.
func (g *Gossip) collectors() []prometheus.Collector {
	var all []prometheus.Collector
	for _, s := range []State{StateAlive, StateSuspect, StateFailed, StateLeft} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "copepod_gossip_members", Help: "Members that gossip knows, by state.",
			ConstLabels: prometheus.Labels{"state": s.String()},
		}, func() float64 {
			g.mu.Lock()
			defer g.mu.Unlock()
			return float64(g.table.count(s))
		}))
	}
	for _, why := range reasons {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "copepod_gossip_refused_total", Help: "Packets, streams and claims refused, by reason.",
			ConstLabels: prometheus.Labels{"reason": string(why)},
		}, func() float64 { return float64(g.report.count(why)) }))
	}
	return all
}

// register adds the metrics, or none of them; undo takes them back.
func (g *Gossip) register() (undo func(), err error) {
	reg := g.cfg.Metrics
	if reg == nil {
		return func() {}, nil
	}
	var done []prometheus.Collector
	undo = func() {
		for _, c := range done {
			reg.Unregister(c)
		}
	}
	for _, c := range g.collectors() {
		if err := reg.Register(c); err != nil {
			undo()
			return nil, fmt.Errorf("metrics: %w", err)
		}
		done = append(done, c)
	}
	return undo, nil
}

// engineLog turns memberlist's lines into Debug records. What matters in them
// is an Event, a refusal or a returned error already. Discarded lines are not
// even formatted.
func engineLog(l *slog.Logger) *log.Logger {
	if !l.Enabled(context.Background(), slog.LevelDebug) {
		return log.New(io.Discard, "", 0)
	}
	return log.New(lineWriter{l}, "", 0)
}

type lineWriter struct{ log *slog.Logger }

func (w lineWriter) Write(line []byte) (int, error) {
	w.log.Debug("memberlist", "line", strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// nameOf is the address of a peer, for a log line.
func nameOf(a net.Addr) string {
	if a == nil {
		return "unknown"
	}
	return a.String()
}
