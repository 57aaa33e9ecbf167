package peer

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// A frame is read as it was written, or refused; a length that lies allocates
// no more than what came, and a step.
func FuzzFrameIsReadOrRefused(f *testing.F) {
	for _, body := range []string{"", "x", string(bytes.Repeat([]byte("long"), 1000))} {
		var b bytes.Buffer
		if err := writeFrame(&b, kindAnswer, []byte(body)); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()/2])
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := bytes.NewReader(wire)
		kind, size, err := readHeader(r)
		if err != nil {
			if !errors.Is(err, errFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("got %v, want errFrame or an early end", err)
			}
			return
		}
		body, err := readBody(r, size)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) || size <= len(wire)-frameHeader {
				t.Fatalf("got %v for %d of %d bytes", err, len(wire), size)
			}
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, kind, body); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), wire[:again.Len()]) {
			t.Fatal("got another frame, want the one that was read")
		}
	})
}
