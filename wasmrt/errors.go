package wasmrt

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// UnsupportedError is a module that is well-formed as far as it was read, but
// needs what no host here provides.
type UnsupportedError struct {
	Imports []string // "env.foo" each, that nobody provides; at most a few
	More    int      // missing imports beyond those
	Feature string   // what else it needs: "component (WASI 0.2)", …
	Advice  string   // the way out
}

func (e *UnsupportedError) Error() string {
	var b strings.Builder
	switch {
	case len(e.Imports) > 0:
		fmt.Fprintf(&b, "imports %s", strings.Join(e.Imports, ", "))
		if e.More > 0 {
			fmt.Fprintf(&b, " and %d more", e.More)
		}
		b.WriteString(", which no host provides")
	default:
		b.WriteString(e.Feature)
	}
	if e.Advice != "" {
		separator := "; "
		if len(e.Imports) == 0 {
			separator = ": "
		}
		b.WriteString(separator + e.Advice)
	}
	return b.String()
}

// maxShownName bounds a name of the module's choosing in a message of ours.
const maxShownName = 64

// shown makes such a name fit for one line of text.
func shown(name string) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, name)
	if len(name) > maxShownName {
		name = strings.ToValidUTF8(name[:maxShownName], "") + "…"
	}
	return name
}

// MalformedError is a module that is not WebAssembly, or broken.
type MalformedError struct {
	Offset int    // in bytes from the start of the module, or Unknown
	Reason string // what is wrong there
}

// Unknown is the Offset of a fault that the compiler found and named in its
// own terms.
const Unknown = -1

func (e *MalformedError) Error() string {
	if e.Offset == Unknown {
		return "not a valid WebAssembly module: " + e.Reason
	}
	return fmt.Sprintf("not a valid WebAssembly module: %s at byte %d", e.Reason, e.Offset)
}

// MemoryError is a module that needs more memory to begin with than its limit.
type MemoryError struct{ Need, Limit int64 } // bytes

func (e *MemoryError) Error() string {
	return fmt.Sprintf("needs %d bytes of memory to start, which is more than its limit of %d", e.Need, e.Limit)
}
