package quorum_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"copepod/plane/store"
	"copepod/plane/store/storetest"
)

func grown(b *testing.B, voters int) *machines {
	b.Helper()
	ms := newMachines(b, store.Config{})
	ms.want = voters
	storetest.WaitReady(b, ms.start().store)
	names := "n0"
	for i := range voters - 1 {
		ms.start()
		names += fmt.Sprintf(" n%d", i+1)
	}
	ms.votes(names, "")
	return ms
}

// One operation is the murder of a leader, until a survivor has written. Run
// it with -benchtime 50x.
func BenchmarkFailover(b *testing.B) {
	ms := grown(b, 3)
	var took []time.Duration
	for b.Loop() {
		old := ms.leader()
		survivor := ms.all[0]
		if survivor == old {
			survivor = ms.all[1]
		}
		dead := make(chan struct{})
		start := time.Now()
		go func() {
			defer close(dead)
			old.kill()
		}()
		for other := old; other == old; { // until another leads, its writes may be from before
			if _, err := survivor.store.Txn(context.Background(), store.Op{Kind: store.Put, Key: "k"}); err != nil {
				b.Fatal(err)
			}
			if id, _ := survivor.store.Leader(); id != old.name && id != "" {
				break
			}
		}
		took = append(took, time.Since(start))
		b.StopTimer()
		<-dead
		ms.run(old, true)
		ms.votes("n0 n1 n2", "")
		ms.same()
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
}

func BenchmarkWrite(b *testing.B) {
	for _, voters := range []int{1, 3, 5} {
		b.Run(fmt.Sprintf("voters=%d", voters), func(b *testing.B) {
			ms := grown(b, voters)
			leader := ms.leader()
			through := map[string]*machine{"leader": leader}
			for _, m := range ms.all {
				if m != leader {
					through["follower"] = m
				}
			}
			value := make([]byte, 1000)
			for _, who := range []string{"leader", "follower"} {
				m := through[who]
				if m == nil {
					continue
				}
				for _, callers := range []int{1, 256} {
					b.Run(fmt.Sprintf("%s/callers=%d", who, callers), func(b *testing.B) {
						var n atomic.Int64
						var wg sync.WaitGroup
						b.ResetTimer()
						for range callers {
							wg.Go(func() {
								for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
									op := store.Op{Kind: store.Put, Key: fmt.Sprintf("k%06d", i%50000), Value: value}
									if _, err := m.store.Txn(context.Background(), op); err != nil {
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
		})
	}
}

// One operation is a linearizable read.
func BenchmarkReadIndex(b *testing.B) {
	ms := grown(b, 3)
	leader := ms.leader()
	for _, m := range ms.all[:2] {
		who := "follower"
		if m == leader {
			who = "leader"
		}
		b.Run(who, func(b *testing.B) {
			for b.Loop() {
				if err := m.store.ReadIndex(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
