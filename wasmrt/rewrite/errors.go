package rewrite

import "fmt"

// Error is a module that is malformed or past a limit.
type Error struct {
	Offset int    // in bytes from the start of the module
	Reason string // what is wrong there
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
}

// UnsupportedFeatureError is a module that uses what the runtime cannot run, or
// cannot run safely.
type UnsupportedFeatureError struct {
	Offset  int    // in bytes from the start of the module
	Feature string // "threads", …
	Advice  string // the way out
}

func (e *UnsupportedFeatureError) Error() string {
	return fmt.Sprintf("%s at byte %d: %s", e.Feature, e.Offset, e.Advice)
}

// A feature that is refused, and what to do about it.
type feature struct{ name, advice string }

// The features that are refused. Each is one that wazero does not run, except
// the exceptions; see Limits.Exceptions for those.
var (
	threads          = feature{"threads", "build without atomics and shared memory"}
	relaxedSIMD      = feature{"relaxed SIMD", "build with -msimd128 alone"}
	garbageCollected = feature{"garbage-collected types", "build without the GC proposal"}
	memory64         = feature{"64-bit memory", "build for wasm32"}
	multiMemory      = feature{"more than one memory", "build without the multi-memory proposal"}
	typedReferences  = feature{"typed function references", "build without the function-references proposal"}
	legacyExceptions = feature{"legacy exceptions", "translate them with wasm-opt --translate-to-exnref, or build without exceptions"}
	exceptions       = feature{"exceptions", "the runtime cannot hold them safely: build with -fno-exceptions, or with panic=abort"}
	wideArithmetic   = feature{"wide arithmetic", "build without the wide-arithmetic proposal"}
)
