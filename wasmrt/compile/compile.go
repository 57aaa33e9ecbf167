// Package compile makes machine code of WebAssembly modules in a process of its
// own, with limits, so that no module however shaped can end or stall the
// process that wants to run it. It knows modules, limits and directories; it
// never learns what a module is for, and it runs none.
//
//	child := compile.Child{Command: compile.Self("compile-wasm"), Memory: 1 << 30, Time: time.Minute}
//	err := child.Compile(ctx, code, dir) // and dir holds wazero's cache entry of it
//
// The verb of the process's own command line calls Main with the arguments that
// follow it:
//
//	os.Exit(compile.Main(os.Args[2:], os.Stdin, os.Stderr))
//
// The child has an empty environment, no open files but its streams, and no
// work but this. On Linux it binds itself before it reads the first byte: to
// memory, to processor time and to the size of what it writes. Elsewhere only
// its time is bounded, by the parent's clock.
package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// features are what we take: all of WebAssembly 2.0, and of what came later
// what costs a host nothing it cannot bound.
const features = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// NewRuntime is a runtime whose machine code and Child's are the same: it finds
// in the cache what a Child has put there.
func NewRuntime(ctx context.Context, cache wazero.CompilationCache) wazero.Runtime {
	// The guest's own DWARF is never in what comes here: wazero would look lines
	// up for every guest that leaves by way of a panic, which exit and kill are,
	// at 10 ms and under a lock for each. What may be there is a stand-in of one
	// line, which makes it write the places of frames.
	return wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(features).
		WithDebugInfoEnabled(true).
		WithCompilationCache(cache))
}

// Child compiles in child processes.
type Child struct {
	Command []string      // a command line that leads to Main; its arguments are appended
	Memory  int64         // bytes that one may take, beyond what the empty process has
	Time    time.Duration // of the processor that one may take, on all cores together
	Workers int           // threads; 0: one
}

// Self is the command line of this very program with a verb. On Linux it holds
// even after the program's file was replaced by a newer one.
func Self(verb string) ([]string, error) {
	if runtime.GOOS == "linux" {
		return []string{"/proc/self/exe", verb}, nil
	}
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return []string{path, verb}, nil
}

// LimitError is a module that takes more to compile than it may.
type LimitError struct{ Limit string } // "1 GiB of memory", "30s of processor time"

func (e *LimitError) Error() string { return "takes more than " + e.Limit + " to compile" }

// InvalidError is a module that the compiler refused.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

// CrashError is a module at which the compiler failed.
type CrashError struct{ Reason string }

func (e *CrashError) Error() string { return "the compiler failed at it: " + e.Reason }

// The exit codes of a child. Go's own, for a panic or a fatal error, is 2.
const (
	exitInvalid = 3
	exitTrouble = 4
	exitUsage   = 64
)

// patience is how much longer than its processor time a child may take by the
// clock: others want the processor too.
const patience = 4

// Compile leaves wazero's cache entry of the module in dir. It fails with a
// *LimitError, *InvalidError or *CrashError if that is the module's fault. The
// child is gone when it returns; it is killed when ctx ends.
func (c Child) Compile(ctx context.Context, code []byte, dir string) error {
	if len(c.Command) == 0 {
		return errors.New("compile: no command to start")
	}
	timed, cancel := context.WithTimeout(ctx, patience*c.Time)
	defer cancel()
	args := append(c.Command[1:len(c.Command):len(c.Command)], c.arguments(dir)...)
	cmd := exec.CommandContext(timed, c.Command[0], args...)
	cmd.Dir = dir
	cmd.Env = []string{}
	cmd.Stdin = bytes.NewReader(code)
	said := &head{room: 16 << 10}
	cmd.Stderr = said
	cmd.SysProcAttr = attributes()
	cmd.WaitDelay = 5 * time.Second
	// The system kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("compile: %w", ctx.Err())
	case timed.Err() != nil:
		return &LimitError{Limit: fmt.Sprintf("%v by the clock", patience*c.Time)}
	case cmd.ProcessState == nil:
		return fmt.Errorf("compile: start a process for it: %w", err)
	}
	return c.diagnose(cmd.ProcessState, said.String())
}

// arguments are what Main reads.
func (c Child) arguments(dir string) []string {
	return []string{
		dir,
		strconv.FormatInt(c.Memory, 10),
		strconv.FormatInt(seconds(c.Time), 10),
		strconv.Itoa(max(c.Workers, 1)),
	}
}

// seconds rounds up: the system counts whole ones.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// diagnose tells from how a child ended what the matter was.
func (c Child) diagnose(state *os.ProcessState, said string) error {
	first, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	spent := state.UserTime() + state.SystemTime()
	switch {
	case state.ExitCode() == exitInvalid:
		return &InvalidError{Reason: strings.TrimSpace(said)}
	case outOfMemory(said):
		return &LimitError{Limit: Bytes(c.Memory) + " of memory"}
	case state.ExitCode() == exitTrouble || state.ExitCode() == exitUsage:
		return fmt.Errorf("compile: %s", first)
	case state.ExitCode() >= 0:
		return &CrashError{Reason: first}
	case spent >= time.Duration(seconds(c.Time))*time.Second*9/10:
		return &LimitError{Limit: fmt.Sprintf("%v of processor time", c.Time)}
	}
	return fmt.Errorf("compile: the compiler was ended from outside (%v); the machine may be short of memory: try again", state)
}

// outOfMemory knows what a Go program says that got no more memory: its heap,
// its stacks, or the pages for machine code; and in the last two, what one says
// that looks for races.
func outOfMemory(said string) bool {
	for _, text := range []string{
		"out of memory", "cannot allocate memory", "cannot map pages", "failed to reserve", "cannot reserve", "stack exceeds",
		"failed to allocate", "address space collisions",
	} {
		if strings.Contains(said, text) {
			return true
		}
	}
	return false
}

// Bytes spells a size as people do.
func Bytes(n int64) string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if size := int64(1) << (30 - 10*i); n >= size && n%size == 0 {
			return fmt.Sprintf("%d %s", n/size, unit)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// head keeps the first bytes of what is written to it.
type head struct {
	bytes.Buffer
	room int
}

func (h *head) Write(p []byte) (int, error) {
	keep := p[:min(len(p), h.room)]
	h.room -= len(keep)
	h.Buffer.Write(keep)
	return len(p), nil
}
