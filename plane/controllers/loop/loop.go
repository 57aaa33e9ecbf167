// Package loop runs reconcile functions: a queue of keys, workers, backoff, and
// nothing else. It knows keys, never objects. A key that is added many times
// while it waits runs once; one that is added while it runs, runs again after; a
// key never runs twice at a time. A key whose reconcile fails or panics comes
// back with exponential backoff and harms no other key.
//
//	l := loop.New(loop.Config{Name: "replicaset"}, c.reconcile)
//	go l.Run(ctx)
//	l.Add(key)
package loop

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// Config says how a loop runs. Only Name is needed.
type Config struct {
	// Name labels logs and metrics.
	Name string
	// Workers is how many keys run at a time; default 2.
	Workers int
	// MinBackoff is the wait after a first failure, doubled for each further one
	// up to MaxBackoff; defaults 5 ms and 1 minute.
	MinBackoff, MaxBackoff time.Duration
	Log                    *slog.Logger
	// Metrics may be shared by many loops; nil counts nothing.
	Metrics *Metrics
}

// Result says what follows a reconcile that did not fail.
type Result struct {
	// After runs the key again after this long, if above zero.
	After time.Duration
	// Rest keeps the key from running again for this long even when it is added:
	// the way for a costly reconcile to let changes gather.
	Rest time.Duration
}

// Func brings the one thing that key names closer to what is wanted.
type Func[K comparable] func(ctx context.Context, key K) (Result, error)

// Loop is a queue and the workers that empty it.
type Loop[K comparable] struct {
	cfg       Config
	reconcile Func[K]
	queue     *queue[K]
	meter     meter
}

// New builds a loop; nothing runs until Run.
func New[K comparable](cfg Config, reconcile Func[K]) *Loop[K] {
	cfg.Workers = cmp.Or(cfg.Workers, 2)
	cfg.MinBackoff = cmp.Or(cfg.MinBackoff, 5*time.Millisecond)
	cfg.MaxBackoff = cmp.Or(cfg.MaxBackoff, time.Minute)
	cfg.Log = cmp.Or(cfg.Log, slog.Default()).With("controller", cfg.Name)
	m := cfg.Metrics.of(cfg.Name)
	return &Loop[K]{cfg: cfg, reconcile: reconcile, queue: newQueue[K](m.depth), meter: m}
}

// Add asks for key to run. It never blocks and may be called before Run.
func (l *Loop[K]) Add(key K) { l.queue.add(key) }

// AddAfter asks for key to run after d; of several such wishes the earliest wins.
func (l *Loop[K]) AddAfter(key K, d time.Duration) { l.queue.addAt(key, time.Now().Add(d)) }

// Run works until ctx ends, then waits for the reconciles that still run.
func (l *Loop[K]) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range l.cfg.Workers {
		wg.Go(func() {
			for {
				key, ok := l.queue.next(ctx)
				if !ok {
					return
				}
				l.run(ctx, key)
			}
		})
	}
	wg.Wait()
	return nil
}

// After is run, held back until every ready channel has closed.
func After(run func(context.Context) error, ready ...<-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, r := range ready {
			select {
			case <-ctx.Done():
				return nil
			case <-r:
			}
		}
		return run(ctx)
	}
}

func (l *Loop[K]) run(ctx context.Context, key K) {
	start := time.Now()
	res, err := l.guarded(ctx, key)
	l.meter.ran(time.Since(start), err)
	if err != nil {
		fails := l.queue.failed(key, l.cfg.MinBackoff, l.cfg.MaxBackoff)
		if ctx.Err() == nil {
			l.report(key, fails, err)
		}
		return
	}
	l.queue.done(key, res)
}

// report keeps conflicts and other one-off failures quiet: level-triggered work
// repairs them by running again.
func (l *Loop[K]) report(key K, fails int, err error) {
	level := slog.LevelDebug
	if fails >= 4 {
		level = slog.LevelWarn
	}
	l.cfg.Log.Log(context.Background(), level, "reconcile will be tried again", "key", fmt.Sprint(key), "fails", fails, "err", err)
}

func (l *Loop[K]) guarded(ctx context.Context, key K) (res Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.cfg.Log.Error("reconcile panicked", "key", fmt.Sprint(key), "panic", p, "stack", string(debug.Stack()))
			err = &PanicError{Value: p}
		}
	}()
	return l.reconcile(ctx, key)
}

// PanicError is the error of a reconcile that panicked.
type PanicError struct{ Value any }

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }
