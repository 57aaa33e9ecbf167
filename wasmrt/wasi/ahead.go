package wasi

import "sync"

// ahead runs one blocking operation before the guest asks for its result, so
// that the guest can poll for it. The goroutine exists only while an operation
// that the guest asked for is outstanding.
type ahead[T any] struct {
	run   func() (T, error)
	spoil func(T) // gets a result that came after stop; may be nil

	mu      sync.Mutex // guards what follows
	busy    bool
	full    bool
	stopped bool
	value   T
	err     error
	wake    func()
}

// take returns the result that is there, or starts the operation and returns
// errAgain. A failure is given once; the next take tries again.
func (a *ahead[T]) take() (T, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var none T
	switch {
	case a.full:
		v, err := a.value, a.err
		a.full, a.value, a.err = false, none, nil
		return v, err
	case a.stopped:
		return none, errInvalid
	}
	a.start()
	return none, errAgain
}

// start is called with the lock held.
func (a *ahead[T]) start() {
	if a.busy {
		return
	}
	a.busy = true
	go func() {
		v, err := a.run()
		a.mu.Lock()
		a.busy = false
		wake := a.wake
		a.wake = nil
		if a.stopped {
			a.mu.Unlock()
			if err == nil && a.spoil != nil {
				a.spoil(v)
			}
		} else {
			a.full, a.value, a.err = true, v, err
			a.mu.Unlock()
		}
		if wake != nil {
			wake()
		}
	}()
}

// Poll starts the operation if its result is not there.
func (a *ahead[T]) Poll(_ Direction, wake func()) (bool, func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full || a.stopped {
		return true, nil
	}
	a.wake = wake
	a.start()
	return false, a.forget
}

func (a *ahead[T]) forget() {
	a.mu.Lock()
	a.wake = nil
	a.mu.Unlock()
}

// stop makes every later take fail with errInvalid and wakes who waits. What
// the operation brings afterwards is spoiled.
func (a *ahead[T]) stop() {
	a.mu.Lock()
	v, spoil := a.value, a.full && a.err == nil && a.spoil != nil
	var none T
	a.stopped, a.full, a.value = true, false, none
	wake := a.wake
	a.wake = nil
	a.mu.Unlock()
	if spoil {
		a.spoil(v)
	}
	if wake != nil {
		wake()
	}
}
