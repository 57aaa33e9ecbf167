package wasi

import "time"

const (
	clockRealtime  = 0
	clockMonotonic = 1
)

// noDeadline is a wait that only an event ends.
var noDeadline time.Time

// clockResGet: both clocks count nanoseconds. The clocks of processor time
// answer badf, as in wasmtime.
func clockResGet(_ *System, f frame) errno {
	if f.u32(0) > clockMonotonic {
		return clockUnknown(f.u32(0))
	}
	return f.mem.putU64(f.u32(1), 1)
}

func clockTimeGet(s *System, f frame) errno {
	switch id := f.u32(0); id {
	case clockRealtime:
		return f.mem.putU64(f.u32(2), uint64(time.Now().UnixNano()))
	case clockMonotonic:
		return f.mem.putU64(f.u32(2), s.monotonic())
	default:
		return clockUnknown(id)
	}
}

func clockUnknown(id uint32) errno {
	if id <= 3 { // the process's and the thread's processor time
		return errBadFD
	}
	return errInvalid
}

// monotonic counts from the guest's start, plus one: guests take zero for "no
// time yet".
func (s *System) monotonic() uint64 { return uint64(time.Since(s.started)) + 1 }

// deadline is when a clock subscription fires. A time that cannot be reached
// is as far as a time can be.
func (s *System) deadline(id uint32, timeout uint64, absolute bool) (time.Time, errno) {
	now := time.Now()
	const furthest = uint64(1<<63 - 1)
	switch {
	case id > clockMonotonic:
		return noDeadline, errInvalid
	case !absolute:
		return now.Add(time.Duration(min(timeout, furthest))), success
	case id == clockRealtime:
		left := min(timeout, furthest) - min(uint64(now.UnixNano()), timeout)
		return now.Add(time.Duration(left)), success
	default:
		return s.started.Add(time.Duration(min(timeout, furthest))), success
	}
}
