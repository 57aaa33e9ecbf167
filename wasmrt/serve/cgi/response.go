package cgi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// maxHead bounds the head of a response, which is held until it is complete.
const maxHead = 64 << 10

// Response is the standard output of a program: the head of a response, an empty
// line, a body. It is for one goroutine.
type Response struct {
	w    http.ResponseWriter
	head []byte
	sent bool
	bad  error
}

// NewResponse makes a Response that goes to w.
func NewResponse(w http.ResponseWriter) *Response { return &Response{w: w} }

// Sent reports whether the head was complete and has been sent.
func (r *Response) Sent() bool { return r.sent }

// Write implements io.Writer. After the head was found wrong it takes everything
// and keeps nothing, so that a program does not have to see a failure of its own
// making.
func (r *Response) Write(p []byte) (int, error) {
	n := len(p)
	if r.bad != nil {
		return n, nil
	}
	if !r.sent {
		before := len(r.head)
		r.head = append(r.head, p[:min(len(p), maxHead+1-before)]...)
		end, skip := blankLine(r.head)
		if end < 0 {
			if len(r.head) > maxHead {
				r.bad = fmt.Errorf("a head of more than %d bytes", maxHead)
			}
			return n, nil
		}
		if r.bad = r.begin(r.head[:end]); r.bad != nil {
			return n, nil
		}
		p = p[end+skip-before:]
		r.head = nil
	}
	if len(p) == 0 {
		return n, nil
	}
	if m, err := r.w.Write(p); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		return n - len(p) + m, err
	}
	return n, nil
}

// Finish is to be called when the program has ended. It fails if what it wrote
// is no response.
func (r *Response) Finish() error {
	switch {
	case r.bad != nil:
		return fmt.Errorf("not a CGI response: %w", r.bad)
	case r.sent:
		return nil
	case len(r.head) == 0:
		return errors.New("not a CGI response: the program wrote nothing")
	}
	return errors.New(`not a CGI response: no empty line after the head; print "Content-Type: text/plain", an empty line, and the body`)
}

// blankLine finds the empty line: where the head before it ends, and how long the
// end of that head and the line are.
func blankLine(b []byte) (end, skip int) {
	for at := 0; at < len(b); {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		if line := b[at : at+i]; len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return at, i + 1
		}
		at += i + 1
	}
	return -1, 0
}

// begin sends the head.
func (r *Response) begin(head []byte) error {
	status, location := 0, ""
	header := http.Header{}
	for line := range strings.Lines(string(head)) {
		line = strings.TrimRight(line, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		switch {
		case !ok || !token(name):
			return fmt.Errorf("a line of the head that is no header: %.64q", line)
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			return fmt.Errorf("a control character in the header %s", name)
		case strings.EqualFold(name, "Status"):
			code, _, _ := strings.Cut(value, " ")
			n, err := strconv.Atoi(code)
			if err != nil || n < 200 || n > 999 {
				return fmt.Errorf("status %.64q", value)
			}
			status = n
		default:
			header.Add(name, value)
		}
	}
	location = header.Get("Location")
	if len(header) == 0 && status == 0 {
		return errors.New("an empty head")
	}
	if status == 0 {
		status = http.StatusOK
		if location != "" {
			status = http.StatusFound
		}
	}
	for name, values := range header {
		r.w.Header()[name] = values
	}
	r.sent = true
	r.w.WriteHeader(status)
	return nil
}

// token reports whether a text is a name as RFC 9110 section 5.6.2 has it.
func token(text string) bool {
	return text != "" && strings.IndexFunc(text, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) < 0
}
