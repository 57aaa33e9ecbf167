//go:build unix

package wasmrt

import "golang.org/x/sys/unix"

// descriptorLimit is how many files the process may have open. Go has raised
// the soft limit to the hard one before main.
func descriptorLimit() int64 {
	const enough = 1 << 20
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fewDescriptors
	}
	return int64(min(uint64(l.Cur), enough))
}

// fewDescriptors is what every system has.
const fewDescriptors = 1024
