//go:build !race

package wasmrt_test

import "testing"

// compiler is none: tests compile in their own process.
func compiler(testing.TB) []string { return nil }
