package wasmrt_test

import (
	"strings"
	"testing"

	"copepod/wasmrt"
)

func TestAHostHoldsItsGuestsToABudgetOfDescriptors(t *testing.T) {
	h, err := wasmrt.New(t.Context(), wasmrt.Config{Descriptors: 12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(t.Context()) })
	m := load(t, h, spinning)
	p := wasmrt.Program{Mounts: []wasmrt.Mount{{Guest: "/a", Host: t.TempDir()}, {Guest: "/b", Host: t.TempDir()}}}
	first := start(t, h, m, p)
	if got := h.Stats().Descriptors; got != 4 {
		t.Errorf("got %d descriptors, want 4", got)
	}
	second := start(t, h, m, p)
	if _, err := h.Start(t.Context(), m, p); err == nil || !strings.Contains(err.Error(), "no descriptor") {
		t.Errorf("got %v, want an error that says descriptors are out", err)
	}
	for _, i := range []*wasmrt.Instance{first, second} {
		i.Kill()
		<-i.Done()
	}
	if got := h.Stats().Descriptors; got != 0 {
		t.Errorf("got %d descriptors of nobody", got)
	}
}

func TestClonesOfAnImageShareItsDirectories(t *testing.T) {
	h := newHost(t)
	m := load(t, h, spinning)
	image, err := h.Image(t.Context(), m, wasmrt.ImageConfig{
		Program: wasmrt.Program{Mounts: []wasmrt.Mount{{Guest: "/a", Host: t.TempDir()}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var clones []*wasmrt.Clone
	for range 3 {
		c, err := image.Clone(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Begin(t.Context(), wasmrt.Use{}, nil); err != nil {
			t.Fatal(err)
		}
		clones = append(clones, c)
	}
	if got := h.Stats().Descriptors; got != 2+3 { // a directory, and what three may list
		t.Errorf("got %d descriptors, want 5", got)
	}
	for _, c := range clones {
		c.End()
	}
	image.Close()
	h.Close(t.Context())
	if got := h.Stats().Descriptors; got != 0 {
		t.Errorf("got %d descriptors of nobody", got)
	}
}
