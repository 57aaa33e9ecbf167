// Command wasmtime compares runtimes in one process: wazero as it comes, copepod's
// (wazero with metering, a capped call stack and a WASI of its own, as package
// wasmrt runs guests), and wasmtime with and without epoch interruption.
//
//	docs/bench/run wasmtime
//
// First the speed of compiled code, as ratios; then what a start and a request
// with nothing left behind take. Processor time is the best of some rounds, in
// which everybody has a turn.
//
// wasmtime is used by its Go binding, which knows no pooling allocator and no
// instances that are linked ahead. It has a module of its own beside copepod's,
// which is to have nothing to do with cgo.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"

	"copepod-bench-wasmtime/harness"
)

func main() {
	harness.Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "wasmtime:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	rounds := flag.Int("rounds", 10, "of which the best counts")
	flag.Parse()
	lab, err := harness.New(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	fmt.Printf("%s; %s/%s, %d cores\n", versions(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if err := speed(ctx, lab, *rounds); err != nil {
		return err
	}
	return starts(ctx, lab, *rounds)
}

// versions are those that were linked.
func versions() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown versions"
	}
	all := []string{info.GoVersion}
	for _, m := range info.Deps {
		if strings.Contains(m.Path, "/wazero") || strings.Contains(m.Path, "/wasmtime-go") {
			all = append(all, m.Path[strings.LastIndex(m.Path, "github.com/")+len("github.com/"):]+" "+m.Version)
		}
	}
	return strings.Join(all, ", ")
}
