//go:build !unix

package wasmrt

// descriptorLimit is a guess: these systems have no such limit, or a far one.
func descriptorLimit() int64 { return 1 << 16 }
