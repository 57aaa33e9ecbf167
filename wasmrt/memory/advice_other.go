//go:build unix && !linux

package memory

import "unsafe"

// noReserve is what Linux alone needs.
const noReserve = 0

// adviseSmallPages has nothing to turn off here.
func adviseSmallPages(unsafe.Pointer, uintptr) {}
