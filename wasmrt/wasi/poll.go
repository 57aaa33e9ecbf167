package wasi

import (
	"encoding/binary"
	"time"
)

// Layout of preview1's subscription and event.
const (
	subscriptionSize = 48
	eventSize        = 32

	eventClock   = 0
	eventFdRead  = 1
	eventFdWrite = 2

	clockAbsolute = 1
)

// pollOneoff waits until at least one subscription fires and reports all that
// did. It parks the goroutine meanwhile.
func pollOneoff(s *System, f frame) errno {
	n := f.u32(2)
	if n == 0 || n > maxSubscriptions {
		return errInvalid
	}
	subs, ok := f.mem.view(f.u32(0), n*subscriptionSize)
	if !ok {
		return errFault
	}
	events, ok := f.mem.view(f.u32(1), n*eventSize)
	if !ok {
		return errFault
	}
	p := poll{System: s, subs: subs}
	if e := p.clocks(); e != success {
		return e
	}
	for {
		fired, e := p.look(events)
		if e != success {
			return e
		}
		if fired > 0 {
			return f.mem.putU32(f.u32(3), fired)
		}
	}
}

// poll is one poll_oneoff under way.
type poll struct {
	*System
	subs  []byte
	since time.Time // when the relative clocks began
	next  time.Time // the earliest clock
}

// subscription is one of p.subs.
type subscription []byte

func (b subscription) userdata() uint64 { return binary.LittleEndian.Uint64(b) }
func (b subscription) event() byte      { return b[8] }
func (b subscription) fd() uint32       { return binary.LittleEndian.Uint32(b[16:]) }
func (b subscription) clock() uint32    { return binary.LittleEndian.Uint32(b[16:]) }
func (b subscription) timeout() uint64  { return binary.LittleEndian.Uint64(b[24:]) }
func (b subscription) absolute() bool {
	return binary.LittleEndian.Uint16(b[40:])&clockAbsolute != 0
}

func (p *poll) each(do func(subscription) errno) errno {
	for b := p.subs; len(b) > 0; b = b[subscriptionSize:] {
		if e := do(subscription(b[:subscriptionSize])); e != success {
			return e
		}
	}
	return success
}

// clocks finds the earliest deadline, once: looking again must not move it.
func (p *poll) clocks() errno {
	p.since = time.Now()
	return p.each(func(b subscription) errno {
		if b.event() != eventClock {
			return success
		}
		at, e := p.deadline(b.clock(), b.timeout(), b.absolute())
		if e == success && (p.next.IsZero() || at.Before(p.next)) {
			p.next = at
		}
		return e
	})
}

// look reports what is ready now; if nothing is, it waits for something to
// change and reports nothing, unless a clock fired.
func (p *poll) look(events []byte) (uint32, errno) {
	out := eventWriter(events)
	p.cancels = p.cancels[:0]
	defer p.cancel()
	e := p.each(func(b subscription) errno {
		if b.event() == eventClock {
			return success
		}
		ready, e := p.ready(b, len(out) == len(events))
		if ready && e == success {
			out.put(b, 1)
		}
		return e
	})
	if e != success {
		return 0, e
	}
	if fired := len(events) - len(out); fired > 0 {
		p.expired(&out, time.Now())
		return uint32(len(events)-len(out)) / eventSize, success
	}
	if p.wait(p.next) {
		p.expired(&out, time.Now())
	}
	return uint32(len(events)-len(out)) / eventSize, success
}

// ready asks one descriptor. It leaves a wake-up behind only while nothing
// fired yet, since otherwise nobody is going to wait.
func (p *poll) ready(b subscription, mayWait bool) (bool, errno) {
	d, e := p.table.get(b.fd())
	if e != success {
		return false, e
	}
	target, ok := d.file.(Pollable)
	if !ok {
		return false, errBadFD
	}
	var dir Direction
	switch b.event() {
	case eventFdRead:
		dir = Read
	case eventFdWrite:
		dir = Write
	default:
		return false, errInvalid
	}
	ready, cancel := target.Poll(dir, p.notify)
	if cancel == nil {
		return ready, success
	}
	if mayWait {
		p.cancels = append(p.cancels, cancel)
	} else {
		cancel()
	}
	return ready, success
}

func (p *poll) cancel() {
	for i, cancel := range p.cancels {
		cancel()
		p.cancels[i] = nil
	}
	p.cancels = p.cancels[:0]
}

// expired reports the clocks that have passed.
func (p *poll) expired(out *eventWriter, now time.Time) {
	p.each(func(b subscription) errno {
		if b.event() != eventClock {
			return success
		}
		at := p.since.Add(time.Duration(min(b.timeout(), 1<<63-1)))
		if b.absolute() {
			at, _ = p.deadline(b.clock(), b.timeout(), true) // clocks found it good
		}
		if !at.After(now) {
			out.put(b, 0)
		}
		return success
	})
}

// eventWriter is the room left for events.
type eventWriter []byte

func (w *eventWriter) put(b subscription, bytes uint64) {
	e := (*w)[:eventSize]
	*w = (*w)[eventSize:]
	clear(e)
	binary.LittleEndian.PutUint64(e, b.userdata())
	e[10] = b.event()
	binary.LittleEndian.PutUint64(e[16:], bytes)
}
