//go:build unix

package memory

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is a reserved range of private anonymous pages.
type mapping struct {
	base     unsafe.Pointer
	reserved uintptr
	opened   uintptr
}

// open makes the first size bytes readable and writable, reserving the whole
// range at the first call. It returns nil when the system has no room.
func (m *mapping) open(reserve, size uint64) []byte {
	if m.base == nil {
		length := roundUp(max(uintptr(reserve), 1))
		base, err := unix.MmapPtr(-1, 0, nil, length, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|noReserve)
		if err != nil {
			return nil
		}
		m.base, m.reserved = base, length
		adviseSmallPages(base, length)
	}
	if want := roundUp(uintptr(size)); want > m.opened {
		fresh := unsafe.Slice((*byte)(unsafe.Add(m.base, m.opened)), want-m.opened)
		if unix.Mprotect(fresh, unix.PROT_READ|unix.PROT_WRITE) != nil {
			return nil
		}
		m.opened = want
	}
	return unsafe.Slice((*byte)(m.base), uintptr(size))
}

func (m *mapping) close() {
	if m.base == nil {
		return
	}
	if err := unix.MunmapPtr(m.base, m.reserved); err != nil {
		panic("memory: munmap of our own range: " + err.Error())
	}
	*m = mapping{}
}

// roundUp keeps every boundary on a WebAssembly page, which is a multiple of
// the system's page everywhere that we run.
func roundUp(n uintptr) uintptr { return (n + PageSize - 1) &^ (PageSize - 1) }
