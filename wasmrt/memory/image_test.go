package memory_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"copepod/wasmrt/memory"
)

// guest is the memory of one, of so many WebAssembly pages.
func guest(t testing.TB, pages int) (*memory.Allocator, []byte) {
	t.Helper()
	a := memory.New(16 << 20)
	t.Cleanup(a.Free)
	b := a.Allocate(0, 16<<20).Reallocate(uint64(pages) * memory.PageSize)
	if b == nil {
		t.Fatal("no memory")
	}
	return a, b
}

func TestARewoundMemoryIsWhatTheImageWas(t *testing.T) {
	const pages = 20
	random := rand.New(rand.NewPCG(1, 2))
	first, content := guest(t, pages)
	for range 200 {
		content[random.IntN(len(content))] = byte(random.Int())
	}
	want := bytes.Clone(content)
	image, err := first.Image()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	clear(content) // the image is a copy: what becomes of the first changes nothing
	other, b := guest(t, pages)
	b[77] = 1
	if err := other.Adopt(image); err != nil {
		t.Fatal(err)
	}
	for round := range 50 {
		if !bytes.Equal(b, want) {
			t.Fatalf("round %d: the memory differs from the image", round)
		}
		for range random.IntN(400) {
			b[random.IntN(len(b))]++
		}
		if round == 25 {
			for i := range b { // more than is worth copying
				b[i]++
			}
		}
		if _, err := other.Rewind(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGuestsOfOneImageDoNotSeeEachOther(t *testing.T) {
	first, content := guest(t, 1)
	content[0] = 1
	image, err := first.Image()
	if err != nil {
		t.Fatal(err)
	}
	a, x := guest(t, 1)
	b, y := guest(t, 1)
	if err := errors.Join(a.Adopt(image), b.Adopt(image)); err != nil {
		t.Fatal(err)
	}
	x[0], x[5000] = 9, 9
	if y[0] != 1 || y[5000] != 0 || content[0] != 1 {
		t.Errorf("got %d and %d, want what the image has", y[0], y[5000])
	}
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	if x[0] != 9 || y[0] != 1 {
		t.Error("the memory changed when the image was closed")
	}
}

func TestAMemoryThatGrewCannotBeRewound(t *testing.T) {
	first, _ := guest(t, 1)
	image, err := first.Image()
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	a := memory.New(0)
	defer a.Free()
	linear := a.Allocate(0, 16<<20)
	linear.Reallocate(2 * memory.PageSize)
	if a.Adopt(image) == nil {
		t.Error("it adopted an image of another size")
	}
	b := memory.New(0)
	defer b.Free()
	linear = b.Allocate(0, 16<<20)
	linear.Reallocate(memory.PageSize)
	if err := b.Adopt(image); err != nil {
		t.Fatal(err)
	}
	if grown := linear.Reallocate(2 * memory.PageSize); grown == nil {
		t.Fatal("no memory")
	} else {
		grown[2*memory.PageSize-1] = 1 // the new part is there
	}
	if _, err := b.Rewind(); !errors.Is(err, memory.ErrGrown) {
		t.Errorf("got %v, want %v", err, memory.ErrGrown)
	}
}

func TestAGuestWithoutMemoryHasAnEmptyImage(t *testing.T) {
	a := memory.New(0)
	image, err := a.Image()
	if err != nil || image.Size() != 0 {
		t.Fatalf("got %v, %v", image, err)
	}
	if _, err := a.Rewind(); err == nil {
		t.Error("rewound to no image")
	}
	if err := a.Adopt(image); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Rewind(); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestABudgetIsSharedAndGivenBack(t *testing.T) {
	budget := memory.NewBudget(3 * memory.PageSize)
	a, b := memory.NewWithin(budget, 0), memory.NewWithin(budget, 0)
	first, second := a.Allocate(0, 16<<20), b.Allocate(0, 16<<20)
	if first.Reallocate(2*memory.PageSize) == nil || second.Reallocate(2*memory.PageSize) != nil {
		t.Error("two guests of two pages each fit three pages")
	}
	if !b.Refused() || budget.Used() != 2*memory.PageSize {
		t.Errorf("got refused %v and %d bytes used", b.Refused(), budget.Used())
	}
	a.Free()
	if second.Reallocate(3*memory.PageSize) == nil {
		t.Error("what was freed was not given back")
	}
	b.Free()
	if budget.Used() != 0 {
		t.Errorf("got %d bytes used by nobody", budget.Used())
	}
}

// go test -run '^$' -bench Rewind ./wasmrt/memory
func BenchmarkRewind(bench *testing.B) {
	for _, row := range []struct {
		name  string
		dirty int // of 4 KiB
	}{{"4", 4}, {"64", 64}, {"512", 512}, {"2048", 2048}} {
		bench.Run(row.name, func(bench *testing.B) {
			first, content := guest(bench, 128)
			for i := range content {
				content[i] = byte(i)
			}
			image, err := first.Image()
			if err != nil {
				bench.Fatal(err)
			}
			defer image.Close()
			a, b := guest(bench, 128)
			if err := a.Adopt(image); err != nil {
				bench.Fatal(err)
			}
			for bench.Loop() {
				for i := range row.dirty {
					b[i*4096]++
				}
				if _, err := a.Rewind(); err != nil {
					bench.Fatal(err)
				}
			}
		})
	}
}
