package serve

import (
	"context"
	"io"
	"net/http"
	"sync"

	"copepod/wasmrt"
	"copepod/wasmrt/serve/cgi"
)

// cgi runs the program for a request.
func (s *Server) cgi(ctx context.Context, c *wasmrt.Clone, f *flow, r *http.Request) result {
	out := cgi.NewResponse(f)
	use := wasmrt.Use{
		Env:    append(append([]string{}, s.cfg.Program.Env...), cgi.Environment(r)...),
		Stdout: out,
	}
	var in *stdin
	if f.body != nil {
		in = &stdin{f: f}
		use.Stdin = in
	}
	if err := c.Begin(ctx, use, nil); err != nil {
		return result{err: err}
	}
	_, exit := c.Call("_start")
	if in != nil {
		in.Close()
	}
	if exit != nil && exit.Reason != wasmrt.Completed {
		if exit.Reason == wasmrt.Error && out.Sent() {
			s.explain(r, f, result{exit: exit})
			return result{} // what it answered counts, as for any CGI program
		}
		return result{exit: exit}
	}
	return result{err: out.Finish()}
}

// stdin is the body of a request as standard input, which is read ahead on
// another goroutine. After Close nobody reads the body any more.
type stdin struct {
	f *flow

	mu     sync.Mutex // guards what follows
	closed bool
	busy   chan struct{} // closed when the read under way has ended; nil if there is none
}

func (s *stdin) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, io.EOF
	}
	busy := make(chan struct{})
	s.busy = busy
	s.mu.Unlock()
	n, err := s.f.Read(p)
	s.mu.Lock()
	s.busy = nil
	s.mu.Unlock()
	close(busy)
	return n, err
}

// Close ends a read under way, and waits for its end: the body is good only until
// the handler returns.
func (s *stdin) Close() error {
	s.mu.Lock()
	s.closed = true
	busy := s.busy
	s.mu.Unlock()
	if busy != nil {
		s.f.hangUp(false)
		<-busy
	}
	return nil
}
