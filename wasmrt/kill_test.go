package wasmrt_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

// state is something that a guest is doing when it is killed.
type state struct {
	name    string
	code    []byte
	program func(testing.TB) (p wasmrt.Program, there <-chan struct{}) // may be nil
	parked  bool                                                       // it uses no time there
}

var (
	memoryFill = []byte{0xfc, 0x0b, 0}
	memoryCopy = []byte{0xfc, 0x0a, 0, 0}
	tableGrow  = []byte{0xfc, 0x0f, 0}
	tableFill  = []byte{0xfc, 0x11, 0}
	tableCopy  = []byte{0xfc, 0x0e, 0, 0}
	nullFunc   = []byte{0xd0, 0x70}
)

// forever is a module that does the same again and again.
func forever(pages, table uint32, code ...[]byte) []byte {
	var m wasmtest.Module
	m.Memory(pages, 65536)
	m.FuncTable(table)
	body := append([][]byte{wasmtest.Loop}, code...)
	m.Export("_start", wasmtest.Func, m.Func("", "", append(body, wasmtest.Br(0), wasmtest.End)...))
	return m.Bytes()
}

// polling is a module that waits for one subscription: of a clock that rings in
// a hundred years, or of descriptor 3.
func polling(clock bool) []byte {
	var m wasmtest.Module
	poll := m.Import("wasi_snapshot_preview1", "poll_oneoff", "iiii", "i")
	m.Memory(1, 1)
	var subscription [48]byte
	if clock {
		subscription[16] = 1    // monotonic
		subscription[24+7] = 40 // 2.9e18 ns
	} else {
		subscription[8] = 1 // to read
		subscription[16] = 3
	}
	m.Data(0, subscription[:])
	m.Export("_start", wasmtest.Func, m.Func("", "",
		wasmtest.I32(0), wasmtest.I32(64), wasmtest.I32(1), wasmtest.I32(128), wasmtest.Call(poll), wasmtest.Drop))
	return m.Bytes()
}

// writing writes to standard output for ever.
func writing() []byte {
	var m wasmtest.Module
	write := m.Import("wasi_snapshot_preview1", "fd_write", "iiii", "i")
	m.Memory(1, 1)
	m.Data(0, []byte{64, 0, 0, 0, 5, 0, 0, 0}) // 5 bytes at 64
	m.Export("_start", wasmtest.Func, m.Func("", "", wasmtest.Loop,
		wasmtest.I32(1), wasmtest.I32(0), wasmtest.I32(1), wasmtest.I32(128), wasmtest.Call(write), wasmtest.Drop,
		wasmtest.Br(0), wasmtest.End))
	return m.Bytes()
}

// recursing calls itself: twice from each call, to a depth of 60, and so for
// longer than anybody waits; or once, to a depth of 20,000, again and again.
func recursing(twice bool) []byte {
	var m wasmtest.Module
	m.Memory(1, 1)
	again := [][]byte{wasmtest.LocalGet(0), wasmtest.I32(-1), wasmtest.I32Add, wasmtest.Call(0)}
	body := append([][]byte{wasmtest.LocalGet(0), wasmtest.If}, again...)
	depth := int32(20_000)
	if twice {
		depth = 60
		body = append(body, again...)
	}
	f := m.Func("i", "", append(body, wasmtest.End)...)
	m.Export("_start", wasmtest.Func, m.Func("", "", wasmtest.Loop, wasmtest.I32(depth), wasmtest.Call(f), wasmtest.Br(0), wasmtest.End))
	return m.Bytes()
}

func starting() []byte {
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Start(m.Func("", "", wasmtest.Loop, wasmtest.Br(0), wasmtest.End))
	m.Export("_start", wasmtest.Func, m.Func("", ""))
	return m.Bytes()
}

// stuckWriter takes nothing until the test ends.
type stuckWriter struct{ there, free chan struct{} }

func (w stuckWriter) Write(p []byte) (int, error) {
	select {
	case w.there <- struct{}{}:
	default:
	}
	<-w.free
	return len(p), nil
}

func states() []state {
	const gig = 20_000 // pages: 1.2 GiB
	most := wasmtest.I32(gig<<16 - 1)
	return []state{
		{name: "a tight loop", code: spinning},
		{name: "recursion without loops", code: recursing(true)},
		{name: "deep recursion", code: recursing(false)},
		{name: "a flood of host calls", code: program(1, yieldForever...)},
		{name: "memory.fill of 1 GiB", code: forever(gig, 1, wasmtest.I32(0), wasmtest.I32(1), most, memoryFill)},
		{name: "memory.copy of 1 GiB", code: forever(gig, 1, wasmtest.I32(0), wasmtest.I32(1), most, memoryCopy)},
		{name: "memory.grow", code: forever(1, 1, wasmtest.I32(1), wasmtest.MemoryGrow, wasmtest.Drop)},
		{name: "table.fill", code: forever(1, 1_000_000, wasmtest.I32(0), nullFunc, wasmtest.I32(1_000_000), tableFill)},
		{name: "table.copy", code: forever(1, 1_000_000, wasmtest.I32(0), wasmtest.I32(1), wasmtest.I32(999_999), tableCopy)},
		{name: "table.grow", code: forever(1, 1, nullFunc, wasmtest.I32(1), tableGrow, wasmtest.Drop)},
		{name: "a start function", code: starting()},
		{name: "a poll of a clock", code: polling(true), parked: true},
		{name: "a poll of a listener", code: polling(false), parked: true, program: func(t testing.TB) (wasmrt.Program, <-chan struct{}) {
			return wasmrt.Program{Listeners: []wasmrt.Listener{{Listener: newMemoryListener()}}}, nil
		}},
		{name: "a write that blocks", code: writing(), program: func(t testing.TB) (wasmrt.Program, <-chan struct{}) {
			w := stuckWriter{make(chan struct{}, 1), make(chan struct{})}
			t.Cleanup(func() { close(w.free) })
			return wasmrt.Program{Stdout: w}, w.there
		}},
		{name: "a flood of output", code: writing(), program: func(t testing.TB) (wasmrt.Program, <-chan struct{}) {
			return wasmrt.Program{Stdout: struct{ io.Writer }{io.Discard}}, nil
		}},
		{name: "a pause over its limit", code: spinning, program: func(t testing.TB) (wasmrt.Program, <-chan struct{}) {
			return wasmrt.Program{CPUMilli: 10}, nil
		}},
	}
}

// reach starts a guest and waits until it is in the state.
func (s state) reach(t testing.TB, h *wasmrt.Host, m *wasmrt.Module, busy time.Duration) *wasmrt.Instance {
	t.Helper()
	var p wasmrt.Program
	var there <-chan struct{}
	if s.program != nil {
		p, there = s.program(t)
	}
	i := start(t, h, m, p)
	if there != nil {
		<-there
		return i
	}
	for last := time.Duration(-1); ; time.Sleep(time.Millisecond) {
		now := i.Stats().CPU
		if s.parked && now == last && now > 0 || !s.parked && now >= busy {
			return i
		}
		last = now
	}
}

func TestKillEndsAGuestInEveryState(t *testing.T) {
	h := newHost(t)
	for _, s := range states() {
		t.Run(s.name, func(t *testing.T) {
			i := s.reach(t, h, load(t, h, s.code), time.Millisecond)
			i.Kill()
			i.Kill()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			exit, err := i.Wait(ctx)
			if err != nil || exit.Reason != wasmrt.Killed || exit.Code != 137 {
				t.Errorf("got %+v, %v; want Killed with 137", exit, err)
			}
		})
	}
}

// How long a kill takes, from the call until everything of the guest is free.
//
// go test -run '^$' -bench Kill -benchtime 20x ./wasmrt
func BenchmarkKill(b *testing.B) {
	for _, s := range states() {
		b.Run(s.name, func(b *testing.B) {
			h := newHost(b)
			m := load(b, h, s.code)
			var worst time.Duration
			for range b.N {
				b.StopTimer()
				i := s.reach(b, h, m, 5*time.Millisecond)
				b.StartTimer()
				began := time.Now()
				i.Kill()
				<-i.Done()
				worst = max(worst, time.Since(began))
			}
			b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
		})
	}
	b.Run("a compilation", func(b *testing.B) {
		var worst time.Duration
		code := dear()
		for range b.N {
			b.StopTimer()
			h := apart(b, wasmrt.Config{})
			done := make(chan error)
			go func() { _, err := h.Load(b.Context(), code); done <- err }()
			for h.Stats().Compiled == 0 {
				time.Sleep(time.Millisecond)
			}
			b.StartTimer()
			began := time.Now()
			if err := h.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			<-done
			worst = max(worst, time.Since(began))
		}
		b.ReportMetric(float64(worst.Microseconds())/1000, "ms-worst")
	})
}

var _ net.Listener = (*memoryListener)(nil)
