package enroll

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"time"
)

const (
	maxBody     = 64 << 10
	bodyTimeout = 10 * time.Second
	workTimeout = 20 * time.Second
)

// A call is one request of a machine: it says what to answer, or why not.
type call func(ctx context.Context, r *http.Request, source netip.Addr) (any, *Refusal)

// handle bounds a call: its method, its body, its time, how many run at once and
// how many come from one address.
func (s *Server) handle(method, name string, do call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			w.Header().Set("Allow", method)
			s.answer(w, r, name, http.StatusMethodNotAllowed, nil, refuse(CodeMalformed, "method %.20q, want %s", r.Method, method))
			return
		}
		source := sourceOf(r)
		leave, ok := s.limits.enter(source, time.Now())
		if !ok {
			s.answer(w, r, name, 0, nil, refuse(CodeSlower, "too many requests: try again in a few seconds"))
			return
		}
		defer leave()
		// Without a deadline a body that trickles in would keep its place for ever.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyTimeout))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		ctx, cancel := context.WithTimeout(r.Context(), workTimeout)
		defer cancel()
		a, refusal := do(ctx, r, source)
		s.answer(w, r, name, 0, a, refusal)
	})
}

// sourceOf is where a connection comes from.
func sourceOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// decode reads a body of one JSON value. Fields that it does not know are left
// out: a newer joiner should hear that its version is too new, not this.
func decode(r io.Reader, out any) *Refusal {
	dec := json.NewDecoder(r)
	err := dec.Decode(out)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("more than one JSON value")
		}
	}
	var large *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &large):
		return refuse(CodeMalformed, "request is larger than %d bytes", maxBody)
	}
	return refuse(CodeMalformed, "request cannot be read: %.200v", err)
}

var statuses = map[Code]int{
	CodeMalformed: http.StatusBadRequest, CodeUnknown: http.StatusForbidden, CodeExpired: http.StatusForbidden,
	CodeUsedUp: http.StatusForbidden, CodeLocked: http.StatusForbidden, CodeName: http.StatusUnprocessableEntity,
	CodeTaken: http.StatusConflict, CodeAddress: http.StatusForbidden, CodeIndirect: http.StatusMisdirectedRequest,
	CodeVersion: http.StatusUnprocessableEntity, CodeClock: http.StatusUnprocessableEntity,
	CodeRequest: http.StatusUnprocessableEntity, CodeRevoked: http.StatusForbidden, CodeStranger: http.StatusUnauthorized,
	CodeSlower: http.StatusTooManyRequests, CodeUnavailable: http.StatusServiceUnavailable,
}

// answer writes and counts the outcome. status 0: that of the refusal's code.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, name string, status int, a any, refusal *Refusal) {
	outcome := "ok"
	if refusal != nil {
		a, outcome = refusal, string(refusal.Code)
		if status == 0 {
			status = statuses[refusal.Code]
		}
		if s.lines.Allow() {
			s.log.Warn("machine refused", "request", name, "from", r.RemoteAddr, "code", refusal.Code, "reason", refusal.Message)
		}
		if refusal.Passes() {
			w.Header().Set("Retry-After", "2")
		}
	} else {
		status = http.StatusOK
	}
	s.answers.WithLabelValues(name, outcome).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // whoever went away is its own affair
}
