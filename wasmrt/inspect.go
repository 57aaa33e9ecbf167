package wasmrt

import (
	"bytes"

	"github.com/tetratelabs/wazero/api"

	"copepod/wasmrt/memory"
	"copepod/wasmrt/serve/httpwasm"
	"copepod/wasmrt/wasi"
)

// ModuleInfo is what a module says of itself.
type ModuleInfo struct {
	Size      int
	Imports   []Import
	Exports   []Export
	Memory    bool  // it has a linear memory of its own
	MinMemory int64 // bytes it starts with
	MaxMemory int64 // bytes it may grow to; 0: as many as it is allowed
	Start     bool  // it has a start function, which runs before anything else
}

// Command reports whether the module is a program: it exports _start.
func (m ModuleInfo) Command() bool { return m.exports("_start", api.ExternTypeFunc) }

// Reactor reports whether the module is a library to call into: it exports
// _initialize and no _start.
func (m ModuleInfo) Reactor() bool {
	return !m.Command() && m.exports("_initialize", api.ExternTypeFunc)
}

func (m ModuleInfo) exports(name string, kind api.ExternType) bool {
	for _, e := range m.Exports {
		if e.Name == name && e.Kind == kind {
			return true
		}
	}
	return false
}

// Import is something that the module needs from its host. Params and Results
// are those of a function.
type Import struct {
	Module, Name    string
	Kind            api.ExternType
	Params, Results []api.ValueType
}

// Export is something that the module offers.
type Export struct {
	Name string
	Kind api.ExternType
}

// Inspect reads what a module imports, exports and needs. It never compiles,
// and takes memory in proportion to the module at most. It fails with a
// *MalformedError, or with an *UnsupportedError for a module that cannot run
// here; the ModuleInfo of the latter is filled in as far as it was read.
func Inspect(code []byte) (ModuleInfo, error) {
	info, err := parse(code)
	if err != nil {
		return info, err
	}
	return info, supported(info)
}

const (
	componentAdvice = "compile to wasip1"
	missingListed   = 5
)

// supported checks the module's needs against what we provide.
func supported(info ModuleInfo) error {
	missing := &UnsupportedError{}
	passes := "" // what passes things through the memory
	for _, i := range info.Imports {
		switch i.Module {
		case wasi.ModuleName:
			passes = "WASI"
		case httpwasm.ModuleName:
			passes = "http-wasm"
		}
		if i.Kind == api.ExternTypeFunc && (wasi.Provides(i.function()) || httpwasm.Provides(i.function())) {
			continue
		}
		missing.Advice = advise(i)
		if len(missing.Imports) == missingListed {
			missing.More++
			continue
		}
		missing.Imports = append(missing.Imports, i.label())
	}
	if len(missing.Imports) > 0 {
		return missing
	}
	if passes != "" && !info.exports("memory", api.ExternTypeMemory) {
		return &UnsupportedError{Feature: `no memory exported as "memory"`, Advice: passes + " passes everything through it"}
	}
	return nil
}

// label names the import in a message.
func (i Import) label() string { return shown(i.Module) + "." + shown(i.Name) }

func (i Import) function() wasi.Import {
	return wasi.Import{Module: i.Module, Name: i.Name, Params: i.Params, Results: i.Results}
}

// advise says what people usually have to change about a missing import.
func advise(i Import) string {
	switch {
	case httpwasm.Knows(i.Module, i.Name):
		return "the name is http-wasm's but the types are not: rebuild with a current guest library"
	case i.Module == wasi.ModuleName && wasi.Knows(i.Module, i.Name):
		return "the name is WASI's but the types are not: rebuild with a current toolchain"
	case i.Module == "gojs" || i.Module == "go":
		return "it was built for the browser: build with GOOS=wasip1 GOARCH=wasm"
	case i.Module == "wbg" || i.Module == "__wbindgen_placeholder__":
		return "it was built for the browser with wasm-bindgen: build for target wasm32-wasip1"
	case i.Module == "wasi_unstable":
		return "it is for a preview before preview1: rebuild with a current toolchain"
	case i.Module == "wasi" && i.Name == "thread-spawn":
		return "threads are not supported: build for wasm32-wasip1 without them"
	case i.Kind == api.ExternTypeMemory:
		return "a program brings its own memory: build without --import-memory"
	case i.Module == "env":
		return "a symbol was left undefined when linking, or it was built for the browser: compile to wasip1"
	}
	return "compile to wasip1, which is all that a program can rely on here"
}

func parse(code []byte) (ModuleInfo, error) {
	info := ModuleInfo{Size: len(code)}
	if err := header(code); err != nil {
		return info, err
	}
	d := decoder{b: code, pos: 8}
	p := parser{info: &info}
	for !d.done() {
		id := d.byte()
		s := d.section(d.count("bytes of a section"))
		p.section(id, &s)
		if d.err == nil {
			d.err = s.err
		}
		if d.err != nil {
			return info, d.err
		}
	}
	return info, p.unsupported
}

// header tells a module from everything that people hand over instead.
func header(code []byte) error {
	magic := []byte("\x00asm")
	switch {
	case len(code) == 0:
		return &MalformedError{Reason: "it is empty"}
	case bytes.HasPrefix(bytes.TrimLeft(code[:min(len(code), 256)], " \t\r\n"), []byte("(")):
		return &UnsupportedError{Feature: "WebAssembly text", Advice: "assemble it first, for example with wat2wasm"}
	case !bytes.HasPrefix(code, magic):
		return &MalformedError{Reason: `it does not begin with "\0asm"`}
	case len(code) < 8:
		return &MalformedError{Offset: len(code), Reason: "unexpected end"}
	case bytes.Equal(code[6:8], []byte{1, 0}): // layer 1
		return &UnsupportedError{Feature: "component (WASI 0.2)", Advice: componentAdvice}
	case !bytes.Equal(code[4:8], []byte{1, 0, 0, 0}):
		return &UnsupportedError{Feature: "a version of WebAssembly other than 1", Advice: "rebuild with a current toolchain"}
	}
	return nil
}

// Limits on what a module may announce, as browsers have them.
// Source: WebAssembly JavaScript interface, "implementation-defined limits".
const (
	maxLocals = 50_000
	maxPages  = 65_536
)

func pagesToBytes(pages uint32) int64 { return int64(pages) * memory.PageSize }
