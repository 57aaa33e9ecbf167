package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"copepod/cmd/config"
	"copepod/gossip"
	"copepod/plane/auth/keyfile"
	"copepod/plane/enroll"
)

// whispers is this machine's membership in gossip: it meets the others again
// after every start, and names the machines that hold a part of the plane.
type whispers struct {
	*gossip.Gossip
	file   string // where the addresses of members are kept between starts
	member *enroll.Membership
	log    *slog.Logger
}

const (
	meetRetry   = time.Second
	keepMembers = 30 * time.Second // between two writes of the file
	maxKept     = 64
)

// newGossip makes the member. member is nil on the machine that began the
// cluster.
func newGossip(m *machine) (*whispers, error) {
	ring, err := enroll.OpenRing(m.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	role := gossip.RoleNode
	if m.holdsPlane() {
		role = gossip.RolePlane
	}
	g, err := gossip.New(gossip.Config{
		Name:      m.name,
		Bind:      netip.AddrPortFrom(m.cfg.Bind, m.cfg.Gossip.Port),
		Advertise: netip.AddrPortFrom(m.addr, m.cfg.Gossip.Port),
		Keys:      ring.Keys,
		Meta:      gossip.Meta{Role: role, APIPort: m.cfg.API.Port, MeshPort: m.cfg.Network.MeshPort, Version: release},
		Pace:      pace(m.cfg),
		Log:       m.log,
		Metrics:   m.metrics,
	})
	if err != nil {
		return nil, err
	}
	return &whispers{Gossip: g, file: filepath.Join(m.cfg.DataDir, "gossip", "members.json"), member: m.member, log: m.log.With("part", "gossip")}, nil
}

func pace(cfg config.Config) gossip.Pace {
	switch cfg.Gossip.Pace {
	case "wan":
		return gossip.WAN()
	case "lan":
		return gossip.LAN()
	case "loopback":
		return gossip.Loopback()
	}
	if cfg.Bind.IsLoopback() {
		return gossip.Loopback()
	}
	return gossip.LAN()
}

// meet joins the others, and keeps their addresses for the next start.
func (w *whispers) meet(ctx context.Context) error {
	select {
	case <-w.Ready():
	case <-ctx.Done():
		return nil
	}
	for addrs := w.addresses(); len(addrs) > 0 && len(w.Members()) < 2 && ctx.Err() == nil; {
		_, err := w.Join(ctx, addrs)
		if err == nil {
			break
		}
		w.log.Debug("no member answers yet", "err", err)
		pause(ctx, meetRetry)
	}
	for ctx.Err() == nil {
		if err := w.keep(); err != nil {
			w.log.Warn("members not kept for the next start", "err", err)
		}
		pause(ctx, keepMembers)
	}
	return nil
}

// addresses is where members were: as kept, and as told when this one joined.
func (w *whispers) addresses() []string {
	var all []string
	data, err := os.ReadFile(w.file)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.log.Warn("kept members not read", "err", err)
	}
	if w.member != nil {
		for _, p := range w.member.Planes {
			if p.Name != w.member.Name {
				all = append(all, p.Gossip().String())
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (w *whispers) keep() error {
	all := []string{}
	for _, m := range w.Members() {
		if m.Addr != w.Addr() && m.State != gossip.StateLeft && len(all) < maxKept {
			all = append(all, m.Addr.String())
		}
	}
	if len(all) == 0 {
		return nil // being alone is no reason to forget
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return keyfile.Write(w.file, data)
}

// planes is where the API answers, as far as this machine knows: gossip may lie,
// so whoever connects verifies who answers.
func (w *whispers) planes() []netip.AddrPort {
	var all []netip.AddrPort
	for _, m := range w.Members() {
		if m.Meta.Role == gossip.RolePlane && m.Meta.APIPort != 0 && (m.State == gossip.StateAlive || m.State == gossip.StateSuspect) {
			all = append(all, netip.AddrPortFrom(m.Addr.Addr(), m.Meta.APIPort))
		}
	}
	if w.member == nil {
		return all
	}
	for _, p := range w.member.Planes {
		if at, err := netip.ParseAddrPort(p.API()); err == nil && p.Name != w.member.Name && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
