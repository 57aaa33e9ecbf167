//go:build !race

package wasmrt_test

import "testing"

const racing = false

// compiler is none: tests compile in their own process.
func compiler(testing.TB) []string { return nil }
