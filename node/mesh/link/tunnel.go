package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"

	"copepod/node/mesh/vnet"
)

// After the answer both directions carry frames: a big-endian uint16 and, for
// lengths up to chunk, as many bytes. A stream that ends without frameEnd was
// cut: yamux cannot tell an end from the death of a node, and a truncated answer
// must not pass for a whole one.
const (
	chunk      = 32 << 10
	frameEnd   = 0      // no more data: half-close
	frameStop  = 0xFFFE // nobody reads here any more: EPIPE for whoever writes
	frameReset = 0xFFFF // ECONNRESET
)

var errBadFrame = errors.New("a frame that is none")

var chunks = sync.Pool{New: func() any { return new([2 + chunk]byte) }}

// tunnel joins a pod's connection with a stream.
type tunnel struct {
	pod    vnet.Conn
	stream *yamux.Stream
	stats  *counters
	moved  atomic.Bool  // since the session looked last
	ended  atomic.Int32 // directions that have ended well
}

// run carries both directions until they have ended.
func (t *tunnel) run() {
	t.stats.streams.Add(1)
	defer t.stats.streams.Add(-1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := t.send(); err != nil {
			t.abort()
		}
	})
	if err := t.receive(); err != nil {
		t.abort()
	}
	wg.Wait()
	_ = t.pod.Close()
	_ = t.stream.Close()
}

// end takes that one direction has ended well. After the second nothing can come
// any more; until then the other node may still say that it stopped reading, or
// was reset.
func (t *tunnel) end() {
	if t.ended.Add(1) == 2 {
		_ = t.stream.SetReadDeadline(time.Unix(1, 0))
	}
}

// abort ends both directions; whoever waits in one of them wakes up.
func (t *tunnel) abort() {
	t.pod.Reset()
	_ = t.stream.SetDeadline(time.Unix(1, 0))
}

// send carries what the pod writes to the other node.
func (t *tunnel) send() error {
	for {
		t.pod.AwaitRead() // a silent connection holds no buffer
		buf := chunks.Get().(*[2 + chunk]byte)
		n, err := t.pod.Read(buf[2:])
		if n > 0 {
			binary.BigEndian.PutUint16(buf[:], uint16(n)) //nolint:gosec // at most chunk
			t.moved.Store(true)
			_, werr := t.stream.Write(buf[:2+n])
			t.stats.sent.Add(int64(n))
			err = errors.Join(err, werr)
		}
		chunks.Put(buf)
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed): // closed: the other side stopped reading
			err := t.tell(frameEnd)
			if err == nil {
				t.end()
			}
			return err
		default:
			_ = t.stream.SetWriteDeadline(time.Now().Add(time.Second))
			_ = t.tell(frameReset)
			return err
		}
	}
}

func (t *tunnel) tell(frame uint16) error {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], frame)
	_, err := t.stream.Write(b[:])
	return err
}

// receive carries what comes from the other node to the pod.
func (t *tunnel) receive() error {
	var head [2]byte
	deaf := false // the pod reads no more: what comes is dropped
	over := false // the other pod writes no more
	for {
		if _, err := io.ReadFull(t.stream, head[:]); err != nil {
			if t.ended.Load() == 2 {
				return nil
			}
			return fmt.Errorf("the stream was cut: %w", err)
		}
		t.moved.Store(true)
		switch n := binary.BigEndian.Uint16(head[:]); {
		case n == frameEnd && !over:
			over = true
			_ = t.pod.CloseWrite()
			t.end()
		case n == frameStop:
			_ = t.pod.CloseRead()
		case n == frameReset:
			return syscall.ECONNRESET
		case n > chunk, over:
			return errBadFrame
		default:
			gone, err := t.pass(int(n), deaf)
			if err != nil {
				return err
			}
			if gone && !deaf {
				deaf = true
				if err := t.tell(frameStop); err != nil {
					return err
				}
			}
		}
	}
}

// pass gives the pod one frame. gone says that it reads no more.
func (t *tunnel) pass(n int, deaf bool) (gone bool, err error) {
	buf := chunks.Get().(*[2 + chunk]byte)
	defer chunks.Put(buf)
	for n > 0 {
		k, err := t.stream.Read(buf[:min(n, chunk)])
		if err != nil {
			return false, fmt.Errorf("the stream was cut: %w", err)
		}
		n -= k
		t.stats.received.Add(int64(k))
		if deaf || gone {
			continue
		}
		if _, err := t.pod.Write(buf[:k]); errors.Is(err, syscall.EPIPE) {
			gone = true
		} else if err != nil {
			return false, err
		}
	}
	return gone, nil
}
