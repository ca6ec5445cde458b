/* SPDX-License-Identifier: Apache-2.0
 *
 * dump_plan FILE: what the C makes of a plan, for comparison with what Python meant.  Not in the product.
 *
 * One line for the header, one for each operation: numbers in decimal, texts in hex behind an "x", "-" for none.
 * Exits with 1 where the checker refuses the plan.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../ocirun/_native/abi.h"

/* As init.h has them; that header is for programs without libc. */
struct plan {
	const unsigned char *bytes;
	const struct ocirun_header *header;
	const struct ocirun_op *ops;
};
int plan_check(const unsigned char *bytes, size_t size, struct plan *out);
const char *plan_text(const struct plan *plan, uint32_t offset);
uint32_t plan_text_size(const struct plan *plan, uint32_t offset);

static void print_text(const struct plan *plan, uint32_t offset) {
	const char *text = plan_text(plan, offset);
	uint32_t size = plan_text_size(plan, offset);
	fputs(text ? " x" : " -", stdout);
	for (uint32_t at = 0; at < size; at++)
		printf("%02x", (unsigned char)text[at]);
}

int main(int argc, char **argv) {
	struct stat st;
	struct plan plan;
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &st) < 0)
		return 2;
	void *bytes = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : "";
	if (bytes == MAP_FAILED)
		return 2;
	if (plan_check(bytes, (size_t)st.st_size, &plan) < 0)
		return 1;
	printf("%u %u %u %u %u\n", plan.header->total_size, plan.header->op_count, plan.header->slot_count,
	       plan.header->input_count, plan.header->keep_count);
	for (uint32_t i = 0; i < plan.header->op_count; i++) {
		const struct ocirun_op *op = &plan.ops[i];
		printf("%u %u %d %d", op->opcode, op->flags, op->slot[0], op->slot[1]);
		for (unsigned n = 0; n < 6; n++)
			printf(" %" PRIu64, op->number[n]);
		print_text(&plan, op->origin);
		for (unsigned t = 0; t < 4; t++)
			print_text(&plan, op->text[t]);
		putchar('\n');
	}
	return 0;
}
