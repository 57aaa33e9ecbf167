// Package store is the durable state of the control plane: a revisioned
// key-value store that Raft replicates. It offers transactions with
// expectations, lock-free snapshots of the present and the recent past, and
// watches. It hides which Raft it is, where the bytes lie and how callers'
// transactions share one write to disk.
//
// It knows keys, bytes, revisions and deadlines, its data directory and the
// addresses of its peers. It never learns what the bytes mean, who may write
// them, or anything of Kubernetes.
//
//	st, err := store.Open(store.Config{Dir: dir})
//	go st.Run(ctx)
//	<-st.Ready()
//	res, err := st.Txn(ctx, store.Op{Kind: store.Put, Key: "a", Value: b, Expect: store.Absent})
//	kv := st.Snapshot().Get("a")
//
// DESIGN.md tells how it works and what it trades.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// The vocabulary of package mvcc, so that users import one package.
type (
	Revision      = mvcc.Revision
	KV            = mvcc.KV
	Event         = mvcc.Event
	Kind          = mvcc.Kind
	Expect        = mvcc.Expect
	Op            = mvcc.Op
	Txn           = mvcc.Txn
	Result        = mvcc.Result
	OpResult      = mvcc.OpResult
	Snapshot      = mvcc.Snapshot
	ConflictError = mvcc.ConflictError
)

// Kinds of operation and expectations; see package mvcc.
const (
	Put    = mvcc.Put
	Delete = mvcc.Delete
	Check  = mvcc.Check

	Any    = mvcc.Any
	Absent = mvcc.Absent
)

// Exact expects a key to exist and to have been written last at rev.
func Exact(rev Revision) Expect { return mvcc.Exact(rev) }

// Config is how a store is opened. The zero value is a store in memory that
// is its own cluster of one.
type Config struct {
	// Dir is the data directory, made 0700 if it does not exist. Empty
	// keeps everything in memory, for tests.
	Dir string
	// NodeID names this member for ever. Empty takes the one in Dir, or
	// makes one at the first start.
	NodeID string
	// Transport carries Raft between members. Nil when there are no others.
	Transport Transport
	// Forwarder carries requests to the members that Transport reaches, so
	// that a member which does not lead can write and read. Nil refuses
	// both there, with ErrNotLeader.
	Forwarder Forwarder
	// Advertise is the address at which others reach Transport. Empty is
	// the address of Transport.
	Advertise string
	// Peers are the voters of a new cluster, this member among them. They
	// matter at the first start only; empty is a cluster of this member.
	Peers []Peer
	// Join says at the first start that this member will be added to a
	// cluster that exists already; Peers must be empty.
	Join bool
	// HistoryBytes and HistoryAge bound the events that are kept for
	// watches and At, see mvcc.Limits. Defaults 64 MiB and 5 minutes.
	HistoryBytes int64
	HistoryAge   time.Duration
	// LogBytes is how many bytes of log are replayed at most when a store
	// starts: beyond it (and half of the state) a snapshot is written and
	// the log is cut. Default 16 MiB.
	LogBytes int64
	// Log receives what an operator should know. Default slog.Default().
	Log *slog.Logger
	// Registerer receives the metrics copepod_store_*. Nil for none.
	Registerer prometheus.Registerer
}

// Peer is a voter of a new cluster.
type Peer struct{ ID, Address string }

func (c Config) validate() (Config, error) {
	if c.Join && len(c.Peers) > 0 {
		return c, errors.New("store: config: Join and Peers exclude each other: leave one out")
	}
	if (c.Join || len(c.Peers) > 1) && c.Transport == nil {
		return c, errors.New("store: config: other members need a Transport")
	}
	if len(c.Peers) > 0 {
		known := false
		for _, p := range c.Peers {
			known = known || p.ID == c.NodeID
		}
		if !known {
			return c, fmt.Errorf("store: config: NodeID %q is not among Peers", c.NodeID)
		}
	}
	if c.HistoryBytes < 0 || c.HistoryAge < 0 || c.LogBytes < 0 {
		return c, errors.New("store: config: HistoryBytes, HistoryAge and LogBytes must not be negative")
	}
	c.LogBytes = cmp.Or(c.LogBytes, 16<<20)
	c.Log = cmp.Or(c.Log, slog.Default()).With("part", "store")
	return c, nil
}

func (c Config) limits() mvcc.Limits {
	return mvcc.Limits{Bytes: c.HistoryBytes, Age: c.HistoryAge}
}

// Store is one member of the replicated store. All methods may be called
// from any goroutine, at any time after Open.
type Store struct {
	cfg     Config
	log     *slog.Logger
	disk    *disk
	machine *machine // the replicated state
	hub     *hub     // watches on it
	past    past     // snapshots that At made
	queue   chan *proposal
	health  health
	metrics *metrics

	groups    groups       // what this member puts forward
	unsettled atomic.Int32 // groups that wait for a leader elsewhere
	reads     reads        // questions to the leader
	moved     changes      // of the revision
	life      context.Context
	die       context.CancelFunc

	raft     atomic.Pointer[raft.Raft] // nil until Run
	leadTerm atomic.Uint64             // the term that we lead, all before it applied; 0 for none
	leaders  changes                   // of leadership

	ready     chan struct{} // closed when first usable
	readyOnce sync.Once
	started   atomic.Bool
	away      *patience     // with members that do not answer
	raftGone  chan struct{} // closed when Raft has stopped: it answers nobody any more
	stopped   chan struct{} // closed when Run or Close is over
	stopOnce  sync.Once
}

// Open validates the configuration, takes the data directory and loads the
// latest snapshot in it. Nothing is answered before Run. The errors are those
// of the directory (*OwnedError, ErrNewerFormat, ErrCorrupt, permissions).
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	s := &Store{
		cfg:      cfg,
		log:      cfg.Log,
		queue:    make(chan *proposal, queueLength),
		ready:    make(chan struct{}),
		raftGone: make(chan struct{}),
		away:     newPatience(),
		stopped:  make(chan struct{}),
		groups:   groups{session: newSession(), waiting: map[uint64]*ownGroup{}},
	}
	if s.disk, err = openDisk(cfg); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.cfg.NodeID = s.disk.nodeID
	s.machine = newMachine(cfg.limits(), &s.health, &s.groups)
	if err := s.restore(); err != nil {
		return nil, errors.Join(fmt.Errorf("store: %w", err), s.disk.close())
	}
	s.hub = newHub(s.machine.snapshot, cfg.Log)
	s.machine.changed = func() { s.hub.wake(); s.moved.signal() }
	s.life, s.die = context.WithCancel(context.Background())
	if s.metrics, err = newMetrics(s, cfg.Registerer); err != nil {
		return nil, errors.Join(fmt.Errorf("store: metrics: %w", err), s.disk.close())
	}
	return s, nil
}

// restore loads the latest snapshot of the data directory, verified.
func (s *Store) restore() error {
	list, err := s.disk.snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	_, r, err := s.disk.snapshots.Open(list[0].ID)
	if err != nil {
		return fmt.Errorf("open snapshot %s: %w", list[0].ID, err)
	}
	start := time.Now()
	if err := s.machine.Restore(r); err != nil {
		return fmt.Errorf("restore snapshot %s: %w", list[0].ID, err)
	}
	snap := s.machine.snapshot()
	s.log.Info("snapshot restored", "rev", snap.Revision(), "keys", snap.Len(), "took", time.Since(start))
	return nil
}

// Run takes part in the cluster until ctx ends, then lets go of the data
// directory. It starts every goroutine of the store and returns after the
// last one. It ends by itself with ErrCorrupt or ErrNewerFormat when an entry
// of the log cannot be read, since the state after it cannot be known. A store
// runs once.
func (s *Store) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("store: run: it ran already: open it again")
	}
	defer s.release()
	r, hangUp, err := s.startRaft()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer hangUp()
	s.raft.Store(r)
	parent := ctx // writers go on until another leads
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx, r) })
	wg.Go(func() { s.commit(ctx, r) })
	wg.Go(func() { s.hub.run(ctx) })
	wg.Go(func() { s.expire(ctx, r) })
	wg.Go(func() { s.compactLog(ctx, r) })
	s.electNow(r)
	select {
	case <-parent.Done():
		s.handOver(r)
	case <-s.machine.dead:
	}
	cancel()
	s.die()
	s.disk.release() // a goroutine of Raft may wait for the disk
	drained := make(chan struct{})
	go func() { wg.Wait(); close(drained) }()
	select { // let what is on its way be acknowledged
	case <-drained:
	case <-time.After(drainPatience):
	}
	s.away.end()
	err = r.Shutdown().Error()
	close(s.raftGone)
	<-drained
	if err != nil {
		return fmt.Errorf("store: stop raft: %w", err)
	}
	select {
	case <-s.machine.dead:
		return fmt.Errorf("store: %w", s.machine.broken)
	default:
		return nil
	}
}

// drainPatience bounds how long a stop waits for a disk that does not answer.
const drainPatience = 2 * time.Second

// Close lets go of the data directory of a store that never ran. After Run it
// does nothing.
func (s *Store) Close() error {
	if s.started.Swap(true) {
		return nil
	}
	return s.release()
}

func (s *Store) release() (err error) {
	s.stopOnce.Do(func() {
		s.die()
		s.hub.close()
		s.metrics.unregister()
		err = s.disk.close()
		close(s.stopped)
	})
	return err
}

// Ready is closed once the store answers: a leader is known and all that was
// committed before is applied here.
func (s *Store) Ready() <-chan struct{} { return s.ready }

func (s *Store) setReady() { s.readyOnce.Do(func() { close(s.ready) }) }

// Stopped is closed when the store is over and its directory is free.
func (s *Store) Stopped() <-chan struct{} { return s.stopped }

// NodeID is the name of this member.
func (s *Store) NodeID() string { return s.cfg.NodeID }

// Health is nil while the store can acknowledge writes, else the reason why
// it cannot, for people.
func (s *Store) Health() error {
	if err := s.health.err(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	select {
	case <-s.stopped:
		return fmt.Errorf("store: %w", errStopped)
	default:
	}
	select {
	case <-s.ready:
	default:
		return errors.New("store: not ready: no leader is known yet")
	}
	if id, _ := s.Leader(); id == "" {
		return errors.New("store: no leader is known: a majority of the voters must be reachable")
	}
	return nil
}
