//go:build wasip1

// Handler is the least that a guest of the http-wasm ABI answers.
package main

import "unsafe"

//go:wasmimport http_handler write_body
func writeBody(kind uint32, body unsafe.Pointer, size uint32)

const response = 1

//go:wasmexport handle_request
func handleRequest() uint64 {
	const text = "hello\n"
	writeBody(response, unsafe.Pointer(unsafe.StringData(text)), uint32(len(text)))
	return 0
}

//go:wasmexport handle_response
func handleResponse(context, failed uint32) {}

func main() {}
