package memory_test

import (
	"testing"

	"copepod/wasmrt/memory"
)

func TestMemoryGrowsInPlaceUpToTheLimit(t *testing.T) {
	a := memory.New(4 * memory.PageSize)
	defer a.Free()
	m := a.Allocate(memory.PageSize, 100*memory.PageSize)
	b := m.Reallocate(memory.PageSize)
	b[10] = 42
	grown := m.Reallocate(4 * memory.PageSize)
	if len(grown) != 4*memory.PageSize || grown[10] != 42 {
		t.Fatalf("got %d bytes, byte 10 = %d; want %d and 42", len(grown), grown[10], 4*memory.PageSize)
	}
	if &grown[0] != &b[0] {
		t.Error("growing moved the memory")
	}
	if grown[len(grown)-1] != 0 {
		t.Error("new memory is not zero")
	}
	if a.Refused() || a.Size() != 4*memory.PageSize {
		t.Errorf("got refused %v, size %d", a.Refused(), a.Size())
	}
	if m.Reallocate(5*memory.PageSize) != nil || !a.Refused() {
		t.Error("growing past the limit was not refused")
	}
	if got := m.Reallocate(4 * memory.PageSize); got == nil || a.Refused() {
		t.Error("what fits is refused after a refusal")
	}
}

func TestMemoryHonoursTheModulesOwnMaximum(t *testing.T) {
	a := memory.New(0)
	defer a.Free()
	m := a.Allocate(0, 2*memory.PageSize)
	if m.Reallocate(0) == nil {
		t.Error("an empty memory was refused")
	}
	if m.Reallocate(3*memory.PageSize) != nil {
		t.Error("growing past the module's maximum was not refused")
	}
	if a.Limit() != memory.Max {
		t.Errorf("got limit %d, want %d", a.Limit(), int64(memory.Max))
	}
}

func TestSeveralMemoriesShareTheLimit(t *testing.T) {
	a := memory.New(4 * memory.PageSize)
	defer a.Free()
	if a.Allocate(0, memory.Max).Reallocate(3*memory.PageSize) == nil {
		t.Fatal("the first was refused")
	}
	if a.Allocate(0, memory.Max).Reallocate(2*memory.PageSize) != nil {
		t.Error("both together are past the limit")
	}
}

func TestFreedMemoryIsGone(t *testing.T) {
	a := memory.New(0)
	m := a.Allocate(0, memory.Max)
	m.Reallocate(memory.PageSize)
	m.Free() // the module's close, which may come from within a call
	a.Free()
	a.Free()
	if a.Size() != 0 || m.Reallocate(memory.PageSize) != nil {
		t.Error("memory was given after Free")
	}
}
