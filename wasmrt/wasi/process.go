package wasi

import (
	"crypto/rand"
	"runtime"

	"github.com/tetratelabs/wazero/sys"
)

func argsGet(s *System, f frame) errno      { return f.putStrings(s.args) }
func argsSizesGet(s *System, f frame) errno { return f.putSizes(s.args) }
func environGet(s *System, f frame) errno   { return f.putStrings(s.env) }

func environSizesGet(s *System, f frame) errno { return f.putSizes(s.env) }

// putStrings writes a vector of pointers at the first argument and the
// zero-terminated strings they lead to at the second.
func (f frame) putStrings(list []string) errno {
	vector, buffer := f.u32(0), f.u32(1)
	for i, text := range list {
		b, ok := f.mem.view(buffer, uint32(len(text)+1))
		if !ok {
			return errFault
		}
		if e := f.mem.putU32(vector+uint32(i)*4, buffer); e != success {
			return e
		}
		copy(b, text)
		b[len(text)] = 0
		buffer += uint32(len(b))
	}
	return success
}

func (f frame) putSizes(list []string) errno {
	total := 0
	for _, text := range list {
		total += len(text) + 1
	}
	if e := f.mem.putU32(f.u32(0), uint32(len(list))); e != success {
		return e
	}
	return f.mem.putU32(f.u32(1), uint32(total))
}

// procExit ends the guest. The panic is wazero's way out of a call; it leaves
// the module open, for the instance to close.
func procExit(s *System, f frame) errno {
	s.exited.Store(true)
	panic(sys.NewExitError(f.u32(0)))
}

// procRaise has no signal to raise: the standard withdrew it.
func procRaise(*System, frame) errno { return errNotSupported }

func schedYield(*System, frame) errno {
	runtime.Gosched()
	return success
}

// randomGet fills a buffer a piece at a time, so that a guest that asks for
// gigabytes can be interrupted.
func randomGet(s *System, f frame) errno {
	b, ok := f.mem.view(f.u32(0), f.u32(1))
	if !ok {
		return errFault
	}
	for len(b) > 0 {
		n := min(len(b), maxTransfer)
		rand.Read(b[:n])
		b = b[n:]
		s.enter()
	}
	return success
}
