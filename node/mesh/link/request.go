package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"syscall"

	"copepod/node/mesh/vnet"
)

// A stream begins with a request and one byte of answer:
//
//	length   uint16   of what follows, at most maxRequest
//	version  uint8    1
//	protocol uint8    6, TCP, as IANA numbers protocols
//	from, to          each: uint8 4 or 16, the address, uint16 port
//
// Numbers are big-endian. Nothing may follow: what later versions add has another
// version.
const (
	requestVersion = 1
	maxRequest     = 2 + 2*(1+16+2)
	minRequest     = 2 + 2*(1+4+2)
	protocolTCP    = 6
)

// request asks for a connection between two pods.
type request struct {
	protocol uint8
	from, to netip.AddrPort
}

var errBadRequest = errors.New("not a request for a connection")

// encode is the request with its length.
func (r request) encode() []byte {
	b := make([]byte, 2, 2+maxRequest)
	b = append(b, requestVersion, r.protocol)
	for _, a := range []netip.AddrPort{r.from, r.to} {
		ip := a.Addr().Unmap().AsSlice()
		b = append(b, uint8(len(ip))) //nolint:gosec // 4 or 16
		b = append(b, ip...)
		b = binary.BigEndian.AppendUint16(b, a.Port())
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2)) //nolint:gosec // at most maxRequest
	return b
}

// readRequest reads no byte more than the request.
func readRequest(r io.Reader) (request, error) {
	var buf [maxRequest]byte
	if _, err := io.ReadFull(r, buf[:2]); err != nil {
		return request{}, fmt.Errorf("reading a request: %w", err)
	}
	n := binary.BigEndian.Uint16(buf[:2])
	if n < minRequest || n > maxRequest {
		return request{}, fmt.Errorf("%d bytes: %w", n, errBadRequest)
	}
	if _, err := io.ReadFull(r, buf[:n]); err != nil {
		return request{}, fmt.Errorf("reading a request: %w", err)
	}
	return decodeRequest(buf[:n])
}

func decodeRequest(b []byte) (r request, err error) {
	if len(b) < 2 || b[0] != requestVersion {
		return r, fmt.Errorf("its version is unknown: %w", errBadRequest)
	}
	r.protocol = b[1]
	rest := b[2:]
	if r.from, rest, err = decodeAddr(rest); err != nil {
		return r, err
	}
	if r.to, rest, err = decodeAddr(rest); err != nil {
		return r, err
	}
	if len(rest) > 0 {
		return r, fmt.Errorf("%d bytes too many: %w", len(rest), errBadRequest)
	}
	return r, nil
}

func decodeAddr(b []byte) (netip.AddrPort, []byte, error) {
	if len(b) < 1 || b[0] != 4 && b[0] != 16 || len(b) < 1+int(b[0])+2 {
		return netip.AddrPort{}, nil, fmt.Errorf("its addresses are cut short: %w", errBadRequest)
	}
	n := int(b[0])
	ip, _ := netip.AddrFromSlice(b[1 : 1+n])
	if ip.Is4In6() { // one address, one form: checks compare them
		return netip.AddrPort{}, nil, fmt.Errorf("an IPv4 address in the form of IPv6: %w", errBadRequest)
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[1+n:])), b[1+n+2:], nil
}

// The answers to a request.
const (
	answerOK          = 0
	answerRefused     = 1 // nobody listens there
	answerUnroutable  = 2 // no such pod
	answerDenied      = 3 // the caller may not say or ask that
	answerBusy        = 4 // too many connections
	answerUnsupported = 5 // of that protocol or version
)

var (
	errDenied      = fmt.Errorf("it does not take the call: %w", syscall.EACCES)
	errBusy        = fmt.Errorf("it has too many connections: %w", syscall.ECONNREFUSED)
	errUnsupported = fmt.Errorf("it does not carry that protocol: %w", syscall.EPROTONOSUPPORT)
)

// answerError is what an answer means to the caller.
func answerError(code byte) error {
	switch code {
	case answerOK:
		return nil
	case answerRefused:
		return vnet.ErrRefused
	case answerUnroutable:
		return vnet.ErrUnroutable
	case answerDenied:
		return errDenied
	case answerBusy:
		return errBusy
	case answerUnsupported:
		return errUnsupported
	}
	return fmt.Errorf("answer %d: %w", code, errUnsupported)
}

// answerFor is the answer that tells of an error.
func answerFor(err error) byte {
	switch {
	case err == nil:
		return answerOK
	case errors.Is(err, vnet.ErrUnroutable):
		return answerUnroutable
	case errors.Is(err, syscall.EACCES):
		return answerDenied
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, errBadRequest):
		return answerUnsupported
	case errors.Is(err, errBusy):
		return answerBusy
	}
	return answerRefused
}
