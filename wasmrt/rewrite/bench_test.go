//go:build unix

package rewrite_test

import (
	"context"
	"io"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"copepod/wasmrt/rewrite"
)

func BenchmarkRewrite(b *testing.B) {
	for _, g := range guests {
		b.Run(g.name, func(b *testing.B) {
			code := g.build(b)
			b.SetBytes(int64(len(code)))
			for b.Loop() {
				if _, err := rewrite.Rewrite(code, rewrite.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// ticker stands in for the meter of package wasmrt, at its cost: two looks at
// the clock, a lock, a turn for others, and slices of half a millisecond.
type ticker struct {
	mu     sync.Mutex
	fuel   api.MutableGlobal
	refill uint64
	since  time.Time
	used   time.Duration
}

func (k *ticker) tick(_ context.Context, mod api.Module, _ []uint64) {
	const goal = 500 * time.Microsecond
	if k.fuel == nil {
		k.fuel, k.refill = mod.ExportedGlobal("__copepod_fuel").(api.MutableGlobal), 100_000
	}
	k.mu.Lock()
	spent := time.Since(k.since)
	k.used += spent
	k.mu.Unlock()
	if spent > 2*goal {
		k.refill = max(k.refill/2, 10_000)
	} else if spent < goal/2 {
		k.refill = min(k.refill*2, 50_000_000)
	}
	runtime.Gosched()
	k.fuel.Set(k.refill)
	k.mu.Lock()
	k.since = time.Now()
	k.mu.Unlock()
}

// BenchmarkTax runs programs as they are, metered, and metered with a capped
// call stack.
func BenchmarkTax(b *testing.B) {
	programs := []struct {
		name  string
		guest guest
		args  []string
	}{
		{"sieve", guests[1], []string{"sieve", "4"}},
		{"sha256", guests[1], []string{"sha256", "20"}},
		{"matmul", guests[1], []string{"matmul", "3"}},
		{"nbody", guests[1], []string{"nbody", "60"}},
		{"fib", guests[1], []string{"fib", "32"}},
		{"calls", guests[1], []string{"calls", "4"}},
		{"go", guests[0], []string{"60"}},
	}
	for _, p := range programs {
		b.Run(p.name, func(b *testing.B) {
			code := p.guest.build(b)
			variants := []struct {
				name   string
				limits *rewrite.Limits
			}{{"plain", nil}, {"metered", &rewrite.Limits{}}, {"capped", &rewrite.Limits{CallStack: 64 << 20}}}
			for _, v := range variants {
				b.Run(v.name, func(b *testing.B) { benchmarkProgram(b, code, v.limits, p.args) })
			}
		})
	}
}

func benchmarkProgram(b *testing.B, code []byte, limits *rewrite.Limits, args []string) {
	if limits != nil {
		var err error
		if code, err = rewrite.Rewrite(code, *limits); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features))
	defer rt.Close(ctx)
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	k := &ticker{}
	_, err := rt.NewHostModuleBuilder("copepod_meter").
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(k.tick), nil, nil).Export("tick").Instantiate(ctx)
	if err != nil {
		b.Fatal(err)
	}
	compiled, err := rt.CompileModule(ctx, code)
	if err != nil {
		b.Fatal(err)
	}
	began := processorTime()
	defer func() {
		// What others do on the machine shows less in this than in the wall clock.
		b.ReportMetric(float64(processorTime()-began)/float64(b.N), "cpu-ns/op")
	}()
	for b.Loop() {
		k.fuel = nil
		mod, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").
			WithStartFunctions().WithArgs(append([]string{"guest"}, args...)...).WithStdout(io.Discard))
		if err != nil {
			b.Fatal(err)
		}
		mod.ExportedFunction("_start").Call(ctx)
		mod.Close(ctx)
	}
}

// processorTime is what the process used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
