package link_test

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// pair is two pods, on one node or on two.
func pair(b *testing.B, nodes int) (near, far net.Conn, dial func() net.Conn) {
	b.Helper()
	w := newWorld(b)
	n1 := w.node(1)
	n2, ip := n1, "10.64.1.6"
	if nodes == 2 {
		n2, ip = w.node(2), "10.64.2.6"
	}
	from, to := n1.pod(b, "10.64.1.5"), n2.pod(b, ip)
	near, far = both(b, from, to)
	go echo(listen(b, to, ":7"))
	return near, far, func() net.Conn {
		c, err := from.Dial(b.Context(), "tcp", ip+":7")
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
}

// BenchmarkRoundTrip is one small message there and back.
func BenchmarkRoundTrip(b *testing.B) {
	for nodes := 1; nodes <= 2; nodes++ {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			_, _, dial := pair(b, nodes)
			c := dial()
			buf := make([]byte, 128)
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkThroughput is one way, in writes of 32 KiB.
func BenchmarkThroughput(b *testing.B) {
	for nodes := 1; nodes <= 2; nodes++ {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			near, far, _ := pair(b, nodes)
			buf := make([]byte, 32<<10)
			b.SetBytes(int64(len(buf)))
			go func() {
				_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{far}, make([]byte, 64<<10))
			}()
			for b.Loop() {
				if _, err := near.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDial is a connection, one message and its answer, and the end.
func BenchmarkDial(b *testing.B) {
	for nodes := 1; nodes <= 2; nodes++ {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			_, _, dial := pair(b, nodes)
			buf := make([]byte, 128)
			for b.Loop() {
				c := dial()
				_, _ = c.Write(buf)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
				_ = c.Close()
			}
		})
	}
}
