package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame of copepod-store/1 is:
//
//	uint32  length of what follows, big endian, from 1 to MaxFrame + 1
//	byte    0 request, 1 answer, 2 the reason why there is none, as text
//	bytes
//
// A connection carries one request and its answer at a time.
const (
	kindRequest = 0
	kindAnswer  = 1
	kindFailure = 2
	lastKind    = kindFailure

	// MaxFrame bounds a request and an answer.
	MaxFrame = 32 << 20

	frameHeader = 5
	frameStep   = 256 << 10
)

var errFrame = errors.New("malformed frame")

// writeFrame sends the frame with one write if it is small.
func writeFrame(w io.Writer, kind byte, body []byte) error {
	if len(body) > MaxFrame {
		return fmt.Errorf("%w: %d bytes: at most %d are allowed", errFrame, len(body), MaxFrame)
	}
	b := make([]byte, frameHeader, frameHeader+min(len(body), frameStep))
	binary.BigEndian.PutUint32(b, uint32(len(body)+1))
	b[4] = kind
	n := copy(b[frameHeader:cap(b)], body)
	if _, err := w.Write(b[:frameHeader+n]); err != nil {
		return err
	}
	if n == len(body) {
		return nil
	}
	_, err := w.Write(body[n:])
	return err
}

// readHeader reads what comes before the body of a frame. Nothing of the body
// is allocated.
func readHeader(r io.Reader) (kind byte, size int, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, 0, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n == 0 || n > MaxFrame+1 || h[4] > lastKind {
		return 0, 0, fmt.Errorf("%w: kind %d, %d bytes: at most %d are allowed", errFrame, h[4], n, MaxFrame)
	}
	return h[4], int(n) - 1, nil
}

// readBody reads size bytes. Memory grows as they arrive, so that a length
// that lies costs nothing.
func readBody(r io.Reader, size int) ([]byte, error) {
	b := make([]byte, 0, min(size, frameStep))
	for len(b) < size {
		step := min(size-len(b), max(len(b), frameStep))
		start := len(b)
		b = append(b, make([]byte, step)...)
		if _, err := io.ReadFull(r, b[start:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}
