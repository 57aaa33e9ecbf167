package wasmrt_test

import (
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

// spinning never calls the host: nothing but what the rewriter adds can end it.
var spinning = program(1, wasmtest.Loop, wasmtest.Br(0), wasmtest.End)

func TestALoopIsKilled(t *testing.T) {
	h := newHost(t)
	i := start(t, h, load(t, h, spinning), wasmrt.Program{})
	for i.Stats().CPU == 0 {
		time.Sleep(time.Millisecond)
	}
	i.Kill()
	if exit := wait(t, i); exit.Reason != wasmrt.Killed {
		t.Errorf("got %+v, want Killed", exit)
	}
	if got := i.Stats().CPU; got == 0 {
		t.Error("no processor time was charged")
	}
}

func TestALoopInAStartFunctionIsKilled(t *testing.T) {
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Start(m.Func("", "", wasmtest.Loop, wasmtest.Br(0), wasmtest.End))
	m.Export("_start", wasmtest.Func, m.Func("", ""))
	h := newHost(t)
	i := start(t, h, load(t, h, m.Bytes()), wasmrt.Program{})
	for i.Stats().CPU == 0 {
		time.Sleep(time.Millisecond)
	}
	i.Kill()
	if exit := wait(t, i); exit.Reason != wasmrt.Killed {
		t.Errorf("got %+v, want Killed", exit)
	}
}

func TestALoopStaysWithinItsLimit(t *testing.T) {
	h := newHost(t)
	begin := time.Now()
	i := start(t, h, load(t, h, spinning), wasmrt.Program{CPUMilli: 100})
	for i.Stats().CPU < 20*time.Millisecond {
		time.Sleep(time.Millisecond)
	}
	// A tenth of a core, and a burst of 10 ms: 20 ms of work take 100 ms or more.
	if got := time.Since(begin); got < 90*time.Millisecond {
		t.Errorf("20 ms of work took %v, want at least 90ms", got)
	}
	i.Kill() // it is most likely in a pause
	if exit := wait(t, i); exit.Reason != wasmrt.Killed {
		t.Errorf("got %+v, want Killed", exit)
	}
}

func TestAParkedGuestUsesNoTime(t *testing.T) {
	h := newHost(t)
	l := listen(t)
	i := start(t, h, load(t, h, goGuest(t, "serve")), wasmrt.Program{Args: []string{"serve"}, Listeners: []wasmrt.Listener{{Listener: l}}})
	get(t, l)
	before := i.Stats().CPU
	get(t, l)
	for range 50 { // whatever the runtime still does after an answer
		time.Sleep(2 * time.Millisecond)
		now := i.Stats().CPU
		if now == before {
			return
		}
		before = now
	}
	t.Error("an idle server goes on using time")
}
