//go:build !race

package toolchains

import "testing"

// compiler is none: the guests are compiled in this process.
func compiler(*testing.T) []string { return nil }
