package compile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"syscall"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
)

// Main is the child: it compiles the module that it reads from in, as args say
// (Child makes them), and returns the process's exit code.
func Main(args []string, in io.Reader, errs io.Writer) int {
	o, err := parse(args)
	if err != nil {
		_, _ = fmt.Fprintln(errs, err)
		return exitUsage
	}
	err = o.run(context.Background(), in)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintln(errs, err)
	if _, ok := errors.AsType[*InvalidError](err); ok {
		return exitInvalid
	}
	return exitTrouble
}

// order is what a child was told.
type order struct {
	dir     string
	memory  int64
	seconds int64
	workers int
}

func parse(args []string) (o order, err error) {
	const count = 4
	if len(args) != count {
		return o, fmt.Errorf("want DIRECTORY MEMORY SECONDS WORKERS and the module on standard input; this verb is for copepod's own use")
	}
	o.dir = args[0]
	var errMemory, errSeconds, errWorkers error
	o.memory, errMemory = strconv.ParseInt(args[1], 10, 64)
	o.seconds, errSeconds = strconv.ParseInt(args[2], 10, 64)
	o.workers, errWorkers = strconv.Atoi(args[3])
	if err := errors.Join(errMemory, errSeconds, errWorkers); err != nil {
		return o, err
	}
	if o.dir == "" || o.memory <= 0 || o.seconds <= 0 || o.workers <= 0 {
		return o, fmt.Errorf("%q: every limit is a number above zero", args)
	}
	return o, nil
}

func (o order) run(ctx context.Context, in io.Reader) error {
	// The collector works harder as the heap comes near what the system allows.
	debug.SetMemoryLimit(o.memory * 3 / 4)
	if err := bind(o.memory, o.seconds); err != nil {
		return fmt.Errorf("bind the compiler to its limits: %w", err)
	}
	code, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read the module: %w", err)
	}
	cache, err := wazero.NewCompilationCacheWithDir(o.dir)
	if err != nil {
		return err
	}
	_, err = NewRuntime(ctx, cache).CompileModule(experimental.WithCompilationWorkers(ctx, o.workers), code)
	switch {
	case err == nil:
		return nil // the process ends, and everything with it
	case ofSystem(err):
		return err
	}
	return &InvalidError{Reason: err.Error()}
}

// ofSystem tells a full disk from a module that is no good.
func ofSystem(err error) bool {
	var number syscall.Errno
	return errors.As(err, &number)
}
