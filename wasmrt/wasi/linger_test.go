package wasi

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatAGuestWroteArrivesThoughItClosedAtOnce(t *testing.T) {
	for name, leave := range map[string]func(g *guest, fd uint64){
		"closed": func(g *guest, fd uint64) { g.ok("fd_close", fd) },
		"ended":  func(g *guest, _ uint64) { g.system.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, g *guest, peer net.Conn, fd uint64) {
				if n, e := g.write(fd, "last words"); n != 10 || e != success {
					t.Fatalf("write: got %d, %v", n, e)
				}
				leave(g, fd)
				if got, err := io.ReadAll(peer); string(got) != "last words" || err != nil {
					t.Errorf("the peer got %q, %v", got, err)
				}
			})
		})
	}
}

// halfPipe is a pipe that can be shut for writing; it says when.
type halfPipe struct {
	net.Conn
	shut chan struct{}
}

func (h halfPipe) CloseWrite() error {
	close(h.shut)
	return nil
}

func TestAConnectionIsShutForWritingAfterWhatWasWritten(t *testing.T) {
	peer, b := net.Pipe()
	defer peer.Close()
	shut := make(chan struct{})
	c := newConnection(halfPipe{b, shut})
	defer c.close()
	if n, e := c.write([]byte("hello")); n != 5 || e != success {
		t.Fatalf("write: got %d, %v", n, e)
	}
	if e := c.shutdown(false, true); e != success {
		t.Fatal(e)
	}
	select {
	case <-shut:
		t.Error("it was shut before the peer read")
	default:
	}
	if _, err := io.ReadFull(peer, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	soon(t, "the shutdown", shut)
}

func TestAPeerThatNeverReadsDoesNotKeepAConnectionForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peer, b := net.Pipe()
		c := newConnection(b)
		if n, e := c.write([]byte("hello")); n != 5 || e != success {
			t.Fatalf("write: got %d, %v", n, e)
		}
		began := time.Now()
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(linger + time.Second)
		if n, err := peer.Read(make([]byte, 10)); n != 0 || err != io.EOF {
			t.Errorf("after %v got %d, %v, want the end", time.Since(began), n, err)
		}
	})
}
