// Package wasi is the system that a guest sees: WASI preview1, with sockets in
// the dialects that guests speak, as a wazero host module. It knows file
// descriptors, clocks, streams, directories and connections; it never learns of
// pods, images or modules' digests. Behaviour follows wasmtime's where the
// standard leaves a choice.
//
// One System is one guest's: its descriptor table, arguments and streams. The
// host functions find it in the context of the call.
//
//	err := wasi.Instantiate(ctx, runtime, imports)   // once for each module
//	system, err := wasi.New(wasi.Config{Args: args}) // once for each instance
//	defer system.Close()
//	mod, err := runtime.InstantiateModule(system.Context(ctx), compiled, config)
//
// Nothing here waits in the kernel for the guest's sake: a call that must wait
// parks its goroutine until the descriptor is ready, the timer fires, or
// Interrupt ends the guest. An idle server costs no time at all.
package wasi

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Import is a function that a module wants from the host.
type Import struct {
	Module, Name    string
	Params, Results []api.ValueType
}

// Provides reports whether this package has the function, with these very
// types. Where two dialects use one name, the types choose between them.
func Provides(i Import) bool {
	_, ok := find(i)
	return ok
}

// Knows reports whether the name exists at all, in any dialect: a module that
// wants it with other types was built against another standard.
func Knows(module, name string) bool {
	if module != ModuleName {
		return false
	}
	_, ok := functions[name]
	_, other := dialects[name]
	return ok || other
}

func find(i Import) (function, bool) {
	if i.Module != ModuleName {
		return function{}, false
	}
	if f, ok := functions[i.Name]; ok && f.fits(i) {
		return f, true
	}
	for _, f := range dialects[i.Name] {
		if f.fits(i) {
			return f, true
		}
	}
	return function{}, false
}

func (f function) fits(i Import) bool {
	results := 1
	if f.void {
		results = 0
	}
	if len(i.Params) != len(f.params) || len(i.Results) != results {
		return false
	}
	for n, t := range f.types() {
		if i.Params[n] != t {
			return false
		}
	}
	return f.void || i.Results[0] == api.ValueTypeI32
}

func (f function) types() []api.ValueType {
	types := make([]api.ValueType, len(f.params))
	for n := range types {
		types[n] = api.ValueTypeI32
		if f.params[n] == 'I' {
			types[n] = api.ValueTypeI64
		}
	}
	return types
}

// Instantiate gives the runtime the host module with just the functions that
// imports names, in the dialect that their types ask for. Imports of other
// modules are left to others.
func Instantiate(ctx context.Context, runtime wazero.Runtime, imports []Import) error {
	builder := runtime.NewHostModuleBuilder(ModuleName)
	done := map[string]string{} // by name, the types
	for _, i := range imports {
		if i.Module != ModuleName {
			continue
		}
		f, ok := find(i)
		if have, again := done[i.Name]; again && ok {
			if have != f.params {
				return fmt.Errorf("wasi: %s.%s is imported in two dialects, of preview1 and of WasmEdge's version 1; use version 2 (%s_v2)", i.Module, i.Name, i.Name)
			}
			continue
		}
		done[i.Name] = f.params
		if !ok {
			return fmt.Errorf("wasi: %s.%s%v %v is not provided", i.Module, i.Name, i.Params, i.Results)
		}
		results := []api.ValueType{api.ValueTypeI32}
		if f.void {
			results = nil
		}
		builder.NewFunctionBuilder().
			WithGoModuleFunction(f.host(i.Name), f.types(), results).
			Export(i.Name)
	}
	if len(done) == 0 {
		return nil
	}
	_, err := builder.Instantiate(ctx)
	return err
}

// host is the way from the guest into a function: find the system, leave if
// the guest was ended meanwhile, call, hand back the errno.
func (f function) host(name string) api.GoModuleFunc {
	if f.void {
		return func(ctx context.Context, mod api.Module, stack []uint64) {
			s := ctx.Value(systemKey{}).(*System)
			s.enter()
			if s.trace != nil {
				s.traced(name, f, frame{arg: stack})
				return
			}
			f.call(s, frame{arg: stack})
		}
	}
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		s := ctx.Value(systemKey{}).(*System)
		s.enter()
		call := frame{mem: memoryOf(mod), arg: stack[:max(len(f.params), 1)]}
		if s.trace != nil {
			stack[0] = uint64(s.traced(name, f, call))
			return
		}
		stack[0] = uint64(f.call(s, call))
	}
}
