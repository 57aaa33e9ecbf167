// A CGI program in C.
#include <stdio.h>
#include <stdlib.h>

static int count;

int main(void) {
	char *query = getenv("QUERY_STRING");
	printf("Content-Type: text/plain\n\ncount=%d query=%s", ++count, query ? query : "");
	return 0;
}
