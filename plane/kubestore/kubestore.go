// Package kubestore keeps Kubernetes objects in plane/store. It is the
// storage.Interface of k8s.io/apiserver with no etcd below and no watch cache
// above: the store's memory is the cache. An object is decoded at most once a
// revision while anybody uses it, and everybody shares that one.
//
// It knows codecs, transformers for encryption at rest, resource versions,
// selectors and watches. It never learns what a pod is, who asks, or how
// revisions are replicated.
//
//	k, err := kubestore.New(st, kubestore.Config{})
//	go k.Run(ctx)
//	options := k.RESTOptions(codecFor)              // for generic registries
//	view := k.View()                                // for readers in this process
//	events, err := k.Watch(ctx, pods, view.Revision())
//	results := k.Write(ctx, writes)                 // many objects, one log entry
//
// A resource version is the store's revision plus one: the store counts from
// 0, and Kubernetes reserves 0 for "any version".
package kubestore

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"copepod/plane/store"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"
	flowcontrol "k8s.io/apiserver/pkg/util/flowcontrol/request"
)

// Backend is what kubestore needs of *store.Store. A revision that Watch has
// delivered or Txn has returned is visible in Snapshot.
type Backend interface {
	Snapshot() *store.Snapshot
	At(rev store.Revision) (*store.Snapshot, error)
	Txn(ctx context.Context, ops ...store.Op) (store.Result, error)
	Batch(ctx context.Context, txns []store.Txn) []store.BatchResult
	Watch(ctx context.Context, prefix string, from store.Revision) (*store.Watch, error)
	ReadIndex(ctx context.Context) error
	Health() error
}

// Config is how objects are kept. The zero value is good.
type Config struct {
	// Prefix begins every key. Default "/registry".
	Prefix string
	// Transformer encrypts the objects of a resource at rest; the key of an
	// object is its authenticated data. Nil, or a nil result, stores what the
	// codec makes.
	Transformer func(schema.GroupResource) value.Transformer
	// CacheBytes is about how much memory of decoded objects outlives the
	// garbage collector though nobody uses them. Default 64 MiB.
	CacheBytes int64
	// ShareLists lets GetList return items whose maps, slices and pointers
	// are those that everybody shares, as the watch cache of Kubernetes does:
	// callers must not change them in place. Without it they are deep copies.
	ShareLists bool
	// WatchQueue is how many changes wait for one slow watcher before it has
	// to read them from the history of the store. Default 1024.
	WatchQueue int
	// BookmarkInterval is how often a watcher that allows bookmarks gets
	// one. Default 1 minute.
	BookmarkInterval time.Duration
	// Counts receives the number and size of objects every CountInterval
	// (default 1 minute), for the cost estimates of flow control. Nil: none.
	Counts        flowcontrol.StorageObjectCountTracker
	CountInterval time.Duration
	// Log receives what an operator should know. Default slog.Default().
	Log *slog.Logger
}

func (c Config) validate() (Config, error) {
	if c.CacheBytes < 0 || c.WatchQueue < 0 || c.BookmarkInterval < 0 || c.CountInterval < 0 {
		return c, errors.New("kubestore: config: CacheBytes, WatchQueue, BookmarkInterval and CountInterval must not be negative")
	}
	c.Prefix = path.Join("/", cmp.Or(c.Prefix, "/registry"))
	if !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	c.CacheBytes = cmp.Or(c.CacheBytes, 64<<20)
	c.WatchQueue = cmp.Or(c.WatchQueue, 1024)
	c.BookmarkInterval = cmp.Or(c.BookmarkInterval, time.Minute)
	c.CountInterval = cmp.Or(c.CountInterval, time.Minute)
	c.Log = cmp.Or(c.Log, slog.Default()).With("part", "kubestore")
	return c, nil
}

// K holds the objects of all resources. Its methods may be called from any
// goroutine.
type K struct {
	cfg     Config
	log     *slog.Logger
	backend Backend
	hub     *hub
	warm    *warm
	buffers sync.Pool // of *buffer
}

// New validates the configuration. Reads and writes work at once, watches
// deliver what happens while Run runs.
func New(backend Backend, cfg Config) (*K, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	k := &K{cfg: cfg, log: cfg.Log, backend: backend, warm: newWarm(cfg.CacheBytes)}
	k.hub = newHub(cfg.WatchQueue, backend.Snapshot().Revision())
	k.buffers.New = func() any { return new(buffer) }
	return k, nil
}

// Run distributes changes to watchers until ctx ends, then ends all watches
// and returns after the last one.
func (k *K) Run(ctx context.Context) error {
	defer k.hub.close()
	for {
		err := k.distribute(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrCompacted):
			k.log.Warn("changes came faster than they could be distributed", "reason", err)
			k.hub.skip(k.backend.Snapshot().Revision())
		default:
			k.log.Warn("changes cannot be followed", "reason", err)
			wait(ctx, time.Second)
		}
	}
}

// distribute follows the store from where the hub is, until that fails.
func (k *K) distribute(ctx context.Context) error {
	w, err := k.backend.Watch(ctx, "", k.hub.position()+1)
	if err != nil {
		return err
	}
	for events := range w.Events() {
		k.hub.dispatch(events)
	}
	return w.Err()
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// version is the resource version of a revision.
func version(rev store.Revision) uint64 { return uint64(rev) + 1 }

// revision is the revision of a resource version other than 0.
func revision(version uint64) store.Revision { return store.Revision(version - 1) }
