//go:build unix

package wasi

import "golang.org/x/sys/unix"

// openWithoutWaiting: opening a pipe must not wait for its other end. For
// files and directories it means nothing.
const openWithoutWaiting = unix.O_NONBLOCK
