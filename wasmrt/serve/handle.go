package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"copepod/wasmrt"
	"copepod/wasmrt/serve/httpwasm"
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.counts.requests.Add(1)
	if r.ContentLength > s.cfg.Limits.RequestBody {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body of %d bytes; %d are allowed", r.ContentLength, s.cfg.Limits.RequestBody))
		return
	}
	if strings.Contains(r.URL.Path, "\x00") { // which no environment can hold
		refuse(w, http.StatusBadRequest, "a path with a zero byte")
		return
	}
	s.active.RLock()
	defer s.active.RUnlock()
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.RequestTime)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	c, err := s.pool.get(ctx)
	if err != nil {
		s.turnAway(w, r, err)
		return
	}
	f := newFlow(w, r, s.cfg.Limits)
	done := s.serve(ctx, c, f, r)
	if abort := s.conclude(ctx, r, f, done); abort {
		panic(http.ErrAbortHandler) // so that the client does not take a part for the whole
	}
}

// serve has an instance handle a request, and gives the instance back.
func (s *Server) serve(ctx context.Context, c *wasmrt.Clone, f *flow, r *http.Request) result {
	quiet := context.AfterFunc(ctx, func() { f.hangUp(true) })
	defer func() {
		quiet()
		f.end()
		s.pool.put(c, c.End())
	}()
	if s.cfg.Mode == CGI {
		return s.cgi(ctx, c, f, r)
	}
	return s.http(ctx, c, f, r)
}

// turnAway answers a request that got no instance.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	full, isFull := errors.AsType[*refusal](err)
	switch {
	case r.Context().Err() != nil:
		return // nobody listens
	case isFull:
		s.counts.refused.Add(1)
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "busy: "+full.reason)
	case errors.Is(err, errClosed), s.life.Err() != nil:
		s.closing(w)
	case errors.Is(err, context.DeadlineExceeded):
		s.late(w)
	default:
		s.say(httpwasm.Error, fmt.Sprintf("no instance: %v", err))
		refuse(w, http.StatusInternalServerError, "no instance could be made")
	}
}

func (s *Server) late(w http.ResponseWriter) {
	s.counts.late.Add(1)
	refuse(w, http.StatusGatewayTimeout, fmt.Sprintf("it took longer than %v", s.cfg.Limits.RequestTime))
}

func (s *Server) closing(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, "closing")
}

// refuse answers in place of the guest.
func refuse(w http.ResponseWriter, status int, reason string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%d %s: %s\n", status, http.StatusText(status), reason)
}

// result is how a guest left a request.
type result struct {
	exit *wasmrt.Exit // nil: it returned
	err  error        // of ours, or in what it answered
}

// conclude answers for a guest that did not, and reports whether the connection
// must be broken off because it did so in part.
func (s *Server) conclude(ctx context.Context, r *http.Request, f *flow, done result) (abort bool) {
	failed := done.err != nil || done.exit != nil && done.exit.Reason != wasmrt.Completed
	if !failed {
		return false
	}
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	if !late && s.life.Err() == nil && r.Context().Err() != nil {
		return true // the client has gone
	}
	sent := f.was(&f.sent)
	if !sent {
		clear(f.w.Header())
		if f.was(&f.hung) {
			f.w.Header().Set("Connection", "close")
		}
	}
	switch {
	case late && !sent:
		s.late(f.w)
	case late:
		s.counts.late.Add(1)
	case ctx.Err() != nil && !sent:
		s.closing(f.w)
	case ctx.Err() == nil:
		status, reason := s.explain(r, f, done)
		if !sent {
			refuse(f.w, status, reason)
		}
	}
	return sent
}

// explain logs what went wrong, and gives the client's share of it: guests' traps
// are nobody else's business.
func (s *Server) explain(r *http.Request, f *flow, done result) (status int, reason string) {
	what := fmt.Sprintf("%s %s", r.Method, strconv.Quote(r.URL.Path))
	switch {
	case f.was(&f.tooLong):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("a body of more than %d bytes", s.cfg.Limits.RequestBody)
	case done.exit == nil:
		s.say(httpwasm.Error, fmt.Sprintf("%s: %v", what, done.err))
		return http.StatusBadGateway, "the program gave no response"
	case done.exit.Reason == wasmrt.Killed: // by who closes the host
		return http.StatusServiceUnavailable, "closing"
	case done.exit.Reason == wasmrt.Error:
		s.say(httpwasm.Error, fmt.Sprintf("%s: %s", what, done.exit.Message))
		return http.StatusInternalServerError, "the program failed"
	}
	s.counts.trapped.Add(1)
	s.say(httpwasm.Error, fmt.Sprintf("%s: %v: %s", what, done.exit.Reason, done.exit.Message))
	return http.StatusInternalServerError, "the program failed"
}

// http has the guest handle a request by the http-wasm ABI.
func (s *Server) http(ctx context.Context, c *wasmrt.Clone, f *flow, r *http.Request) result {
	if f.body != nil {
		r.Body = f
	}
	e := s.setup.Exchange(f, r, c.Meter())
	if err := c.Begin(ctx, wasmrt.Use{}, e.Context); err != nil {
		return result{err: err}
	}
	answer, exit := c.Call(handleRequest)
	if exit == nil && e.Next(answer[0]) && s.second {
		_, exit = c.Call(handleResponse, answer[0]>>32, 0)
	}
	if exit != nil && exit.Reason != wasmrt.Completed {
		return result{exit: exit}
	}
	return result{err: e.Finish()}
}
