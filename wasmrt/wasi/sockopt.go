package wasi

import (
	"encoding/binary"
	"time"
)

// Socket options, as WasmEdge numbers them at its one level.
const (
	levelSocket = 0

	optionReuse         = 0
	optionType          = 1
	optionError         = 2
	optionRoute         = 3
	optionBroadcast     = 4
	optionSendBuffer    = 5
	optionReceiveBuffer = 6
	optionKeepAlive     = 7
	optionOutOfBand     = 8
	optionLinger        = 9
	optionLowWater      = 10
	optionReceiveWait   = 11
	optionSendWait      = 12
	optionAccepting     = 13
	optionDevice        = 14

	timevalSize   = 16 // seconds and microseconds, 64 bits each
	shownBuffer   = 64 << 10
	mostPatience  = 1 << 32 // seconds; more is as good as for ever
	microsPerUnit = 1_000_000
)

// edgeGetOption reads an option into a buffer whose size the guest gives, and
// gets back.
func edgeGetOption(s *System, f frame) errno {
	d, name, e := s.option(f)
	if e != success {
		return e
	}
	size, ok := f.mem.u32(f.u32(4))
	if !ok {
		return errFault
	}
	b, ok := f.mem.view(f.u32(3), size)
	if !ok {
		return errFault
	}
	value, e := readOption(d, name)
	if e != success {
		return e
	}
	if len(value) > len(b) {
		return errInvalid
	}
	return f.mem.putU32(f.u32(4), uint32(copy(b, value)))
}

// option finds the socket that an option call is about.
func (s *System) option(f frame) (*descriptor, uint32, errno) {
	d, e := s.table.get(f.fd(0))
	if e != success {
		return nil, 0, e
	}
	if k := d.kind(); k != typeSocketStream && k != typeSocketDatagram {
		return nil, 0, errNotSocket
	}
	if f.u32(1) != levelSocket || f.u32(2) > optionDevice {
		return nil, 0, errNoProtoOpt
	}
	return d, f.u32(2), success
}

func readOption(d *descriptor, name uint32) ([]byte, errno) {
	value := uint32(0)
	switch name {
	case optionType:
		value = socketStream
		if d.kind() == typeSocketDatagram {
			value = socketDatagram
		}
	case optionError:
		value = uint32(pendingError(d))
	case optionSendBuffer, optionReceiveBuffer:
		value = shownBuffer
	case optionAccepting:
		if _, ok := d.file.(*listening); ok {
			value = 1
		}
	case optionReceiveWait:
		return timeval(d.patience[Read]), success
	case optionSendWait:
		return timeval(d.patience[Write]), success
	case optionDevice:
		return nil, success // bound to none
	case optionLinger:
		return make([]byte, 8), success // off, no time
	}
	return binary.LittleEndian.AppendUint32(nil, value), success
}

// pendingError is how a connection attempt that does not block went.
func pendingError(d *descriptor) errno {
	on, ok := d.file.(*dialing)
	if !ok {
		return success
	}
	e := on.settle(d)
	if e == errAgain {
		return success // still under way
	}
	return e
}

// edgeSetOption takes what has a meaning here (how long to wait), accepts what
// changes nothing that a guest could see, and refuses the rest.
func edgeSetOption(s *System, f frame) errno {
	d, name, e := s.option(f)
	if e != success {
		return e
	}
	b, ok := f.mem.view(f.u32(3), f.u32(4))
	if !ok {
		return errFault
	}
	switch name {
	case optionReceiveWait, optionSendWait:
		patience, e := parseTimeval(b)
		if e != success {
			return e
		}
		dir := Read
		if name == optionSendWait {
			dir = Write
		}
		d.patience[dir] = patience
	case optionReuse, optionRoute, optionBroadcast, optionSendBuffer, optionReceiveBuffer,
		optionKeepAlive, optionOutOfBand, optionLinger, optionLowWater:
	default: // the type, the error and accepting are for reading, the device is the host's
		return errNoProtoOpt
	}
	return success
}

func timeval(d time.Duration) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(d/time.Second))
	return binary.LittleEndian.AppendUint64(b, uint64(d%time.Second/time.Microsecond))
}

func parseTimeval(b []byte) (time.Duration, errno) {
	if len(b) < timevalSize {
		return 0, errInvalid
	}
	seconds, micros := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if micros >= microsPerUnit {
		return 0, errInvalid
	}
	if seconds > mostPatience {
		return 0, success
	}
	return time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond, success
}
