//go:build unix

package wasmrt_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
)

// go test -run '^$' -bench Start ./wasmrt
func BenchmarkStart(b *testing.B) {
	for _, row := range []struct {
		name string
		code func(testing.TB) []byte
		args []string
	}{
		{"empty", func(testing.TB) []byte { return program(1) }, nil},
		{"c", func(t testing.TB) []byte { return cGuest(t, "main") }, []string{"x", "exit", "0"}},
		{"go", func(t testing.TB) []byte { return goGuest(t, "echo") }, []string{"x", "args"}},
	} {
		b.Run(row.name, func(b *testing.B) {
			h := newHost(b)
			m := load(b, h, row.code(b))
			b.ReportAllocs()
			for b.Loop() {
				i, err := h.Start(b.Context(), m, wasmrt.Program{Args: row.args})
				if err != nil {
					b.Fatal(err)
				}
				<-i.Done()
			}
		})
	}
}

// go test -run '^$' -bench Load ./wasmrt
func BenchmarkLoadFromDisk(b *testing.B) {
	code := goGuest(b, "serve")
	h := newHost(b)
	load(b, h, code)
	h.Close(b.Context())
	for b.Loop() {
		h := newHost(b)
		load(b, h, code)
		h.Close(b.Context())
	}
}

// go test -run '^$' -bench HostCall ./wasmrt
func BenchmarkHostCall(b *testing.B) {
	// A million calls of sched_yield's cheapest neighbour, clock_res_get.
	var m wasmtest.Module
	call := m.Import("wasi_snapshot_preview1", "clock_res_get", "ii", "i")
	m.Memory(1, 1)
	count := m.MutableI64(0)
	m.Export("_start", wasmtest.Func, m.Func("", "", wasmtest.Loop,
		wasmtest.I32(0), wasmtest.I32(8), wasmtest.Call(call), wasmtest.Drop,
		wasmtest.GlobalGet(count), wasmtest.I64(-1), wasmtest.I64Sub, wasmtest.GlobalSet(count),
		wasmtest.GlobalGet(count), wasmtest.I64(1_000_000), wasmtest.I64LtS, []byte{0x0d, 0}, wasmtest.End))
	h := newHost(b)
	module := load(b, h, m.Bytes())
	for b.Loop() {
		i := start(b, h, module, wasmrt.Program{})
		if exit := wait(b, i); exit.Reason != wasmrt.Completed {
			b.Fatal(exit)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/call")
}

// go test -run '^$' -bench Serve ./wasmrt
func BenchmarkServe(b *testing.B) {
	h := newHost(b)
	m := load(b, h, goGuest(b, "serve"))
	l := listen(b)
	start(b, h, m, wasmrt.Program{Args: []string{"serve"}, Listeners: []wasmrt.Listener{{Listener: l}}})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := client.Get("http://" + l.Addr().String() + "/")
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// go test -run '^$' -bench Idle -benchtime 1x ./wasmrt
func BenchmarkIdle(b *testing.B) {
	for _, row := range []struct {
		name  string
		code  func(testing.TB) []byte
		count int
		boot  bool // wait until it answers
	}{
		{"c", func(t testing.TB) []byte { return cGuest(t, "main") }, 10_000, false},
		{"go", func(t testing.TB) []byte { return goGuest(t, "serve") }, 200, true},
	} {
		b.Run(row.name, func(b *testing.B) {
			h := newHost(b)
			m := load(b, h, row.code(b))
			for b.Loop() {
				idle(b, h, m, row.count, row.boot)
			}
		})
	}
}

func idle(b *testing.B, h *wasmrt.Host, m *wasmrt.Module, count int, boot bool) {
	before := resident(b)
	var all []*wasmrt.Instance
	begin := time.Now()
	for range count {
		p := wasmrt.Program{Args: []string{"x", "park"}}
		if boot {
			l := listen(b)
			p.Listeners = []wasmrt.Listener{{Listener: l}}
			defer func(l net.Listener) { l.Close() }(l)
			all = append(all, start(b, h, m, p))
			get(b, l)
			continue
		}
		r, _ := io.Pipe()
		p.Stdin = r
		all = append(all, start(b, h, m, p))
	}
	b.ReportMetric(time.Since(begin).Seconds(), "s/all-started")
	time.Sleep(time.Second)
	debug.FreeOSMemory()
	b.ReportMetric(float64(resident(b)-before)/float64(count)/1024, "KiB/instance")
	cpu := processTime(b)
	time.Sleep(2 * time.Second)
	b.ReportMetric(100*(processTime(b)-cpu).Seconds()/2, "%-of-a-core")
	begin = time.Now()
	runtime.GC()
	b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms/GC")
	for _, i := range all {
		i.Kill()
	}
	for _, i := range all {
		<-i.Done()
	}
}

func resident(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("this system does not tell a process's memory")
	}
	var kib int64
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fmt.Sscan(rest, &kib)
	return kib << 10
}

func processTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
