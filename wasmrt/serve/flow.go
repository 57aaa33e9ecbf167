package serve

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// flow is the two bodies of a request on their way: it bounds them, sends what is
// written without much delay, and can be hung up while one of them waits for the
// client. It is the http.ResponseWriter of the guest.
type flow struct {
	w     http.ResponseWriter
	r     *http.Request
	body  io.ReadCloser // nil: none
	after time.Duration
	begun sync.Once // the head of the response

	reading sync.Mutex // guards what follows; held while the client is waited for
	rest    []byte     // read ahead
	ended   bool       // the body was read to its end

	mu    sync.Mutex // guards what follows; held while the client is waited for
	left  int64      // bytes of the response
	flush *time.Timer

	state   sync.Mutex // guards what follows; never held for long
	sent    bool       // something of the response has left
	waits   bool       // the body is waited for
	hung    bool
	over    bool // the handler returns
	tooLong bool // the request's body
}

func newFlow(w http.ResponseWriter, r *http.Request, l Limits) *flow {
	f := &flow{w: w, r: r, after: l.FlushAfter, left: l.ResponseBody}
	if r.Body != nil && r.Body != http.NoBody {
		f.body = http.MaxBytesReader(w, r.Body, l.RequestBody)
	}
	return f
}

func (f *flow) Header() http.Header { return f.w.Header() }

func (f *flow) WriteHeader(status int) {
	f.begun.Do(f.begin)
	f.mark(&f.sent)
	f.w.WriteHeader(status)
}

// readAhead is how long a body may be that is read to its end before the response
// begins.
const readAhead = 64 << 10

// begin makes sure that the request's body can still be read once the response
// has begun, which net/http alone does not allow in HTTP/1. A short body is read
// ahead. With a longer one the connection is given up afterwards: nobody could
// tell where the next request begins in it.
func (f *flow) begin() {
	if f.body == nil || f.r.ProtoMajor != 1 {
		return
	}
	if n := f.r.ContentLength; n >= 0 && n <= readAhead {
		f.reading.Lock()
		defer f.reading.Unlock()
		if f.ended {
			return
		}
		if f.await(true) {
			b, err := io.ReadAll(f.body)
			f.await(false)
			if f.rest = append(f.rest, b...); err == nil {
				f.ended = true
				return
			}
		}
	} else if f.reading.TryLock() {
		defer f.reading.Unlock()
		if f.ended {
			return
		}
	}
	_ = http.NewResponseController(f.w).EnableFullDuplex()
	f.w.Header().Set("Connection", "close")
}

func (f *flow) mark(flag *bool) {
	f.state.Lock()
	*flag = true
	f.state.Unlock()
}

func (f *flow) was(flag *bool) bool {
	f.state.Lock()
	defer f.state.Unlock()
	return *flag
}

// Write sends a part of the response.
func (f *flow) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun.Do(f.begin)
	f.mark(&f.sent)
	if int64(len(p)) > f.left {
		return 0, errors.New("the response is longer than is allowed")
	}
	n, err := f.w.Write(p)
	f.left -= int64(n)
	if err == nil && f.flush == nil {
		f.flush = time.AfterFunc(f.after, f.push)
	}
	return n, err
}

// push sends what was written and did not fill a buffer.
func (f *flow) push() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flush == nil {
		return
	}
	f.flush = nil
	_ = http.NewResponseController(f.w).Flush() // who writes next hears of it
}

// FlushError is for http.ResponseController.
func (f *flow) FlushError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun.Do(f.begin)
	f.mark(&f.sent)
	return http.NewResponseController(f.w).Flush()
}

// Read reads the request's body.
func (f *flow) Read(p []byte) (int, error) {
	if f.body == nil {
		return 0, io.EOF
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if len(f.rest) > 0 {
		n := copy(p, f.rest)
		f.rest = f.rest[n:]
		return n, nil
	}
	if f.ended {
		return 0, io.EOF
	}
	if !f.await(true) {
		return 0, errHungUp
	}
	n, err := f.body.Read(p)
	f.await(false)
	f.ended = errors.Is(err, io.EOF)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		f.mark(&f.tooLong)
		err = fmt.Errorf("the request's body: %w", err)
	}
	return n, err
}

var errHungUp = errors.New("the request is over")

// await notes that the body is waited for, or is no longer. It reports whether
// it may be.
func (f *flow) await(is bool) bool {
	f.state.Lock()
	defer f.state.Unlock()
	f.waits = is
	return !f.hung
}

// Close does nothing: the body is the server's.
func (f *flow) Close() error { return nil }

// hangUp lets go of who waits for the client to send, and if all is given up of who
// waits for it to take. A response can still be begun.
func (f *flow) hangUp(all bool) {
	f.state.Lock()
	defer f.state.Unlock()
	if f.over {
		return // the connection is for the next request now
	}
	f.hung = true
	past := time.Unix(1, 0)
	c := http.NewResponseController(f.w)
	if f.waits { // else net/http may be reading, to learn if the client leaves
		_ = c.SetReadDeadline(past)
	}
	if all && f.sent {
		_ = c.SetWriteDeadline(past)
	}
}

// end is the last thing before the handler returns.
func (f *flow) end() {
	f.mark(&f.over)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flush != nil {
		f.flush.Stop()
		f.flush = nil
	}
}
