package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"copepod/plane/store"
	"copepod/plane/store/storetest"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

var quiet = slog.New(slog.DiscardHandler)

// fill writes keys, each at its own revision, a few an entry.
func fill(t *testing.T, st *store.Store, from, to int) {
	t.Helper()
	for from < to {
		var txns []store.Txn
		for ; from < to && len(txns) < 20; from++ {
			txns = append(txns, store.Txn{{Kind: store.Put, Key: fmt.Sprintf("k%04d", from), Value: fmt.Appendf(nil, "%0200d", from)}})
		}
		for _, r := range st.Batch(t.Context(), txns) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
}

func TestStoreFindsEverythingAgain(t *testing.T) {
	for _, c := range []struct {
		name     string
		logBytes int64
	}{{"from the log", 0}, {"from a snapshot and the log", 1 << 10}} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			cfg := store.Config{Dir: dir, LogBytes: c.logBytes}
			var node string
			for life := range 4 {
				st, stop := storetest.Start(t, cfg)
				storetest.WaitReady(t, st)
				if got, want := st.Snapshot().Count("k"), life*300; got != want || st.Revision() != store.Revision(want) {
					t.Errorf("life %d: got %d keys at revision %d, want %d", life, got, st.Revision(), want)
				}
				if node != "" && st.NodeID() != node {
					t.Errorf("life %d: got node %q, want %q", life, st.NodeID(), node)
				}
				node = st.NodeID()
				fill(t, st, life*300, (life+1)*300)
				kv := st.Snapshot().Get("k0000")
				if kv.Rev != 1 || kv.Created != 1 || kv.Version != 1 {
					t.Errorf("life %d: got %+v, want it as it was written first", life, kv)
				}
				stop()
			}
		})
	}
}

func TestStoreThatStoppedSaysSo(t *testing.T) {
	st, stop := storetest.Start(t, store.Config{Dir: filepath.Join(t.TempDir(), "store")})
	storetest.WaitReady(t, st)
	w, err := st.Watch(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	op := store.Op{Kind: store.Put, Key: "a"}
	if _, err := st.Txn(t.Context(), op); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("txn: got %v, want ErrUnavailable", err)
	}
	if r := st.Batch(t.Context(), []store.Txn{{op}}); !errors.Is(r[0].Err, store.ErrUnavailable) {
		t.Errorf("batch: got %v, want ErrUnavailable", r[0].Err)
	}
	if err := st.ReadIndex(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("read index: got %v, want ErrUnavailable", err)
	}
	if _, err := st.Watch(t.Context(), "", 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("watch: got %v, want ErrUnavailable", err)
	}
	if st.Health() == nil || st.Leading() {
		t.Errorf("got health %v, leading %v, want neither", st.Health(), st.Leading())
	}
	for range w.Events() {
	}
	if !errors.Is(w.Err(), store.ErrUnavailable) {
		t.Errorf("open watch: got %v, want ErrUnavailable", w.Err())
	}
	if err := st.Run(t.Context()); err == nil {
		t.Error("run again: got nil, want an error")
	}
}

func TestDirectoryBelongsToOneProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	st, err := store.Open(store.Config{Dir: dir, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(store.Config{Dir: dir, Log: quiet})
	var owned *store.OwnedError
	if !errors.As(err, &owned) || owned.PID != os.Getpid() || owned.Dir != dir {
		t.Errorf("got %v, want that process %d owns %s", err, os.Getpid(), dir)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st, err = store.Open(store.Config{Dir: dir, Log: quiet})
	if err != nil {
		t.Fatalf("after it was closed: %v", err)
	}
	st.Close()
}

func TestDirectoryIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits here")
	}
	dir := filepath.Join(t.TempDir(), "made", "store")
	st, err := store.Open(store.Config{Dir: dir, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: got mode %v, want nothing for others", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(store.Config{Dir: dir, Log: quiet}); err == nil || !strings.Contains(err.Error(), "0755") {
		t.Errorf("got %v, want that the mode is refused", err)
	}
}

func TestDirectoryOfAnotherIsRefused(t *testing.T) {
	for _, c := range []struct {
		name     string
		identity string
		want     error
	}{
		{"a newer version", `{"format":2,"node":"n1"}`, store.ErrNewerFormat},
		{"a damaged identity", `{"form`, store.ErrCorrupt},
		{"an empty identity", `{}`, store.ErrCorrupt},
		{"another node", `{"format":1,"node":"n2"}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "store.json"), []byte(c.identity), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := store.Open(store.Config{Dir: dir, NodeID: "n1", Log: quiet})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestMissingIdentityIsNotInventedBesideALog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	st, stop := storetest.Start(t, store.Config{Dir: dir})
	storetest.WaitReady(t, st)
	stop()
	if err := os.Remove(filepath.Join(dir, "store.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(store.Config{Dir: dir, Log: quiet}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	cfg := store.Config{Dir: dir, LogBytes: 1 << 10}
	st, stop := storetest.Start(t, cfg)
	storetest.WaitReady(t, st)
	var images []string
	for n := 0; len(images) == 0; n += 100 {
		fill(t, st, n, n+100)
		images, _ = filepath.Glob(filepath.Join(dir, "snapshots", "*-*", "state.bin"))
	}
	stop()
	images, _ = filepath.Glob(filepath.Join(dir, "snapshots", "*-*", "state.bin"))
	for _, image := range images {
		text, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		text[len(text)/2] ^= 1
		if err := os.WriteFile(image, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Log = quiet
	if _, err := store.Open(cfg); err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("got %v, want that the snapshot is refused", err)
	}
}

// An entry that is not what was written must not be skipped: everything after
// it would be built on another state than that which was acknowledged.
func TestDamagedLogEntryStopsTheStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	cfg := store.Config{Dir: dir}
	st, stop := storetest.Start(t, cfg)
	storetest.WaitReady(t, st)
	for i := range 10 { // an entry each
		fill(t, st, i, i+1)
	}
	stop()

	logs, err := raftboltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var entry raft.Log
	if err := logs.GetLog(last-2, &entry); err != nil {
		t.Fatal(err)
	}
	entry.Data[len(entry.Data)-1] ^= 1
	if err := errors.Join(logs.StoreLog(&entry), logs.Close()); err != nil {
		t.Fatal(err)
	}

	cfg.Log = quiet
	st, err = store.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Run(t.Context()); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprintf("entry %d:", last-2)) {
		t.Errorf("run: got %v, want ErrCorrupt at entry %d", err, last-2)
	}
	if err := st.Health(); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("got health %v, want ErrCorrupt", err)
	}
	op := store.Op{Kind: store.Put, Key: "a"}
	if _, err := st.Txn(t.Context(), op); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("txn: got %v, want ErrUnavailable", err)
	}
	if got := st.Revision(); got != 7 {
		t.Errorf("got revision %d, want 7, before the damage", got)
	}
}
