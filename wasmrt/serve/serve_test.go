package serve_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"copepod/wasmrt"
	"copepod/wasmrt/internal/wasmtest"
	"copepod/wasmrt/serve"
)

// held is a request whose body is not complete, so that it holds its instance.
type held struct {
	body *io.PipeWriter
	resp chan *http.Response // nil on an error
}

func (s *subject) hold() *held {
	s.t.Helper()
	r, w := io.Pipe()
	h := &held{body: w, resp: make(chan *http.Response, 1)}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.web.URL+"/echo", r)
	if err != nil {
		s.t.Fatal(err)
	}
	before := s.Stats().Requests
	go func() {
		resp, err := s.web.Client().Do(request)
		if err != nil {
			resp = nil
		}
		h.resp <- resp
	}()
	s.t.Cleanup(func() { w.CloseWithError(io.ErrUnexpectedEOF) })
	eventually(s.t, "a request to be taken", func() bool { return s.Stats().Requests > before })
	return h
}

func (h *held) finish(t *testing.T, want string) {
	t.Helper()
	h.body.Close()
	resp := <-h.resp
	if resp == nil {
		t.Error("no response")
		return
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != want || resp.StatusCode != 200 {
		t.Errorf("got %d %q, %v, want 200 %q", resp.StatusCode, b, err, want)
	}
}

func TestATrapIsTheFailureOfOneRequestAndALineInTheLog(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, nil)
	other := s.hold()
	a := s.get("/panic")
	if a.status != 500 || strings.Contains(a.body, "asked") {
		t.Errorf("got %d %q, want 500 and nothing of the guest's own", a.status, a.body)
	}
	for _, want := range []string{"as it was asked", `error: GET "/panic"`, "wasm stack trace", "handle_request"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %q: %s", want, s.log)
		}
	}
	other.finish(t, "")
	if got := s.Stats(); got.Trapped != 1 {
		t.Errorf("got %+v, want one trap", got)
	}
	s.expect("/", 200, fresh)
}

func TestARequestThatTakesTooLongIsStopped(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) { c.Limits.RequestTime = 3 * time.Second })
	s.expect("/spin", 504, "it took longer than 3s")
	s.expect("/", 200, fresh)
	if got := s.Stats(); got.Late != 1 || got.Trapped != 0 {
		t.Errorf("got %+v, want one late request", got)
	}
}

func TestAGuestThatWaitsForItsClientIsStoppedInTime(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) { c.Limits.RequestTime = 2 * time.Second })
	h := s.hold()
	resp := <-h.resp
	if resp == nil {
		t.Fatal("no response")
	}
	defer resp.Body.Close()
	if resp.StatusCode != 504 {
		t.Errorf("got %s, want 504", resp.Status)
	}
	s.expect("/", 200, fresh)
}

func TestRequestsWaitInALineOfBoundedLength(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) {
		c.Limits.Instances, c.Limits.Queue, c.Limits.QueueTime = 1, 1, time.Hour
	})
	first := s.hold()
	second := s.hold()
	eventually(t, "one request to wait", func() bool { return s.Stats().Waiting == 1 })
	a := s.get("/")
	if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "busy") {
		t.Errorf("got %d %v %q, want 503 with Retry-After", a.status, a.header, a.body)
	}
	first.finish(t, "")
	second.finish(t, "")
	s.expect("/", 200, fresh)
}

func TestWaitingHasAnEnd(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) {
		c.Limits.Instances, c.Limits.QueueTime = 1, time.Millisecond
	})
	h := s.hold()
	s.expect("/", 503, "no instance was free for 1ms")
	h.finish(t, "")
}

func TestAClientThatLeavesEndsItsRequest(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, nil)
	s.expect("/", 200, fresh)
	before := s.Stats().CPU
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.web.URL+"/spin", nil)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() {
		_, err := s.web.Client().Do(r)
		left <- err
	}()
	eventually(t, "the guest to spin", func() bool { return s.Stats().CPU > before+10*time.Millisecond })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	eventually(t, "the instance to go", func() bool { return s.Stats().Instances == 0 })
	if strings.Contains(s.log.String(), "error") {
		t.Errorf("got log %q, want nothing: it was no fault of the guest's", s.log)
	}
}

func TestBodiesStreamBothWays(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, nil)
	h := s.hold()
	var resp *http.Response
	for _, part := range []string{"one", "two", "three"} {
		if _, err := io.WriteString(h.body, part); err != nil {
			t.Fatal(err)
		}
		if resp == nil {
			if resp = <-h.resp; resp == nil {
				t.Fatal("no response")
			}
			defer resp.Body.Close()
		}
		b := make([]byte, len(part))
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != part {
			t.Fatalf("got %q, %v while the request goes on, want %q", b, err, part)
		}
	}
	h.body.Close()
	if rest, err := io.ReadAll(resp.Body); len(rest) != 0 || err != nil {
		t.Errorf("got %q, %v at the end", rest, err)
	}
}

func TestALongBodyPassesAndOneThatIsTooLongDoesNot(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) { c.Limits.RequestBody = 1 << 20 })
	long := strings.Repeat("0123456789abcdef", 1<<16)
	if a := s.do(http.MethodPost, "/echo", strings.NewReader(long)); a.status != 200 || a.body != long {
		t.Errorf("got %d and %d bytes, want all %d back", a.status, len(a.body), len(long))
	}
	if a := s.do(http.MethodPost, "/echo", strings.NewReader(long+"x")); a.status != 413 {
		t.Errorf("announced: got %d, want 413", a.status)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.web.URL+"/echo", io.MultiReader(strings.NewReader(long), strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.web.Client().Do(r)
	if err != nil {
		return // broken off, since the echo had begun
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil && resp.StatusCode != 413 {
		t.Errorf("not announced: got %d and %d bytes, want 413 or a broken transfer", resp.StatusCode, len(b))
	}
}

func TestMemoryPastTheLimitIsTheFailureOfOneRequest(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) { c.Program.MemoryLimit = 64 << 20 })
	s.expect("/exhaust", 500, "the program failed")
	if !strings.Contains(s.log.String(), "OOMKilled") {
		t.Errorf("the log does not say why: %s", s.log)
	}
	s.expect("/", 200, fresh)
}

func TestInstancesFitTheMemoryLimitTogether(t *testing.T) {
	var size int64
	one := newServer(t, goHandler(t), serve.HTTP, nil)
	size = one.Stats().MemoryBytes
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) {
		c.Program.MemoryLimit, c.Limits.QueueTime = 2*size+size/2, time.Hour
	})
	first, second, third := s.hold(), s.hold(), s.hold()
	eventually(t, "the third to wait", func() bool { return s.Stats().Waiting == 1 })
	if got := s.Stats(); got.Instances != 2 || got.MemoryBytes > 2*size+size/2 {
		t.Errorf("got %+v, want two instances of %d bytes", got, size)
	}
	first.finish(t, "")
	second.finish(t, "")
	third.finish(t, "")
}

func TestInstancesGoWhenNobodyAsks(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, func(c *serve.Config) { c.Limits.Idle = time.Millisecond })
	for range 3 {
		s.expect("/", 200, fresh)
		eventually(t, "no instance to be left", func() bool {
			got := s.Stats()
			return got.Instances == 0 && got.MemoryBytes == 0
		})
	}
	if s.Stats().CPU <= 0 {
		t.Error("the time that they used is forgotten")
	}
}

func TestAServerThatIsToStopAnswersWhatItHasBegun(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx, l) }()
	s.web.URL = "http://" + l.Addr().String()
	h := s.hold()
	stop()
	eventually(t, "the port to close", func() bool {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if _, err := io.WriteString(h.body, "all of it"); err != nil {
		t.Fatal(err)
	}
	h.finish(t, "all of it")
	if err := <-ran; err != nil {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatIsClosedDoesNotWait(t *testing.T) {
	s := newServer(t, goHandler(t), serve.HTTP, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- s.Run(t.Context(), l) }()
	s.web.URL = "http://" + l.Addr().String()
	h := s.hold()
	s.Close()
	if err := <-ran; err != nil {
		t.Errorf("got %v", err)
	}
	h.body.Close() // the client waits for that, whatever the server does
	if resp := <-h.resp; resp != nil {
		if resp.StatusCode != 503 {
			t.Errorf("got %s, want 503 or nothing", resp.Status)
		}
		resp.Body.Close()
	}
	s.Close() // again is no fault
}

func TestAnInitialisationThatFailsSaysHow(t *testing.T) {
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Export("_initialize", wasmtest.Func, m.Func("", "", wasmtest.Unreachable))
	m.Export("handle_request", wasmtest.Func, m.Func("", "I", wasmtest.I64(0)))
	_, err := tryServer(t, m.Bytes(), serve.HTTP, nil)
	exit, ok := errors.AsType[*wasmrt.ExitError](err)
	if !ok || exit.Exit.Reason != wasmrt.Trap || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("got %v, want the trap", err)
	}
}

func TestAnInitialisationWithoutEndIsStopped(t *testing.T) {
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Export("_initialize", wasmtest.Func, m.Func("", "", wasmtest.Loop, wasmtest.Br(0), wasmtest.End))
	m.Export("handle_request", wasmtest.Func, m.Func("", "I", wasmtest.I64(0)))
	_, err := tryServer(t, m.Bytes(), serve.HTTP, func(c *serve.Config) { c.Limits.InitTime = 50 * time.Millisecond })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestAModuleIsRefusedByWhatItLacks(t *testing.T) {
	none := (&wasmtest.Module{}).Bytes()
	var odd wasmtest.Module
	odd.Memory(1, 1)
	odd.Export("handle_request", wasmtest.Func, odd.Func("i", ""))
	for _, row := range []struct {
		code []byte
		mode serve.Mode
		want string
	}{
		{none, serve.HTTP, "handle_request"},
		{none, serve.CGI, "_start"},
		{none, "wasm", `mode "wasm"`},
		{odd.Bytes(), serve.HTTP, "another type than () -> i64"},
	} {
		if _, err := tryServer(t, row.code, row.mode, nil); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("mode %s: got %v, want an error with %q", row.mode, err, row.want)
		}
	}
}

func TestARequestThatTheGuestPassesOnIsNotFoundUnlessItSaysElse(t *testing.T) {
	var m wasmtest.Module
	status := m.Import("http_handler", "set_status_code", "i", "")
	m.Memory(1, 1)
	m.Export("handle_request", wasmtest.Func, m.Func("", "I", wasmtest.I64(7<<32|1)))
	plain := m.Bytes()
	// The context that handle_request gave comes back.
	m.Export("handle_response", wasmtest.Func, m.Func("ii", "", wasmtest.I32(210), wasmtest.LocalGet(0), wasmtest.I32Add, wasmtest.Call(status)))
	newServer(t, plain, serve.HTTP, nil).expect("/", 404, "")
	newServer(t, m.Bytes(), serve.HTTP, nil).expect("/", 217, "")
}

func TestAHostThatClosesEndsItsServers(t *testing.T) {
	h, err := wasmrt.New(t.Context(), wasmrt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var m wasmtest.Module
	m.Memory(1, 1)
	m.Export("handle_request", wasmtest.Func, m.Func("", "I", wasmtest.Loop, wasmtest.Br(0), wasmtest.End, wasmtest.I64(0)))
	module, err := h.Load(t.Context(), m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	image, err := h.Image(t.Context(), module, wasmrt.ImageConfig{Program: wasmrt.Program{Name: "spin"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := image.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Begin(t.Context(), wasmrt.Use{}, nil); err != nil {
		t.Fatal(err)
	}
	ended := make(chan *wasmrt.Exit)
	go func() {
		_, exit := c.Call("handle_request")
		if c.End() {
			t.Error("a clone that was killed was put back")
		}
		ended <- exit
	}()
	eventually(t, "the guest to run", func() bool { return h.Stats().Instances == 1 })
	go func() { module.Close() }()
	if exit := func() *wasmrt.Exit {
		closed := make(chan error)
		go func() { closed <- h.Close(context.Background()) }()
		exit := <-ended
		if err := <-closed; err != nil {
			t.Error(err)
		}
		return exit
	}(); exit == nil || exit.Reason != wasmrt.Killed {
		t.Errorf("got %+v, want it killed", exit)
	}
	if _, err := image.Clone(t.Context()); err == nil {
		t.Error("a closed image was cloned")
	}
}
