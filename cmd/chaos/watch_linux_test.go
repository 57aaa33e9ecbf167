package chaos

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// watcher follows all registers through one node. A watch that ends is taken up
// where it ended, so what it tells must be without gap, repetition or disorder.
type watcher struct {
	n     *node
	start uint64 // revision after which it watches

	mu     sync.Mutex // guards what follows
	events []event
	begun  int
	last   error    // why the last watch ended
	lost   []string // watches that could not be taken up: the history is gone
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	from := w.start
	for ctx.Err() == nil {
		var err error
		from, err = w.follow(ctx, from)
		w.mu.Lock()
		w.last = fmt.Errorf("watch from %d: %w", from, err)
		w.mu.Unlock()
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			w.mu.Lock()
			w.lost = append(w.lost, fmt.Sprintf("at %d: %v", from, err))
			w.mu.Unlock()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// follow is one watch. It returns the last revision that was told.
func (w *watcher) follow(ctx context.Context, from uint64) (uint64, error) {
	// A server that hangs must not hide what others tell: a watch lasts 20 s.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	stream, err := w.n.client.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.ListOptions{
		ResourceVersion: strconv.FormatUint(from, 10), AllowWatchBookmarks: true,
	})
	if err != nil {
		return from, err
	}
	defer stream.Stop()
	w.mu.Lock()
	w.begun++
	w.mu.Unlock()
	for e := range stream.ResultChan() {
		switch e.Type {
		case watch.Error:
			return from, apierrors.FromObject(e.Object)
		case watch.Bookmark:
			if cm, ok := e.Object.(*corev1.ConfigMap); ok {
				from = max(from, revision(cm.ResourceVersion)) // what comes later has to be greater: seen in events
			}
			continue
		}
		cm, ok := e.Object.(*corev1.ConfigMap)
		if !ok {
			return from, fmt.Errorf("an event with %T", e.Object)
		}
		rev := revision(cm.ResourceVersion)
		if cm.Name == rootCA {
			continue
		}
		w.mu.Lock()
		w.events = append(w.events, event{e.Type, cm.Name, cm.Data["v"], rev})
		w.mu.Unlock()
		from = max(from, rev)
	}
	return from, ctx.Err()
}

// told checks that the watcher was told of a key.
func (w *watcher) told(key string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.events, func(e event) bool { return e.key == key }) {
		return nil
	}
	return fmt.Errorf("not told of %s; last %+v; the last watch before this one: %w", key, w.events[max(0, len(w.events)-3):], w.last)
}

// lastWords is the end of an error, which is its cause.
func lastWords(err error) string {
	s := err.Error()
	if i := strings.LastIndex(s, ": "); i >= 0 {
		return s[i+2:]
	}
	return s
}
