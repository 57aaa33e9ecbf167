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
	body  io.ReadCloser
	after time.Duration

	mu    sync.Mutex // guards what follows; held while the client is waited for
	left  int64      // bytes of the response
	flush *time.Timer

	state   sync.Mutex // guards what follows; never held for long
	sent    bool       // something of the response has left
	hung    bool
	over    bool // the handler returns
	tooLong bool // the request's body
}

func newFlow(w http.ResponseWriter, r *http.Request, l Limits) *flow {
	f := &flow{w: w, after: l.FlushAfter, left: l.ResponseBody}
	if r.Body != nil && r.Body != http.NoBody {
		f.body = http.MaxBytesReader(w, r.Body, l.RequestBody)
	}
	return f
}

func (f *flow) Header() http.Header { return f.w.Header() }

func (f *flow) WriteHeader(status int) {
	f.mark(&f.sent)
	f.w.WriteHeader(status)
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
	f.mark(&f.sent)
	return http.NewResponseController(f.w).Flush()
}

// Read reads the request's body.
func (f *flow) Read(p []byte) (int, error) {
	if f.body == nil {
		return 0, io.EOF
	}
	n, err := f.body.Read(p)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		f.mark(&f.tooLong)
		err = fmt.Errorf("the request's body: %w", err)
	}
	return n, err
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
	_ = c.SetReadDeadline(past) // a connection that has no deadlines is not waited for in the kernel
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
