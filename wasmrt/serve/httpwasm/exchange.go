package httpwasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"copepod/wasmrt/wasi"
)

// Exchange is one request and its response, as the guest sees them. It is for one
// goroutine.
type Exchange struct {
	setup   *Setup
	writer  http.ResponseWriter
	request *http.Request
	meter   wasi.Meter

	method, uri string        // as the guest may have changed them
	replaced    *bytes.Buffer // the request's body, once the guest wrote one
	features    uint32

	status   int
	sent     bool         // the head of the response is on its way
	held     bytes.Buffer // the response's body, while it is buffered
	trailers http.Header
	written  int64 // bytes of the body
	head     int64 // bytes of headers that the guest has set
	passed   bool  // the request was passed on
}

// Context returns ctx with the exchange in it, for the calls of the guest that
// handle this request.
func (e *Exchange) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, contextKey{}, e)
}

// Next takes what handle_request returned. It reports whether the guest passes
// the request on: then handle_response is to be called, with the upper half.
func (e *Exchange) Next(result uint64) bool {
	if uint32(result) == 0 {
		return false
	}
	e.passed = true
	if !e.sent {
		e.status = http.StatusNotFound // nobody is behind the guest
		e.held.Reset()
	}
	return true
}

// Sent reports whether anything of the response has left, so that another cannot
// be given.
func (e *Exchange) Sent() bool { return e.sent }

// Finish sends what was held back: the head of a response without body, a body
// that was buffered, trailers.
func (e *Exchange) Finish() error {
	if !e.sent {
		e.send()
		if _, err := e.writer.Write(e.held.Bytes()); err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
			return fmt.Errorf("response: %w", err)
		}
	}
	if len(e.trailers) == 0 {
		return nil
	}
	if err := http.NewResponseController(e.writer).Flush(); err != nil { // so that it is sent in chunks
		return fmt.Errorf("response trailers: %w", err)
	}
	for name, values := range e.trailers {
		e.writer.Header()[http.TrailerPrefix+name] = values
	}
	return nil
}

func (e *Exchange) send() {
	e.sent = true
	e.writer.WriteHeader(e.status)
}

func (e *Exchange) enableFeatures(c frame) {
	e.features |= c.u32(0) & supported
	c.answer(supported)
}

func (e *Exchange) getConfig(c frame)  { e.setup.getConfig(c) }
func (e *Exchange) log(c frame)        { e.setup.log(c) }
func (e *Exchange) logEnabled(c frame) { e.setup.logEnabled(c) }

func (e *Exchange) getMethod(c frame)          { c.put(0, e.method) }
func (e *Exchange) getURI(c frame)             { c.put(0, e.uri) }
func (e *Exchange) getProtocolVersion(c frame) { c.put(0, e.request.Proto) }
func (e *Exchange) getSourceAddr(c frame)      { c.put(0, e.request.RemoteAddr) }

func (e *Exchange) setMethod(c frame) {
	e.beforeNext(c)
	method := c.text(0)
	if !token(method) {
		c.fail("%q is not a method", method)
	}
	e.method = method
}

func (e *Exchange) setURI(c frame) {
	e.beforeNext(c)
	if e.uri = c.text(0); e.uri == "" {
		e.uri = "/"
	}
}

// beforeNext refuses changes to a request that was passed on.
func (e *Exchange) beforeNext(c frame) {
	if e.passed {
		c.fail("the request was passed on already")
	}
}

func (e *Exchange) getStatusCode(c frame) { c.answer(uint64(e.status)) }

func (e *Exchange) setStatusCode(c frame) {
	e.beforeHead(c)
	status := c.u32(0)
	if status < 200 || status > 999 {
		c.fail("%d is not the status of a response", status)
	}
	e.status = int(status)
}

// beforeHead refuses changes to a head that has left.
func (e *Exchange) beforeHead(c frame) {
	if e.sent {
		c.fail("the head of the response has been sent; set it before the body is written, or enable feature 2 (buffer_response)")
	}
}

const (
	requestBody  = 0
	responseBody = 1
)

// maxTransfer is how much one call moves. read_body may give less than it was
// asked for; write_body goes on piece by piece.
const maxTransfer = 1 << 20

func (e *Exchange) readBody(c frame) {
	const eof = 1 << 32
	room := min(int(c.u32(2)), maxTransfer)
	if room == 0 {
		c.fail("no room to read into")
	}
	b := c.room(1, room)
	switch c.u32(0) {
	case requestBody:
	case responseBody:
		c.answer(eof) // what is behind the guest has no body
		return
	default:
		c.fail("a body of kind %d", c.u32(0))
	}
	var from io.Reader = e.request.Body
	if e.replaced != nil {
		from = e.replaced
	} else if e.request.Body == nil || e.request.Body == http.NoBody {
		c.answer(eof)
		return
	}
	e.park()
	n, err := from.Read(b)
	e.resume()
	switch {
	case errors.Is(err, io.EOF):
		c.answer(eof | uint64(n))
	case err != nil:
		c.fail("%v", err)
	default:
		c.answer(uint64(n))
	}
}

func (e *Exchange) writeBody(c frame) {
	b := c.bytes(1)
	switch c.u32(0) {
	case requestBody:
		e.beforeNext(c)
		if e.replaced == nil {
			e.replaced = &bytes.Buffer{}
		}
		e.hold(c, e.replaced, b)
	case responseBody:
		if e.features&bufferResponse != 0 && !e.sent {
			e.hold(c, &e.held, b)
			return
		}
		e.stream(c, b)
	default:
		c.fail("a body of kind %d", c.u32(0))
	}
}

func (e *Exchange) hold(c frame, in *bytes.Buffer, b []byte) {
	if int64(in.Len())+int64(len(b)) > e.setup.cfg.MaxBuffer {
		c.fail("more than %d bytes to buffer", e.setup.cfg.MaxBuffer)
	}
	in.Write(b)
}

// unseen is how much of a response net/http takes before it sends any of it.
const unseen = 2 << 10

// stream sends a part of the body. The guest waits for a slow client.
func (e *Exchange) stream(c frame, b []byte) {
	if e.written += int64(len(b)); e.written > unseen {
		e.park()
		defer e.resume()
	}
	if !e.sent {
		e.send()
	}
	for len(b) > 0 {
		n, err := e.writer.Write(b[:min(len(b), maxTransfer)])
		if errors.Is(err, http.ErrBodyNotAllowed) {
			return // as for HEAD, which takes a body and drops it
		}
		if err != nil {
			c.fail("%v", err)
		}
		b = b[n:]
	}
}

func (e *Exchange) park() {
	if e.meter != nil {
		e.meter.Park()
	}
}

func (e *Exchange) resume() {
	if e.meter != nil {
		e.meter.Resume()
	}
}

// lower is a header's name as the ABI gives it.
func lower(name string) string { return strings.ToLower(name) }
