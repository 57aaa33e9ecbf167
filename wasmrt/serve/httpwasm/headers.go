package httpwasm

import (
	"net/http"
	"slices"
)

// Kinds of headers.
const (
	requestHeader = iota
	responseHeader
	requestTrailer
	responseTrailer
)

// headers are those of a kind, to read.
func (e *Exchange) headers(c frame) http.Header {
	kind := c.u32(0)
	if kind > responseTrailer {
		c.fail("headers of kind %d", kind)
	}
	if kind >= requestTrailer && e.features&trailers == 0 {
		return nil
	}
	switch kind {
	case requestHeader:
		return e.request.Header
	case responseHeader:
		return e.writer.Header()
	case requestTrailer:
		return e.request.Trailer
	}
	return e.trailers
}

// change are the headers of a kind, to change.
func (e *Exchange) change(c frame) http.Header {
	switch kind := c.u32(0); {
	case kind > responseTrailer:
		c.fail("headers of kind %d", kind)
	case kind >= requestTrailer && e.features&trailers == 0:
		c.fail("trailers are not enabled: enable feature 4 first")
	case kind == requestHeader || kind == requestTrailer:
		e.beforeNext(c)
	case kind == responseHeader:
		e.beforeHead(c)
	case kind == responseTrailer && e.trailers == nil:
		e.trailers = http.Header{}
	}
	h := e.headers(c)
	if h == nil {
		h = http.Header{}
		e.request.Trailer = h // the only ones that may be missing
	}
	return h
}

const host = "Host" // a header to the guest, a field of its own in net/http

func (e *Exchange) getHeaderNames(c frame) {
	var names []string
	for name, values := range e.headers(c) {
		if len(values) > 0 {
			names = append(names, lower(name))
		}
	}
	if c.u32(0) == requestHeader && e.request.Host != "" {
		names = append(names, lower(host))
	}
	slices.Sort(names)
	c.putAll(1, names)
}

func (e *Exchange) getHeaderValues(c frame) {
	name := http.CanonicalHeaderKey(e.name(c))
	values := e.headers(c)[name]
	if c.u32(0) == requestHeader && name == host && e.request.Host != "" {
		values = []string{e.request.Host}
	}
	c.putAll(3, values)
}

func (e *Exchange) setHeaderValue(c frame) {
	h, name, text := e.change(c), e.name(c), e.value(c)
	if c.u32(0) == requestHeader && http.CanonicalHeaderKey(name) == host {
		e.request.Host = text
		return
	}
	h.Set(name, text)
}

func (e *Exchange) addHeaderValue(c frame) {
	h, name, text := e.change(c), e.name(c), e.value(c)
	if c.u32(0) == requestHeader && http.CanonicalHeaderKey(name) == host {
		c.fail("a request has one host")
	}
	h.Add(name, text)
}

func (e *Exchange) removeHeader(c frame) {
	h, name := e.change(c), e.name(c)
	if c.u32(0) == requestHeader && http.CanonicalHeaderKey(name) == host {
		e.request.Host = ""
		return
	}
	h.Del(name)
}

func (e *Exchange) name(c frame) string {
	name := c.text(1)
	if !token(name) {
		c.fail("%.64q is not a name for a header", name)
	}
	return name
}

// headerCost is what a header takes beyond its bytes.
const headerCost = 32

func (e *Exchange) value(c frame) string {
	text := c.text(3)
	if !value(text) {
		c.fail("a value with a control character in it: %.64q", text)
	}
	e.head += int64(len(text)) + int64(c.u32(2)) + headerCost
	if e.head > e.setup.cfg.MaxHead {
		c.fail("more than %d bytes of headers", e.setup.cfg.MaxHead)
	}
	return text
}
