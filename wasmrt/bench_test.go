//go:build unix

package wasmrt_test

import (
	"context"
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

// What servers cost that nobody calls, after each has answered once: memory of
// the process, its processor time, and a collection. The network is in memory,
// as pods' is.
//
// go test -run '^$' -bench Idle -benchtime 1x ./wasmrt
func BenchmarkIdle(b *testing.B) {
	for _, row := range []struct {
		name  string
		code  func(testing.TB) []byte
		count int
		ask   func(testing.TB, *memoryListener)
	}{
		{"c", func(t testing.TB) []byte { return cGuest(t, "serve") }, 10_000, askEcho},
		{"go", func(t testing.TB) []byte { return goGuest(t, "serve") }, 1_000, askHTTP},
	} {
		b.Run(row.name, func(b *testing.B) {
			h := newHost(b)
			m := load(b, h, row.code(b))
			for range b.N {
				idle(b, h, m, row.count, row.ask)
			}
		})
	}
}

// dial connects to a listener in memory, by a pair of sockets.
func dial(t testing.TB, l *memoryListener) net.Conn {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	l.arrive(ends[1])
	return ends[0]
}

func askEcho(t testing.TB, l *memoryListener) {
	c := dial(t, l)
	defer c.Close()
	var b [5]byte
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "hello" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func askHTTP(t testing.TB, l *memoryListener) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return dial(t, l), nil },
	}}
	resp, err := client.Get("http://server/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
}

func idle(b *testing.B, h *wasmrt.Host, m *wasmrt.Module, count int, ask func(testing.TB, *memoryListener)) {
	debug.FreeOSMemory()
	before := resident(b)
	var all []*wasmrt.Instance
	began := time.Now()
	for range count {
		l := newMemoryListener()
		i, err := h.Start(b.Context(), m, wasmrt.Program{Args: []string{"serve"}, Listeners: []wasmrt.Listener{{Listener: l}}})
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, i)
		ask(b, l)
	}
	b.ReportMetric(time.Since(began).Seconds(), "s/all-answered")
	time.Sleep(time.Second)
	debug.FreeOSMemory()
	b.ReportMetric(float64(resident(b)-before)/float64(count)/1024, "KiB/server")
	cpu := processTime(b)
	time.Sleep(4 * time.Second)
	b.ReportMetric(100*(processTime(b)-cpu).Seconds()/4, "%-of-a-core")
	began = time.Now()
	runtime.GC()
	b.ReportMetric(ms(time.Since(began)), "ms/GC")
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
