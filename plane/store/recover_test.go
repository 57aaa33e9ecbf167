package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"copepod/plane/store"
	"copepod/plane/store/storetest"
)

// founded is a stopped store on disk with so many keys.
func founded(t *testing.T, cfg store.Config, keys int) {
	t.Helper()
	st, stop := storetest.Start(t, cfg)
	storetest.WaitReady(t, st)
	fill(t, st, 0, keys)
	stop()
}

func TestBackupIsRestoredAsANewCluster(t *testing.T) {
	st := storetest.Open(t, store.Config{Dir: filepath.Join(t.TempDir(), "store")})
	fill(t, st, 0, 300)
	var backup bytes.Buffer
	rev, err := st.Backup(t.Context(), &backup)
	if err != nil || rev != 300 {
		t.Fatalf("got revision %d and %v, want 300", rev, err)
	}
	fill(t, st, 300, 310) // after the backup

	cfg := store.Config{Dir: filepath.Join(t.TempDir(), "restored"), NodeID: "r1", Log: quiet}
	begins, err := store.Restore(cfg, bytes.NewReader(backup.Bytes()))
	if err != nil || begins != 300+store.RestoreGap {
		t.Fatalf("got revision %d and %v, want %d", begins, err, 300+store.RestoreGap)
	}
	for life := range 2 {
		again, stop := storetest.Start(t, cfg)
		storetest.WaitReady(t, again)
		if n := again.Snapshot().Count("k"); n != 300+life || again.Revision() != begins+store.Revision(life) {
			t.Errorf("life %d: got %d keys at revision %d, want %d at %d", life, n, again.Revision(), 300+life, begins+store.Revision(life))
		}
		if _, err := again.At(305); !errors.Is(err, store.ErrCompacted) {
			t.Errorf("a revision after the backup: got %v, want ErrCompacted", err)
		}
		fill(t, again, 300+life, 301+life)
		stop()
	}
	if _, err := store.Restore(cfg, bytes.NewReader(backup.Bytes())); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory in use: got %v, want that it is not empty", err)
	}
}

func TestDamagedBackupIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	st := storetest.Open(t, store.Config{})
	fill(t, st, 0, 300)
	var backup bytes.Buffer
	if _, err := st.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	whole := backup.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, b := range map[string][]byte{"cut short": whole[:len(whole)-3], "flipped": flipped, "empty": nil} {
		dir := filepath.Join(t.TempDir(), "restored")
		_, err := store.Restore(store.Config{Dir: dir, Log: quiet}, bytes.NewReader(b))
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "another") {
			t.Errorf("%s: got %v, want ErrCorrupt and what to do", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: got a data directory, want none", name)
		}
	}
}

func TestSurvivorOfALostMajorityGoesOnAlone(t *testing.T) {
	network := storetest.NewNetwork()
	dir := t.TempDir()
	var cfgs []store.Config
	var peers []store.Peer
	for i := range 3 {
		peers = append(peers, store.Peer{ID: address(i), Address: address(i)})
	}
	for i := range 3 {
		cfgs = append(cfgs, store.Config{Dir: filepath.Join(dir, address(i)), NodeID: address(i), Peers: peers,
			Transport: network.Join(address(i)), Forwarder: network.Forwarder(address(i)), Log: quiet})
	}
	var stops []func()
	for i, cfg := range cfgs {
		st, stop := storetest.Start(t, cfg)
		defer stop()
		network.Serve(address(i), st)
		stops = append(stops, stop)
		if i == 2 {
			storetest.WaitReady(t, st)
			fill(t, st, 0, 100) // through a member, so that it has all of it
		}
	}
	survivor := store.Config{Dir: cfgs[2].Dir, Log: quiet}
	var owned *store.OwnedError
	if _, err := store.Recover(survivor); !errors.As(err, &owned) {
		t.Errorf("while it runs: got %v, want that it is owned", err)
	}
	for _, stop := range stops {
		stop()
	}
	in, err := store.Inspect(survivor)
	if err != nil || in.ID != "n2" || len(in.Members) != 3 || in.Revision != 100 || in.Last == 0 || in.LastTerm == 0 {
		t.Errorf("inspect: got %+v and %v, want three members at revision 100", in, err)
	}
	was, err := store.Recover(survivor)
	if err != nil || len(was.Members) != 3 || was.Revision != 100 {
		t.Fatalf("recover: got %+v and %v, want what was there", was, err)
	}
	for life := range 2 {
		st, stop := storetest.Start(t, survivor)
		storetest.WaitReady(t, st)
		members, err := st.Members()
		if err != nil || len(members) != 1 || members[0] != (store.Member{ID: "n2", Address: "n2", Voter: true}) {
			t.Errorf("got members %v and %v, want n2 alone", members, err)
		}
		fill(t, st, 100+life, 101+life)
		if n := st.Snapshot().Count("k"); n != 101+life {
			t.Errorf("got %d keys, want %d", n, 101+life)
		}
		stop()
	}
}

func TestRecoveryOfNothingSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	for name, c := range map[string]struct {
		cfg  store.Config
		want string
	}{
		"no directory":       {store.Config{}, "set Dir"},
		"another directory":  {store.Config{Dir: dir}, "not the data directory"},
		"a store never used": {store.Config{Dir: filepath.Join(t.TempDir(), "unused")}, "nothing to recover"},
	} {
		c.cfg.Log = quiet
		if strings.HasSuffix(c.cfg.Dir, "unused") {
			st, err := store.Open(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			st.Close()
		}
		if _, err := store.Recover(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestDamagedSurvivorIsNotRecovered(t *testing.T) {
	cfg := store.Config{Dir: filepath.Join(t.TempDir(), "store"), LogBytes: 1 << 10, Log: quiet}
	var images []string
	for keys := 300; len(images) == 0; keys += 300 {
		founded(t, cfg, keys)
		images, _ = filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*-*", "state.bin"))
	}
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
	for what, do := range map[string]func(store.Config) (store.Inspection, error){"inspect": store.Inspect, "recover": store.Recover} {
		if _, err := do(cfg); err == nil || !strings.Contains(err.Error(), "another survivor or a backup") {
			t.Errorf("%s: got %v, want what to do", what, err)
		}
	}
}

func TestMembersAreChangedThroughAnyone(t *testing.T) {
	inCluster(t, 3, store.Config{}, func(c *cluster) {
		i, _ := c.leader(-1)
		follower := c.members[(i+1)%3]
		other := address((i + 2) % 3)
		ctx := c.t.Context()
		check := func(err error, want string) {
			c.t.Helper()
			if err != nil {
				c.t.Fatal(err)
			}
			members, err := c.members[i].Members()
			if got := fmt.Sprint(members); err != nil || !strings.Contains(got, want) {
				c.t.Errorf("got %s and %v, want %s", got, err, want)
			}
		}
		check(follower.AddNonvoter(ctx, "n9", "n9"), "{n9 n9 false}")
		check(follower.AddNonvoter(ctx, "n9", "elsewhere"), "{n9 elsewhere false}")
		check(follower.Demote(ctx, other), fmt.Sprintf("{%s %s false}", other, other))
		check(follower.Promote(ctx, other), fmt.Sprintf("{%s %s true}", other, other))
		check(follower.Promote(ctx, other), fmt.Sprintf("{%s %s true}", other, other))
		check(follower.AddNonvoter(ctx, other, other), fmt.Sprintf("{%s %s true}", other, other)) // keeps its vote
		check(follower.Remove(ctx, "n9"), "")
		check(follower.Remove(ctx, "n9"), "")
		if err := follower.Promote(ctx, "n9"); !errors.Is(err, store.ErrInvalid) {
			c.t.Errorf("got %v, want that a stranger cannot vote", err)
		}
		check(follower.TransferLeadership(ctx, follower.NodeID()), "")
		if now, _ := c.leader(-1); now != (i+1)%3 {
			c.t.Errorf("got n%d leading, want %s", now, follower.NodeID())
		}
	})
}
