/* SPDX-License-Identifier: Apache-2.0
 *
 * The checker of plans: everything is verified once, before the first effect; after plan_check() no operation can be
 * malformed.  Pure functions over bytes, no system call, so that the fuzzer can own this file (V-12).
 */
#include "init.h"

/* What each text and slot of an operation must be: '.' absent, 's' text, 'o' text or absent, 'b' binary or absent,
 * '0'-'5' a list whose count is in that number; for slots 'i' a slot to read, 'w' one to write, 'x' optional, '.' none.
 */
struct shape {
	char text[4];
	char slot[2];
};

static int shape_of(unsigned opcode, struct shape *out) {
	/* A switch, not a table of pointers: the program is position independent and has no relocations. */
#define SHAPE(t0, t1, t2, t3, s0, s1)                                                                                  \
	*out = (struct shape){ { t0, t1, t2, t3 }, { s0, s1 } };                                                       \
	return 0
	switch (opcode) {
	case OCIRUN_OP_OPEN_NETLINK:
		SHAPE('.', '.', '.', '.', 'w', '.');
	case OCIRUN_OP_OPEN_NAMESPACE:
	case OCIRUN_OP_OPEN_TREE:
	case OCIRUN_OP_RESOLVE:
		SHAPE('s', '.', '.', '.', 'w', '.');
	case OCIRUN_OP_ROOTFS:
		SHAPE('s', '.', '.', '.', 'i', 'x');
	case OCIRUN_OP_UNMOUNT:
		SHAPE('s', '.', '.', '.', 'i', '.');
	case OCIRUN_OP_IDMAP:
		SHAPE('s', '.', '.', '.', 'i', 'i');
	case OCIRUN_OP_BIND_DEVICE:
		SHAPE('s', 'o', '.', '.', 'i', '.');
	case OCIRUN_OP_JOIN:
	case OCIRUN_OP_WAIT_START:
	case OCIRUN_OP_CONSOLE:
		SHAPE('.', '.', '.', '.', 'i', '.');
	case OCIRUN_OP_ANNOUNCE:
	case OCIRUN_OP_BARRIER:
		SHAPE('.', '.', '.', '.', 'x', 'x');
	case OCIRUN_OP_WRITE_PROC:
	case OCIRUN_OP_SYSCTL:
	case OCIRUN_OP_SYMLINK:
		SHAPE('s', 's', '.', '.', '.', '.');
	case OCIRUN_OP_HOSTNAME:
	case OCIRUN_OP_DOMAINNAME:
	case OCIRUN_OP_KEYRING:
	case OCIRUN_OP_DIRECTORY:
	case OCIRUN_OP_JOIN_CGROUP:
	case OCIRUN_OP_CHDIR:
		SHAPE('s', '.', '.', '.', '.', '.');
	case OCIRUN_OP_ENTER_ROOT:
		SHAPE('.', '.', '.', '.', 'x', '.');
	case OCIRUN_OP_DEVICE:
	case OCIRUN_OP_MASK:
		SHAPE('s', 'o', '.', '.', 'x', '.');
	case OCIRUN_OP_READONLY:
		SHAPE('s', '.', '.', '.', 'x', '.');
	case OCIRUN_OP_MOUNT:
		SHAPE('s', 'o', '3', 's', 'x', '.');
	case OCIRUN_OP_BIND:
		SHAPE('.', '.', '.', 's', 'i', 'x');
	case OCIRUN_OP_REMOUNT:
		SHAPE('.', '.', '3', 's', '.', '.');
	case OCIRUN_OP_IDS:
	case OCIRUN_OP_SCHEDULER:
	case OCIRUN_OP_MEMORY_POLICY:
	case OCIRUN_OP_AFFINITY:
		SHAPE('b', '.', '.', '.', '.', '.');
	case OCIRUN_OP_FIND_EXECUTABLE:
		SHAPE('s', 'o', '.', '.', '.', '.');
	case OCIRUN_OP_HOOK:
		SHAPE('s', '0', '1', 's', '.', '.');
	case OCIRUN_OP_SECCOMP:
		SHAPE('b', '.', '.', '.', 'x', 'x');
	case OCIRUN_OP_EXEC:
		SHAPE('0', '1', 'o', '.', '.', '.');
	case OCIRUN_OP_UNSHARE:
	case OCIRUN_OP_ID_MAPS:
	case OCIRUN_OP_BECOME:
	case OCIRUN_OP_FORK:
	case OCIRUN_OP_LOOPBACK:
	case OCIRUN_OP_OPEN_PROC:
	case OCIRUN_OP_PROPAGATION:
	case OCIRUN_OP_PIVOT:
	case OCIRUN_OP_ROOT_ATTRIBUTES:
	case OCIRUN_OP_STDIO:
	case OCIRUN_OP_SETSID:
	case OCIRUN_OP_RLIMIT:
	case OCIRUN_OP_PERSONALITY:
	case OCIRUN_OP_IO_PRIORITY:
	case OCIRUN_OP_BOUNDING:
	case OCIRUN_OP_CAPABILITIES:
	case OCIRUN_OP_FIND_HOME:
	case OCIRUN_OP_NO_NEW_PRIVILEGES:
	case OCIRUN_OP_END:
		SHAPE('.', '.', '.', '.', '.', '.');
	default:
		return -EINVAL;
	}
#undef SHAPE
}

static int blob_size(const unsigned char *bytes, uint32_t total, uint32_t first, uint32_t offset, uint32_t *size) {
	/* BOUNDS: first <= offset, aligned for the size word, and size + NUL inside the plan */
	if (offset < first || offset > total - 5 || (offset & 3) != 0)
		return -EINVAL;
	*size = *(const uint32_t *)(const void *)(bytes + offset);
	if (*size > OCIRUN_MAX_TEXT || *size > total - 5 - offset)
		return -EINVAL;
	return bytes[offset + 4 + *size] == 0 ? 0 : -EINVAL;
}

static int check_text(const unsigned char *text, uint32_t size, char kind, uint64_t count) {
	uint64_t zeros = 0;
	if (kind == 'b')
		return 0;
	for (uint32_t i = 0; i < size; i++)
		zeros += text[i] == 0;
	if (kind == 's' || kind == 'o')
		return zeros == 0 ? 0 : -EINVAL;
	/* A list: every entry ends in NUL inside the blob. */
	if (zeros != count || (size > 0 && text[size - 1] != 0))
		return -EINVAL;
	return 0;
}

static int check_op(const unsigned char *bytes, const struct ocirun_header *header, uint32_t first,
		    const struct ocirun_op *op) {
	struct shape shape;
	uint32_t size;

	if (shape_of(op->opcode, &shape) < 0)
		return -EINVAL;
	if (op->origin != 0 && (blob_size(bytes, header->total_size, first, op->origin, &size) < 0 ||
				check_text(bytes + op->origin + 4, size, 's', 0) < 0))
		return -EINVAL;
	for (unsigned i = 0; i < 4; i++) {
		char kind = shape.text[i];
		if (op->text[i] == 0) {
			/* An absent list has no entries. */
			if (kind == 's' || (kind >= '0' && kind <= '5' && op->number[kind - '0'] != 0))
				return -EINVAL;
			continue;
		}
		if (kind == '.' || blob_size(bytes, header->total_size, first, op->text[i], &size) < 0)
			return -EINVAL;
		uint64_t count = kind >= '0' && kind <= '5' ? op->number[kind - '0'] : 0;
		if (check_text(bytes + op->text[i] + 4, size, kind, count) < 0)
			return -EINVAL;
		if (op->opcode == OCIRUN_OP_IDS && size % 4 != 0)
			return -EINVAL;
		if (op->opcode == OCIRUN_OP_SCHEDULER && size != 24)
			return -EINVAL;
		if (op->opcode == OCIRUN_OP_MEMORY_POLICY && (size % 8 != 0 || op->number[1] > (uint64_t)size * 8))
			return -EINVAL;
		if (op->opcode == OCIRUN_OP_AFFINITY && size % 8 != 0)
			return -EINVAL;
		if (op->opcode == OCIRUN_OP_SECCOMP && (size == 0 || size % 8 != 0 || size / 8 > 65535))
			return -EINVAL;
		if (op->opcode == OCIRUN_OP_HOOK && i == 3 && op->number[3] > size)
			return -EINVAL;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (shape.slot[i] == '.' || (shape.slot[i] == 'x' && op->slot[i] == FD_NONE)) {
			if (op->slot[i] != FD_NONE)
				return -EINVAL;
		} else if (op->slot[i] < 0 || (uint32_t)op->slot[i] >= header->slot_count) {
			return -EINVAL;
		}
	}
	return 0;
}

/* What a hook's process does for itself: whole, in the plan, and nothing else. */
static int check_hook(const struct ocirun_header *header, const struct ocirun_op *ops, uint32_t hook) {
	uint64_t count = ops[hook].number[5];
	if (count >= header->op_count - hook)
		return -EINVAL;
	for (const struct ocirun_op *op = &ops[hook + 1]; op <= &ops[hook + count]; op++)
		if (op->opcode != OCIRUN_OP_CAPABILITIES && op->opcode != OCIRUN_OP_NO_NEW_PRIVILEGES &&
		    (op->opcode != OCIRUN_OP_SECCOMP || (op->flags & OCIRUN_FLAG_NOTIFY) != 0))
			return -EINVAL;
	return 0;
}

int plan_check(const unsigned char *bytes, size_t size, struct plan *out) {
	const struct ocirun_header *header = (const struct ocirun_header *)(const void *)bytes;

	if (size < sizeof *header || size > OCIRUN_MAX_PLAN || ((uintptr_t)bytes & 7) != 0)
		return -EINVAL;
	if (header->magic != OCIRUN_MAGIC || header->abi != OCIRUN_ABI || header->total_size != size ||
	    header->reserved != 0)
		return -EINVAL;
	if (header->op_count == 0 || header->op_count > OCIRUN_MAX_OPS || header->slot_count == 0 ||
	    header->slot_count > OCIRUN_MAX_SLOTS || header->input_count == 0 ||
	    header->input_count > header->slot_count || header->keep_count > OCIRUN_MAX_SLOTS)
		return -EINVAL;
	/* BOUNDS: op_count was limited above, so this product cannot overflow */
	size_t first = sizeof *header + (size_t)header->op_count * sizeof(struct ocirun_op);
	if (first > size)
		return -EINVAL;
	out->bytes = bytes;
	out->header = header;
	out->ops = (const struct ocirun_op *)(const void *)(bytes + sizeof *header);
	for (uint32_t i = 0; i < header->op_count; i++)
		if (check_op(bytes, header, (uint32_t)first, &out->ops[i]) < 0 ||
		    (out->ops[i].opcode == OCIRUN_OP_HOOK && check_hook(header, out->ops, i) < 0))
			return -EINVAL;
	/* A plan ends in exactly one EXEC or END: init never falls off its end. */
	for (uint32_t i = 0; i < header->op_count; i++) {
		unsigned opcode = out->ops[i].opcode;
		if ((opcode == OCIRUN_OP_EXEC || opcode == OCIRUN_OP_END) != (i == header->op_count - 1))
			return -EINVAL;
	}
	const struct ocirun_op *last = &out->ops[header->op_count - 1];
	return last->opcode == OCIRUN_OP_END || last->number[0] > 0 ? 0 : -EINVAL;
}

const char *plan_text(const struct plan *plan, uint32_t offset) {
	return offset == 0 ? NULL : (const char *)plan->bytes + offset + 4;
}

uint32_t plan_text_size(const struct plan *plan, uint32_t offset) {
	return offset == 0 ? 0 : *(const uint32_t *)(const void *)(plan->bytes + offset);
}

const char *next_text(const char *text) {
	while (*text)
		text++;
	return text + 1;
}
