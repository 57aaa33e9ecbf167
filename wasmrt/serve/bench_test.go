package serve_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"copepod/wasmrt"
	"copepod/wasmrt/serve"
	"copepod/wasmrt/serve/httpwasm"
)

// go test -run '^$' -bench Rewind ./wasmrt/serve
func BenchmarkRewindC(b *testing.B)  { benchmarkRewind(b, cHandler(b)) }
func BenchmarkRewindGo(b *testing.B) { benchmarkRewind(b, goHandler(b)) }

// benchmarkRewind is what isolation costs, beside the same calls without.
func benchmarkRewind(b *testing.B, code []byte) {
	h := newHost(b)
	m, err := h.Load(b.Context(), code)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	setup := httpwasm.NewSetup(httpwasm.Config{})
	image, err := h.Image(b.Context(), m, wasmrt.ImageConfig{
		Program: wasmrt.Program{Name: "guest"}, Init: []string{"_initialize"}, Context: setup.Context,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer image.Close()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	begin := func(c *wasmrt.Clone) {
		e := setup.Exchange(&discard{h: http.Header{}}, r, c.Meter())
		if err := c.Begin(context.Background(), wasmrt.Use{}, e.Context); err != nil {
			b.Fatal(err)
		}
	}
	call := func(c *wasmrt.Clone) {
		if _, exit := c.Call("handle_request"); exit != nil {
			b.Fatal(exit)
		}
	}
	b.Run("nothing-reset", func(b *testing.B) {
		c, err := image.Clone(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		begin(c)
		for b.Loop() {
			call(c)
		}
		c.End()
		c.Close()
	})
	b.Run("rewound", func(b *testing.B) {
		c, err := image.Clone(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		b.ReportAllocs()
		for b.Loop() {
			begin(c)
			call(c)
			if !c.End() {
				b.Fatal("not put back")
			}
		}
	})
	b.Run("cloned", func(b *testing.B) {
		for b.Loop() {
			c, err := image.Clone(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			begin(c)
			call(c)
			c.End()
			c.Close()
		}
	})
}

// discard is a response that nobody reads.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// go test -run '^$' -bench Serve ./wasmrt/serve
func BenchmarkServeC(b *testing.B)     { benchmarkServe(b, cHandler(b), serve.HTTP) }
func BenchmarkServeGo(b *testing.B)    { benchmarkServe(b, goHandler(b), serve.HTTP) }
func BenchmarkServeCGIC(b *testing.B)  { benchmarkServe(b, cGuest(b, "program"), serve.CGI) }
func BenchmarkServeCGIGo(b *testing.B) { benchmarkServe(b, goGuest(b, "program"), serve.CGI) }

func benchmarkServe(b *testing.B, code []byte, mode serve.Mode) {
	s := newServer(b, code, mode, nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := client.Get(s.web.URL + "/")
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

// BenchmarkServeNative is the same without a guest.
func BenchmarkServeNative(b *testing.B) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "count=1") }))
	defer web.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	defer client.CloseIdleConnections()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := client.Get(web.URL + "/")
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
