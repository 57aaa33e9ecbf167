// The least that a handler of the http-wasm ABI answers.
#include <stdint.h>

__attribute__((import_module("http_handler"), import_name("write_body"))) void write_body(uint32_t kind, const char *body, uint32_t size);

__attribute__((export_name("handle_request"))) uint64_t handle_request(void) {
	write_body(1, "hello\n", 6);
	return 0;
}

__attribute__((export_name("handle_response"))) void handle_response(uint32_t context, uint32_t failed) {}
