package rewrite_test

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/rewrite"
)

// A guest that loops forever is stopped by the tick that it calls itself.
func Example() {
	var m wasmtest.Module
	m.Export("spin", wasmtest.Func, m.Func("", "", loop, wasmtest.Br(0), end))
	code, err := rewrite.Rewrite(m.Bytes(), rewrite.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	ticks := 0
	rt.NewHostModuleBuilder("copepod_meter").NewFunctionBuilder().
		WithFunc(func(_ context.Context, guest api.Module) {
			if ticks++; ticks > 3 {
				panic(sys.NewExitError(137))
			}
			guest.ExportedGlobal("__copepod_fuel").(api.MutableGlobal).Set(1_000_000)
		}).Export("tick").Instantiate(ctx)
	guest, err := rt.Instantiate(ctx, code)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = guest.ExportedFunction("spin").Call(ctx)
	fmt.Println(err)
	// Output: module closed with exit_code(137)
}
