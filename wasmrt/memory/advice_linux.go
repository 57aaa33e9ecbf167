package memory

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// noReserve: the range is a promise of addresses, not of memory.
const noReserve = unix.MAP_NORESERVE

// adviseSmallPages keeps the kernel from backing a guest that touched 4 KiB
// with a huge page of 2 MiB: density is worth more than TLB reach here.
func adviseSmallPages(base unsafe.Pointer, length uintptr) {
	// A kernel without huge pages answers EINVAL, which is what we want anyway.
	_ = unix.Madvise(unsafe.Slice((*byte)(base), length), unix.MADV_NOHUGEPAGE)
}
