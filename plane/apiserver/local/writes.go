package local

import (
	"context"
	"slices"
	"sync"
)

// Long lists of changes go to the store in chunks, a few at a time: while one is
// being committed the next is encoded.
const (
	chunk    = 1024
	inFlight = 3
)

// write is one prepared change on its way to the store.
type write struct {
	index   int // of the caller's list
	change  Change
	finish  func(ctx context.Context, stored bool) // of a hook, nil without one
	outcome Outcome
}

func (w *write) done(ctx context.Context, stored bool) {
	if w.finish != nil {
		w.finish(ctx, stored)
	}
}

// writes are changes that go to the store together.
type writes []*write

// run stores all changes and fills in their outcomes.
func (ws writes) run(ctx context.Context, store Store) writes {
	if len(ws) <= chunk {
		ws.store(ctx, store)
		return ws
	}
	var work sync.WaitGroup
	slots := make(chan struct{}, inFlight)
	for part := range slices.Chunk(ws, chunk) {
		slots <- struct{}{}
		work.Go(func() {
			part.store(ctx, store)
			<-slots
		})
	}
	work.Wait()
	return ws
}

func (ws writes) store(ctx context.Context, store Store) {
	if len(ws) == 0 {
		return
	}
	changes := make([]Change, len(ws))
	for i, w := range ws {
		changes[i] = w.change
	}
	for i, outcome := range store.Write(ctx, changes) {
		ws[i].outcome = outcome
		ws[i].done(ctx, outcome.Err == nil)
	}
}
