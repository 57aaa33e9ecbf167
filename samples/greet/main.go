//go:build wasip1

// Greet answers HTTP requests through the http-wasm handler ABI: it has no
// server and no socket, and every request finds it as if it had just started.
package main

import (
	"fmt"
	"net/url"
	"os"
	"unsafe"
)

// The part of the ABI that it uses.
// Source: https://http-wasm.io/http-handler-abi/

//go:wasmimport http_handler get_uri
func getURI(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_header_value
func setHeader(kind uint32, name unsafe.Pointer, nameLen uint32, value unsafe.Pointer, valueLen uint32)

//go:wasmimport http_handler write_body
func writeBody(kind uint32, body unsafe.Pointer, size uint32)

const response = 1

// Made once, before the first request, and there for each.
var (
	host, _ = os.LookupEnv("HOSTNAME")
	visits  int
)

//go:wasmexport handle_request
func handleRequest() uint64 {
	visits++ // nobody else will see this
	name := "you"
	if u, err := url.Parse(requestURI()); err == nil && u.Query().Get("name") != "" {
		name = u.Query().Get("name")
	}
	header("Content-Type", "text/plain; charset=utf-8")
	write(fmt.Sprintf("Hello %s, from %s. This is visit %d.\n", name, host, visits))
	return 0 // answered: there is nothing to pass on
}

//go:wasmexport handle_response
func handleResponse(requestContext, isError uint32) {}

func requestURI() string {
	b := make([]byte, getURI(nil, 0))
	getURI(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	return string(b)
}

func header(name, value string) {
	setHeader(response, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)),
		unsafe.Pointer(unsafe.StringData(value)), uint32(len(value)))
}

func write(text string) {
	writeBody(response, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

func main() {}
