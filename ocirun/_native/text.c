/* SPDX-License-Identifier: Apache-2.0
 *
 * The few string functions that a program without libc needs, and the three that gcc calls on its own.
 */
#include "init.h"

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
	for (size_t i = 0; i < size; i++)
		((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
	return to;
}

void *memset(void *to, int value, size_t size) {
	for (size_t i = 0; i < size; i++)
		((unsigned char *)to)[i] = (unsigned char)value;
	return to;
}

int memcmp(const void *a, const void *b, size_t size) {
	for (size_t i = 0; i < size; i++) {
		int difference = ((const unsigned char *)a)[i] - ((const unsigned char *)b)[i];
		if (difference != 0)
			return difference;
	}
	return 0;
}

size_t text_length(const char *text) {
	size_t length = 0;
	while (text[length])
		length++;
	return length;
}

int text_equal(const char *a, const char *b) {
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int text_starts(const char *text, const char *prefix) {
	while (*prefix)
		if (*text++ != *prefix++)
			return 0;
	return 1;
}

const char *text_find(const char *text, char wanted) {
	for (; *text; text++)
		if (*text == wanted)
			return text;
	return NULL;
}

/* Copy with a NUL; returns the length of `from`, which is >= room where it did not fit. */
size_t text_copy(char *to, size_t room, const char *from) {
	size_t length = text_length(from);
	size_t kept = length < room ? length : room - 1;
	memcpy(to, from, kept);
	to[kept] = 0;
	return length;
}

/* Decimal digits and a NUL, at most 21 bytes; returns the number of digits. */
size_t text_number(char *to, uint64_t number) {
	char digits[20];
	size_t count = 0;
	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	for (size_t i = 0; i < count; i++)
		to[i] = digits[count - 1 - i];
	to[count] = 0;
	return count;
}
