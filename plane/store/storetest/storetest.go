// Package storetest helps to test what is built on a store, and holds the
// suite that every kind of store must pass. It knows the exported surface of
// package store and nothing behind it.
//
//	st := storetest.Open(t, store.Config{}) // in memory, ready, stopped with the test
//	storetest.Run(t, func(t testing.TB, cfg store.Config) *store.Store { … })
package storetest

import (
	"context"
	"log/slog"
	"testing"

	"copepod/plane/store"
)

// Open opens and runs a store and waits until it is ready. The test stops it
// at its end. A nil Log is discarded.
func Open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	st, stop := Start(t, cfg)
	t.Cleanup(stop)
	WaitReady(t, st)
	return st
}

// WaitReady waits until the store is ready, and fails the test if it stops
// instead.
func WaitReady(t testing.TB, st *store.Store) {
	t.Helper()
	select {
	case <-st.Ready():
	case <-st.Stopped():
		t.Fatal("the store stopped before it was ready")
	}
}

// Start opens and runs a store without waiting for it. stop ends it, and may
// be called more than once.
func Start(t testing.TB, cfg store.Config) (st *store.Store, stop func()) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	st, err := store.Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := st.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	return st, func() {
		cancel()
		<-done
	}
}
