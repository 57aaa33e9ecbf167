//go:build wasip1

// Handler is a guest of the http-wasm ABI in Go. What it does is in the path; it
// tries to leave things behind wherever there is somewhere to leave them.
package main

import (
	"fmt"
	"os"
	"strings"
	"unsafe"
)

//go:wasmimport http_handler get_uri
func getURI(buf unsafe.Pointer, limit uint32) uint32

//go:wasmimport http_handler set_header_value
func setHeader(kind uint32, name unsafe.Pointer, nameLen uint32, value unsafe.Pointer, valueLen uint32)

//go:wasmimport http_handler set_status_code
func setStatus(code uint32)

//go:wasmimport http_handler write_body
func writeBody(kind uint32, body unsafe.Pointer, size uint32)

//go:wasmimport http_handler read_body
func readBody(kind uint32, buf unsafe.Pointer, limit uint32) uint64

const response = 1

var (
	count   int
	seen    = map[string]int{}
	ballast [][]byte
	leaked  *os.File
	origin  = os.Getenv("ORIGIN")
)

func uri() string {
	n := getURI(nil, 0)
	b := make([]byte, n)
	getURI(unsafe.Pointer(unsafe.SliceData(b)), n)
	return string(b)
}

func header(name, value string) {
	setHeader(response, unsafe.Pointer(unsafe.StringData(name)), uint32(len(name)),
		unsafe.Pointer(unsafe.StringData(value)), uint32(len(value)))
}

func write(text string) {
	writeBody(response, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
}

//go:wasmexport handle_request
func handleRequest() uint64 {
	path := uri()
	count++
	seen[path]++
	_, mine := os.LookupEnv("LEFT_BEHIND")
	open := leaked != nil
	if open {
		_, err := leaked.Stat()
		open = err == nil
	}
	switch {
	case path == "/set":
		os.Setenv("LEFT_BEHIND", "yes")
		header("X-Left-Behind", "yes")
	case path == "/grow":
		ballast = append(ballast, make([]byte, 8<<20))
		for i := range ballast[0] {
			ballast[0][i] = 1
		}
	case path == "/panic":
		panic("as it was asked")
	case path == "/spin":
		for {
			count++
		}
	case path == "/exhaust":
		for {
			ballast = append(ballast, make([]byte, 1<<20))
		}
	case strings.HasPrefix(path, "/open"):
		leaked, _ = os.Create("/data/file")
	case path == "/echo":
		buf := make([]byte, 1024)
		for {
			r := readBody(0, unsafe.Pointer(unsafe.SliceData(buf)), uint32(len(buf)))
			write(string(buf[:uint32(r)]))
			if r>>32 != 0 {
				return 0
			}
		}
	case path == "/missing":
		setStatus(404)
	}
	write(fmt.Sprintf("count=%d seen=%d env=%v open=%v origin=%s", count, len(seen), mine, open, origin))
	return 0
}

//go:wasmexport handle_response
func handleResponse(context, failed uint32) {}

func main() {}
