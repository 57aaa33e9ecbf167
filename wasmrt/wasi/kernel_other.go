//go:build !unix

package wasi

import "net"

// newKernel: this system's sockets are read ahead by a goroutine instead.
func newKernel(net.Conn) (transport, bool) { return nil, false }
