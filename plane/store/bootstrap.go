package store

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// bootstrap founds the cluster at the first start, unless this member joins one.
func (s *Store) bootstrap(conf *raft.Config, trans raft.Transport, addr raft.ServerAddress) error {
	if s.cfg.Join {
		return nil
	}
	logs, stable, snaps := s.disk.logs, s.disk.stable, s.disk.snapshots
	if err := s.undoHalf(); err != nil {
		return err
	}
	known, err := raft.HasExistingState(logs, stable, snaps)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	if known {
		return nil
	}
	first := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: addr}}}
	if len(s.cfg.Peers) > 0 {
		first.Servers = nil
	}
	for _, p := range s.cfg.Peers {
		first.Servers = append(first.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
	}
	if err := raft.BootstrapCluster(conf, logs, stable, snaps, trans, first); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// keyTerm is where Raft keeps its term.
var keyTerm = []byte("CurrentTerm")

// undoHalf takes back a bootstrap that a crash cut in two: Raft writes the first
// term before the first entry, and takes the term alone for a cluster that it
// waits for ever to hear from. Nothing was acknowledged yet: a founder has the
// first entry before it votes.
func (s *Store) undoHalf() error {
	last, err := s.disk.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	term, err := s.disk.stable.GetUint64(keyTerm)
	if err != nil || term != 1 || last != 0 { // an error says that there is no term
		return nil
	}
	snaps, err := s.disk.snapshots.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(snaps) > 0 {
		return nil
	}
	s.log.Info("a first start that was cut short begins anew")
	if err := s.disk.stable.SetUint64(keyTerm, 0); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}
