// Shows what a C program is given: arguments, a file, a directory, an exit code.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cat(const char *path) {
  FILE *f = fopen(path, "r");
  char line[256];
  if (f == NULL) {
    perror(path);
    return 1;
  }
  while (fgets(line, sizeof line, f) != NULL) fputs(line, stdout);
  return fclose(f);
}

static int list(const char *path) {
  DIR *d = opendir(path);
  struct dirent *e;
  if (d == NULL) {
    perror(path);
    return 1;
  }
  while ((e = readdir(d)) != NULL) puts(e->d_name);
  return closedir(d);
}

static char *volatile kept;

static int grow(void) {
  for (;;) {
    char *p = malloc(1 << 20);
    if (p == NULL) abort();
    memset(p, 1, 1 << 20);
    kept = p; // or the compiler sees that nobody looks
  }
}

static int park(void) {
  char b[64];
  while (read(0, b, sizeof b) > 0) {
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  if (strcmp(argv[1], "cat") == 0) return cat(argv[2]);
  if (strcmp(argv[1], "list") == 0) return list(argv[2]);
  if (strcmp(argv[1], "grow") == 0) return grow();
  if (strcmp(argv[1], "park") == 0) return park();
  if (strcmp(argv[1], "env") == 0) return puts(getenv(argv[2])) < 0;
  if (strcmp(argv[1], "exit") == 0) return atoi(argv[2]);
  if (strcmp(argv[1], "sleep") == 0) return usleep(1000);
  return 2;
}
