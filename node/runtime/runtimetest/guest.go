package runtimetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// GuestImage is the name under which Programs has the suite's guest.
const GuestImage = "guest:v1"

// Programs are images for a Fake: the suite's guest, and what tests of pods use.
func Programs() map[string]Guest {
	return map[string]Guest{
		GuestImage:  SuiteGuest,
		"server:v1": Serve,
		"done:v1":   func(context.Context, Process) int { return 0 },
		"fail:v1":   func(context.Context, Process) int { return 1 },
		"wait:v1":   Wait,
		"stuck:v1":  Stubborn,
	}
}

// SuiteGuest does what the program in the guest folder does.
func SuiteGuest(ctx context.Context, p Process) int {
	switch p.Argv[0] {
	case "print":
		_, _ = fmt.Fprintln(p.Stdout, p.Getenv("GREETING"), strings.Join(p.Argv[1:], ","))
		_, _ = fmt.Fprintln(p.Stderr, "done")
		return 0
	case "fail":
		return 3
	case "serve":
		return Serve(ctx, p)
	case "stubborn":
		return Stubborn(ctx, p)
	case "copy":
		return p.copy(p.Argv[1], p.Argv[2])
	}
	return 2
}

// Wait ends when it is asked to.
func Wait(ctx context.Context, p Process) int {
	select {
	case <-p.Stopping:
		return 0
	case <-ctx.Done():
		return 1
	}
}

// Stubborn ends only when it is killed.
func Stubborn(ctx context.Context, _ Process) int {
	<-ctx.Done()
	return 0
}

// Serve answers HTTP on every listener with "served by" and the listener's name,
// until the listeners close.
func Serve(_ context.Context, p Process) int {
	var all sync.WaitGroup
	for _, l := range p.Listeners {
		all.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				answer(conn, l.Name)
			}
		})
	}
	if len(p.Listeners) == 0 {
		<-p.Stopping
	}
	all.Wait()
	return 0
}

func answer(conn net.Conn, name string) {
	defer func() { _ = conn.Close() }()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	text := "served by " + name
	status := http.StatusOK
	if req.URL.Path == "/broken" {
		status = http.StatusInternalServerError
	}
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(text), text)
}

// copy copies a file between mounts, confined to them.
func (p Process) copy(from, to string) int {
	src, _, err := p.host(from)
	if err != nil {
		return 1
	}
	dst, readOnly, err := p.host(to)
	if err != nil || readOnly {
		return 1
	}
	in, err := os.Open(src)
	if err != nil {
		return 1
	}
	defer func() { _ = in.Close() }()
	data, err := io.ReadAll(in)
	if err != nil || os.WriteFile(dst, data, 0o600) != nil {
		return 1
	}
	return 0
}

func (p Process) host(guest string) (path string, readOnly bool, err error) {
	for _, m := range p.Mounts {
		if guest == m.Guest {
			return m.Host, m.ReadOnly, nil
		}
		if rest, ok := strings.CutPrefix(guest, strings.TrimSuffix(m.Guest, "/")+"/"); ok {
			return filepath.Join(m.Host, rest), m.ReadOnly, nil
		}
	}
	return "", false, os.ErrNotExist
}
