//go:build unix && !linux

package wasi

// noSignal: the Go runtime sets SO_NOSIGPIPE, or ignores the signal, elsewhere.
const noSignal = 0
