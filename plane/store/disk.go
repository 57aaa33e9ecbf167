package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// What a data directory holds.
const (
	lockFile     = "lock"          // locked while it is in use, names the process
	identityFile = "store.json"    // identity below
	logFile      = "raft.db"       // the log and the vote of Raft, in bolt
	snapshotDir  = "snapshots"     // images of package mvcc, one a directory
	dirFormat    = 1               // of all of it
	keepImages   = 2               // the one before as well, for an operator
	mapAtFirst   = 64 << 20        // address space for bolt, so that it seldom maps anew
	lockPatience = 2 * time.Second // for bolt's own lock, which ours has already decided
)

// identity is the content of the identity file.
type identity struct {
	Format int    `json:"format"`
	Node   string `json:"node"`
}

// disk is where Raft keeps things: a data directory, or memory.
type disk struct {
	nodeID    string
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore

	lock *flock.Flock // nil in memory
	bolt *raftboltdb.BoltStore

	released    chan struct{} // closed when nobody should wait for the disk any more
	releaseOnce sync.Once
}

// openDisk takes the directory of the configuration for this process, making
// it if need be.
func openDisk(cfg Config) (_ *disk, err error) {
	d := &disk{nodeID: cfg.NodeID, released: make(chan struct{})}
	if cfg.Dir == "" {
		mem := raft.NewInmemStore()
		d.logs, d.stable, d.snapshots = mem, mem, raft.NewInmemSnapshotStore()
		if d.nodeID == "" {
			d.nodeID = newNodeID()
		}
		return d, nil
	}
	if err := makePrivate(cfg.Dir); err != nil {
		return nil, err
	}
	if err := d.takeLock(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.identify(cfg.Dir); err != nil {
		return nil, err
	}
	if err := makePrivate(filepath.Join(cfg.Dir, snapshotDir)); err != nil {
		return nil, err
	}
	// Raft appends its own "snapshots" to the directory that it is given.
	d.snapshots, err = raft.NewFileSnapshotStoreWithLogger(cfg.Dir, keepImages, newRaftLog(cfg.Log))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(cfg.Dir, snapshotDir), err)
	}
	d.bolt, err = raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(cfg.Dir, logFile),
		BoltOptions: &bbolt.Options{
			Timeout:         lockPatience,
			NoFreelistSync:  true, // half of the pages of a commit
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: mapAtFirst,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Join(cfg.Dir, logFile), err)
	}
	d.logs, d.stable = d.bolt, d.bolt
	return d, nil
}

// makePrivate makes a directory that only its owner may enter, or checks that
// an existing one is.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("data directory %s has mode %#o: others could read it: chmod 700 it", dir, perm)
	}
	return nil
}

func (d *disk) takeLock(dir string) error {
	path := filepath.Join(dir, lockFile)
	d.lock = flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	ok, err := d.lock.TryLock()
	if err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	if !ok {
		text, _ := os.ReadFile(path)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return &OwnedError{Dir: dir, PID: pid}
	}
	// Only a courtesy to whom we shut out; some systems lock the bytes too.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
	return nil
}

// identify reads the identity file, or writes it at the first start.
func (d *disk) identify(dir string) error {
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.name(dir, path)
	}
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(text, &id); err != nil {
		return fmt.Errorf("identity %s: %w: %w", path, ErrCorrupt, err)
	}
	switch {
	case id.Format > dirFormat:
		return fmt.Errorf("data directory %s has format %d, this version knows %d: %w", dir, id.Format, dirFormat, ErrNewerFormat)
	case id.Format < 1 || id.Node == "":
		return fmt.Errorf("identity %s: %w: it names no format or no node", path, ErrCorrupt)
	case d.nodeID != "" && d.nodeID != id.Node:
		return fmt.Errorf("data directory %s belongs to node %q, not to %q: choose another directory or name", dir, id.Node, d.nodeID)
	}
	d.nodeID = id.Node
	return nil
}

func (d *disk) name(dir, path string) error {
	if _, err := os.Stat(filepath.Join(dir, logFile)); err == nil {
		return fmt.Errorf("identity %s: %w: it is missing beside a log", path, ErrCorrupt)
	}
	if d.nodeID == "" {
		d.nodeID = newNodeID()
	}
	text, err := json.Marshal(identity{Format: dirFormat, Node: d.nodeID})
	if err != nil {
		return fmt.Errorf("identity %s: %w", path, err)
	}
	if err := writeDurably(path, append(text, '\n')); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

func newNodeID() string { return "node-" + strings.ToLower(rand.Text()[:12]) }

// writeDurably makes a file appear whole or not at all, whatever happens.
func writeDurably(path string, text []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err = dir.Sync(); runtime.GOOS == "windows" {
		err = nil // directories cannot be synced there
	}
	return errors.Join(err, dir.Close())
}

// release lets go whoever waits for a full disk.
func (d *disk) release() { d.releaseOnce.Do(func() { close(d.released) }) }

// close gives the directory back.
func (d *disk) close() error {
	d.release()
	var errs []error
	if d.bolt != nil {
		errs = append(errs, d.bolt.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}
