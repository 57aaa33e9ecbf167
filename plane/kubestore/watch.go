package kubestore

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"copepod/plane/store"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/storage"
	utilflowcontrol "k8s.io/apiserver/pkg/util/flowcontrol"
)

// outgoing is how many events lie ready for the consumer of a watch.
const outgoing = 64

// Watch implements storage.Interface. Errors but those of the arguments come
// as events. The objects of events implement runtime.CacheableObject, except
// in bookmarks.
func (r *resource) Watch(ctx context.Context, name string, opts storage.ListOptions) (watch.Interface, error) {
	key, err := r.key(name, opts.Recursive)
	if err != nil {
		return nil, err
	}
	rv, err := versioner.ParseResourceVersion(opts.ResourceVersion)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{r: r, key: key, opts: opts, version: rv, began: r.k.backend.Snapshot().Revision(), stop: cancel, events: make(chan watch.Event, outgoing)}
	if !r.k.hub.start(func() { w.run(ctx) }) {
		cancel()
		return nil, apierrors.NewServiceUnavailable("the server is shutting down")
	}
	return w, nil
}

// watcher is a watch.Interface over a feed.
type watcher struct {
	r       *resource
	key     string
	opts    storage.ListOptions
	version uint64
	began   store.Revision // when Watch was called: what is written later is seen
	stop    context.CancelFunc
	events  chan watch.Event

	nextMark time.Time // when a bookmark is due, zero: never
}

// Stop implements watch.Interface.
func (w *watcher) Stop() { w.stop() }

// ResultChan implements watch.Interface.
func (w *watcher) ResultChan() <-chan watch.Event { return w.events }

func (w *watcher) run(ctx context.Context) {
	defer close(w.events)
	defer w.stop()
	err := w.serve(ctx)
	if err == nil || ctx.Err() != nil || errors.Is(err, errEnded) {
		return
	}
	w.send(ctx, watch.Event{Type: watch.Error, Object: statusOf(err)})
}

// serve sends events until there is an error or the context ends.
func (w *watcher) serve(ctx context.Context) error {
	from, err := w.begin(ctx)
	if err != nil {
		return err
	}
	f := w.r.feed(w.r.scopeOf(w.key, w.opts.Recursive, &w.opts.Predicate), from)
	defer f.close()
	var timer *time.Timer
	var fires <-chan time.Time
	if w.bookmarks() {
		w.planMark(ctx)
		timer = time.NewTimer(time.Until(w.nextMark))
		defer timer.Stop()
		fires = timer.C
	}
	for {
		changes, err := f.next(ctx, fires)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if err := w.forward(ctx, c); err != nil {
				return err
			}
		}
		asked := len(changes) == 0 && w.opts.ProgressNotify
		if !w.bookmarks() || !asked && time.Now().Before(w.nextMark) {
			continue
		}
		if err := w.bookmark(ctx, f.pos, false); err != nil {
			return err
		}
		w.planMark(ctx)
		timer.Reset(time.Until(w.nextMark))
	}
}

// begin finds the revision after which the watch goes on, and before that
// sends what there is, if it was asked for.
func (w *watcher) begin(ctx context.Context) (store.Revision, error) {
	defer utilflowcontrol.WatchInitialized(ctx)
	initial := w.version == 0
	if w.opts.SendInitialEvents != nil {
		initial = *w.opts.SendInitialEvents
	}
	snap, err := w.snapshot(ctx)
	if err != nil {
		return 0, err
	}
	if !initial {
		if w.version > 0 {
			return revision(w.version), nil
		}
		return w.began, nil
	}
	if err := w.sendInitial(ctx, snap); err != nil {
		return 0, err
	}
	if w.opts.SendInitialEvents != nil && w.opts.Predicate.AllowWatchBookmarks {
		return snap.Revision(), w.bookmark(ctx, snap.Revision(), true)
	}
	return snap.Revision(), nil
}

// snapshot is a state that is as new as the watch demands.
func (w *watcher) snapshot(ctx context.Context) (*store.Snapshot, error) {
	if w.opts.ResourceVersion == "" {
		return w.r.notOlderThan(ctx, w.key, "")
	}
	return w.r.atLeast(ctx, w.key, w.version, 1+rand.IntN(3))
}

func (w *watcher) sendInitial(ctx context.Context, snap *store.Snapshot) error {
	if !w.opts.Recursive {
		if kv := snap.Get(w.key); kv != nil {
			return w.sendObject(ctx, kv)
		}
		return nil
	}
	for kv := range w.r.selected(ctx, snap, w.key, "", &w.opts.Predicate) {
		if err := w.sendObject(ctx, kv); err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) sendObject(ctx context.Context, kv *store.KV) error {
	d, err := w.r.decoded(ctx, kv)
	if err != nil {
		return err
	}
	if p := &w.opts.Predicate; !p.Empty() && !matches(p, d.obj) {
		return nil
	}
	return w.send(ctx, watch.Event{Type: watch.Added, Object: &encodedOnce{obj: d.obj}})
}

// forward sends what the watcher sees of a change.
func (w *watcher) forward(ctx context.Context, c *change) error {
	t, err := c.seen(ctx, &w.opts.Predicate)
	if err != nil || t == "" {
		return err
	}
	return w.send(ctx, watch.Event{Type: t, Object: c.encoded(t)})
}

func (w *watcher) send(ctx context.Context, e watch.Event) error {
	select {
	case w.events <- e:
		return nil
	default:
	}
	select {
	case w.events <- e:
		return nil
	case <-w.r.done:
		return errEnded
	case <-w.r.k.hub.done:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *watcher) bookmarks() bool {
	return w.opts.ProgressNotify || w.opts.Predicate.AllowWatchBookmarks
}

// beforeEnd is how long before its deadline a watch gets a last bookmark, so
// that its client can go on from there.
const beforeEnd = 2 * time.Second

// planMark sets when the next bookmark is due.
func (w *watcher) planMark(ctx context.Context) {
	now := time.Now()
	every := w.r.k.cfg.BookmarkInterval
	w.nextMark = now.Add(every + rand.N(every/4+1)) // not all at once
	if end, ok := ctx.Deadline(); ok {
		if last := end.Add(-beforeEnd); last.After(now) && last.Before(w.nextMark) {
			w.nextMark = last
		}
	}
}

// bookmark says that the watcher has got everything up to rev; end marks the
// end of the initial events.
func (w *watcher) bookmark(ctx context.Context, rev store.Revision, end bool) error {
	obj := w.r.newFunc()
	if err := versioner.UpdateObject(obj, version(rev)); err != nil {
		return err
	}
	if end {
		if err := storage.AnnotateInitialEventsEndBookmark(obj); err != nil {
			return err
		}
	}
	return w.send(ctx, watch.Event{Type: watch.Bookmark, Object: obj})
}

// statusOf is the object of an error event.
func statusOf(err error) runtime.Object {
	var (
		expired *ExpiredError
		corrupt *corruptDeletion
		status  apierrors.APIStatus
	)
	switch {
	case errors.As(err, &expired):
		status = apierrors.NewResourceExpired(expired.Error())
	case errors.As(err, &corrupt) && isCorrupt(err):
		status = &apierrors.StatusError{ErrStatus: metav1.Status{
			Status:  metav1.StatusFailure,
			Code:    http.StatusInternalServerError,
			Reason:  metav1.StatusReasonStoreReadError,
			Message: corrupt.Error(),
		}}
	case errors.As(err, &status):
	default:
		status = apierrors.NewInternalError(err)
	}
	s := status.Status()
	return &s
}
