// Package harness is what the comparisons share: guests that are built from
// source, a copepod host as `copepod up` makes one, and the processor's time. It
// knows toolchains and clocks; it never learns what is compared.
//
//	lab, err := harness.New(ctx)
//	defer lab.Close()
//	code, err := lab.C(ctx, "guests/hello.c")
//	module, err := lab.Host.Load(ctx, code)
//
// Its programs run in docs/bench/wasmtime, where the paths of guests begin, and
// hand their first argument to Child before anything else.
package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/compile"
)

const verb = "compile-module"

// Child ends the process if it was started to compile one module.
func Child() {
	if len(os.Args) > 1 && os.Args[1] == verb {
		os.Exit(compile.Main(os.Args[2:], os.Stdin, os.Stderr))
	}
}

// Lab is a directory for what is built, and a host with its cache there.
type Lab struct {
	Dir  string
	Host *wasmrt.Host
}

// New makes an empty Lab. Close removes it.
func New(ctx context.Context) (*Lab, error) {
	compiler, err := compile.Self(verb)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "copepod-bench")
	if err != nil {
		return nil, fmt.Errorf("making a directory for guests: %w", err)
	}
	host, err := wasmrt.New(ctx, wasmrt.Config{CacheDir: filepath.Join(dir, "cache"), Compiler: compiler})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("making a host: %w", err)
	}
	return &Lab{Dir: dir, Host: host}, nil
}

// Close ends what runs on the host and removes the directory.
func (l *Lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Host.Close(ctx); err != nil {
		return err // the directory is in use
	}
	return os.RemoveAll(l.Dir)
}

// C compiles a source file with clang and wasi-libc.
func (l *Lab) C(ctx context.Context, source string, flags ...string) ([]byte, error) {
	target := l.target(source)
	args := append([]string{"--target=wasm32-wasi", "-O2", "-mbulk-memory", "-o", target}, flags...)
	return build(exec.CommandContext(ctx, "clang", append(args, source, "-lm")...), source, target)
}

// Go compiles a source file, or the package in a directory.
func (l *Lab) Go(ctx context.Context, source string, flags ...string) ([]byte, error) {
	dir, name := source, "."
	if filepath.Ext(source) == ".go" {
		dir, name = filepath.Split(source)
	}
	target := l.target(source)
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath", "-o", target}, flags...), name)...)
	cmd.Dir = dir // whichever module that is in
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-buildvcs=false")
	return build(cmd, source, target)
}

func (l *Lab) target(source string) string {
	return filepath.Join(l.Dir, strings.NewReplacer("/", "-", "..", "").Replace(source)+".wasm")
}

func build(cmd *exec.Cmd, source, target string) ([]byte, error) {
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the guest %s: %w\n%s", source, err, out)
	}
	return os.ReadFile(target)
}

// ProcessorTime is what all threads of this process used so far.
func ProcessorTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("reading the processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
