package rewrite

import "cmp"

// Limits bound what a module may announce, before anything is allocated for it
// and before a compiler sees it. A zero field has the default; the defaults are
// those of browsers where they have one, and what real programs never reach
// where wazero's compiler or memory takes harm earlier.
// Source: WebAssembly JavaScript interface, "implementation-defined limits".
type Limits struct {
	Types          int // function types; 100,000
	Params         int // parameters of one type, and results of one type; 1,000
	Imports        int // 100,000
	Functions      int // imported and defined; 1,000,000
	Tables         int // 64
	TableEntries   int // of all tables together, however they grow; 1,048,576 (8 MiB of the host)
	Globals        int // 100,000
	Exports        int // 100,000
	Tags           int // 1,000
	Elements       int // element segments, and references in all of them; 1,048,576 each
	DataSegments   int // 100,000
	BodyBytes      int // of one function; 7,654,321
	CodeBytes      int // of all functions; 64 MiB
	Locals         int // of one function, parameters included; 50,000
	TotalLocals    int // of all functions; 10,000,000
	Nesting        int // blocks within blocks; 10,000
	BranchTargets  int // of one br_table; 65,520
	TotalTargets   int // of all br_tables; 1,048,576
	ConstantLength int // instructions of one constant expression; 1,000

	// CompileWork bounds what the branches of all functions may take to compile,
	// in nanoseconds of one core, by the estimate in work.go: wazero's compiler is
	// quadratic in some of them; 10,000,000,000.
	CompileWork int

	// CallStack caps the memory that nested calls take, in bytes of the estimate
	// that depth.go explains; what the host holds is at most about three times as
	// much. A guest that goes deeper traps in the function "call stack
	// exhausted". 0: no cap, and wazero's own of 50 to 100 MB holds.
	CallStack int

	// Exceptions lets modules with try_table, throw and throw_ref pass. wazero
	// 1.12 keeps an exception reference that the guest stores where Go's garbage
	// collector does not see it, and copies the whole stack for every try_table
	// that is entered: only for guests that are trusted.
	Exceptions bool
}

func (l Limits) withDefaults() Limits {
	l.Types = cmp.Or(l.Types, 100_000)
	l.Params = cmp.Or(l.Params, 1_000)
	l.Imports = cmp.Or(l.Imports, 100_000)
	l.Functions = cmp.Or(l.Functions, 1_000_000)
	l.Tables = cmp.Or(l.Tables, 64)
	l.TableEntries = cmp.Or(l.TableEntries, 1<<20)
	l.Globals = cmp.Or(l.Globals, 100_000)
	l.Exports = cmp.Or(l.Exports, 100_000)
	l.Tags = cmp.Or(l.Tags, 1_000)
	l.Elements = cmp.Or(l.Elements, 1<<20)
	l.DataSegments = cmp.Or(l.DataSegments, 100_000)
	l.BodyBytes = cmp.Or(l.BodyBytes, 7_654_321)
	l.CodeBytes = cmp.Or(l.CodeBytes, 64<<20)
	l.Locals = cmp.Or(l.Locals, 50_000)
	l.TotalLocals = cmp.Or(l.TotalLocals, 10_000_000)
	l.Nesting = cmp.Or(l.Nesting, 10_000)
	l.BranchTargets = cmp.Or(l.BranchTargets, 65_520)
	l.TotalTargets = cmp.Or(l.TotalTargets, 1<<20)
	l.ConstantLength = cmp.Or(l.ConstantLength, 1_000)
	l.CompileWork = cmp.Or(l.CompileWork, 10_000_000_000)
	l.CallStack = min(l.CallStack, 1<<30)
	return l
}
