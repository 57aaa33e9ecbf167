package store_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/store"
	"copepod/plane/store/mvcc"
	"copepod/plane/store/storetest"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// podLike is a value as objects are: mostly the words of its template, with
// names of its own.
func podLike(n uint64) []byte {
	r := rand.New(rand.NewPCG(n, 0))
	var b bytes.Buffer
	for i := range 16 {
		fmt.Fprintf(&b, "field-%02d-of-the-template=%016x;the-same-for-all;", i, r.Uint64()>>(i*3))
	}
	b.Write(bytes.Repeat([]byte("spec"), 100))
	return b.Bytes()[:1200]
}

func BenchmarkTxn(b *testing.B) {
	for _, callers := range []int{1, 32, 256} {
		for _, where := range []string{"disk", "memory"} {
			b.Run(fmt.Sprintf("%s/callers=%d", where, callers), func(b *testing.B) {
				cfg := store.Config{}
				if where == "disk" {
					cfg.Dir = b.TempDir() + "/store"
				}
				st := storetest.Open(b, cfg)
				value := podLike(1)
				var n atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range callers {
					wg.Go(func() {
						for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
							op := store.Op{Kind: store.Put, Key: fmt.Sprintf("/registry/core/pods/default/p%08d", i%50000), Value: value}
							if _, err := st.Txn(context.Background(), op); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "txn/s")
			})
		}
	}
}

// BenchmarkFloor is what the log alone costs, without Raft and the store: one
// entry of the size that BenchmarkTxn writes, synced.
func BenchmarkFloor(b *testing.B) {
	logs, err := raftboltdb.New(raftboltdb.Options{
		Path:        b.TempDir() + "/raft.db",
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 64 << 20},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer logs.Close()
	value := podLike(1)
	for i := uint64(1); b.Loop(); i++ {
		if err := logs.StoreLog(&raft.Log{Index: i, Term: 1, Data: value}); err != nil {
			b.Fatal(err)
		}
	}
}

// One operation is a batch of a thousand, as the scheduler binds them.
func BenchmarkBatchOf1000(b *testing.B) {
	st := storetest.Open(b, store.Config{Dir: b.TempDir() + "/store"})
	values := make([][]byte, 1000)
	for i := range values {
		values[i] = podLike(uint64(i))
	}
	txns := make([]store.Txn, len(values))
	b.ResetTimer()
	for n := range b.N {
		for i := range txns {
			key := fmt.Sprintf("/registry/core/pods/default/p%08d", (n*1000+i)%200000)
			txns[i] = store.Txn{{Kind: store.Put, Key: key, Value: values[i]}}
		}
		for _, r := range st.Batch(context.Background(), txns) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "txn/s")
}

// filled is a store in memory with so many pods, and a history of updates.
func filled(b *testing.B, keys, updates int) *store.Store {
	b.Helper()
	st := storetest.Open(b, store.Config{HistoryBytes: 1 << 30})
	value := podLike(1)
	var txns []store.Txn
	for i := range keys + updates {
		key := fmt.Sprintf("/registry/core/pods/ns%03d/p%08d", i%keys%100, i%keys)
		txns = append(txns, store.Txn{{Kind: store.Put, Key: key, Value: value}})
	}
	for _, r := range st.Batch(context.Background(), txns) {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	return st
}

func BenchmarkRead(b *testing.B) {
	const keys, updates = 100_000, 10_000
	st := filled(b, keys, updates)
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if st.Snapshot().Get("/registry/core/pods/ns042/p00000042") == nil {
				b.Fatal("got nothing")
			}
		}
	})
	b.Run("range 100000", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for range st.Snapshot().Range("/registry/core/pods/", "") {
				n++
			}
			if n != keys {
				b.Fatal(n)
			}
		}
	})
	b.Run("count 1000 of 100000", func(b *testing.B) {
		for b.Loop() {
			if n := st.Snapshot().Count("/registry/core/pods/ns042/"); n != keys/100 {
				b.Fatal(n)
			}
		}
	})
	b.Run("at 10000 events ago", func(b *testing.B) {
		for b.Loop() {
			if _, err := st.Snapshot().At(keys); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read index", func(b *testing.B) {
		for b.Loop() {
			if err := st.ReadIndex(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One operation is a write that one watch of many is concerned with, until
// its reader has it.
func BenchmarkWatch(b *testing.B) {
	for _, watches := range []int{1, 300, 3000} {
		b.Run(fmt.Sprintf("of %d", watches), func(b *testing.B) {
			st := storetest.Open(b, store.Config{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var mine *store.Watch
			for i := range watches {
				w, err := st.Watch(ctx, fmt.Sprintf("/registry/core/pods/ns%04d/", i), 0)
				if err != nil {
					b.Fatal(err)
				}
				mine = w
			}
			key := fmt.Sprintf("/registry/core/pods/ns%04d/a", watches-1)
			for b.Loop() {
				if _, err := st.Txn(ctx, store.Op{Kind: store.Put, Key: key}); err != nil {
					b.Fatal(err)
				}
				<-mine.Events()
			}
		})
	}
}

func BenchmarkImage(b *testing.B) {
	const keys = 100_000
	snap := filled(b, keys, 0).Snapshot()
	var image bytes.Buffer
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			image.Reset()
			if err := snap.WriteImage(&image); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(image.Len())/keys, "bytes/key")
	})
	b.Run("restore", func(b *testing.B) {
		for b.Loop() {
			if _, err := mvcc.ReadImage(bytes.NewReader(image.Bytes()), mvcc.Limits{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(keys*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	})
}

// One operation is a start on a directory until the store is ready.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct {
		name string
		keys int
	}{{"empty", 0}, {"20000 single writes", 20_000}} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir() + "/store"
			st, stop := storetest.Start(b, store.Config{Dir: dir})
			storetest.WaitReady(b, st)
			var wg sync.WaitGroup
			var n atomic.Int64
			for range 64 {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(c.keys); i = n.Add(1) {
						op := store.Op{Kind: store.Put, Key: fmt.Sprintf("k%d", i), Value: podLike(uint64(i))}
						if _, err := st.Txn(context.Background(), op); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			stop()
			for b.Loop() {
				start := time.Now()
				st, stop := storetest.Start(b, store.Config{Dir: dir})
				storetest.WaitReady(b, st)
				b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms-to-ready")
				stop()
			}
		})
	}
}
