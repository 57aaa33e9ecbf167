package wasmrt

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	// Raw, because it never blocks: telling the scheduler of it would cost more.
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		panic("wasmrt: the thread's clock: " + errno.Error())
	}
	return time.Duration(ts.Nano())
}
