/* Batch reads the file that its pod mounts, counts the words of each line, and
 * exits: 0, or 1 with the reason when it cannot read. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "/config/input.txt";
  FILE *in = fopen(path, "r");
  if (in == NULL) {
    fprintf(stderr, "batch: %s: %s\n", path, strerror(errno));
    return 1;
  }
  char line[4096];
  long lines = 0, words = 0;
  while (fgets(line, sizeof line, in) != NULL) {
    int inside = 0;
    lines++;
    for (char *c = line; *c != '\0'; c++) {
      int space = isspace((unsigned char)*c);
      words += !space && !inside;
      inside = !space;
    }
  }
  fclose(in);
  printf("%s: %ld lines, %ld words\n", path, lines, words);
  return 0;
}
