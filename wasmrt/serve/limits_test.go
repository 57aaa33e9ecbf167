package serve_test

import (
	"sync"
	"testing"
	"time"

	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/serve"
)

func TestInstancesShareOneLimitOnTheProcessor(t *testing.T) {
	var m wasmtest.Module
	m.Memory(1, 1)
	handler(&m, wasmtest.Loop, wasmtest.Br(0), wasmtest.End)
	const milli, instances = 100, 4
	s := newServer(t, m.Bytes(), serve.HTTP, func(c *serve.Config) {
		c.Program.CPUMilli = milli
		c.Limits.Instances = instances
		c.Limits.RequestTime = 700 * time.Millisecond
	})
	before, began := s.Stats().CPU, time.Now()
	var clients sync.WaitGroup
	for range instances {
		clients.Go(func() {
			if a := s.get("/"); a.status != 504 {
				t.Errorf("got %d %q, want 504", a.status, a.body)
			}
		})
	}
	clients.Wait()
	// Each may have been in a slice that was too long; what a limit of its own for
	// each would have given is past this.
	got, elapsed := s.Stats().CPU-before, time.Since(began)
	if most := (elapsed+100*time.Millisecond)*milli/1000 + instances*20*time.Millisecond; got > most {
		t.Errorf("%d instances of %dm used %v of %v, want %v at most", instances, milli, got, elapsed, most)
	}
	if got == 0 {
		t.Error("they used nothing: nothing was counted")
	}
}
