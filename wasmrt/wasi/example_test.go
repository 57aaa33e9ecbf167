package wasi_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/wasi"
)

// A runtime gets the functions that a module imports, and each instance a
// System of its own, through the context.
func Example() {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	exit := wasi.Import{Module: wasi.ModuleName, Name: "proc_exit", Params: []api.ValueType{api.ValueTypeI32}}
	if err := wasi.Instantiate(ctx, rt, []wasi.Import{exit}); err != nil {
		panic(err)
	}
	system, err := wasi.New(wasi.Config{Args: []string{"program"}})
	if err != nil {
		panic(err)
	}
	defer system.Close()
	_, err = rt.Instantiate(system.Context(ctx), program())
	code, _ := errors.AsType[*sys.ExitError](err)
	fmt.Println(code.ExitCode(), system.Exited())
	// Output: 7 true
}

// program exits with code 7.
func program() []byte {
	var m wasmtest.Module
	exit := m.Import(wasi.ModuleName, "proc_exit", "i", "")
	m.Memory(1, 1)
	m.Export("_start", wasmtest.Func, m.Func("", "", wasmtest.I32(7), wasmtest.Call(exit)))
	return m.Bytes()
}
