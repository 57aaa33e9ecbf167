//go:build !linux

package wasmrt

import "time"

// threadTime falls back to the wall clock, which charges a guest for the time
// that others ran in the middle of its slice.
func threadTime() time.Duration { return time.Since(processStart) }

var processStart = time.Now()
