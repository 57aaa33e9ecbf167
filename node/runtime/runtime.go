// Package runtime is the seam between a pod and what runs its containers: a
// WebAssembly host in this process today, a container engine behind a socket
// tomorrow. It knows images, programs and exits; it never learns what a pod's
// restart policy or a probe is, and nothing of the Kubernetes API.
//
//	image, err := rt.Pull(ctx, "hello:v1", runtime.Credentials{})
//	c, err := rt.Create(ctx, runtime.Spec{Image: image, Stdout: out})
//	err = c.Start(ctx)
//	<-c.Done()
//	exit := c.Exit()
//
// What not every runtime can do is an interface of its own, found by type
// assertion on the Container: Execer, Statser.
package runtime

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"copepod/wasmrt"
)

// Errors that a Runtime's answers wrap.
var (
	// ErrNoImage says that the image is not on this machine (Image) or nowhere (Pull).
	ErrNoImage = errors.New("image not found")
	// ErrImageName says that a string cannot name any image.
	ErrImageName = errors.New("not an image name")
)

// Runtime runs containers of one kind. All methods may be called at once.
type Runtime interface {
	// Image finds an image on this machine, without asking anyone else.
	Image(ctx context.Context, name string) (Image, error)
	// Pull fetches an image from where its name says.
	Pull(ctx context.Context, name string, auth Credentials) (Image, error)
	// Create readies a container to start: the code is loaded, the limits are
	// checked, nothing runs. Its errors say what about the image or the spec is
	// wrong.
	Create(ctx context.Context, spec Spec) (Container, error)
}

// Handlers is a Runtime that runs images in other ways too. A RuntimeClass names
// one by its handler.
type Handlers interface {
	// Handler finds the Runtime for a handler that is not the plain one.
	Handler(name string) (Runtime, bool)
}

// Container is one run of an image. Its methods may be called at once; it is
// used once.
type Container interface {
	// ID names the run for people and tools: "wasm://1f0c…".
	ID() string
	// Start runs the program and returns once it runs.
	Start(ctx context.Context) error
	// Stop asks politely; it does not wait.
	Stop()
	// Kill ends the program whatever it does, and frees what a container that
	// never started holds. It does not wait, and may be called again.
	Kill()
	// Done gives a channel that is closed when the program has ended. It is to
	// be asked for after Start or Kill.
	Done() <-chan struct{}
	// Exit says how it ended, once Done is closed, and frees what the container
	// still holds. It may be called again.
	Exit() Exit
}

// Execer is a Container in which another command can be run.
type Execer interface {
	Exec(ctx context.Context, argv []string, output io.Writer) (code int, err error)
}

// Statser is a Container that knows what it uses.
type Statser interface {
	Stats() Stats
}

// Stats is what a container uses: CPU since it started, memory now.
type Stats struct {
	CPU         time.Duration
	MemoryBytes int64
}

// Image is an image that can be run here.
type Image struct {
	Name string // as it was asked for
	ID   string // what it is: NAME@sha256:…
	Size int64  // bytes

	Local bool // no registry has it: it is here or nowhere, and need not be pulled
}

// Credentials for a registry; empty means anonymous.
type Credentials struct{ Username, Password string }

// Spec is everything a runtime needs to know of one run.
type Spec struct {
	Namespace, Pod, UID, Container string
	Attempt                        int32 // 0 for the first run of the container

	Image      Image
	Command    []string // replaces the image's entry point when not empty
	Args       []string
	Env        []string // K=V
	WorkingDir string
	Mounts     []Mount

	Stdout, Stderr io.Writer // nil: discarded

	Listeners []Listener // open ports that the program is given
	Network   Network    // nil: none

	MemoryLimit int64 // bytes; 0: none
	CPUMilli    int64 // thousandths of a core; 0: no limit
	CPUWeight   int64 // share under contention, in thousandths of a core asked for
}

// Mount shows a directory or a file of the node to the program.
type Mount struct {
	Guest, Host string
	ReadOnly    bool
	Quota       *wasmrt.Quota // what programs may keep there; nil: no bound; a runtime that cannot hold them to it need not
}

// Listener is a port of the pod that is open before the program starts.
type Listener struct {
	Name string
	net.Listener
}

// Network is how a program reaches others and is reached. *vnet.Stack is one.
type Network interface {
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
}

// Reason says why a container ended.
type Reason string

// The reasons, in the words that a container's status shows.
const (
	Completed Reason = "Completed" // code 0
	Error     Reason = "Error"     // any other code, a trap, or killed
	OOMKilled Reason = "OOMKilled" // it went over its memory limit
)

// Exit is how a container ended.
type Exit struct {
	Code    int32 // 137 when it was killed, 134 when it trapped
	Reason  Reason
	Message string // for people: a trap's text and stack; may be empty
}
