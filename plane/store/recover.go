package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"copepod/plane/store/mvcc"

	"github.com/hashicorp/raft"
)

// Backup writes everything that was acknowledged before the call to w, as of
// one revision, while the store goes on. Restore reads it; a checksum at its
// end tells whether all of it is there.
func (s *Store) Backup(ctx context.Context, w io.Writer) (Revision, error) {
	if err := s.ReadIndex(ctx); err != nil {
		return 0, fmt.Errorf("store: backup: %w", err)
	}
	snap := s.Snapshot()
	if err := snap.WriteImage(w); err != nil {
		return 0, fmt.Errorf("store: backup: %w", err)
	}
	return snap.Revision(), nil
}

// RestoreGap is how far Restore moves the revision: what was written after the
// backup had revisions that somebody may remember, so none is used again.
const RestoreGap = 1_000_000

var currentTerm = []byte("CurrentTerm") // as Raft calls it

// Restore makes a new cluster of one member, of what Backup wrote, in a data
// directory that is empty or does not exist. NodeID, Dir and Advertise of the
// configuration count. It returns the revision at which the store begins.
func Restore(cfg Config, backup io.Reader) (Revision, error) {
	rev, err := restore(cfg, backup)
	if err != nil {
		return 0, fmt.Errorf("store: restore: %w", err)
	}
	return rev, nil
}

func restore(cfg Config, backup io.Reader) (_ Revision, err error) {
	if cfg, err = cfg.closed(); err != nil {
		return 0, err
	}
	m, err := mvcc.ReadImage(backup, cfg.limits())
	if errors.Is(err, ErrCorrupt) {
		return 0, fmt.Errorf("%w: the backup is damaged or incomplete: take another one", err)
	}
	if err != nil {
		return 0, err
	}
	if err := mustBeEmpty(cfg.Dir); err != nil {
		return 0, err
	}
	m.Advance(RestoreGap)
	d, err := openDisk(cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.stable.SetUint64(currentTerm, 1); err != nil {
		return 0, fmt.Errorf("write %s: %w", logFile, err)
	}
	_, trans := raft.NewInmemTransport("")
	sink, err := d.snapshots.Create(raft.SnapshotVersionMax, 1, 1, soleMember(d.nodeID, cfg.Advertise), 1, trans)
	if err == nil {
		err = image{m.Image()}.Persist(sink)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: empty %s and try again", err, cfg.Dir)
	}
	return m.Publish().Revision(), nil
}

// soleMember is a cluster of one. Without an address it takes the one of a
// store without a Transport; AddNonvoter gives it another later.
func soleMember(id, address string) raft.Configuration {
	if address == "" {
		address = id
	}
	return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(id), Address: raft.ServerAddress(address)}}}
}

func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockFile {
			return fmt.Errorf("data directory %s is not empty, it holds %s: choose another, or move what is there out of the way", dir, e.Name())
		}
	}
	return nil
}

// closed checks what the functions on closed directories need.
func (c Config) closed() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("no data directory is given: set Dir")
	}
	c.Peers, c.Join, c.Transport = nil, false, nil
	return c.validate()
}

// Inspection is what a closed data directory says of its member.
type Inspection struct {
	ID string
	// Members are those of the cluster, as this one knew them last.
	Members []Member
	// Last is the last entry in its log and LastTerm its term: of several
	// survivors the one with the greater LastTerm, and then with the greater
	// Last, has everything that was acknowledged, if any of them has.
	Last, LastTerm uint64
	// Revision is the one it will have when all of its log is applied.
	Revision Revision
}

// Inspect reads a data directory that no store uses. It changes nothing.
func Inspect(cfg Config) (Inspection, error) {
	in, d, _, err := inspect(cfg)
	if d != nil {
		err = errors.Join(err, d.close())
	}
	if err != nil {
		return Inspection{}, fmt.Errorf("store: inspect: %w", err)
	}
	return in, nil
}

// Recover makes the member in a closed data directory the only one of its
// cluster, with all that its log holds. It is for when a majority of the
// voters is lost for good. It returns what was there before.
//
// What was acknowledged without reaching this member is gone, so recover the
// survivor that is furthest, see Inspection. The other former members must
// never run again with their data directories: a majority of them would be a
// second cluster. Empty those and let them join anew.
func Recover(cfg Config) (Inspection, error) {
	in, d, s, err := inspect(cfg)
	if d != nil {
		if err == nil {
			err = s.recover(in)
		}
		err = errors.Join(err, d.close())
	}
	if err != nil {
		return Inspection{}, fmt.Errorf("store: recover: %w", err)
	}
	return in, nil
}

// inspect opens a directory, verifies its latest image and replays its log.
func inspect(cfg Config) (in Inspection, d *disk, s *Store, err error) {
	if cfg, err = cfg.closed(); err != nil {
		return in, nil, nil, err
	}
	if _, err := os.Stat(cfg.Dir + "/" + identityFile); err != nil {
		return in, nil, nil, fmt.Errorf("%s is not the data directory of a store: %w", cfg.Dir, err)
	}
	if d, err = openDisk(cfg); err != nil {
		return in, nil, nil, err
	}
	known, err := raft.HasExistingState(d.logs, d.stable, d.snapshots)
	if err == nil && !known {
		err = fmt.Errorf("%s holds neither log nor snapshot: there is nothing to recover, use another survivor or a backup", cfg.Dir)
	}
	if err != nil {
		return in, d, nil, err
	}
	cfg.NodeID = d.nodeID
	s = &Store{cfg: cfg, log: cfg.Log, disk: d, groups: groups{waiting: map[uint64]*ownGroup{}}}
	s.machine = newMachine(cfg.limits(), &s.health, &s.groups)
	if err := s.restore(); err != nil {
		return in, d, nil, fmt.Errorf("%w: use another survivor or a backup", err)
	}
	in.ID = d.nodeID
	_, trans := raft.NewInmemTransport("")
	conf, err := raft.GetConfiguration(s.raftConfig(), s.machine, d.logs, d.stable, d.snapshots, trans)
	if err != nil {
		return in, d, nil, fmt.Errorf("read the members: %w", err)
	}
	in.Members = membersOf(conf)
	if err := s.replay(&in); err != nil {
		return in, d, nil, fmt.Errorf("%w: use another survivor or a backup", err)
	}
	in.Revision = s.Revision()
	return in, d, s, nil
}

// replay applies the log behind the latest image.
func (s *Store) replay(in *Inspection) error {
	images, err := s.disk.snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(images) > 0 {
		in.Last, in.LastTerm = images[0].Index, images[0].Term
	}
	last, err := s.disk.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	for i := in.Last + 1; i <= last; i++ {
		var entry raft.Log
		if err := s.disk.logs.GetLog(i, &entry); err != nil {
			return fmt.Errorf("read log entry %d: %w", i, err)
		}
		s.machine.Apply(&entry)
		if !s.machine.alive() {
			return s.machine.broken
		}
		in.Last, in.LastTerm = entry.Index, entry.Term
	}
	return nil
}

func (s *Store) recover(in Inspection) error {
	fresh := newMachine(s.cfg.limits(), &s.health, &s.groups) // Raft replays once more
	_, trans := raft.NewInmemTransport("")
	address := s.cfg.Advertise
	if m, _ := find(in.Members, in.ID); address == "" && m != nil {
		address = m.Address
	}
	err := raft.RecoverCluster(s.raftConfig(), fresh, s.disk.logs, s.disk.stable, s.disk.snapshots, trans, soleMember(in.ID, address))
	if err != nil {
		return fmt.Errorf("%w: nothing is lost: mend the reason and try again", err)
	}
	return nil
}
