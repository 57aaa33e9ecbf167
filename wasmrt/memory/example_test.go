package memory_test

import (
	"fmt"

	"copepod/wasmrt/memory"
)

func Example() {
	a := memory.New(2 * memory.PageSize)
	defer a.Free()
	linear := a.Allocate(0, memory.Max)
	fmt.Println(len(linear.Reallocate(2 * memory.PageSize)))
	fmt.Println(linear.Reallocate(3*memory.PageSize) == nil, a.Refused())
	// Output:
	// 131072
	// true true
}
