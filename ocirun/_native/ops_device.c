/* SPDX-License-Identifier: Apache-2.0
 *
 * Device nodes: made where they are wanted, or made (by us, or by the host) elsewhere and bound there.
 */
#include "init.h"

#define MAKEDEV(major, minor) ((((uint64_t)(minor)&0xfff00) << 12) | (((uint64_t)(major)&0xfff) << 8) | ((minor)&0xff))
#define NUMBER(which) (ctx->op->number[which])

/* Is this file of the type, and has it the device number, that the operation names? */
static int is_wanted(const struct context *ctx, const struct sys_stat *st) {
	uint32_t type = (uint32_t)NUMBER(0) & S_IFMT;
	if ((st->mode & S_IFMT) != type)
		return 0;
	return type == S_IFIFO || MAKEDEV(st->rdev_major, st->rdev_minor) == NUMBER(1);
}

/* chmod(2) knows no O_PATH descriptors, but procfs' links to them, which lead to the file and nowhere else. */
static int change_mode(struct context *ctx, int fd, uint32_t mode) {
	char path[48];
	int proc = open_proc(ctx, 0);
	if (proc < 0)
		return proc;
	size_t size = text_copy(path, sizeof path, "thread-self/fd/");
	text_number(path + size, (uint64_t)fd);
	TRY(ctx, FCHMOD, sys3(__NR_fchmodat, proc, path, mode));
	return 0;
}

/* Make a node, or accept one of the same type and number; anything else in its place is an error, never followed,
 * never changed (CVE-2026-41579). */
int op_device(struct context *ctx) {
	const char *name;
	struct sys_stat st;
	int base = ctx->op->slot[0] >= 0 ? op_slot(ctx, 0) : ctx->root;
	cleanup_fd int parent = resolve_parent(ctx, base, op_text(ctx, 0), &name);
	if (parent < 0)
		return parent;
	/* umask is 0, so the mode needs no chmod that could be led astray. */
	long made = AT(ctx, MKNODAT, sys4(__NR_mknodat, parent, name, NUMBER(0), NUMBER(1)));
	if (made < 0 && made != -EEXIST)
		return (int)made;
	cleanup_fd int fd = (int)AT(ctx, OPENAT, sys_openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	TRY(ctx, FSTAT, sys_fstat(fd, &st));
	if (!is_wanted(ctx, &st))
		return fail(ctx, OCIRUN_SITE_VERIFY_DEVICE, EEXIST);
	if (made < 0)
		return 0;
	if (NUMBER(2) == 0 && NUMBER(3) == 0)
		return 0;
	TRY(ctx, FCHOWNAT, sys5(__NR_fchownat, fd, "", NUMBER(2), NUMBER(3), AT_EMPTY_PATH));
	/* A change of owner takes the set-id bits away. */
	return NUMBER(0) & 06000 ? change_mode(ctx, fd, (uint32_t)NUMBER(0) & 07777) : 0;
}

/* What a node can be bound on: the same node, or an empty file, such as an earlier container left on this image. */
static int open_place(struct context *ctx) {
	const char *name;
	struct sys_stat st;
	cleanup_fd int parent = resolve_parent(ctx, ctx->root, op_text(ctx, 0), &name);
	if (parent < 0)
		return parent;
	long made = sys_openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);
	sys_close((int)made);
	if (made < 0 && made != -EEXIST)
		return (int)AT(ctx, OPENAT, made);
	cleanup_fd int place = (int)AT(ctx, OPENAT, sys_openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
	if (place < 0)
		return place;
	TRY(ctx, FSTAT, sys_fstat(place, &st));
	if (!is_wanted(ctx, &st) && ((st.mode & S_IFMT) != S_IFREG || st.size != 0))
		return fail(ctx, OCIRUN_SITE_VERIFY_DEVICE, EEXIST);
	return take_fd(&place);
}

/* In a user namespace nodes cannot be made, but shown: one that the first process made while it had the power to, or
 * the host's own, which then has to be what was asked for in every respect. */
int op_bind_device(struct context *ctx) {
	const char *name = op_text(ctx, 1);
	struct sys_stat st;
	cleanup_fd int node = FD_NONE;

	ctx->detail = op_text(ctx, 0);
	if (name) {
		cleanup_fd int plain =
			(int)AT(ctx, OPENAT, sys_openat(op_slot(ctx, 0), name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
		if (plain < 0)
			return plain;
		node = clone_of(ctx, plain, 0);
	} else {
		node = take_fd(&ctx->slots[ctx->op->slot[0]]);
	}
	if (node < 0)
		return node;
	TRY(ctx, FSTAT, sys_fstat(node, &st));
	if (!is_wanted(ctx, &st) || (has_flag(ctx, OCIRUN_FLAG_SAME_MODE) && (st.mode ^ NUMBER(0)) & 07777) ||
	    (has_flag(ctx, OCIRUN_FLAG_SAME_UID) && st.uid != NUMBER(2)) ||
	    (has_flag(ctx, OCIRUN_FLAG_SAME_GID) && st.gid != NUMBER(3)))
		return fail(ctx, OCIRUN_SITE_VERIFY_HOST_DEVICE, ENODEV);
	cleanup_fd int place = open_place(ctx);
	if (place < 0)
		return place;
	int error = attach(ctx, &node, place, ctx->root, op_text(ctx, 0), 0);
	if (error < 0)
		return error;
	return set_attributes(ctx, node, 0, 0, NUMBER(4) & ~(uint64_t)MS_REC, (NUMBER(4) & MS_REC) != 0, 1);
}
