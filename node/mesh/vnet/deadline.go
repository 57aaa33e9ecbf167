package vnet

import (
	"sync"
	"time"
)

// deadline is a moment that can be moved while others wait for it: net.Conn
// promises that setting one reaches reads and writes that already wait.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	ch    chan struct{} // closes when the moment has passed; replaced only then
	gone  bool          // ch is closed
}

// passed closes at the deadline.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ch == nil {
		d.ch = make(chan struct{})
	}
	return d.ch
}

// over says whether the deadline has passed.
func (d *deadline) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone
}

// set moves the deadline; the zero time takes it away.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.ch == nil || d.gone {
		d.ch, d.gone = make(chan struct{}), false
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		close(d.ch)
		d.gone = true
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer && !d.gone {
			close(d.ch)
			d.gone = true
		}
	})
	d.timer = timer
}
