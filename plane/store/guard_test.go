package store

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// faultyDisk is a log in memory that fails as it is told.
type faultyDisk struct {
	*raft.InmemStore
	fault atomic.Pointer[error]
}

func (f *faultyDisk) fail() error {
	if err := f.fault.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faultyDisk) set(err error) {
	if err == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&err)
}

func (f *faultyDisk) StoreLogs(logs []*raft.Log) error {
	return errors.Join(f.fail(), f.InmemStore.StoreLogs(logs))
}

func (f *faultyDisk) SetUint64(key []byte, val uint64) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.InmemStore.SetUint64(key, val)
}

func (f *faultyDisk) Set(key, val []byte) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.InmemStore.Set(key, val)
}

var (
	errFull  = &fs.PathError{Op: "write", Path: "raft.db", Err: syscall.ENOSPC}
	errFsync = error(syscall.EIO)
)

// onFaultyDisk runs a store in a bubble, where time passes at will.
func onFaultyDisk(t *testing.T, test func(t *testing.T, st *Store, d *faultyDisk)) {
	synctest.Test(t, func(t *testing.T) {
		st, err := Open(Config{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		d := &faultyDisk{InmemStore: raft.NewInmemStore()}
		st.disk.logs, st.disk.stable = d, d
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- st.Run(ctx) }()
		<-st.Ready()
		test(t, st, d)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func write(t *testing.T, st *Store, key string) error {
	_, err := st.Txn(t.Context(), Op{Kind: Put, Key: key})
	return err
}

func TestFullDiskIsToldAndPasses(t *testing.T) {
	onFaultyDisk(t, func(t *testing.T, st *Store, d *faultyDisk) {
		if err := write(t, st, "before"); err != nil || st.Health() != nil {
			t.Fatalf("got %v, health %v, want both nil", err, st.Health())
		}
		d.set(errFull)
		for range 5 {
			if err := write(t, st, "full"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("got %v, want ErrUnavailable because of %v", err, syscall.ENOSPC)
			}
		}
		if err := st.Health(); err == nil || !strings.Contains(err.Error(), "full") {
			t.Errorf("got health %v, want that the disk is full", err)
		}
		if st.Snapshot().Get("before") == nil {
			t.Error("got no reads on a full disk, want what was there before")
		}
		d.set(nil)
		for changed := st.LeaderChanged(); !st.Leading(); changed = st.LeaderChanged() {
			<-changed
		}
		if err := write(t, st, "after"); err != nil || st.Health() != nil {
			t.Errorf("got %v, health %v, want both nil", err, st.Health())
		}
	})
}

func TestFsyncErrorIsForEver(t *testing.T) {
	onFaultyDisk(t, func(t *testing.T, st *Store, d *faultyDisk) {
		d.set(errFsync)
		if err := write(t, st, "a"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v, want ErrUnavailable because of %v", err, syscall.EIO)
		}
		d.set(nil) // the disk claims to be well again
		for range 3 {
			if err := write(t, st, "a"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("got %v, want ErrUnavailable because of %v", err, syscall.EIO)
			}
		}
		if err := st.Health(); !errors.Is(err, syscall.EIO) {
			t.Errorf("got health %v, want %v", err, syscall.EIO)
		}
	})
}

func TestStoreStopsWhileItWaitsForTheDisk(t *testing.T) {
	onFaultyDisk(t, func(t *testing.T, st *Store, d *faultyDisk) {
		d.set(errFull)
		if err := write(t, st, "a"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		time.Sleep(time.Minute) // into the election, whose term cannot be written
		synctest.Wait()
	})
}
