package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// walk calls f for each range of b that is the guest's own, as offsets in b.
func (c content) walk(b []byte, f func(start, end int)) error {
	err := c.scan(b, f)
	if errors.Is(err, errors.ErrUnsupported) {
		return c.read(b, f)
	}
	return err
}

// scanArgument is what PAGEMAP_SCAN takes, and region what it gives: the kernel
// looks for the pages itself, and passes over tables that are empty.
// Source: Documentation/admin-guide/mm/pagemap.rst, of Linux 6.7 and later.
type scanArgument struct {
	size, flags, start, end, walkEnd, vector, length, most uint64
	inverted, all, any, want                               uint64
}

type pageRegion struct{ start, end, _ uint64 } // of what kind the pages are is not asked

const (
	pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

	isFile    = 1 << 2
	isPresent = 1 << 3
	isSwapped = 1 << 4
)

var regions = sync.Pool{New: func() any { return new([256]pageRegion) }}

// scan is walk where the kernel has PAGEMAP_SCAN. Ranges that it has told of are
// right even if it fails later.
func (c content) scan(b []byte, f func(start, end int)) error {
	found := regions.Get().(*[256]pageRegion)
	defer regions.Put(found)
	base := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	end := base + uint64(len(b))
	argument := scanArgument{
		size: uint64(unsafe.Sizeof(scanArgument{})), start: base, end: end,
		vector: uint64(uintptr(unsafe.Pointer(found))), length: uint64(len(found)),
		inverted: isFile, all: isFile, any: isPresent | isSwapped,
		want: isPresent, // any one will do: what differs would split ranges
	}
	for argument.start < end {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, c.pagemap.Fd(), pagemapScan, uintptr(unsafe.Pointer(&argument)))
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return unsupported(errno)
		}
		for _, r := range found[:n] {
			f(int(r.start-base), int(r.end-base))
		}
		if argument.walkEnd <= argument.start {
			return fmt.Errorf("page map: the scan stays at %#x", argument.start)
		}
		argument.start = argument.walkEnd
	}
	return nil
}

// unsupported is what kernels before 6.7, and those who stand in for one, answer
// to an ioctl that they do not know.
func unsupported(errno unix.Errno) error {
	switch errno {
	case unix.ENOTTY, unix.EINVAL, unix.ENOSYS, unix.EPERM, unix.EACCES:
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, errno)
	}
	return fmt.Errorf("page map: %w", errno)
}

// An entry of the page map itself, from the same document.
const (
	entryBytes = 8
	present    = 1 << 63
	swapped    = 1 << 62
	ofFile     = 1 << 61 // or shared: not a copy of our own
)

var entries = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// read is walk on any kernel.
func (c content) read(b []byte, f func(start, end int)) error {
	buffer := entries.Get().(*[32 << 10]byte)
	defer entries.Put(buffer)
	first := uintptr(unsafe.Pointer(unsafe.SliceData(b))) / uintptr(systemPage)
	total := len(b) / systemPage
	for page := 0; page < total; {
		part := buffer[:min(len(buffer), (total-page)*entryBytes)]
		n, err := c.pagemap.ReadAt(part, int64(first+uintptr(page))*entryBytes)
		if err != nil || n != len(part) {
			return fmt.Errorf("page map: %d bytes of %d: %w", n, len(part), err)
		}
		for at := 0; at < len(part); at += entryBytes {
			e := binary.NativeEndian.Uint64(part[at:])
			if e&(present|swapped) != 0 && e&ofFile == 0 {
				from := (page + at/entryBytes) * systemPage
				f(from, from+systemPage)
			}
		}
		page += len(part) / entryBytes
	}
	return nil
}
