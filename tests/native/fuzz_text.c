/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_text SEED COUNT: the functions of text.c beside those of libc.  text.c is compiled with its memcpy, memset and
 * memcmp under the names ours_*.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *ours_memcpy(void *restrict to, const void *restrict from, size_t size);
void *ours_memset(void *to, int value, size_t size);
int ours_memcmp(const void *a, const void *b, size_t size);
size_t text_length(const char *text);
int text_equal(const char *a, const char *b);
int text_starts(const char *text, const char *prefix);
const char *text_find(const char *text, char wanted);
size_t text_copy(char *to, size_t room, const char *from);
size_t text_number(char *to, uint64_t number);

static uint64_t seed;

static uint64_t next(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* A text of a few different characters, so that equal ones happen, in a block of exactly its size. */
static char *random_text(void) {
	size_t length = next() % 12;
	char *text = malloc(length + 1);
	for (size_t i = 0; i < length; i++)
		text[i] = "ab/\xff"[next() % 4];
	text[length] = 0;
	return text;
}

static int sign(int number) {
	return (number > 0) - (number < 0);
}

#define CHECK(what)                                                                                                    \
	do {                                                                                                           \
		if (!(what)) {                                                                                         \
			printf("%s: \"%s\" \"%s\" %" PRIu64 "\n", #what, a, b, number);                                \
			return 1;                                                                                      \
		}                                                                                                      \
	} while (0)

static int compare(const char *a, const char *b, uint64_t number) {
	char digits[24], expected[24], character = "ab/\xff"[number % 4];
	size_t shorter = strlen(a) < strlen(b) ? strlen(a) : strlen(b), room = 1 + number % 12;
	const char *found = strchr(a, character);
	char *copy = malloc(room), *block = malloc(shorter + 1);
	size_t fits = strlen(a) < room ? strlen(a) : room - 1;

	CHECK(text_length(a) == strlen(a));
	CHECK(text_equal(a, b) == !strcmp(a, b));
	CHECK(text_starts(a, b) == !strncmp(a, b, strlen(b)));
	CHECK(text_find(a, character) == found);
	CHECK(text_copy(copy, room, a) == strlen(a));
	CHECK(strlen(copy) == fits && !memcmp(copy, a, fits));
	CHECK(text_number(digits, number) == (size_t)sprintf(expected, "%" PRIu64, number));
	CHECK(!strcmp(digits, expected));
	CHECK(sign(ours_memcmp(a, b, shorter)) == sign(memcmp(a, b, shorter)));
	CHECK(ours_memcpy(block, a, shorter) == block && !memcmp(block, a, shorter));
	CHECK(ours_memset(block, character, shorter) == block);
	for (size_t i = 0; i < shorter; i++)
		CHECK(block[i] == character);
	free(copy);
	free(block);
	return 0;
}

int main(int argc, char **argv) {
	seed = argc > 1 ? strtoull(argv[1], NULL, 10) | 1 : 1;
	for (unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000; count > 0; count--) {
		char *a = random_text(), *b = random_text();
		uint64_t number = next() >> next() % 64;
		if (compare(a, b, count % 7 ? number : count % 2 ? UINT64_MAX : 0))
			return 1;
		free(a);
		free(b);
	}
	return 0;
}
