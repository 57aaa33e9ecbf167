package wasmrt_test

import (
	"context"
	"fmt"
	"os"

	"copepod/wasmrt"
)

// A module is compiled once, and each run of it is an instance.
func Example() {
	ctx := context.Background()
	host, err := wasmrt.New(ctx, wasmrt.Config{})
	if err != nil {
		panic(err)
	}
	defer host.Close(ctx)
	module, err := host.Load(ctx, sevenExit)
	if err != nil {
		panic(err)
	}
	defer module.Close()
	instance, err := host.Start(ctx, module, wasmrt.Program{
		Args: []string{"program", "argument"}, Stdout: os.Stdout, MemoryLimit: 16 << 20,
	})
	if err != nil {
		panic(err)
	}
	exit, err := instance.Wait(ctx)
	fmt.Println(exit.Reason, exit.Code, err)
	// Output: Error 7 <nil>
}

// Inspect tells what a module needs before anything is compiled.
func ExampleInspect() {
	_, err := wasmrt.Inspect([]byte("\x00asm\x0d\x00\x01\x00"))
	fmt.Println(err)
	info, err := wasmrt.Inspect(sevenExit)
	fmt.Println(info.Command(), info.Imports[0].Module, info.Imports[0].Name, err)
	// Output:
	// component (WASI 0.2): compile to wasip1
	// true wasi_snapshot_preview1 proc_exit <nil>
}
