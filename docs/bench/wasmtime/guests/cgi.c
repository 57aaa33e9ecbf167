// The least that a CGI program answers.
#include <stdio.h>

int main(void) {
	puts("Content-Type: text/plain\n\nhello");
	return 0;
}
