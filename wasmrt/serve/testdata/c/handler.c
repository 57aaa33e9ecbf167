// A guest of the http-wasm ABI in C.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HTTP(name) __attribute__((import_module("http_handler"), import_name(#name)))
HTTP(get_uri) uint32_t get_uri(char *buf, uint32_t limit);
HTTP(write_body) void write_body(uint32_t kind, const char *body, uint32_t size);

static int count;
static char table[65536];
static char *kept;

__attribute__((constructor)) static void initialise(void) {
	for (int i = 0; i < (int)sizeof table; i++)
		table[i] = i * 7;
}

__attribute__((export_name("handle_request"))) uint64_t handle_request(void) {
	char uri[256], out[256];
	uint32_t n = get_uri(uri, sizeof uri - 1);
	uri[n < sizeof uri ? n : 0] = 0;
	count++;
	kept = malloc(16384);
	memset(kept, count, 16384);
	if (strcmp(uri, "/grow") == 0)
		memset(malloc(4 << 20), 1, 4 << 20);
	if (strcmp(uri, "/trap") == 0)
		__builtin_trap();
	int size = snprintf(out, sizeof out, "count=%d table=%d", count, table[n]);
	write_body(1, out, size);
	return 0;
}

__attribute__((export_name("handle_response"))) void handle_response(uint32_t context, uint32_t failed) {}
