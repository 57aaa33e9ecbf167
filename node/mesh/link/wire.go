package link

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"
)

// wire is the connection under a session. It remembers when it was last heard,
// bounds writes in time, and joins each header of yamux with its body, which come
// as two writes and would be two TLS records, and often two packets.
type wire struct {
	net.Conn
	raw     net.Conn // under TLS: to be cut without a word
	patient time.Duration
	heard   atomic.Int64 // Unix nanoseconds
	held    []byte       // a header that waits for its body; belongs to Write
}

func newWire(c, raw net.Conn, patient time.Duration) *wire {
	w := &wire{Conn: c, raw: raw, patient: patient, held: make([]byte, 0, 12+chunk+2)}
	w.hear()
	return w
}

func (w *wire) hear()                  { w.heard.Store(time.Now().UnixNano()) }
func (w *wire) silence() time.Duration { return time.Since(time.Unix(0, w.heard.Load())) }

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.hear()
	}
	return n, err
}

// Write is called by one goroutine of yamux.
func (w *wire) Write(p []byte) (int, error) {
	if len(w.held) == 0 && bodyFollows(p) {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	if err := w.SetWriteDeadline(time.Now().Add(w.patient)); err != nil {
		return 0, err
	}
	if len(w.held) == 0 {
		return w.Conn.Write(p)
	}
	head := len(w.held)
	if head+len(p) > cap(w.held) {
		_, err := w.Conn.Write(w.held)
		w.held = w.held[:0]
		if err != nil {
			return 0, err
		}
		return w.Conn.Write(p)
	}
	n, err := w.Conn.Write(append(w.held, p...))
	w.held = w.held[:0]
	return max(0, n-head), err
}

// bodyFollows says whether p is the header of a yamux frame (version 0, type 0:
// data) whose length is not 0.
func bodyFollows(p []byte) bool {
	return len(p) == 12 && p[0] == 0 && p[1] == 0 && binary.BigEndian.Uint32(p[8:]) > 0
}

// Close cuts the connection: a peer that is gone would not take a goodbye.
func (w *wire) Close() error { return w.raw.Close() }
