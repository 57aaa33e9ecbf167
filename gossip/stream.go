package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Limits on streams that others open. Strangers can fill them, and then members
// exchange whole states no more; packets, which carry probes and news, go on.
const (
	maxStreams  = 128 // at once
	maxBySource = 16  // at once from one address
	maxLarge    = 8   // at once that announce more than smallFrame
	smallFrame  = 64 << 10
	// memberBytes is more than one member takes in an exchange of states.
	memberBytes = 640

	askContext    = "copepod gossip ask 1"
	answerContext = "copepod gossip answer 1"
)

// ErrNoAnswer is returned by Join when the peer hung up without a word: that is
// what a member does that cannot open what it is sent.
var ErrNoAnswer = errors.New("the peer closes without an answer: its gossip keys differ, or it is overloaded; its log says which")

// stream is one connection in memberlist's hands. Each side sends one frame:
// the version, the length of the rest in four bytes, big endian, and the seal.
type stream struct {
	net.Conn
	guard    *guard
	addr     string     // as it was dialled; "" when it came to us
	source   netip.Addr // of an incoming one
	plain    io.Reader  // what the other side said, once it is read
	released sync.Once
}

func (g *guard) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (g *guard) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if err := g.enter(); err != nil {
		return nil, err
	}
	conn, err := g.inner.DialAddressTimeout(to, timeout)
	if err != nil {
		g.note(to.Addr, err)
		g.calls.Done()
		return nil, err
	}
	s := &stream{Conn: conn, guard: g, addr: to.Addr}
	if err := g.hold(s); err != nil {
		_ = conn.Close()
		g.calls.Done()
		return nil, err
	}
	return s, nil
}

// hold makes Shutdown close s.
func (g *guard) hold(s *stream) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errStopped
	}
	g.open[s] = struct{}{}
	return nil
}

// Close is called by memberlist on every stream, as the last thing it does.
func (s *stream) Close() error {
	err := s.Conn.Close()
	s.released.Do(func() {
		s.guard.release(s)
		s.guard.calls.Done()
	})
	return err
}

func (g *guard) release(s *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, s)
	if s.addr != "" {
		return
	}
	g.inward--
	if g.from[s.source]--; g.from[s.source] == 0 {
		delete(g.from, s.source)
	}
}

// Write sends b as a frame; memberlist writes once.
func (s *stream) Write(b []byte) (int, error) {
	context := answerContext
	if s.addr != "" {
		context = askContext
	}
	frame := make([]byte, 5, 5+sealOverhead+len(b))
	frame[0] = sealVersion
	binary.BigEndian.PutUint32(frame[1:], uint32(sealOverhead+len(b)))
	if _, err := s.Conn.Write(s.guard.ring.seal(frame, b, context)); err != nil {
		s.guard.note(s.addr, err)
		return 0, err
	}
	return len(b), nil
}

// Read gives what the other side sealed; of a stream that came to us it has
// been read already.
func (s *stream) Read(b []byte) (int, error) {
	if s.plain == nil {
		plain, err := s.guard.readFrame(s.Conn, answerContext)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrNoAnswer
			}
			s.guard.note(s.addr, err)
			return 0, err
		}
		s.plain = bytes.NewReader(plain)
	}
	return s.plain.Read(b)
}

// readFrame reads, opens and checks one frame. Memory grows with what arrives,
// not with what the length announces.
func (g *guard) readFrame(r io.Reader, context string) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return nil, err
	}
	if head[0] != sealVersion {
		return nil, fmt.Errorf("stream is not sealed: %w", errSeal)
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[1:]))
	if most := int64(smallFrame + memberBytes*g.members); size > most {
		return nil, fmt.Errorf("stream of %d bytes, more than %d: %w", size, most, errTooLarge)
	}
	if size > smallFrame {
		select {
		case g.large <- struct{}{}:
			defer func() { <-g.large }()
		case <-g.done:
			return nil, errStopped
		default:
			return nil, errBusy
		}
	}
	var sealed bytes.Buffer
	if _, err := io.CopyN(&sealed, r, size); err != nil {
		return nil, fmt.Errorf("frame of %d bytes: %w", size, err)
	}
	plain, err := g.ring.open(sealed.Bytes(), context)
	if err != nil {
		return nil, fmt.Errorf("stream %w", err)
	}
	all, err := checkStream(plain, g.members)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		g.watch.heard(n)
	}
	return plain, nil
}

var (
	errTooLarge = errors.New("too large")
	errBusy     = errors.New("too many streams")
)

func (g *guard) openStreams() {
	for {
		select {
		case conn := <-g.inner.StreamCh():
			if s := g.admit(conn); s != nil {
				g.loops.Go(func() { g.openStream(s) })
			}
		case <-g.done:
			return
		}
	}
}

// admit takes conn in, or closes it and returns nil.
func (g *guard) admit(conn net.Conn) *stream {
	s := &stream{Conn: conn, guard: g}
	if a, err := netip.ParseAddrPort(nameOf(conn.RemoteAddr())); err == nil {
		s.source = a.Addr().Unmap()
	}
	g.mu.Lock()
	full := g.closed || g.inward >= maxStreams || g.from[s.source] >= maxBySource
	if !full {
		g.inward++
		g.from[s.source]++
		g.open[s] = struct{}{}
	}
	g.mu.Unlock()
	if full {
		_ = conn.Close()
		g.report.refuse(RefusedBusy, nameOf(conn.RemoteAddr()), errBusy)
		return nil
	}
	return s
}

// openStream reads what the other side asks, and only then lets memberlist know
// that there is a stream.
func (g *guard) openStream(s *stream) {
	from := nameOf(s.Conn.RemoteAddr())
	_ = s.Conn.SetDeadline(time.Now().Add(g.patience)) // fails only on a closed one, and so does Read
	plain, err := g.readFrame(s.Conn, askContext)
	if err == nil {
		s.plain = bytes.NewReader(plain)
		if err = g.enter(); err == nil {
			select {
			case g.streams <- s:
				return // memberlist closes it
			case <-g.done:
				g.calls.Done()
				err = errStopped
			}
		}
	}
	_ = s.Conn.Close()
	g.release(s)
	if why, ok := reasonOf(err); ok {
		g.report.refuse(why, from, err)
	}
}

// reasonOf says whether err is the other side's fault, and which.
func reasonOf(err error) (Reason, bool) {
	var timeout net.Error
	switch {
	case errors.Is(err, errMalformed):
		return RefusedMalformed, true
	case errors.Is(err, errSeal):
		return RefusedKey, true
	case errors.Is(err, errTooLarge):
		return RefusedSize, true
	case errors.Is(err, errBusy):
		return RefusedBusy, true
	case errors.As(err, &timeout) && timeout.Timeout():
		return RefusedSlow, true
	}
	return "", false // it hung up, or we did
}

// trace makes the guard remember why dialling addr goes wrong, as memberlist
// turns errors into text. The returned function ends it.
func (g *guard) trace(addr string) func() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials[addr] = nil
	return func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		err := g.dials[addr]
		delete(g.dials, addr)
		return err
	}
}

func (g *guard) note(addr string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, watched := g.dials[addr]; watched {
		g.dials[addr] = err
	}
}
