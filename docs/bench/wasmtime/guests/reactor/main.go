//go:build wasip1

// Reactor is a library whose calls leave things behind: a number, a map that
// grows, and 16 KiB of heap.
package main

import "strconv"

var (
	count int32
	seen  = map[string][]byte{}
)

//go:wasmexport handle
func handle() int32 {
	count++
	seen[strconv.Itoa(int(count))] = make([]byte, 16384)
	return count
}

func main() {}
