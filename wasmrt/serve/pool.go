package serve

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"copepod/wasmrt"
)

// pool is the instances of one server. It makes them as they are wanted and gives
// them up when they have been idle for long.
type pool struct {
	image    *wasmrt.Image
	most     int
	queue    int
	patience time.Duration
	keep     time.Duration

	mu      sync.Mutex // guards what follows
	total   int        // instances: idle, in use, and being made
	idle    []resting  // the longest first
	waiting list.List  // of chan turn, each with room for one
	timer   *time.Timer
	closed  bool
}

type resting struct {
	clone *wasmrt.Clone
	since time.Time
}

// turn is what a request waits for: an instance, or, if that is nil, leave to
// make one.
type turn struct{ clone *wasmrt.Clone }

// refusal is why a request gets no instance.
type refusal struct{ reason string }

func (r *refusal) Error() string { return r.reason }

var errClosed = errors.New("the server is closed")

func newPool(image *wasmrt.Image, l Limits, memory int64) *pool {
	p := &pool{image: image, most: l.Instances, queue: l.Queue, patience: l.QueueTime, keep: l.Idle}
	if size := image.Size(); memory > 0 && size > 0 {
		p.most = int(max(min(int64(p.most), memory/size), 1))
	}
	return p
}

// get gives an instance for one request. put has to follow.
func (p *pool) get(ctx context.Context) (*wasmrt.Clone, error) {
	p.mu.Lock()
	switch n := len(p.idle); {
	case p.closed:
		p.mu.Unlock()
		return nil, errClosed
	case n > 0:
		c := p.idle[n-1].clone
		p.idle[n-1] = resting{}
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	case p.total < p.most:
		p.total++
		p.mu.Unlock()
		return p.make(ctx)
	case p.waiting.Len() >= p.queue:
		p.mu.Unlock()
		return nil, &refusal{fmt.Sprintf("%d requests wait already", p.queue)}
	}
	mine := make(chan turn, 1)
	e := p.waiting.PushBack(mine)
	p.mu.Unlock()
	return p.wait(ctx, e, mine)
}

func (p *pool) wait(ctx context.Context, e *list.Element, mine chan turn) (*wasmrt.Clone, error) {
	patience := time.NewTimer(p.patience)
	defer patience.Stop()
	var err error
	select {
	case t, ok := <-mine:
		return p.take(ctx, t, ok)
	case <-ctx.Done():
		err = ctx.Err()
	case <-patience.C:
		err = &refusal{fmt.Sprintf("no instance was free for %v", p.patience)}
	}
	p.mu.Lock()
	select {
	case t, ok := <-mine: // it came at the last moment
		p.mu.Unlock()
		return p.take(ctx, t, ok)
	default:
		p.waiting.Remove(e)
		p.mu.Unlock()
		return nil, err
	}
}

func (p *pool) take(ctx context.Context, t turn, ok bool) (*wasmrt.Clone, error) {
	switch {
	case !ok:
		return nil, errClosed
	case t.clone != nil:
		return t.clone, nil
	}
	return p.make(ctx)
}

// make makes an instance that total counts already.
func (p *pool) make(ctx context.Context) (*wasmrt.Clone, error) {
	c, err := p.image.Clone(ctx)
	if err == nil {
		return c, nil
	}
	p.gone()
	if _, ok := errors.AsType[*wasmrt.MemoryError](err); ok {
		return nil, &refusal{err.Error()}
	}
	return nil, err
}

// put gives an instance back; again says if it can serve another request.
func (p *pool) put(c *wasmrt.Clone, again bool) {
	if !again {
		p.gone()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		p.total--
		c.Close()
		return
	}
	if p.next(turn{c}) {
		return
	}
	p.idle = append(p.idle, resting{c, time.Now()})
	if p.timer == nil {
		p.timer = time.AfterFunc(p.keep, p.shrink)
	} else if len(p.idle) == 1 {
		p.timer.Reset(p.keep)
	}
}

// gone takes an instance off the count; who waits may make another.
func (p *pool) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.next(turn{}) {
		p.total--
	}
}

// next gives the request that has waited for the longest its turn. The caller
// holds p.mu.
func (p *pool) next(t turn) bool {
	if p.waiting.Len() == 0 {
		return false
	}
	p.waiting.Remove(p.waiting.Front()).(chan turn) <- t
	return true
}

// shrink gives up instances that have rested for long, and comes again while
// there are any.
func (p *pool) shrink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	n := 0
	for ; n < len(p.idle) && now.Sub(p.idle[n].since) >= p.keep; n++ {
		p.idle[n].clone.Close()
	}
	p.total -= n
	p.idle = append(p.idle[:0:0], p.idle[n:]...)
	if len(p.idle) > 0 && !p.closed {
		p.timer.Reset(p.keep - now.Sub(p.idle[0].since))
	}
}

// close frees the instances that rest; those in use go as they are put back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, r := range p.idle {
		r.clone.Close()
	}
	p.total -= len(p.idle)
	p.idle = nil
	for e := p.waiting.Front(); e != nil; e = e.Next() {
		close(e.Value.(chan turn))
	}
	p.waiting.Init()
}
