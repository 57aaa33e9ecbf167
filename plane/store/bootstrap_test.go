package store

import (
	"context"
	"testing"
	"time"
)

func TestAFirstStartThatWasKilledInTheMiddleBeginsAnew(t *testing.T) {
	dir := t.TempDir() + "/store"
	half, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := half.disk.stable.SetUint64(keyTerm, 1); err != nil { // all that the kill left of Raft's first writes
		t.Fatal(err)
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- st.Run(ctx) }()
	select {
	case <-st.Ready():
	case <-time.After(30 * time.Second):
		t.Error("the store never got ready")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v from Run, want nil", err)
	}
}
