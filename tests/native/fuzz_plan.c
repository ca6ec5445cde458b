/* SPDX-License-Identifier: Apache-2.0
 *
 * The plan checker against mutated plans, under AddressSanitizer and UBSan: refuse, never fault.
 * fuzz_plan SEED COUNT FILE...: mutates the given plans; every copy lies in a block of exactly its size. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../ocirun/_native/init.h"

#undef memcpy
static uint64_t state;

static uint64_t next(void) {
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Walk what the checker has let through, as ocirun-init would. */
static unsigned long touch(const struct plan *plan) {
	unsigned long sum = 0;
	for (uint32_t i = 0; i < plan->header->op_count; i++)
		for (unsigned t = 0; t < 4; t++) {
			const char *text = plan_text(plan, plan->ops[i].text[t]);
			uint32_t size = plan_text_size(plan, plan->ops[i].text[t]);
			for (uint32_t at = 0; text && at <= size; at++)
				sum += (unsigned char)text[at];
		}
	return sum;
}

static void try(const unsigned char *bytes, size_t size, unsigned long *accepted) {
	struct plan plan;
	/* Aligned as a mapping is; the redzone begins right behind the last byte. */
	unsigned char *copy = aligned_alloc(16, (size + 15) / 16 * 16 ? (size + 15) / 16 * 16 : 16);
	memcpy(copy, bytes, size);
	if (plan_check(copy, size, &plan) == 0) {
		(*accepted)++;
		volatile unsigned long sum = touch(&plan);
		(void)sum;
	}
	free(copy);
}

int main(int argc, char **argv) {
	static unsigned char original[1 << 20], mutated[1 << 20];
	unsigned long accepted = 0, tried = 0;
	state = strtoull(argv[1], NULL, 10) | 1;
	unsigned long count = strtoul(argv[2], NULL, 10);
	for (int file = 3; file < argc; file++) {
		FILE *input = fopen(argv[file], "rb");
		size_t size = fread(original, 1, sizeof original, input);
		fclose(input);
		struct plan plan;
		if (plan_check(original, size, &plan) != 0)
			return 3; /* the seed must be a plan */
		unsigned long truncated = 0;
		for (size_t cut = 0; cut < size; cut++)
			try(original, cut, &truncated);
		if (truncated != 0)
			return 4; /* a truncated plan was taken */
		for (unsigned long i = 0; i < count; i++, tried++) {
			memcpy(mutated, original, size);
			for (uint64_t changes = 1 + next() % 6; changes > 0; changes--) {
				size_t at = next() % 4 ? next() % size : next() % 512 % size;
				mutated[at] = next() % 3 ? (unsigned char)next() : (unsigned char)(next() % 2 ? 0xff : 0);
			}
			try(mutated, next() % 8 ? size : next() % size, &accepted);
		}
	}
	printf("%lu tried, %lu accepted\n", tried, accepted);
	return 0;
}
