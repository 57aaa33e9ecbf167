// The programs that the metering tax is measured with: kernels sieve|sha256|
// matmul|nbody|fib|calls [rounds]. "test" runs each of them once.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t sieve(int rounds) {
	enum { size = 1 << 20 };
	static uint8_t composite[size];
	uint64_t primes = 0;
	for (int r = 0; r < rounds; r++) {
		memset(composite, 0, size);
		for (int i = 2; i < size; i++) {
			if (composite[i]) continue;
			primes++;
			for (int j = 2 * i; j < size; j += i) composite[j] = 1;
		}
	}
	return primes;
}

static uint32_t rotate(uint32_t v, int n) { return v >> n | v << (32 - n); }

static uint32_t fraction(double v) { return (uint32_t)((v - floor(v)) * 4294967296.0); }

static void block(uint32_t h[8], const uint32_t k[64], const uint8_t *p) {
	uint32_t w[64], v[8];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + a + w[i - 7] + b;
	}
	memcpy(v, h, sizeof v);
	for (int i = 0; i < 64; i++) {
		uint32_t e = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
		uint32_t t = v[7] + e + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
		uint32_t a = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
		uint32_t u = a + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof *v);
		v[4] += t;
		v[0] = t + u;
	}
	for (int i = 0; i < 8; i++) h[i] += v[i];
}

static uint64_t sha256(int rounds) {
	static uint8_t data[1 << 16];
	uint32_t k[64], h[8];
	for (int n = 2, i = 0; i < 64; n++) {
		int prime = 1;
		for (int d = 2; d * d <= n; d++) prime &= n % d != 0;
		if (!prime) continue;
		k[i] = fraction(cbrt(n));
		if (i < 8) h[i] = fraction(sqrt(n));
		i++;
	}
	for (size_t i = 0; i < sizeof data; i++) data[i] = i * 7;
	for (int r = 0; r < rounds; r++)
		for (size_t i = 0; i < sizeof data; i += 64) block(h, k, data + i);
	return (uint64_t)h[0] << 32 | h[1];
}

static uint64_t matmul(int rounds) {
	enum { size = 160 };
	static double a[size][size], b[size][size], c[size][size];
	for (int i = 0; i < size; i++)
		for (int j = 0; j < size; j++) a[i][j] = i - j, b[i][j] = i + j;
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < size; i++)
			for (int j = 0; j < size; j++) {
				double sum = 0;
				for (int k = 0; k < size; k++) sum += a[i][k] * b[k][j];
				c[i][j] += sum;
			}
	return (uint64_t)(int64_t)c[3][size - 5];
}

static uint64_t nbody(int rounds) {
	enum { bodies = 5 };
	static double p[bodies][3], v[bodies][3], m[bodies];
	for (int i = 0; i < bodies; i++) {
		m[i] = 1.0 / (1 + i);
		for (int k = 0; k < 3; k++) p[i][k] = i * 3 + k, v[i][k] = 0.01 * (k - i);
	}
	for (int r = 0; r < rounds * 1000; r++) {
		for (int i = 0; i < bodies; i++)
			for (int j = i + 1; j < bodies; j++) {
				double d[3], square = 0;
				for (int k = 0; k < 3; k++) d[k] = p[i][k] - p[j][k], square += d[k] * d[k];
				double f = 0.001 / (square * sqrt(square));
				for (int k = 0; k < 3; k++) v[i][k] -= d[k] * m[j] * f, v[j][k] += d[k] * m[i] * f;
			}
		for (int i = 0; i < bodies; i++)
			for (int k = 0; k < 3; k++) p[i][k] += 0.001 * v[i][k];
	}
	return (uint64_t)(int64_t)(p[0][0] * 1e9);
}

__attribute__((noinline)) static uint64_t fib(int n) { return n < 2 ? (uint64_t)n : fib(n - 1) + fib(n - 2); }

static int ascending(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

// calls is a storm of indirect calls of a light function.
static uint64_t calls(int rounds) {
	static uint32_t list[1 << 14];
	uint64_t sum = 0;
	for (int r = 0; r < rounds; r++) {
		uint32_t seed = r + 1;
		for (int i = 0; i < 1 << 14; i++) list[i] = seed = seed * 1664525 + 1013904223;
		qsort(list, 1 << 14, sizeof *list, ascending);
		sum += list[1 << 13];
	}
	return sum;
}

int main(int argc, char **argv) {
	const char *what = argc > 1 ? argv[1] : "test";
	int rounds = argc > 2 ? atoi(argv[2]) : 1, all = !strcmp(what, "test");
	if (all || !strcmp(what, "sieve")) printf("sieve %llu\n", (unsigned long long)sieve(rounds));
	if (all || !strcmp(what, "sha256")) printf("sha256 %llx\n", (unsigned long long)sha256(rounds));
	if (all || !strcmp(what, "matmul")) printf("matmul %llu\n", (unsigned long long)matmul(rounds));
	if (all || !strcmp(what, "nbody")) printf("nbody %llu\n", (unsigned long long)nbody(rounds));
	if (all || !strcmp(what, "fib")) printf("fib %llu\n", (unsigned long long)fib(all ? 20 : rounds));
	if (all || !strcmp(what, "calls")) printf("calls %llu\n", (unsigned long long)calls(rounds));
	return all ? 7 : 0;
}
