// Package rewrite turns a WebAssembly module into one that counts its own
// steps. It is a pure function from bytes to bytes, for bytes that nobody has
// looked at before: it knows the binary format and what each instruction costs;
// it never learns who runs the module, on what, or for how long.
//
//	code, err := rewrite.Rewrite(code, rewrite.Limits{})
//
// What comes out does what went in did, and beyond that:
//
//   - imports copepod_meter.tick, which it calls when its fuel is below zero, and
//     exports the fuel, a mutable i64, as __copepod_fuel: tick sets it anew
//   - exports every mutable global as __copepod_global_N, N being its number, so
//     that an instance can be put back to where it was, and its fuel once more
//     as __copepod_rewindable if that is all that it takes
//   - fills and copies memory in pieces, charging for each
//   - has tables that cannot grow past a limit, and few data segments
//
// # Why no guest escapes
//
// A guest that runs on must call or loop. Looking at the fuel (charging it, and
// calling tick below zero) happens
//
//  1. at the head of each loop that calls, and on entry to each function that
//     calls: no recursion, and no loop around a call, goes without;
//  2. in a loop that calls nothing but light functions (which neither loop nor
//     call, and weigh lightMax at most), when the budget that it keeps in a
//     register is past chunk;
//  3. on return from a function that has such loops and no calls, because its
//     caller may call it many times in a row;
//  4. where none of these would come before paceMax is run: the longest way
//     through the blocks since the last look is known, and charged for again.
//
// So between two looks at the fuel a guest runs no more than paceMax + chunk and
// the last instruction. The budget is taken from the fuel before any call but
// those of light functions and of the host, so only the function under way holds
// one, and no recursion multiplies it; what a trap forgets is chunk at most.
// What is charged is no less than what runs: a loop pays for all its
// instructions, whichever way it takes, at its head; a function pays for those
// outside of its loops on entry. Only a light function called indirectly pays
// by its call alone: weightIndirect for up to lightMax.
//
// A guest cannot name what we add. Every index that it has is checked against
// its own module before ours is made longer.
package rewrite

import "slices"

// Version changes whenever the same input gives different output. It belongs
// into the key of any cache of what is made from the output.
const Version = 3

const (
	meterModule    = "copepod_meter"
	meterTick      = "tick"
	reservedPrefix = "__copepod_"
	fuelGlobal     = reservedPrefix + "fuel"
	depthGlobal    = reservedPrefix + "depth"
	globalPrefix   = reservedPrefix + "global_"
	rewindGlobal   = reservedPrefix + "rewindable"
)

// DepthGlobal is the export that tells, after a trap, whether Limits.CallStack
// was it: then its value is above the limit.
const DepthGlobal = depthGlobal

// RewindGlobal is exported by a module all of whose state is its memory and the
// globals that are exported as GlobalPrefix and a number, and DepthGlobal: one
// that changes no table, drops no segment, and has no global that holds a
// reference or a vector. Any other cannot be put back to where it was.
const RewindGlobal = rewindGlobal

// GlobalPrefix begins the export of each mutable global.
const GlobalPrefix = globalPrefix

// Report is what was found and done.
type Report struct {
	Functions    int      // that the module defines
	Looks        int      // places that look at the fuel
	Counted      int      // functions that count the call stack
	Segments     int      // data segments it came with
	Merged       int      // data segments it has now
	Globals      []string // exported names of the mutable globals, the fuel not among them
	TableEntries int      // the most that all its tables can hold, of 8 bytes each
	Dropped      []string // custom sections that were left out
	Rewindable   bool     // it exports RewindGlobal
}

// Rewrite returns the metered form of a module. It fails with an *Error for a
// module that is malformed or past a limit, and with an
// *UnsupportedFeatureError for one that needs what the runtime lacks. It does
// not check types; the compiler does, and what it would refuse of the original
// it refuses of the rewritten one. The code is only read.
func Rewrite(code []byte, limits Limits) ([]byte, error) {
	out, _, err := RewriteReport(code, limits)
	return out, err
}

// RewriteReport is Rewrite, and tells what it did.
func RewriteReport(code []byte, limits Limits) ([]byte, Report, error) {
	out, report, _, err := rewrite(code, limits, false)
	return out, report, err
}

func rewrite(code []byte, limits Limits, moves bool) ([]byte, Report, []Move, error) {
	limits = limits.withDefaults()
	m, err := parse(code, limits)
	if err != nil {
		return nil, Report{}, nil, err
	}
	a := &assembler{m: m, noting: moves}
	a.report.Functions, a.report.Segments = len(m.functions), len(m.segments)
	m.count()
	a.merged = m.merge()
	a.report.Merged = len(m.segments)
	for _, t := range m.tables {
		entries := t.min
		if t.bounded {
			entries = t.max
		}
		a.report.TableEntries += int(entries)
	}
	for _, c := range m.graph.costs {
		a.report.Counted += b2i(c > 0)
	}
	a.out = append(make([]byte, 0, len(code)+len(code)/4), code[:8]...)
	if err := a.assemble(); err != nil {
		return nil, Report{}, nil, err
	}
	return slices.Clip(a.out), a.report, a.moves, nil
}
