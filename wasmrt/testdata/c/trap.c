#include <stdio.h>
#include <stdlib.h>

static volatile int zero;

__attribute__((noinline)) static int fails(int how) {
  volatile int *nowhere = (volatile int *)0xfffffff0;
  switch (how) {
  case 1:
    __builtin_trap();
  case 2:
    return *nowhere;
  }
  return 7 / zero;
}

int main(int argc, char **argv) {
  int sum = 0;
  for (int i = 0; i < 10; i++) sum += i; // a loop, for the rewriter to add to
  printf("%d\n", sum);
  int result = fails(atoi(argv[1]));
  printf("%d\n", result);
  return 0;
}
