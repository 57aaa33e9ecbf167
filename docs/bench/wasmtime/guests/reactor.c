// A library whose calls leave things behind: a number, and 16 KiB of heap.
#include <stdlib.h>
#include <string.h>

static int count;
static char *volatile kept; // or the compiler sees that nobody looks
static char table[65536];

__attribute__((constructor)) static void initialise(void) {
	for (int i = 0; i < (int)sizeof table; i++) table[i] = i * 7;
}

__attribute__((export_name("handle"))) int handle(void) {
	kept = malloc(16384);
	memset(kept, ++count, 16384);
	return count;
}
