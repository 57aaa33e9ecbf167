package store

import (
	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the store counts. They work without a registerer too.
type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector

	txns            *prometheus.CounterVec
	entryTxns       prometheus.Histogram
	entryBytes      prometheus.Histogram
	commitSeconds   prometheus.Histogram
	persistSeconds  prometheus.Histogram
	snapshotSeconds prometheus.Histogram
	snapshotErrors  prometheus.Counter
	expired         prometheus.Counter
	fsync           recent
}

// newMetrics registers everything, or nothing and says why.
func newMetrics(s *Store, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registerer: reg,
		txns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copepod_store_txns_total", Help: "Transactions by result: applied, conflict, unavailable."}, []string{"result"}),
		entryTxns: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_store_entry_txns", Help: "Transactions that shared one log entry.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 7)}),
		entryBytes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_store_entry_bytes", Help: "Size of log entries after compression.",
			Buckets: prometheus.ExponentialBuckets(256, 4, 8)}),
		commitSeconds:  latency("copepod_store_commit_seconds", "Time from a log entry to its results."),
		persistSeconds: latency("copepod_store_persist_seconds", "Time to write log entries to disk, fsync included."),
		snapshotSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copepod_store_snapshot_seconds", Help: "Time to write a snapshot and cut the log.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9)}),
		snapshotErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "copepod_store_snapshot_errors_total", Help: "Snapshots that could not be written."}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "copepod_store_expired_keys_total", Help: "Keys deleted at their deadline, by this member as leader."}),
	}
	if reg == nil {
		return m, nil
	}
	all := append(stateMetrics(s), m.txns, m.entryTxns, m.entryBytes, m.commitSeconds,
		m.persistSeconds, m.snapshotSeconds, m.snapshotErrors, m.expired)
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func latency(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)})
}

// stateMetrics are read from the store when somebody asks.
func stateMetrics(s *Store) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copepod_store_" + name, Help: help}, value)
	}
	ofRaft := func(value func(*raft.Raft) uint64) func() float64 {
		return func() float64 {
			r := s.raft.Load()
			if r == nil {
				return 0
			}
			return float64(value(r))
		}
	}
	truth := func(ask func() bool) func() float64 {
		return func() float64 {
			if ask() {
				return 1
			}
			return 0
		}
	}
	return []prometheus.Collector{
		gauge("revision", "Current revision.", func() float64 { return float64(s.Revision()) }),
		gauge("compacted_revision", "Latest revision whose events are no longer kept.",
			func() float64 { return float64(s.Snapshot().Compacted()) }),
		gauge("keys", "Keys.", func() float64 { return float64(s.Snapshot().Len()) }),
		gauge("bytes", "Memory of keys and values.", func() float64 { return float64(s.Snapshot().Bytes()) }),
		gauge("watches", "Open watches.", func() float64 { n, _ := s.hub.watches(); return float64(n) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "copepod_store_watches_behind_total",
			Help: "Watches ended because their reader fell behind the events that are kept."},
			func() float64 { _, n := s.hub.watches(); return float64(n) }),
		gauge("leading", "1 if this member leads.", truth(s.Leading)),
		gauge("healthy", "1 if writes can be acknowledged.", truth(func() bool { return s.Health() == nil })),
		gauge("raft_term", "Term of Raft.", ofRaft((*raft.Raft).CurrentTerm)),
		gauge("raft_last_index", "Last entry in the log.", ofRaft((*raft.Raft).LastIndex)),
		gauge("raft_commit_index", "Last committed entry.", ofRaft((*raft.Raft).CommitIndex)),
		gauge("raft_applied_index", "Last applied entry.", ofRaft((*raft.Raft).AppliedIndex)),
		gauge("log_bytes", "Log since the last snapshot.", func() float64 { return float64(s.machine.logged.Load()) }),
	}
}

// count adds the replies to one entry.
func (m *metrics) count(replies []mvcc.Reply) {
	conflicts := 0
	for i := range replies {
		if replies[i].Err != nil {
			conflicts++
		}
	}
	if conflicts > 0 {
		m.txns.WithLabelValues("conflict").Add(float64(conflicts))
	}
	m.txns.WithLabelValues("applied").Add(float64(len(replies) - conflicts))
}

// unregister lets the next store of the process register.
func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
	m.registered = nil
}
