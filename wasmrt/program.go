package wasmrt

import (
	"io"

	"copepod/wasmrt/wasi"
)

// Program is one run of a module: what the guest sees, and what it may use.
// The zero value is a guest with no arguments, an empty standard input, output
// that goes nowhere, no files and no sockets.
type Program struct {
	Name string   // for logs
	Args []string // Args[0] is the program's name, by convention
	Env  []string // "K=V" each

	// Stdin is closed when the instance ends if it is an io.Closer, which is how
	// a blocked Read is released. A Write to Stdout or Stderr that blocks holds the
	// guest, but not its end: it may still be under way when the instance is done.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	Mounts    []Mount
	Listeners []Listener // the instance owns them from Start on, even if Start fails
	Network   Network    // nil: none

	Terminal [3]bool   // which of the three streams are a terminal
	Trace    io.Writer // gets a line for each call to the host; nil: none

	MemoryLimit int64 // bytes of linear memory; 0: 4 GiB
	CPUMilli    int64 // thousandths of a core; 0: no limit
	CPUWeight   int64 // share under contention, in thousandths of a core asked for; 0: the least
}

// What a guest sees is declared where it is shown to it.
type (
	// Mount shows the guest a directory or one file of the host.
	Mount = wasi.Mount
	// Quota bounds what guests keep in a volume that they mount.
	Quota = wasi.Quota
	// Usage is what a volume holds, or may hold at most.
	Usage = wasi.Usage
	// Listener is a socket that is open when the guest starts.
	Listener = wasi.Listener
	// Network is where a guest's own sockets come from.
	Network = wasi.Network
	// Pollable is a connection or listener that tells of its own readiness.
	Pollable = wasi.Pollable
	// Direction is what one waits for on a Pollable.
	Direction = wasi.Direction
)

// NewQuota counts what is at path, and bounds what guests add to it.
func NewQuota(path string, most Usage) (*Quota, error) { return wasi.NewQuota(path, most) }

// The directions of Pollable.
const (
	Read  = wasi.Read
	Write = wasi.Write
)
