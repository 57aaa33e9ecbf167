package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"copepod/node/runtime"
)

// Subject is a runtime under test. Its image Image must be on its machine and
// be the program of the package's guest folder, or behave like it.
type Subject struct {
	Runtime runtime.Runtime
	Image   string
}

// Run checks what every runtime promises.
func Run(t *testing.T, s Subject) {
	t.Run("AnImageThatIsNotHereIsNotFound", s.imageNotFound)
	t.Run("AStringThatNamesNoImageIsRefusedAsSuch", s.imageName)
	t.Run("ArgumentsAndEnvironmentReachTheProgram", s.arguments)
	t.Run("TheExitCodeComesBack", s.exitCode)
	t.Run("StopLetsTheProgramFinish", s.stop)
	t.Run("KillEndsWhatDoesNotListen", s.kill)
	t.Run("KillFreesWhatNeverStarted", s.killCreated)
	t.Run("AnOpenPortIsServed", s.serve)
	t.Run("MountsAreReadAndReadOnlyOnesStaySo", s.mounts)
}

// syncBuffer may be written and read at once.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (s Subject) create(t *testing.T, spec runtime.Spec) runtime.Container {
	t.Helper()
	image, err := s.Runtime.Image(t.Context(), s.Image)
	if err != nil {
		t.Fatal(err)
	}
	spec.Namespace, spec.Pod, spec.UID, spec.Container, spec.Image = "default", "p", "u", "c", image
	c, err := s.Runtime.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

func (s Subject) start(t *testing.T, spec runtime.Spec) runtime.Container {
	t.Helper()
	c := s.create(t, spec)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// exit waits for the end of a container; a test's own deadline bounds it.
func exit(t *testing.T, c runtime.Container) runtime.Exit {
	t.Helper()
	select {
	case <-c.Done():
		return c.Exit()
	case <-time.After(30 * time.Second):
		t.Fatal("the container did not end")
		return runtime.Exit{}
	}
}

func (s Subject) imageNotFound(t *testing.T) {
	if _, err := s.Runtime.Image(t.Context(), "nobody-made-this:v1"); !errors.Is(err, runtime.ErrNoImage) {
		t.Errorf("got %v, want %v", err, runtime.ErrNoImage)
	}
}

func (s Subject) imageName(t *testing.T) {
	if _, err := s.Runtime.Image(t.Context(), "what is this?"); !errors.Is(err, runtime.ErrImageName) {
		t.Errorf("got %v, want %v", err, runtime.ErrImageName)
	}
}

func (s Subject) arguments(t *testing.T) {
	var out, errs syncBuffer
	c := s.start(t, runtime.Spec{Args: []string{"print", "a b", "c"}, Env: []string{"GREETING=hello"}, Stdout: &out, Stderr: &errs})
	if got := exit(t, c); got.Code != 0 || got.Reason != runtime.Completed {
		t.Errorf("got exit %+v, want 0 Completed", got)
	}
	if got, want := out.String(), "hello a b,c\n"; got != want {
		t.Errorf("got stdout %q, want %q", got, want)
	}
	if got, want := errs.String(), "done\n"; got != want {
		t.Errorf("got stderr %q, want %q", got, want)
	}
}

func (s Subject) exitCode(t *testing.T) {
	if got := exit(t, s.start(t, runtime.Spec{Args: []string{"fail"}})); got.Code != 3 || got.Reason != runtime.Error {
		t.Errorf("got exit %+v, want 3 Error", got)
	}
}

func (s Subject) stop(t *testing.T) {
	c, ln := s.server(t)
	talk(t, ln, "GET / HTTP/1.0\r\n\r\n")
	c.Stop()
	if got := exit(t, c); got.Code != 0 {
		t.Errorf("got exit %+v, want 0", got)
	}
}

func (s Subject) kill(t *testing.T) {
	c := s.start(t, runtime.Spec{Args: []string{"stubborn"}})
	c.Stop()
	c.Kill()
	c.Kill()
	if got := exit(t, c); got.Code != 137 {
		t.Errorf("got exit %+v, want 137", got)
	}
}

func (s Subject) killCreated(t *testing.T) {
	c := s.create(t, runtime.Spec{Args: []string{"print"}})
	c.Kill()
	exit(t, c)
}

// server starts the guest with one open port.
func (s Subject) server(t *testing.T) (runtime.Container, net.Listener) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Skipf("no loopback network: %v", err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	c := s.start(t, runtime.Spec{Args: []string{"serve"}, Listeners: []runtime.Listener{{Name: "web", Listener: ln}}})
	return c, ln
}

func talk(t *testing.T, ln net.Listener, say string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func (s Subject) serve(t *testing.T) {
	_, ln := s.server(t)
	if got := talk(t, ln, "GET / HTTP/1.0\r\n\r\n"); !strings.HasSuffix(got, "served by web") {
		t.Errorf("got answer %q, want it to end in %q", got, "served by web")
	}
}

func (s Subject) mounts(t *testing.T) {
	ro, rw := t.TempDir(), t.TempDir()
	writeFile(t, ro, "in", "words")
	c := s.start(t, runtime.Spec{Args: []string{"copy", "/ro/in", "/rw/out"}, Mounts: []runtime.Mount{
		{Guest: "/ro", Host: ro, ReadOnly: true}, {Guest: "/rw", Host: rw},
	}})
	if got := exit(t, c); got.Code != 0 {
		t.Fatalf("got exit %+v, want 0", got)
	}
	if got := readFile(t, rw, "out"); got != "words" {
		t.Errorf("got %q in the mounted directory, want %q", got, "words")
	}
	c = s.start(t, runtime.Spec{Args: []string{"copy", "/rw/in", "/ro/out"}, Mounts: []runtime.Mount{
		{Guest: "/ro", Host: ro, ReadOnly: true}, {Guest: "/rw", Host: ro},
	}})
	if got := exit(t, c); got.Code == 0 {
		t.Error("the program wrote into a read-only mount")
	}
	if got, want := list(t, ro), []string{"in"}; !slices.Equal(got, want) {
		t.Errorf("got files %v in the read-only mount, want %v", got, want)
	}
}
