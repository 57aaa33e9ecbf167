package wasi

import "time"

// Direction is what one waits for.
type Direction uint8

const (
	Read  Direction = iota // bytes, the end, or on a listener a connection
	Write                  // room
)

// Pollable is a net.Conn or net.Listener that tells of its readiness without a
// goroutine. Connections that are not Pollable are watched through their
// syscall.RawConn, or else read ahead by a goroutine.
//
// A connection that is ready for Read returns from Read without waiting; one
// that is ready for Write takes a Write of up to 4 KiB without waiting, as
// POSIX promises of pipes (PIPE_BUF). The end and every error count as ready.
// A connection may also have TryRead and TryWrite, and a listener TryAccept:
// like Read, Write and Accept, but instead of waiting they return an error
// that is syscall.EAGAIN.
type Pollable interface {
	// Poll reports whether dir is ready now. If not, wake is called once it may
	// be: at most once, from any goroutine, and not after cancel returned.
	// cancel is nil when ready is true.
	Poll(dir Direction, wake func()) (ready bool, cancel func())
}

// pipeBuffer is how much a Pollable that is ready for Write takes unseen.
const pipeBuffer = 4 << 10

// await parks the guest until p is ready, or for as long as the descriptor's
// owner is willing to wait; it reports whether that was too long.
func (s *System) await(p Pollable, dir Direction, patience time.Duration) (late bool) {
	ready, cancel := p.Poll(dir, s.notify)
	if ready {
		return false
	}
	if cancel != nil {
		defer cancel()
	}
	deadline := noDeadline
	if patience > 0 {
		deadline = time.Now().Add(patience)
	}
	return s.wait(deadline)
}
