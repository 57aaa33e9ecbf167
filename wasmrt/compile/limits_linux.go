package compile

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// heapStep is what Go's heap grows by; the last step may pass what is asked for.
const heapStep = 64 << 20

// bind limits this process, for good: to memory and address space beyond what
// it has now, to processor time, and to files no larger than the memory. It
// makes it the first to go, should the machine run out of memory.
func bind(memory, seconds int64) error {
	size, data, err := held()
	if err != nil {
		return err
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // good to have, no more
	for _, l := range []struct {
		what int
		most int64
	}{
		{unix.RLIMIT_DATA, data + memory + heapStep},
		{unix.RLIMIT_AS, size + memory + 8*heapStep}, // reserved addresses count here too
		{unix.RLIMIT_CPU, seconds},
		{unix.RLIMIT_FSIZE, memory},
		{unix.RLIMIT_CORE, 0},
	} {
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: uint64(l.most), Max: uint64(l.most)}); err != nil {
			return fmt.Errorf("limit %d to %d: %w", l.what, l.most, err)
		}
	}
	return nil
}

// held is the address space that this process has, and how much of it counts as
// data: what it may write to, and shares with nobody.
func held() (size, data int64, err error) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, err
	}
	var resident, shared, code, library int64
	if _, err := fmt.Sscan(string(text), &size, &resident, &shared, &code, &library, &data); err != nil {
		return 0, 0, fmt.Errorf("read /proc/self/statm: %w", err)
	}
	page := int64(os.Getpagesize())
	return size * page, data * page, nil
}

// attributes let a child not outlive us, and not hear our terminal's Ctrl-C.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
