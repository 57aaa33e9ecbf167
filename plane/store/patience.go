package store

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// awayPatience bounds one wait for a member that is away. Raft doubles its pause
// after each failure, up to 10 s, in which a member that is back hears nothing:
// the fewer failures, the shorter the pause that it meets.
const awayPatience = 30 * time.Second

// patience holds back what Raft sends to a member that does not answer until
// its heartbeats, which go on all the time, reach it again.
type patience struct {
	gone chan struct{} // closed when the store stops
	once sync.Once

	mu   sync.Mutex // guards what follows
	back map[raft.ServerID]chan struct{}
}

func newPatience() *patience {
	return &patience{gone: make(chan struct{}), back: map[raft.ServerID]chan struct{}{}}
}

func (p *patience) end() { p.once.Do(func() { close(p.gone) }) }

// heard says that a member answers.
func (p *patience) heard(id raft.ServerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch, waits := p.back[id]; waits {
		close(ch)
		delete(p.back, id)
	}
}

// await waits until a member was heard; false: it was not.
func (p *patience) await(id raft.ServerID, longest time.Duration) bool {
	p.mu.Lock()
	ch, waits := p.back[id]
	if !waits {
		ch = make(chan struct{})
		p.back[id] = ch
	}
	p.mu.Unlock()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-ch:
		return true
	case <-timer.C:
	case <-p.gone:
	}
	return false
}

// append sends a request of Raft's, once more when the member is back.
func (p *patience) append(id raft.ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, send func() error) error {
	err := send()
	if isHeartbeat(req) {
		if err == nil {
			p.heard(id)
		}
		return err
	}
	if err != nil && p.await(id, awayPatience) {
		*resp = raft.AppendEntriesResponse{}
		return send()
	}
	return err
}

// isHeartbeat tells by what Raft leaves out.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && req.LeaderCommitIndex == 0
}
