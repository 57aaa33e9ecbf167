// Command serve measures what HTTP through package wasmrt/serve costs: a server on
// the loopback, wrk as its client, both on the same cores. It prints requests a
// second, latencies and the server's processor time, for net/http alone and for
// guests that give the same answer.
//
//	docs/bench/run serve
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"

	"copepod-bench-wasmtime/harness"
	"copepod/wasmrt"
	"copepod/wasmrt/serve"
)

const answer = "hello\n"

func main() {
	harness.Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

// load is what wrk does.
type load struct {
	threads, connections, seconds int
}

func run(ctx context.Context) (err error) {
	var l load
	flag.IntVar(&l.threads, "t", 2, "threads of the client")
	flag.IntVar(&l.connections, "c", 32, "connections")
	flag.IntVar(&l.seconds, "d", 5, "seconds for each server")
	flag.Parse()
	lab, err := harness.New(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	rows := []struct {
		name  string
		serve func(ctx context.Context, listener net.Listener) error
	}{
		{"net/http, no guest", native},
		{"wasm-http, C", guest(lab, serve.HTTP, func() ([]byte, error) {
			return lab.C(ctx, "guests/handler.c", "-mexec-model=reactor")
		})},
		{"wasm-http, Go", guest(lab, serve.HTTP, func() ([]byte, error) {
			return lab.Go(ctx, "guests/handler", "-buildmode=c-shared")
		})},
		{"wasm-cgi, C", guest(lab, serve.CGI, func() ([]byte, error) { return lab.C(ctx, "guests/cgi.c") })},
	}
	fmt.Printf("wrk -t%d -c%d -d%ds, on the same %d cores\n", l.threads, l.connections, l.seconds, runtime.GOMAXPROCS(0))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "                  \trequests/s\tp50\tp99\tserver cpu a request\t")
	for _, row := range rows {
		got, err := l.measure(ctx, row.serve)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(table, "%-18s\t%.0f\t%s\t%s\t%.1f µs\t\n", row.name, got.rate, got.p50, got.p99, got.micros)
	}
	return table.Flush()
}

// native is the same without a guest.
func native(ctx context.Context, listener net.Listener) error {
	web := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, answer)
		}),
	}
	defer context.AfterFunc(ctx, func() { web.Close() })()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// guest serves with a module that is built first.
func guest(lab *harness.Lab, mode serve.Mode, build func() ([]byte, error)) func(context.Context, net.Listener) error {
	return func(ctx context.Context, listener net.Listener) error {
		defer listener.Close()
		code, err := build()
		if err != nil {
			return err
		}
		m, err := lab.Host.Load(ctx, code)
		if err != nil {
			return err
		}
		defer m.Close()
		server, err := serve.New(ctx, serve.Config{
			Host: lab.Host, Module: m, Mode: mode,
			Program: wasmrt.Program{Name: "guest", Args: []string{"guest"}, Stderr: os.Stderr},
		})
		if err != nil {
			return err
		}
		defer server.Close()
		return server.Run(ctx, listener)
	}
}

// figures are what one server did.
type figures struct {
	rate     float64 // requests a second
	p50, p99 string  // as wrk prints them
	micros   float64 // of processor time a request
}

// measure runs a server for as long as it takes.
func (l load) measure(ctx context.Context, serve func(context.Context, net.Listener) error) (f figures, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return f, err
	}
	url := "http://" + listener.Addr().String() + "/"
	life, end := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		defer end() // who waits for a server that failed, waits no longer
		served <- serve(life, listener)
	}()
	defer func() {
		end()
		err = errors.Join(<-served, err)
	}()
	if err := check(life, url); err != nil {
		return f, err
	}
	if _, err := l.wrk(life, url, 1); err != nil { // until it is as fast as it gets
		return f, err
	}
	before, err := harness.ProcessorTime()
	if err != nil {
		return f, err
	}
	if f, err = l.wrk(life, url, l.seconds); err != nil {
		return f, err
	}
	after, err := harness.ProcessorTime()
	f.micros = float64((after - before).Microseconds()) / (f.rate * float64(l.seconds))
	return f, err
}

// check asks once, so that nothing is measured that does not work.
func check(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r) // the listener is open: this waits until somebody accepts
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || string(body) != answer {
		return fmt.Errorf("it answers %s %q, want %q", resp.Status, body, answer)
	}
	return nil
}

var (
	rate   = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	median = regexp.MustCompile(`\s50%\s+(\S+)`)
	late   = regexp.MustCompile(`\s99%\s+(\S+)`)
	failed = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

func (l load) wrk(ctx context.Context, url string, seconds int) (f figures, err error) {
	out, err := exec.CommandContext(ctx, "wrk", "--latency",
		fmt.Sprintf("-t%d", l.threads), fmt.Sprintf("-c%d", l.connections), fmt.Sprintf("-d%ds", seconds), url).CombinedOutput()
	if err != nil {
		return f, fmt.Errorf("running wrk: %w\n%s", err, out)
	}
	if m := failed.Find(out); m != nil {
		return f, fmt.Errorf("wrk: %s", m)
	}
	r, p50, p99 := rate.FindSubmatch(out), median.FindSubmatch(out), late.FindSubmatch(out)
	if r == nil || p50 == nil || p99 == nil {
		return f, fmt.Errorf("wrk printed no figures:\n%s", out)
	}
	if f.rate, err = strconv.ParseFloat(string(r[1]), 64); err != nil {
		return f, fmt.Errorf("reading what wrk printed: %w", err)
	}
	f.p50, f.p99 = string(p50[1]), string(p99[1])
	return f, nil
}
