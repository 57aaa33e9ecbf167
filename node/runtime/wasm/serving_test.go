package wasm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"copepod/node/runtime"
	"copepod/node/runtime/wasm"
	"copepod/registry"
)

// handlerGuest is the http-wasm guest of package serve's tests.
var handlerGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "handler.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", out, "../../../wasmrt/serve/testdata/handler")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// serving makes the runtime of a handler, with the handler guest as an image.
func serving(t *testing.T, handler string) (*wasm.Runtime, runtime.Runtime) {
	t.Helper()
	code, err := handlerGuest()
	if err != nil {
		t.Skipf("the guest cannot be built: %v", err)
	}
	rt, _ := newRuntime(t, func(images *registry.Store) {
		if _, err := images.Pack(t.Context(), code, registry.PackConfig{Ref: "handler:v1"}); err != nil {
			t.Fatal(err)
		}
	})
	served, ok := rt.Handler(handler)
	if !ok {
		t.Fatalf("no runtime for %s", handler)
	}
	return rt, served
}

func createServer(t *testing.T, rt runtime.Runtime, name string, spec runtime.Spec) (runtime.Container, error) {
	t.Helper()
	image, err := rt.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	spec.Image = image
	return rt.Create(t.Context(), spec)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// client is for requests that may wait for the guest's initialisation.
func client(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func body(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// network opens every port on loopback, at a number of the system's choosing.
type network struct {
	asked chan string
	open  chan net.Listener
}

func (n network) Listen(_ context.Context, _, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		n.asked <- addr
		n.open <- l
	}
	return l, err
}

func (network) Dial(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }

func (network) Resolve(context.Context, string) ([]netip.Addr, error) { return nil, net.ErrClosed }

func TestAHandlerAnswersOnThePortsOfItsContainerUntilItIsStopped(t *testing.T) {
	_, rt := serving(t, "wasm-http")
	l := listen(t)
	var log bytes.Buffer
	c, err := createServer(t, rt, "handler:v1", runtime.Spec{
		Env: []string{"ORIGIN=pod"}, Stderr: &log,
		Listeners: []runtime.Listener{{Name: "http", Listener: l}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	web := client(t)
	for range 3 {
		if got := body(t, web, "http://"+l.Addr().String()+"/"); !strings.Contains(got, "count=1") || !strings.Contains(got, "origin=pod") {
			t.Errorf("got %q", got)
		}
	}
	if got := c.(runtime.Statser).Stats(); got.CPU <= 0 || got.MemoryBytes <= 0 {
		t.Errorf("got %+v, want what it uses", got)
	}
	c.Stop()
	<-c.Done()
	if e := c.Exit(); e.Reason != runtime.Completed {
		t.Errorf("got %+v, want %s", e, runtime.Completed)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

func TestAHandlerIsKilledWhateverItDoes(t *testing.T) {
	_, rt := serving(t, "wasm-http")
	l := listen(t)
	c, err := createServer(t, rt, "handler:v1", runtime.Spec{Listeners: []runtime.Listener{{Listener: l}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	web := client(t)
	body(t, web, "http://"+l.Addr().String()+"/")
	before := c.(runtime.Statser).Stats().CPU
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := web.Get("http://" + l.Addr().String() + "/spin"); err == nil {
			_ = resp.Body.Close()
		}
	}()
	for c.(runtime.Statser).Stats().CPU < before+10*time.Millisecond { // it spins
		time.Sleep(time.Millisecond)
	}
	c.Stop() // which waits for the request
	c.Kill()
	<-c.Done()
	<-ended
	if e := c.Exit(); e.Code != 137 || e.Reason != runtime.Error {
		t.Errorf("got %+v, want code 137", e)
	}
	c.Kill() // again is no fault
}

func TestAHandlerWithoutPortsServesOn8080(t *testing.T) {
	_, rt := serving(t, "wasm-http")
	n := network{asked: make(chan string, 1), open: make(chan net.Listener, 1)}
	c, err := createServer(t, rt, "handler:v1", runtime.Spec{Network: n})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-n.asked; got != ":8080" {
		t.Errorf("got port %q, want :8080", got)
	}
	if got := body(t, client(t), "http://"+(<-n.open).Addr().String()+"/"); !strings.Contains(got, "count=1") {
		t.Errorf("got %q", got)
	}
	c.Kill()
	<-c.Done()
	c.Exit()
}

func TestAModuleOfAnotherModeIsRefusedWithTheWayOut(t *testing.T) {
	rt, _ := serving(t, "wasm-http")
	for _, row := range []struct{ handler, image, want string }{
		{"wasm-http", "guest:v1", "choose wasm-cgi"},
		{"wasm-cgi", "handler:v1", "choose wasm-http"},
	} {
		served, _ := rt.Handler(row.handler)
		if _, err := createServer(t, served, row.image, runtime.Spec{}); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s of %s: got %v, want advice to %q", row.image, row.handler, err, row.want)
		}
	}
	if _, ok := rt.Handler("kata"); ok {
		t.Error("there is a runtime for any handler")
	}
}

func TestAHandlerThatWasNeverStartedGivesItsPortBack(t *testing.T) {
	_, rt := serving(t, "wasm-http")
	l := listen(t)
	c, err := createServer(t, rt, "handler:v1", runtime.Spec{Listeners: []runtime.Listener{{Listener: l}}})
	if err != nil {
		t.Fatal(err)
	}
	c.Kill()
	<-c.Done()
	if e := c.Exit(); e.Code != 137 {
		t.Errorf("got %+v, want code 137", e)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the port is still open")
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("it started after it was killed")
	}
}
