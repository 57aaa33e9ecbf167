package wasi

import "golang.org/x/sys/unix"

// noSignal: a write to a connection that the peer closed is an error, not a
// signal to the whole process.
const noSignal = unix.MSG_NOSIGNAL
