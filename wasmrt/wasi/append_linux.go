package wasi

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// appendTo writes at the end of f in one step, so that guests that share a
// volume do not overwrite each other. The descriptor itself is not in append
// mode: the guest may turn appending on and off.
func appendTo(f *os.File, p []byte) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var werr error
	err = raw.Control(func(fd uintptr) {
		n, werr = retry(func() (int, error) { return unix.Pwritev2(int(fd), [][]byte{p}, -1, unix.RWF_APPEND) })
	})
	return max(n, 0), errors.Join(err, werr)
}
