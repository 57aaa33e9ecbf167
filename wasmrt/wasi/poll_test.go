package wasi

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// subscribe writes one subscription's bytes.
func subscribe(userdata uint64, event byte, fd uint64) []byte {
	b := make([]byte, subscriptionSize)
	binary.LittleEndian.PutUint64(b, userdata)
	b[8] = event
	binary.LittleEndian.PutUint32(b[16:], uint32(fd))
	return b
}

func timer(userdata uint64, clock uint32, timeout time.Duration, absolute bool) []byte {
	b := subscribe(userdata, eventClock, uint64(clock))
	binary.LittleEndian.PutUint64(b[24:], uint64(timeout))
	if absolute {
		b[40] = clockAbsolute
	}
	return b
}

// poll is poll_oneoff; it returns the userdata of what fired.
func (g *guest) poll(subs ...[]byte) (fired []uint64, e errno) {
	g.t.Helper()
	var all []byte
	for _, s := range subs {
		all = append(all, s...)
	}
	events, out := g.room(uint32(len(subs))*eventSize), g.room(4)
	e = g.call("poll_oneoff", g.put(all), events, uint64(len(subs)), out)
	for n := range g.u32(out) {
		at := events + n*eventSize
		fired = append(fired, g.u64(at))
		if got := errno(g.u32(at+8) & 0xffff); got != success {
			g.t.Errorf("event of %d: got error %v", g.u64(at), got)
		}
	}
	return fired, e
}

func TestPollWaitsForTheEarliestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, Config{})
		begin := time.Now()
		fired, e := g.poll(timer(1, clockMonotonic, time.Hour, false), timer(2, clockRealtime, time.Minute, false))
		if e != success || len(fired) != 1 || fired[0] != 2 {
			t.Errorf("got %v, %v, want only 2", fired, e)
		}
		if got := time.Since(begin); got != time.Minute {
			t.Errorf("waited %v, want 1m", got)
		}
		now := time.Now()
		fired, e = g.poll(
			timer(3, clockRealtime, time.Duration(now.Add(time.Second).UnixNano()), true),
			timer(4, clockMonotonic, 2*time.Second, false), timer(5, clockMonotonic, time.Second, false))
		if e != success || len(fired) != 2 || fired[0] != 3 || fired[1] != 5 {
			t.Errorf("got %v, %v, want 3 and 5", fired, e)
		}
		out := g.room(8)
		g.ok("clock_time_get", clockMonotonic, 0, out)
		at := time.Duration(g.u64(out)) + time.Minute
		begin = time.Now()
		if fired, e = g.poll(timer(6, clockMonotonic, at, true)); e != success || len(fired) != 1 {
			t.Errorf("got %v, %v", fired, e)
		}
		if got := time.Since(begin).Round(time.Microsecond); got != time.Minute {
			t.Errorf("waited %v, want 1m", got)
		}
		if fired, e = g.poll(timer(7, clockMonotonic, 1, true), timer(8, clockRealtime, 1, true)); e != success || len(fired) != 2 {
			t.Errorf("times long past: got %v, %v", fired, e)
		}
	})
}

func TestPollRefusesWhatItCannotWaitFor(t *testing.T) {
	g, _ := scratch(t)
	out := g.room(64)
	g.want(errInvalid, "poll_oneoff", 0, 0, 0, out)
	g.want(errInvalid, "poll_oneoff", 0, 0, maxSubscriptions+1, out)
	g.want(errFault, "poll_oneoff", guestPages<<16-40, 0, 1, out)
	g.want(errFault, "poll_oneoff", 0, guestPages<<16-16, 1, out)
	for name, sub := range map[string][]byte{
		"a closed descriptor": subscribe(1, eventFdRead, 99),
		"a directory":         subscribe(1, eventFdRead, rootFD),
	} {
		if _, e := g.poll(sub); e != errBadFD {
			t.Errorf("%s: got %v, want badf", name, e)
		}
	}
	for name, sub := range map[string][]byte{
		"an unknown event": subscribe(1, 9, 0),
		"an unknown clock": timer(1, 9, time.Second, false),
		"processor time":   timer(1, 2, time.Second, false),
	} {
		if _, e := g.poll(sub); e != errInvalid {
			t.Errorf("%s: got %v, want inval", name, e)
		}
	}
}

func TestFilesAndOutputAreAlwaysReady(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "f")
	fd := g.mustOpen(rootFD, "f", 0, rightRead|rightWrite, 0)
	fired, e := g.poll(subscribe(1, eventFdRead, fd), subscribe(2, eventFdWrite, fd),
		subscribe(3, eventFdWrite, 1), subscribe(4, eventFdRead, 0), timer(5, clockMonotonic, time.Hour, false))
	if e != success || len(fired) != 4 {
		t.Errorf("got %v, %v, want 1 to 4", fired, e)
	}
}

func TestPollWaitsForStandardInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		g := newGuest(t, Config{Stdin: r})
		if fired, _ := g.poll(subscribe(1, eventFdRead, 0), timer(2, clockMonotonic, time.Second, false)); len(fired) != 1 || fired[0] != 2 {
			t.Errorf("nothing written: got %v, want 2", fired)
		}
		g.ok("fd_fdstat_set_flags", 0, uint64(flagNonblock))
		if _, e := g.read(0, 10); e != errAgain {
			t.Errorf("non-blocking read: got %v, want again", e)
		}
		go func() {
			time.Sleep(time.Minute)
			w.Write([]byte("hello"))
			w.Close()
		}()
		if fired, _ := g.poll(subscribe(1, eventFdRead, 0)); len(fired) != 1 || fired[0] != 1 {
			t.Errorf("got %v, want 1", fired)
		}
		if got, e := g.read(0, 3); got != "hel" || e != success {
			t.Errorf("got %q, %v", got, e)
		}
		if fired, _ := g.poll(subscribe(1, eventFdRead, 0)); len(fired) != 1 {
			t.Error("the rest is not ready")
		}
		if got, e := g.read(0, 10); got != "lo" || e != success {
			t.Errorf("got %q, %v", got, e)
		}
		g.poll(subscribe(1, eventFdRead, 0))
		if got, e := g.read(0, 10); got != "" || e != success {
			t.Errorf("at the end: got %q, %v", got, e)
		}
	})
}

func TestTerminateEndsInputAndListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := io.Pipe()
		l := newPipeListener()
		g := newGuest(t, Config{Stdin: r, Listeners: []Listener{{Name: "http", Listener: l}}})
		go func() {
			time.Sleep(time.Minute)
			g.system.Terminate()
		}()
		if fired, e := g.poll(subscribe(1, eventFdRead, 0)); e != success || len(fired) != 1 {
			t.Errorf("stdin: got %v, %v, want it ready", fired, e)
		}
		if fired, e := g.poll(subscribe(2, eventFdRead, 3)); e != success || len(fired) != 1 {
			t.Errorf("listener: got %v, %v, want it ready", fired, e)
		}
		if got, e := g.read(0, 1); got != "" || e != success {
			t.Errorf("stdin: got %q, %v, want the end", got, e)
		}
		g.want(errInvalid, "sock_accept", 3, 0, g.room(4))
	})
}

func TestInterruptReleasesEveryWait(t *testing.T) {
	for name, wait := range map[string]func(g *guest) uint32{
		"poll on a clock": func(g *guest) uint32 {
			return g.exits("poll_oneoff", g.put(timer(1, clockMonotonic, time.Hour, false)), g.room(32), 1, g.room(4))
		},
		"poll on a listener": func(g *guest) uint32 {
			return g.exits("poll_oneoff", g.put(subscribe(1, eventFdRead, 3)), g.room(32), 1, g.room(4))
		},
		"a blocking read of stdin": func(g *guest) uint32 {
			iov, n := g.iovec([2]uint64{g.room(8), 8})
			return g.exits("fd_read", 0, iov, n, g.room(4))
		},
		"a blocking accept": func(g *guest) uint32 {
			g.ok("fd_fdstat_set_flags", 3, 0)
			return g.exits("sock_accept", 3, 0, g.room(4))
		},
		"the next call": func(g *guest) uint32 {
			time.Sleep(time.Hour)
			return g.exits("sched_yield")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := io.Pipe()
				g := newGuest(t, Config{Stdin: r, Listeners: []Listener{{Listener: newPipeListener()}}})
				time.AfterFunc(time.Minute, g.system.Interrupt)
				if code := wait(g); code != InterruptedCode {
					t.Errorf("got exit code %d, want %d", code, InterruptedCode)
				}
			})
		})
	}
}

// pipeListener accepts memory pipes: neither Pollable nor a kernel socket.
type pipeListener struct {
	queue  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{queue: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.queue <- b:
		return a, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
