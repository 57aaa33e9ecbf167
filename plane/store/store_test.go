package store_test

import (
	"testing"
	"testing/synctest"

	"copepod/plane/store"
	"copepod/plane/store/storetest"
)

func TestStoreInMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T, cfg store.Config) *store.Store {
		return storetest.Open(t, cfg)
	})
}

func TestStoreOnDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T, cfg store.Config) *store.Store {
		cfg.Dir = t.TempDir() + "/store"
		cfg.LogBytes = 64 << 10 // so that snapshots are part of it
		return storetest.Open(t, cfg)
	})
}

// Nothing of a store in memory needs the world outside, so that the tests of
// others can put it into a bubble.
func TestStoreInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, stop := storetest.Start(t, store.Config{})
		defer stop()
		storetest.WaitReady(t, st)
		if _, err := st.Txn(t.Context(), store.Op{Kind: store.Put, Key: "a"}); err != nil {
			t.Fatal(err)
		}
	})
}
