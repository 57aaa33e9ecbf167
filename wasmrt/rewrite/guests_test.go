package rewrite_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/rewrite"
)

// refill is what the tests' tick puts into the fuel.
const refill = 1_000_000

// host gives a runtime what guests import: WASI, and a tick that counts.
func host(t testing.TB, rt wazero.Runtime, ticks *int) {
	t.Helper()
	ctx := context.Background()
	wasi_snapshot_preview1.MustInstantiate(ctx, rt)
	tick := api.GoModuleFunc(func(_ context.Context, mod api.Module, _ []uint64) {
		*ticks++
		mod.ExportedGlobal("__copepod_fuel").(api.MutableGlobal).Set(refill)
	})
	_, err := rt.NewHostModuleBuilder("copepod_meter").
		NewFunctionBuilder().WithGoModuleFunction(tick, nil, nil).Export("tick").Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
}

// outcome is all that a program leaves behind.
type outcome struct {
	stdout, stderr string
	exit           string
	memory         string
}

func run(t testing.TB, config wazero.RuntimeConfig, code []byte, args ...string) (outcome, int) {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(features))
	defer rt.Close(ctx)
	ticks := 0
	host(t, rt, &ticks)
	compiled, err := rt.CompileModule(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	mod, err := rt.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").
		WithStartFunctions().WithArgs(args...).WithStdout(&stdout).WithStderr(&stderr))
	if err != nil {
		t.Fatal(err)
	}
	_, err = mod.ExportedFunction("_start").Call(ctx)
	o := outcome{stdout: stdout.String(), stderr: stderr.String()}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		o.exit = fmt.Sprint("exit code ", exit.ExitCode())
	} else if err != nil {
		o.exit = err.Error()
	}
	if m := mod.Memory(); m != nil {
		b, _ := m.Read(0, m.Size())
		o.memory = fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256(b))
	}
	return o, ticks
}

// guest is a program in testdata, and how to compile it.
type guest struct {
	name    string
	compile func(t testing.TB, source, target string) *exec.Cmd
}

func goGuest(t testing.TB, source, target string) *exec.Cmd {
	c := exec.Command("go", "build", "-trimpath", "-o", target, source)
	c.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	return c
}

func cGuest(t testing.TB, source, target string) *exec.Cmd {
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("clang is not installed")
	}
	return exec.Command("clang", "--target=wasm32-wasi", "-O2", "-mbulk-memory", "-o", target, source, "-lm")
}

func rustGuest(t testing.TB, source, target string) *exec.Cmd {
	const compiler = "/usr/bin/rustc" // a toolchain manager's own lacks the target
	if _, err := os.Stat(compiler); err != nil {
		t.Skip("rustc is not installed")
	}
	return exec.Command(compiler, "--target", "wasm32-wasi", "-O", "-o", target, source)
}

var guests = []guest{
	{"program.go", goGuest}, {"kernels.c", cGuest}, {"program.rs", rustGuest},
}

// build compiles a guest, or skips where its toolchain is missing.
func (g guest) build(t testing.TB) []byte {
	t.Helper()
	target := filepath.Join(t.TempDir(), "guest.wasm")
	if out, err := g.compile(t, filepath.Join("testdata", g.name), target).CombinedOutput(); err != nil {
		t.Skipf("%s does not compile here: %v\n%s", g.name, err, out)
	}
	code, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestGuestsBehaveTheSameWhenRewritten(t *testing.T) {
	for _, g := range guests {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			code := g.build(t)
			for name, limits := range map[string]rewrite.Limits{"": {}, " with a capped call stack": {CallStack: 64 << 20}} {
				metered, report, err := rewrite.RewriteReport(code, limits)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d bytes, then %d%s: %+v", len(code), len(metered), name, report)
				for engine, config := range engines {
					if testing.Short() && engine == "interpreter" {
						continue
					}
					want, _ := run(t, config(), code, "guest", "test")
					got, ticks := run(t, config(), metered, "guest", "test")
					if got != want {
						t.Errorf("%s%s: got %+v, want %+v", engine, name, got, want)
					}
					if ticks == 0 {
						t.Errorf("%s%s: no tick", engine, name)
					}
				}
			}
		})
	}
}
