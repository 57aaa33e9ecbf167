package loop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func start[K comparable](t *testing.T, l *Loop[K]) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestKeyAddedManyTimesRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		l := New(Config{Name: "t", Workers: 1}, func(context.Context, string) (Result, error) { runs++; return Result{}, nil })
		for range 10 {
			l.Add("a")
		}
		start(t, l)
		synctest.Wait()
		if runs != 1 {
			t.Errorf("got %d runs, want 1", runs)
		}
	})
}

func TestKeyAddedWhileRunningRunsAgainAndNeverTwiceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		runs, at := 0, 0
		l := New(Config{Name: "t", Workers: 4}, func(context.Context, string) (Result, error) {
			mu.Lock()
			runs++
			at++
			if at > 1 {
				t.Error("one key ran twice at a time")
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			at--
			mu.Unlock()
			return Result{}, nil
		})
		start(t, l)
		l.Add("a")
		synctest.Wait()
		l.Add("a")
		l.Add("a")
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs != 2 {
			t.Errorf("got %d runs, want 2", runs)
		}
	})
}

func TestFailingKeyComesBackWithDoublingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		l := New(Config{Name: "t", MinBackoff: time.Second, MaxBackoff: 4 * time.Second, Log: quiet()}, func(context.Context, string) (Result, error) {
			at = append(at, time.Since(begin))
			if len(at) < 6 {
				return Result{}, errors.New("no")
			}
			return Result{}, nil
		})
		start(t, l)
		l.Add("a")
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []time.Duration{0, 1 * time.Second, 3 * time.Second, 7 * time.Second, 11 * time.Second, 15 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("got runs at %v, want %v", at, want)
		}
		if n := len(l.queue.state); n != 0 {
			t.Errorf("got %d entries kept, want 0", n)
		}
	})
}

func TestAddingAFailedKeyDoesNotCutItsWaitShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		l := New(Config{Name: "t", MinBackoff: time.Minute, Log: quiet()}, func(context.Context, string) (Result, error) {
			runs++
			return Result{}, errors.New("no")
		})
		start(t, l)
		l.Add("a")
		synctest.Wait()
		l.Add("a")
		time.Sleep(time.Second)
		synctest.Wait()
		if runs != 1 {
			t.Errorf("got %d runs, want 1", runs)
		}
	})
}

func TestPanicOfOneKeyHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran []string
		l := New(Config{Name: "t", Workers: 1, MinBackoff: time.Hour, Log: quiet()}, func(_ context.Context, key string) (Result, error) {
			if key == "bad" {
				panic("broken")
			}
			ran = append(ran, key)
			return Result{}, nil
		})
		start(t, l)
		l.Add("bad")
		l.Add("good")
		synctest.Wait()
		if !slices.Equal(ran, []string{"good"}) {
			t.Errorf("got %v, want [good]", ran)
		}
	})
}

func TestEarliestOfSeveralWishesWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		l := New(Config{Name: "t"}, func(context.Context, string) (Result, error) {
			at = append(at, time.Since(begin))
			return Result{}, nil
		})
		start(t, l)
		l.AddAfter("a", time.Minute)
		l.AddAfter("a", time.Second)
		l.AddAfter("a", time.Hour)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if want := []time.Duration{time.Second}; !slices.Equal(at, want) {
			t.Errorf("got runs at %v, want %v", at, want)
		}
	})
}

func TestRestGathersChangesAndThenForgetsTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var at []time.Duration
		l := New(Config{Name: "t"}, func(context.Context, string) (Result, error) {
			at = append(at, time.Since(begin))
			return Result{Rest: 10 * time.Second}, nil
		})
		start(t, l)
		l.Add("a")
		synctest.Wait()
		l.Add("a")
		l.Add("a")
		time.Sleep(time.Hour)
		synctest.Wait()
		if want := []time.Duration{0, 10 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("got runs at %v, want %v", at, want)
		}
		if n := len(l.queue.state); n != 0 {
			t.Errorf("got %d entries kept, want 0", n)
		}
	})
}

func TestRunReturnsAfterItsLastReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		finished := false
		l := New(Config{Name: "t"}, func(context.Context, string) (Result, error) {
			time.Sleep(time.Second)
			finished = true
			return Result{}, nil
		})
		l.Add("a")
		go func() { synctest.Wait(); stop() }()
		l.Run(ctx)
		if !finished {
			t.Error("Run returned while a reconcile was running")
		}
	})
}

func TestMetricsServeManyLoopsOneAfterAnother(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			l := New(Config{Name: "t", Metrics: m, Log: quiet()}, func(context.Context, string) (Result, error) { return Result{}, errors.New("no") })
			start(t, l)
			l.Add("a")
			synctest.Wait()
		})
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "copepod_controller_errors_total" {
			if got := f.GetMetric()[0].GetCounter().GetValue(); got != 2 {
				t.Errorf("got %v errors, want 2", got)
			}
			return
		}
	}
	t.Error("copepod_controller_errors_total is not exported")
}

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	l := New(Config{Name: "hello"}, func(_ context.Context, key string) (Result, error) {
		fmt.Println("reconcile", key)
		stop()
		return Result{}, nil
	})
	l.Add("default/web")
	l.Run(ctx)
	// Output: reconcile default/web
}
