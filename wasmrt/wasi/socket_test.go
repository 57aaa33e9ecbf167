package wasi

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Every kind of connection that a guest can be given must look the same to it.
func eachTransport(t *testing.T, test func(t *testing.T, g *guest, peer net.Conn, fd uint64)) {
	for name, pair := range map[string]func(t *testing.T) (net.Listener, net.Conn){
		"kernel socket": func(t *testing.T) (net.Listener, net.Conn) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return l, c
		},
		"pollable pipe": func(t *testing.T) (net.Listener, net.Conn) {
			a, b := newPollPipe()
			return &oneListener{conn: b}, a
		},
		"plain pipe": func(t *testing.T) (net.Listener, net.Conn) {
			l := newPipeListener()
			a, b := net.Pipe()
			go func() {
				select {
				case l.queue <- b:
				case <-l.closed:
				}
			}()
			return l, a
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, peer := pair(t)
			g := newGuest(t, Config{Listeners: []Listener{{Listener: l}}})
			t.Cleanup(func() { peer.Close() })
			g.ok("fd_fdstat_set_flags", 3, 0)
			out := g.room(4)
			g.ok("sock_accept", 3, 0, out)
			test(t, g, peer, g.u32(out))
		})
	}
}

func TestConnectionsCarryBytesBothWays(t *testing.T) {
	eachTransport(t, func(t *testing.T, g *guest, peer net.Conn, fd uint64) {
		big := strings.Repeat("0123456789abcdef", 1<<14) // 256 KiB: more than any buffer on the way
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.WriteString(peer, big)
			b := make([]byte, len(big))
			if _, err := io.ReadFull(peer, b); err != nil || string(b) != big {
				t.Errorf("the peer got %d bytes, %v", len(b), err)
			}
			io.WriteString(peer, "tail")
			peer.Close()
		}()
		var got bytes.Buffer
		for got.Len() < len(big) {
			keep := g.next
			text, e := g.read(fd, 10_000)
			if e != success || text == "" {
				t.Fatalf("read: got %d bytes, %v, after %d", len(text), e, got.Len())
			}
			got.WriteString(text)
			g.next = keep
		}
		if got.String() != big {
			t.Error("the bytes differ")
		}
		if n, e := g.write(fd, big); n != uint64(len(big)) || e != success {
			t.Errorf("write: got %d, %v, want all", n, e)
		}
		buf, out, flags := g.room(16), g.room(4), g.room(2)
		iov, n := g.iovec([2]uint64{buf, 2}, [2]uint64{buf + 2, 2})
		g.ok("sock_recv", fd, iov, n, recvWaitAll, out, flags)
		if got := g.bytes(buf, g.u32(out)); got != "tail" {
			t.Errorf("got %q, want tail", got)
		}
		g.ok("sock_recv", fd, iov, n, 0, out, flags)
		if got := g.u32(out); got != 0 {
			t.Errorf("at the end: got %d bytes", got)
		}
		soon(t, "the peer", done)
	})
}

func TestNonBlockingConnectionsSayAgain(t *testing.T) {
	eachTransport(t, func(t *testing.T, g *guest, peer net.Conn, fd uint64) {
		g.ok("fd_fdstat_set_flags", fd, uint64(flagNonblock))
		if _, e := g.read(fd, 10); e != errAgain {
			t.Errorf("read: got %v, want again", e)
		}
		go io.WriteString(peer, "hello")
		if fired, e := g.poll(subscribe(1, eventFdRead, fd)); e != success || len(fired) != 1 {
			t.Errorf("poll: got %v, %v", fired, e)
		}
		if got, e := g.read(fd, 10); got != "hello" || e != success {
			t.Errorf("read: got %q, %v", got, e)
		}
		// Nobody reads: writing must end in "again" and not in a wait.
		sent := uint64(0)
		p := g.put(bytes.Repeat([]byte{'x'}, 1<<16))
		iov, one := g.iovec([2]uint64{p, 1 << 16})
		out := g.room(4)
		var e errno
		for e = success; e == success && sent < 64<<20; sent += g.u32(out) {
			e = g.call("fd_write", fd, iov, one, out)
			if e != success {
				break
			}
		}
		if e != errAgain {
			t.Fatalf("write: got %v after %d bytes, want again", e, sent)
		}
		received := make(chan int64)
		go func() {
			n, _ := io.Copy(io.Discard, io.LimitReader(peer, int64(sent)))
			received <- n
		}()
		if fired, e := g.poll(subscribe(2, eventFdWrite, fd)); e != success || len(fired) != 1 {
			t.Errorf("poll for room: got %v, %v", fired, e)
		}
		if n := <-received; n != int64(sent) {
			t.Errorf("the peer got %d bytes, want %d", n, sent)
		}
	})
}

func TestPeekLeavesTheBytes(t *testing.T) {
	eachTransport(t, func(t *testing.T, g *guest, peer net.Conn, fd uint64) {
		go io.WriteString(peer, "abc")
		buf, out, flags := g.room(16), g.room(4), g.room(2)
		iov, n := g.iovec([2]uint64{buf, 16})
		for range 2 {
			g.ok("sock_recv", fd, iov, n, recvPeek, out, flags)
			if got := g.bytes(buf, g.u32(out)); got != "abc" {
				t.Errorf("peek: got %q, want abc", got)
			}
		}
		if fired, _ := g.poll(subscribe(1, eventFdRead, fd)); len(fired) != 1 {
			t.Error("what was peeked at is not ready")
		}
		for _, want := range []string{"a", "bc"} {
			if got, e := g.read(fd, uint64(len(want))); got != want || e != success {
				t.Errorf("read: got %q, %v, want %q", got, e, want)
			}
		}
		g.want(errNotSupported, "sock_recv", fd, iov, n, 4, out, flags)
		g.want(errNotSupported, "sock_send", fd, iov, n, 1, out)
	})
}

func TestShutdownEndsOneDirection(t *testing.T) {
	eachTransport(t, func(t *testing.T, g *guest, peer net.Conn, fd uint64) {
		g.want(errInvalid, "sock_shutdown", fd, 0)
		g.want(errInvalid, "sock_shutdown", fd, 4)
		g.ok("sock_shutdown", fd, shutdownRead)
		if got, e := g.read(fd, 1); got != "" || e != success {
			t.Errorf("read after shutdown: got %q, %v, want the end", got, e)
		}
		switch e := g.call("sock_shutdown", fd, shutdownSend); e {
		case success:
			if b, err := io.ReadAll(peer); len(b) != 0 || err != nil {
				t.Errorf("the peer got %q, %v, want the end", b, err)
			}
			if _, e := g.write(fd, "x"); e != errPipe {
				t.Errorf("write after shutdown: got %v, want pipe", e)
			}
		case errNotSupported: // a plain pipe has no half to close
		default:
			t.Errorf("got %v", e)
		}
	})
}

func TestWritingToAGonePeerIsAnError(t *testing.T) {
	eachTransport(t, func(t *testing.T, g *guest, peer net.Conn, fd uint64) {
		peer.Close()
		for range 1000 {
			if _, e := g.write(fd, "x"); e != success {
				if e != errPipe && e != errConnReset {
					t.Errorf("got %v, want pipe or connreset", e)
				}
				return
			}
			g.poll(subscribe(1, eventFdWrite, fd))
		}
		t.Error("writing never failed")
	})
}

func TestSocketCallsOnOtherThingsAreRefused(t *testing.T) {
	g, dir := scratch(t)
	fill(t, dir, "f")
	fd := g.mustOpen(rootFD, "f", 0, rightRead, 0)
	out := g.room(8)
	iov, n := g.iovec([2]uint64{out, 1})
	for _, on := range []uint64{0, rootFD, fd} {
		g.want(errNotSocket, "sock_accept", on, 0, out)
		g.want(errNotSocket, "sock_recv", on, iov, n, 0, out, out)
		g.want(errNotSocket, "sock_send", on, iov, n, 0, out)
		g.want(errNotSocket, "sock_shutdown", on, 1)
	}
	g.want(errBadFD, "sock_shutdown", 99, 1)
	g.want(errBadFD, "sock_accept", 99, 0, out)
	g.want(errInvalid, "sock_accept", rootFD, uint64(flagAppend), out)
}

func TestAcceptTakesNoConnectionThatHasNoDescriptor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	fill(t, dir, "f")
	g := newGuest(t, Config{Listeners: []Listener{{Listener: l}}, Mounts: []Mount{{Guest: "/", Host: dir}}})
	p, n := g.text("f")
	out := g.room(4)
	for g.call("path_open", 4, 0, p, n, 0, 0, 0, 0, out) == success {
	}
	g.want(errTooManyFiles, "sock_accept", 3, 0, out)
	g.ok("fd_close", 10)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g.poll(subscribe(1, eventFdRead, 3))
	g.ok("sock_accept", 3, uint64(flagNonblock), out)
	if got := g.u32(out); got != 10 {
		t.Errorf("got descriptor %d, want 10", got)
	}
}

// oneListener has one connection to give.
type oneListener struct {
	mu   sync.Mutex
	conn net.Conn
}

func (l *oneListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conn
	if l.conn = nil; c == nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return pipeAddr{} }
func (l *oneListener) Poll(Direction, func()) (bool, func()) {
	return true, nil
}

// pollPipe is a memory pipe that is Pollable and has no TryRead or TryWrite.
type pollPipe struct {
	net.Conn // for the rest of the interface
	in, out  *pollFlow
}

type pollFlow struct {
	mu    sync.Mutex
	data  []byte
	ended bool
	wakes map[*func()]struct{}
}

const pollFlowRoom = 16 << 10

func newPollPipe() (net.Conn, net.Conn) {
	a, b := &pollFlow{wakes: map[*func()]struct{}{}}, &pollFlow{wakes: map[*func()]struct{}{}}
	x, y := net.Pipe()
	return &pollPipe{Conn: x, in: a, out: b}, &pollPipe{Conn: y, in: b, out: a}
}

func (f *pollFlow) change(do func()) {
	f.mu.Lock()
	do()
	wakes := f.wakes
	f.wakes = map[*func()]struct{}{}
	f.mu.Unlock()
	for w := range wakes {
		(*w)()
	}
}

func (f *pollFlow) ready(dir Direction) bool {
	if dir == Read {
		return len(f.data) > 0 || f.ended
	}
	return len(f.data)+pipeBuffer <= pollFlowRoom || f.ended
}

func (f *pollFlow) poll(dir Direction, wake func()) (bool, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ready(dir) {
		return true, nil
	}
	key := &wake
	f.wakes[key] = struct{}{}
	return false, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.wakes, key)
	}
}

func (f *pollFlow) wait(dir Direction) {
	for {
		woken := make(chan struct{})
		if ready, _ := f.poll(dir, func() { close(woken) }); ready {
			return
		}
		<-woken
	}
}

func (p *pollPipe) Poll(dir Direction, wake func()) (bool, func()) {
	if dir == Read {
		return p.in.poll(dir, wake)
	}
	return p.out.poll(dir, wake)
}

func (p *pollPipe) Read(b []byte) (n int, err error) {
	p.in.wait(Read)
	p.in.change(func() {
		n = copy(b, p.in.data)
		p.in.data = p.in.data[n:]
		if n == 0 {
			err = io.EOF
		}
	})
	return n, err
}

func (p *pollPipe) Write(b []byte) (n int, err error) {
	for len(b) > n && err == nil {
		p.out.wait(Write)
		p.out.change(func() {
			if p.out.ended {
				err = syscall.EPIPE
				return
			}
			k := min(len(b)-n, pipeBuffer)
			p.out.data = append(p.out.data, b[n:n+k]...)
			n += k
		})
	}
	return n, err
}

func (p *pollPipe) CloseWrite() error {
	p.out.change(func() { p.out.ended = true })
	return nil
}

func (p *pollPipe) Close() error {
	p.in.change(func() { p.in.ended = true })
	return p.CloseWrite()
}
