// Package status tells the API server how pods are. A pod reports as often as
// it likes and never waits; what is sent is the latest report, one request at a
// time for each pod and a bounded number in all. A report that matters to others
// (ready, ended, failed) goes at once; one that will soon be overtaken lingers,
// so that a pod which starts within milliseconds costs one request. Events go
// last, when no status waits. It knows pods' statuses and the API; it never
// learns how a status came about.
//
//	w, err := status.New(status.Config{Client: clientset.CoreV1()})
//	go w.Run(ctx)
//	w.Report(status.Report{Pod: pod, Status: s, Urgent: true})
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Config configures a Writer.
type Config struct {
	Client  corev1.PodsGetter
	Workers int           // requests at once; 0 = 16
	Linger  time.Duration // how long a report that is not urgent waits for a better one; 0 = 50 ms
	Log     *slog.Logger
}

// Report is the state of a pod.
type Report struct {
	Pod    *v1.Pod // as it was last seen; not changed
	Status v1.PodStatus
	Urgent bool
	// Final says that nothing of the pod is left here: once the status is
	// written, the pod object is deleted, if its UID is still the same.
	Final bool
}

// Writer sends reports.
type Writer struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	entries map[types.UID]*entry
	fast    []*entry // to be sent now, first come first served
	slow    []*entry // to be sent when due; all linger equally, so the first is due first
	late    []*entry // to be tried again when due
	busy    int      // requests under way
}

// place is where an entry waits.
type place uint8

const (
	nowhere place = iota
	inFast
	inSlow
	inLate
)

// entry is what is to be said of one pod.
type entry struct {
	report  Report
	place   place
	due     time.Time
	sending bool
	dirty   bool   // reported again while sending
	version string // resourceVersion that our last write gave the pod
	fails   int
}

// New makes a writer.
func New(cfg Config) (*Writer, error) {
	if cfg.Client == nil {
		return nil, errors.New("pod status: no client given")
	}
	if cfg.Workers < 0 || cfg.Linger < 0 {
		return nil, fmt.Errorf("pod status: %d workers, linger %v: want neither negative", cfg.Workers, cfg.Linger)
	}
	cfg.Workers = cmp.Or(cfg.Workers, 16)
	cfg.Linger = cmp.Or(cfg.Linger, 50*time.Millisecond)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Writer{cfg: cfg, wake: make(chan struct{}, 1), entries: map[types.UID]*entry{}}, nil
}

// Report takes the state of a pod to be sent. It replaces the report before.
func (w *Writer) Report(r Report) {
	w.mu.Lock()
	e := w.entries[r.Pod.UID]
	if e == nil {
		e = &entry{}
		w.entries[r.Pod.UID] = e
	}
	r.Final = r.Final || e.report.Final
	r.Urgent = r.Urgent || r.Final || (e.report.Urgent && (e.place != nowhere || e.dirty))
	e.report = r
	if e.sending {
		e.dirty = true
	} else {
		w.queue(e)
	}
	w.mu.Unlock()
	w.poke()
}

// Retry sends at once what waits because it failed: the API answers again.
func (w *Writer) Retry() {
	w.mu.Lock()
	for _, e := range w.late {
		e.due = time.Now()
	}
	w.mu.Unlock()
	w.poke()
}

// Forget drops what is known of a pod that no longer exists.
func (w *Writer) Forget(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.entries[uid]; e != nil {
		e.place, e.dirty = nowhere, false
		delete(w.entries, uid)
	}
}

// idle says that no report waits or is being sent.
func (w *Writer) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy == 0 && len(w.fast) == 0
}

// Drain waits until every report is sent that can be now, or for so long.
func (w *Writer) Drain(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		quiet := w.busy == 0 && len(w.fast) == 0 && len(w.slow) == 0
		w.mu.Unlock()
		if quiet {
			return
		}
	}
}

func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// queue puts an entry where it belongs; one that was moved leaves its old place
// behind, to be skipped there. The caller holds w.mu.
func (w *Writer) queue(e *entry) {
	switch {
	case e.place == inLate: // it failed lately: wait as planned, then send the newest
	case e.report.Urgent && e.place != inFast:
		e.place = inFast
		w.fast = append(w.fast, e)
	case e.place == nowhere:
		e.place, e.due = inSlow, time.Now().Add(w.cfg.Linger)
		w.slow = append(w.slow, e)
	}
}

// Run sends reports until ctx ends. What waits then is not sent.
func (w *Writer) Run(ctx context.Context) error {
	work := make(chan *entry)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer close(work)
	for range w.cfg.Workers {
		workers.Go(func() {
			for e := range work {
				w.send(ctx, e)
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		e, wait := w.take(time.Now())
		if e != nil {
			select {
			case work <- e:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// take is the next entry to send, or how long to wait for one.
func (w *Writer) take(now time.Time) (*entry, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := pop(&w.fast, inFast, time.Time{})
	if e == nil {
		e = pop(&w.slow, inSlow, now)
	}
	if e == nil {
		e = pop(&w.late, inLate, now)
	}
	if e != nil {
		e.place, e.sending = nowhere, true
		w.busy++
		return e, 0
	}
	wait := time.Hour
	for _, q := range [][]*entry{w.slow, w.late} {
		if len(q) > 0 {
			wait = min(wait, q[0].due.Sub(now))
		}
	}
	return nil, wait
}

// pop removes the first entry of a queue that is still there, if it is due; a
// zero now takes any.
func pop(q *[]*entry, in place, now time.Time) *entry {
	for len(*q) > 0 {
		e := (*q)[0]
		if e.place == in && !now.IsZero() && e.due.After(now) {
			return nil
		}
		(*q)[0] = nil
		*q = (*q)[1:]
		if e.place == in {
			return e
		}
	}
	*q = nil
	return nil
}

// send writes one report and decides what comes after.
func (w *Writer) send(ctx context.Context, e *entry) {
	w.mu.Lock()
	report, version := e.report, e.version
	w.mu.Unlock()
	version, err := w.write(ctx, report, version)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy--
	e.sending = false
	uid := report.Pod.UID
	switch {
	case errors.Is(err, errGone):
		if w.entries[uid] == e {
			delete(w.entries, uid)
		}
		return
	case err != nil && ctx.Err() == nil:
		e.fails++
		delay := min(100*time.Millisecond<<min(e.fails, 10), 30*time.Second)
		w.cfg.Log.Warn("pod status not written", "namespace", report.Pod.Namespace, "pod", report.Pod.Name, "retry", delay, "err", err)
		e.place, e.due, e.dirty = inLate, time.Now().Add(delay), false
		w.late = append(w.late, e)
	case err == nil:
		e.version, e.fails = version, 0
		if report.Final {
			delete(w.entries, uid)
		} else if e.dirty {
			e.dirty = false
			w.queue(e)
		} else {
			e.report = Report{} // a pod that is quiet is not held on to
		}
	}
	w.poke()
}

// newer is the later of two resource versions.
func newer(a, b string) string {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	if errY != nil || (errX == nil && x > y) {
		return a
	}
	return b
}
