// Package httpwasm is what a guest of the http-wasm handler ABI sees of a
// request, as a wazero host module named "http_handler". It knows headers, bodies
// and a guest's memory; it never learns what a guest is or who calls it.
//
//	err := httpwasm.Instantiate(ctx, runtime, imports) // once for each module
//	setup := httpwasm.NewSetup(httpwasm.Config{})      // while the guest initialises
//	init.Call(setup.Context(ctx))
//	exchange := setup.Exchange(w, r)                   // once for each request
//	result := handleRequest.Call(exchange.Context(ctx))
//	if exchange.Next(result) {                         // it passes the request on
//		handleResponse.Call(exchange.Context(ctx), result>>32, 0)
//	}
//	err = exchange.Finish()
//
// There is no next handler here: a request that the guest passes on is answered
// 404, and its handle_response may make something else of that.
//
// The ABI answers misuse with a trap; ours say what was wrong. Beyond the ABI
// each call is bounded, and a status or header that can no longer be sent is
// misuse too.
// Source: https://http-wasm.io/http-handler-abi/
package httpwasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"copepod/wasmrt/wasi"
)

// ModuleName is the module that guests import the ABI from.
const ModuleName = "http_handler"

// function is one host function. Every one but those of a Setup is for use while
// a request is handled.
type function struct {
	params, results string // one letter each: i is i32, I is i64
	call            func(*Exchange, frame)
	setup           func(*Setup, frame)
}

// functions are those of the ABI, by name.
var functions = map[string]function{
	"enable_features": {"i", "i", (*Exchange).enableFeatures, (*Setup).enableFeatures},
	"get_config":      {"ii", "i", (*Exchange).getConfig, (*Setup).getConfig},
	"log":             {"iii", "", (*Exchange).log, (*Setup).log},
	"log_enabled":     {"i", "i", (*Exchange).logEnabled, (*Setup).logEnabled},

	"get_header_names":  {"iii", "I", (*Exchange).getHeaderNames, nil},
	"get_header_values": {"iiiii", "I", (*Exchange).getHeaderValues, nil},
	"set_header_value":  {"iiiii", "", (*Exchange).setHeaderValue, nil},
	"add_header_value":  {"iiiii", "", (*Exchange).addHeaderValue, nil},
	"remove_header":     {"iii", "", (*Exchange).removeHeader, nil},

	"read_body":  {"iii", "I", (*Exchange).readBody, nil},
	"write_body": {"iii", "", (*Exchange).writeBody, nil},

	"get_method":           {"ii", "i", (*Exchange).getMethod, nil},
	"set_method":           {"ii", "", (*Exchange).setMethod, nil},
	"get_uri":              {"ii", "i", (*Exchange).getURI, nil},
	"set_uri":              {"ii", "", (*Exchange).setURI, nil},
	"get_protocol_version": {"ii", "i", (*Exchange).getProtocolVersion, nil},
	"get_source_addr":      {"ii", "i", (*Exchange).getSourceAddr, nil},

	"get_status_code": {"", "i", (*Exchange).getStatusCode, nil},
	"set_status_code": {"i", "", (*Exchange).setStatusCode, nil},
}

// Provides reports whether this package has the function, with these very types.
func Provides(i wasi.Import) bool {
	f, ok := functions[i.Name]
	return ok && i.Module == ModuleName && spells(f.params, i.Params) && spells(f.results, i.Results)
}

// Knows reports whether the name exists, with whatever types.
func Knows(module, name string) bool {
	_, ok := functions[name]
	return ok && module == ModuleName
}

func spells(letters string, list []api.ValueType) bool {
	if len(letters) != len(list) {
		return false
	}
	for i, t := range types(letters) {
		if list[i] != t {
			return false
		}
	}
	return true
}

func types(letters string) []api.ValueType {
	list := make([]api.ValueType, len(letters))
	for i := range list {
		list[i] = api.ValueTypeI32
		if letters[i] == 'I' {
			list[i] = api.ValueTypeI64
		}
	}
	return list
}

// Instantiate gives the runtime the host module with just the functions that
// imports names. Imports of other modules are left to others.
func Instantiate(ctx context.Context, runtime wazero.Runtime, imports []wasi.Import) error {
	builder := runtime.NewHostModuleBuilder(ModuleName)
	done := map[string]bool{}
	for _, i := range imports {
		if i.Module != ModuleName || done[i.Name] {
			continue
		}
		done[i.Name] = true
		if !Provides(i) {
			return fmt.Errorf("httpwasm: %s.%s%v %v is not provided", i.Module, i.Name, i.Params, i.Results)
		}
		f := functions[i.Name]
		builder.NewFunctionBuilder().
			WithGoModuleFunction(f.host(i.Name), types(f.params), types(f.results)).
			Export(i.Name)
	}
	if len(done) == 0 {
		return nil
	}
	_, err := builder.Instantiate(ctx)
	return err
}

// Misuse is how a call of the guest's was wrong. It is the trap that the guest
// ends in.
type Misuse struct{ Function, Reason string }

func (m *Misuse) Error() string { return ModuleName + "." + m.Function + ": " + m.Reason }

type contextKey struct{}

// host is the way from the guest into a function.
func (f function) host(name string) api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		c := frame{name: name, memory: mod.Memory(), stack: stack}
		switch on := ctx.Value(contextKey{}).(type) {
		case *Exchange:
			f.call(on, c)
			return
		case *Setup:
			if f.setup != nil {
				f.setup(on, c)
				return
			}
		}
		c.fail("no request is being handled")
	}
}
