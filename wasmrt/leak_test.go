package wasmrt_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

// usage is what a leak would grow.
type usage struct {
	goroutines, files, maps int
	resident                int // KiB; 0 where the system does not tell
}

func measure(t testing.TB) usage {
	t.Helper()
	debug.FreeOSMemory()
	u := usage{goroutines: runtime.NumGoroutine()}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(entries)
	}
	if maps, err := os.ReadFile("/proc/self/maps"); err == nil {
		u.maps = strings.Count(string(maps), "\n")
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		fmt.Sscan(rest, &u.resident)
	}
	return u
}

func (u usage) within(before usage) bool {
	const maps, resident = 64, 64 << 10 // what Go's own heap and threads may differ by
	return u.goroutines <= before.goroutines && u.files <= before.files &&
		u.maps <= before.maps+maps && (racing || u.resident <= before.resident+resident)
}

// failing are ways for a start to go wrong. Each gets its number, to make
// modules differ by it, and returns what it should not have: a success.
func failing(t *testing.T, h *wasmrt.Host) []func(n int) string {
	dir := t.TempDir()
	good := program(1)
	numbered := func(code []byte, n int) []byte { // a custom section makes another module of it
		return binary.LittleEndian.AppendUint32(append(code[:len(code):len(code)], 0, 6, 1, 'n'), uint32(n))
	}
	refused := func(code []byte) string {
		if m, err := h.Load(t.Context(), code); err == nil {
			m.Close()
			return "was taken"
		}
		return ""
	}
	loads := func(code []byte) func(int) string {
		return func(n int) string { return refused(numbered(code, n)) }
	}
	ends := func(m *wasmrt.Module, p func() wasmrt.Program, want wasmrt.ExitReason) func(int) string {
		return func(int) string {
			i, err := h.Start(t.Context(), m, p())
			if err != nil {
				return err.Error()
			}
			if want == wasmrt.Killed {
				i.Kill()
			}
			if exit := wait(t, i); exit.Reason != want {
				return fmt.Sprintf("ended in %v, want %v", exit, want)
			}
			return ""
		}
	}
	stays := func(m *wasmrt.Module, p func() wasmrt.Program) func(int) string {
		return func(int) string {
			if _, err := h.Start(t.Context(), m, p()); err == nil {
				return "was started"
			}
			return ""
		}
	}
	none := func() wasmrt.Program { return wasmrt.Program{} }
	full := func() wasmrt.Program { // holds one of everything
		return wasmrt.Program{
			MemoryLimit: 10 << 16, Stdin: strings.NewReader("x"), Stdout: &strings.Builder{},
			Listeners: []wasmrt.Listener{{Listener: listen(t)}}, Mounts: []wasmrt.Mount{{Guest: "/d", Host: dir}},
		}
	}
	with := func(change func(*wasmrt.Program)) func() wasmrt.Program {
		return func() wasmrt.Program { p := full(); change(&p); return p }
	}
	var trapping, reactor, many wasmtest.Module
	trapping.Memory(1, 1)
	trapping.Start(trapping.Func("", "", wasmtest.Unreachable))
	trapping.Export("_start", wasmtest.Func, trapping.Func("", ""))
	reactor.Memory(1, 1)
	reactor.Export("_initialize", wasmtest.Func, reactor.Func("", ""))
	many.FuncWithLocals("", "", []byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7e})
	plain := load(t, h, good)
	return []func(int) string{
		func(n int) string { return refused(good[:n%(len(good)-1)]) },    // truncated
		loads([]byte("\x00asm\x0d\x00\x01\x00")),                         // a component
		loads(importing("env", "foo", "", "")),                           // a missing import
		loads(program(1, wasmtest.I32Add)),                               // a type error, which the compiler finds
		loads(program(1, wasmtest.Call(77))),                             // no such function
		loads(many.Bytes()),                                              // locals that lie
		loads([]byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f")), // a size that lies
		func(n int) string { // compiled anew each time, and then it traps
			m, err := h.Load(t.Context(), numbered(trapping.Bytes(), n))
			if err != nil {
				return err.Error()
			}
			defer m.Close()
			return ends(m, none, wasmrt.Trap)(n)
		},
		func(int) string { // given up before it began
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := h.Start(ctx, plain, full()); err == nil {
				return "was started"
			}
			return ""
		},
		stays(load(t, h, program(100)), full), // its memory is past its limit
		stays(load(t, h, reactor.Bytes()), full),
		stays(plain, with(func(p *wasmrt.Program) {
			p.Mounts = append(p.Mounts, wasmrt.Mount{Guest: "/e", Host: filepath.Join(dir, "no")})
		})),
		stays(plain, with(func(p *wasmrt.Program) { p.Env = []string{"no equals sign"} })),
		stays(plain, with(func(p *wasmrt.Program) { p.Args = []string{"a\x00b"} })),
		stays(plain, with(func(p *wasmrt.Program) { p.Listeners[0].Name = "a:b" })),
		ends(load(t, h, trapping.Bytes()), full, wasmrt.Trap), // in its start function
		ends(load(t, h, program(2, wasmtest.Unreachable)), full, wasmrt.Trap),
		ends(load(t, h, program(1, grow(100, 1)...)), full, wasmrt.OOMKilled),
		ends(load(t, h, sevenExit), full, wasmrt.Error),
		ends(load(t, h, program(1, yieldForever...)), full, wasmrt.Killed),
	}
}

func TestTenThousandFailingStartsLeaveNothingBehind(t *testing.T) {
	h := hostWith(t, wasmrt.Config{})
	all := failing(t, h)
	from := 0
	run := func(count int) {
		for range count {
			if fault := all[from%len(all)](from); fault != "" {
				t.Fatalf("start %d, of kind %d: it %s", from, from%len(all), fault)
			}
			from++
		}
	}
	run(500)
	before := measure(t)
	run(9_500)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) { // what is on its way out may take a moment
		after := measure(t)
		if after.within(before) {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("got %+v after, want about %+v", after, before)
		}
	}
	if got := h.Stats(); got.Instances != 0 || got.MemoryBytes != 0 {
		t.Errorf("got %+v, want nothing that runs", got)
	}
}
