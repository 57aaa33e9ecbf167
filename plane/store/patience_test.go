package store

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestEntriesForAMemberThatIsAwayAreSentWhenItsHeartbeatsReachItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatience()
		down := errors.New("down")
		var away atomic.Bool
		away.Store(true)
		var sent atomic.Int64
		send := func() error {
			sent.Add(1)
			if away.Load() {
				return down
			}
			return nil
		}
		heartbeat, entries := &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 7, PrevLogTerm: 1}
		done := make(chan error, 1)
		go func() { done <- p.append("b", entries, &raft.AppendEntriesResponse{}, send) }()
		for range 20 { // a second of silence
			time.Sleep(50 * time.Millisecond)
			if err := p.append("b", heartbeat, &raft.AppendEntriesResponse{}, send); !errors.Is(err, down) {
				t.Fatalf("got %v of a heartbeat, want it to fail at once", err)
			}
		}
		away.Store(false)
		if err := p.append("b", heartbeat, &raft.AppendEntriesResponse{}, send); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || sent.Load() != 23 {
			t.Errorf("got %v after %d sends, want success with the 23rd", err, sent.Load())
		}
	})
}

func TestAStoreThatStopsWaitsForNobodyWhoIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatience()
		down := errors.New("down")
		began := time.Now()
		time.AfterFunc(time.Second, p.end)
		entries := &raft.AppendEntriesRequest{Term: 1, LeaderCommitIndex: 3}
		err := p.append("b", entries, &raft.AppendEntriesResponse{}, func() error { return down })
		if !errors.Is(err, down) || time.Since(began) != time.Second {
			t.Errorf("got %v after %v, want the failure when the store stops", err, time.Since(began))
		}
	})
}
