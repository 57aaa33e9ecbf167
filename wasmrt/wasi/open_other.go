//go:build !unix

package wasi

// openWithoutWaiting: no open waits here.
const openWithoutWaiting = 0
