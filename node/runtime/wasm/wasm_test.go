package wasm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"copepod/node/runtime"
	"copepod/node/runtime/runtimetest"
	"copepod/node/runtime/wasm"
	"copepod/registry"
	"copepod/wasmrt"
)

// guest is the suite's program, built for WASI once for all tests.
var guest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	out := filepath.Join(dir, "guest.wasm")
	cmd := exec.Command("go", "build", "-o", out, "copepod/node/runtime/runtimetest/guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// compiler builds one that does not look for races in wazero: that would take a
// minute for a guest in Go. A test has wazero's version from nowhere, and calls it
// "dev".
var compiler = sync.OnceValues(func() (string, error) {
	out := filepath.Join(cache, "..compiler")
	cmd := exec.Command("go", "build", "-ldflags", "-X github.com/tetratelabs/wazero/internal/version.version=dev", "-o", out, "copepod/wasmrt/internal/wasmtest/compiler")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	return out, nil
})

// cache is where compiled code is kept for all tests.
var cache string

func TestMain(m *testing.M) {
	var err error
	if cache, err = os.MkdirTemp("", "cache"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(cache)
	os.Exit(code)
}

// newRuntime makes a runtime with the guest and some modules that do not run.
func newRuntime(t *testing.T, more ...func(*registry.Store)) (*wasm.Runtime, *wasmrt.Host) {
	t.Helper()
	code, err := guest()
	if err != nil {
		t.Skipf("the guest cannot be built: %v", err)
	}
	images, err := registry.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, code := range map[string][]byte{
		"guest:v1":     code,
		"unknown:v1":   unknownImport,
		"component:v1": {0, 'a', 's', 'm', 0x0d, 0, 1, 0},
		"trap:v1":      trapping,
	} {
		if _, err := images.Pack(t.Context(), code, registry.PackConfig{Ref: name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, add := range more {
		add(images)
	}
	compiler, err := compiler()
	if err != nil {
		t.Fatal(err)
	}
	host, err := wasmrt.New(t.Context(), wasmrt.Config{CacheDir: cache, Compiler: []string{compiler}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := host.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	rt, err := wasm.New(wasm.Config{Host: host, Images: images})
	if err != nil {
		t.Fatal(err)
	}
	return rt, host
}

// unknownImport imports env.foo: (import "env" "foo" (func)) (func (export "_start")).
var unknownImport = []byte{
	0, 'a', 's', 'm', 1, 0, 0, 0,
	1, 4, 1, 0x60, 0, 0, // type: () -> ()
	2, 11, 1, 3, 'e', 'n', 'v', 3, 'f', 'o', 'o', 0, 0, // import
	3, 2, 1, 0, // one function
	7, 10, 1, 6, '_', 's', 't', 'a', 'r', 't', 0, 1, // export
	10, 4, 1, 2, 0, 0x0b, // its body
}

// trapping does what is not allowed: (func (export "_start") unreachable).
var trapping = []byte{
	0, 'a', 's', 'm', 1, 0, 0, 0,
	1, 4, 1, 0x60, 0, 0,
	3, 2, 1, 0,
	7, 10, 1, 6, '_', 's', 't', 'a', 'r', 't', 0, 0,
	10, 5, 1, 3, 0, 0x00, 0x0b,
}

func TestWasmIsARuntime(t *testing.T) {
	rt, _ := newRuntime(t)
	runtimetest.Run(t, runtimetest.Subject{Runtime: rt, Image: "guest:v1"})
}

func create(t *testing.T, rt *wasm.Runtime, name string, spec runtime.Spec) (runtime.Container, error) {
	t.Helper()
	image, err := rt.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	spec.Image = image
	return rt.Create(t.Context(), spec)
}

func TestImagesAreNamedByWhatTheyAre(t *testing.T) {
	rt, _ := newRuntime(t)
	image, err := rt.Image(t.Context(), "guest:v1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(image.ID, "guest@sha256:") || image.Size == 0 || !image.Local {
		t.Errorf("got %+v, want guest@sha256:…, a size, local", image)
	}
	if again, err := rt.Image(t.Context(), image.ID); err != nil || again.ID != image.ID {
		t.Errorf("got %+v, %v by digest, want the same", again, err)
	}
}

func TestAMissingImageWithoutARegistrySaysHowToGetIt(t *testing.T) {
	rt, _ := newRuntime(t)
	_, err := rt.Pull(t.Context(), "nowhere:v1", runtime.Credentials{})
	if !errors.Is(err, runtime.ErrNoImage) || !strings.Contains(err.Error(), "copepod build") {
		t.Errorf("got %v, want %v and the way out", err, runtime.ErrNoImage)
	}
}

func TestModulesThatCannotRunAreRefusedByName(t *testing.T) {
	rt, host := newRuntime(t)
	for name, want := range map[string]string{
		"unknown:v1":   "env.foo",
		"component:v1": "component",
	} {
		if _, err := create(t, rt, name, runtime.Spec{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that names %q", name, err, want)
		}
	}
	if got := host.Stats().Modules; got != 0 {
		t.Errorf("got %d modules held after they were refused, want 0", got)
	}
}

func TestATrapIsTheMessageAndTheEndOfTheLog(t *testing.T) {
	rt, _ := newRuntime(t)
	var log bytes.Buffer
	c, err := create(t, rt, "trap:v1", runtime.Spec{Stderr: &log})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	e := c.Exit()
	if e.Code != 134 || e.Reason != runtime.Error || !strings.Contains(e.Message, "unreachable") {
		t.Errorf("got %+v, want code 134 and the trap", e)
	}
	if c.Exit() != e || strings.Count(log.String(), e.Message) != 1 {
		t.Errorf("got log %q, want the trap once", log.String())
	}
}

func TestAModuleIsCompiledOnceAndStaysForTheNextRun(t *testing.T) {
	rt, host := newRuntime(t)
	for range 3 {
		var all []runtime.Container
		for range 3 {
			c, err := create(t, rt, "guest:v1", runtime.Spec{Args: []string{"fail"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		for _, c := range all {
			<-c.Done()
			c.Exit()
		}
	}
	if got := host.Stats(); got.Compiled+got.CacheHits != 1 || got.Modules != 1 {
		t.Errorf("got %d compilations, %d loads and %d modules held, want one", got.Compiled, got.CacheHits, got.Modules)
	}
}

func TestUsageIsKnownWhileItRuns(t *testing.T) {
	rt, _ := newRuntime(t)
	c, err := create(t, rt, "guest:v1", runtime.Spec{Args: []string{"fail"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if got := c.(runtime.Statser).Stats(); got.CPU <= 0 {
		t.Errorf("got %+v, want some processor time", got)
	}
}
