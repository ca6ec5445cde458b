/* SPDX-License-Identifier: Apache-2.0
 *
 * The checker of plans against mutated plans, under AddressSanitizer and UBSan: refuse, never fault (S-50).
 *
 *     fuzz_plan SEED COUNT FILE…    each file is a good plan: cut at every offset, then mutated COUNT times
 *     fuzz_plan <INPUT              one input, for AFL and its like
 *
 * What the checker lets through is walked as ocirun-init walks it, so that what it overlooks is a fault here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../ocirun/_native/init.h"

#define ROOM (1u << 20)

static uint64_t seed;

static uint64_t next(void) {
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static unsigned long walk_bytes(const struct plan *plan, uint32_t offset) {
	const char *text = plan_text(plan, offset);
	uint32_t size = plan_text_size(plan, offset);
	unsigned long sum = 0;
	for (uint32_t at = 0; text && at <= size; at++)
		sum += (unsigned char)text[at];
	return sum;
}

/* A list as EXEC, HOOK, MOUNT and REMOUNT use it: the count from a number, one NUL-terminated entry after another. */
static unsigned long walk_list(const struct plan *plan, uint32_t offset, uint64_t count) {
	const char *text = plan_text(plan, offset);
	unsigned long sum = 0;
	for (uint64_t entry = 0; entry < count; entry++) {
		sum += strlen(text);
		text = next_text(text);
	}
	return sum;
}

static unsigned long walk(const struct plan *plan) {
	unsigned long sum = 0;
	for (uint32_t i = 0; i < plan->header->op_count; i++) {
		const struct ocirun_op *op = &plan->ops[i];
		sum += walk_bytes(plan, op->origin);
		for (unsigned t = 0; t < 4; t++)
			sum += walk_bytes(plan, op->text[t]);
		for (unsigned s = 0; s < 2; s++)
			if (op->slot[s] != FD_NONE && (uint32_t)op->slot[s] >= plan->header->slot_count)
				abort();
		switch (op->opcode) {
		case OCIRUN_OP_EXEC:
			sum += walk_list(plan, op->text[0], op->number[0]);
			sum += walk_list(plan, op->text[1], op->number[1]);
			break;
		case OCIRUN_OP_HOOK:
			sum += walk_list(plan, op->text[1], op->number[0]);
			sum += walk_list(plan, op->text[2], op->number[1]);
			sum += (unsigned char)plan_text(plan, op->text[3])[op->number[3]];
			break;
		case OCIRUN_OP_MOUNT:
		case OCIRUN_OP_REMOUNT:
			sum += walk_list(plan, op->text[2], op->number[3]);
			break;
		default:
			break;
		}
	}
	return sum;
}

/* Check one input in a block of exactly its size; returns whether it is a plan. */
static int try(const unsigned char *bytes, size_t size) {
	static volatile unsigned long sink;
	struct plan plan;
	void *copy;
	if (posix_memalign(&copy, 16, size ? size : 1) != 0)
		abort();
	memmove(copy, bytes, size);
	int accepted = plan_check(copy, size, &plan) == 0;
	if (accepted)
		sink += walk(&plan);
	free(copy);
	return accepted;
}

static uint32_t interesting(size_t size) {
	switch (next() % 10) {
	case 0:
		return 0;
	case 1:
		return (uint32_t)size - (uint32_t)(next() % 9);
	case 2:
		return 0xffffffffu - (uint32_t)(next() % 9);
	case 3:
		return 0x7fffffffu + (uint32_t)(next() % 3);
	case 4:
		return OCIRUN_MAX_TEXT + (uint32_t)(next() % 3);
	case 5:
		return 1u << next() % 32;
	case 6:
		return (uint32_t)(next() % 64);
	default:
		return (uint32_t)(next() % size) & ~3u;
	}
}

static void mutate(unsigned char *bytes, size_t size) {
	struct ocirun_header *header = (struct ocirun_header *)(void *)bytes;
	size_t ops_end = sizeof *header + header->op_count * sizeof(struct ocirun_op);
	uint32_t value;
	size_t at, to;

	switch (next() % 6) {
	case 0: /* a word of an operation or of the header */
		at = next() % (ops_end / 4) * 4;
		value = interesting(size);
		memmove(bytes + at, &value, sizeof value);
		break;
	case 1: /* a word anywhere: sizes of blobs */
		at = next() % (size / 4) * 4;
		value = interesting(size);
		memmove(bytes + at, &value, sizeof value);
		break;
	case 2: /* an operation in another's place */
		at = sizeof *header + next() % header->op_count * sizeof(struct ocirun_op);
		to = sizeof *header + next() % header->op_count * sizeof(struct ocirun_op);
		memmove(bytes + to, bytes + at, sizeof(struct ocirun_op));
		break;
	case 3: /* another opcode, the same operands */
		at = sizeof *header + next() % header->op_count * sizeof(struct ocirun_op);
		bytes[at] = (unsigned char)(next() % (OCIRUN_OP_COUNT + 2));
		break;
	case 4: /* bits */
		bytes[next() % size] ^= (unsigned char)(1u << next() % 8);
		break;
	default:
		bytes[next() % size] = (unsigned char)next();
	}
}

static int fuzz(const char *path, unsigned long count, unsigned long *accepted) {
	static _Alignas(16) unsigned char original[ROOM], mutated[ROOM];
	FILE *input = fopen(path, "rb");
	if (!input)
		return 2;
	size_t size = fread(original, 1, ROOM, input);
	fclose(input);
	if (!try(original, size)) {
		printf("%s: not a plan to begin with\n", path);
		return 3;
	}
	for (size_t cut = 0; cut < size; cut++)
		if (try(original, cut)) {
			printf("%s: taken though cut at %zu\n", path, cut);
			return 4;
		}
	for (unsigned long i = 0; i < count; i++) {
		memmove(mutated, original, size);
		for (uint64_t changes = 1 + next() % 5; changes > 0; changes--) {
			/* What a change has made of the count must not lead the next one out of the buffer. */
			((struct ocirun_header *)(void *)mutated)->op_count =
				((struct ocirun_header *)(void *)original)->op_count;
			mutate(mutated, size);
		}
		*accepted += (unsigned long)try(mutated, next() % 16 ? size : next() % size);
	}
	return 0;
}

int main(int argc, char **argv) {
	unsigned long accepted = 0;
	if (argc < 4) {
		static unsigned char input[ROOM];
		try(input, fread(input, 1, sizeof input, stdin));
		return 0;
	}
	seed = strtoull(argv[1], NULL, 10) | 1;
	for (int i = 3; i < argc; i++) {
		int error = fuzz(argv[i], strtoul(argv[2], NULL, 10), &accepted);
		if (error)
			return error;
	}
	printf("tried %lu, accepted %lu\n", strtoul(argv[2], NULL, 10) * (unsigned long)(argc - 3), accepted);
	return 0;
}
