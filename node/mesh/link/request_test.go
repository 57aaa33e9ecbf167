package link

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestRequestsReadAsTheyWereWritten(t *testing.T) {
	for _, r := range []request{
		{protocolTCP, netip.MustParseAddrPort("10.64.1.5:50000"), netip.MustParseAddrPort("10.64.2.6:80")},
		{17, netip.MustParseAddrPort("[fd00::1]:0"), netip.MustParseAddrPort("10.64.2.6:65535")},
		{0, netip.MustParseAddrPort("[fd00::1]:1"), netip.MustParseAddrPort("[fd00::2]:2")},
	} {
		got, err := readRequest(bytes.NewReader(append(r.encode(), "rest"...)))
		if err != nil || got != r {
			t.Errorf("got %v, %v; want %v", got, err, r)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(request{protocolTCP, netip.MustParseAddrPort("10.64.1.5:50000"), netip.MustParseAddrPort("10.64.2.6:80")}.encode())
	f.Add(request{17, netip.MustParseAddrPort("[fd00::1]:0"), netip.MustParseAddrPort("[fd00::2]:2")}.encode())
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		r, err := readRequest(in)
		if err != nil {
			return
		}
		read := b[:len(b)-in.Len()]
		if again := r.encode(); !bytes.Equal(again, read) { // one request, one form
			t.Errorf("read %x, which is written %x", read, again)
		}
	})
}
