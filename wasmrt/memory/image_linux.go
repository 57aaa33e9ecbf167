package memory

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// content is an image as an anonymous file. Guests map it privately: the kernel
// makes them a copy of each page that they write to, and its page map tells which
// those are.
type content struct {
	file    int
	view    []byte   // the file, to copy from
	pagemap *os.File // nil where the system has none
}

// systemPage is what the kernel copies on a write. On systems with larger pages
// the page map has an entry for each of those.
var systemPage = os.Getpagesize()

// newContent copies what is not zero: a hole in the file takes no memory.
func newContent(b []byte) (content, error) {
	fd, err := unix.MemfdCreate("wasm-image", unix.MFD_CLOEXEC)
	if err != nil {
		return content{}, fmt.Errorf("memfd_create: %w", err)
	}
	c := content{file: fd}
	if err = c.fill(b); err == nil {
		c.view, err = unix.Mmap(fd, 0, len(b), unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		return content{}, errors.Join(err, unix.Close(fd))
	}
	// Without it a rewind drops every page, which is slower and as right.
	c.pagemap, _ = os.Open("/proc/self/pagemap")
	return c, nil
}

func (c content) fill(b []byte) error {
	if err := unix.Ftruncate(c.file, int64(len(b))); err != nil {
		return err
	}
	zero := make([]byte, systemPage)
	for at := 0; at < len(b); at += systemPage {
		page := b[at : at+systemPage]
		if string(page) == string(zero) {
			continue
		}
		for done := 0; done < len(page); {
			n, err := unix.Pwrite(c.file, page[done:], int64(at+done))
			if err != nil && err != unix.EINTR {
				return err
			}
			done += max(n, 0)
		}
	}
	return nil
}

func (c content) close() error {
	if c.view == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(c.view), unix.Close(c.file))
	if c.pagemap != nil {
		err = errors.Join(err, c.pagemap.Close())
	}
	return err
}

// begin maps the image over b.
func (c content) begin(b []byte) error {
	base := unsafe.Pointer(unsafe.SliceData(b))
	_, err := unix.MmapPtr(c.file, 0, base, uintptr(len(b)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED|noReserve)
	if err != nil {
		return fmt.Errorf("map the image: %w", err)
	}
	adviseSmallPages(base, uintptr(len(b)))
	return nil
}

// A page that is the guest's own is put back by copying, and stays the guest's
// own: it is looked at again after each use, changed or not. Giving it up to the
// kernel ends that, but then the next write to it costs a fault, as much as price
// looks. So pages are given up once the looks in vain have cost what the faults
// will: never more than twice the best, whatever the guest does.
const price = 16

// rewind puts back what the guest wrote to. vain counts looks at pages that had
// not changed.
func (c content) rewind(b []byte, vain *int) (int, error) {
	if c.pagemap == nil {
		return len(b) / systemPage, unix.Madvise(b, unix.MADV_DONTNEED)
	}
	own, copied := 0, 0
	err := c.walk(b, func(start, end int) {
		for at := start; at < end; at += systemPage {
			own++
			page, pristine := b[at:at+systemPage], c.view[at:at+systemPage]
			if string(page) != string(pristine) {
				copy(page, pristine)
				copied++
			}
		}
	})
	if err != nil {
		return copied, err
	}
	if *vain += own - copied; *vain > price*own {
		*vain = 0
		return copied, unix.Madvise(b, unix.MADV_DONTNEED)
	}
	return copied, nil
}
