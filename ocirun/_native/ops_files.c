/* SPDX-License-Identifier: Apache-2.0
 *
 * Things below the root: directories, links, the terminal, the owner of stdio.
 */
#include "init.h"

#define TIOCGPTPEER_ TIOCGPTPEER
#define UNIX98_PTY_SLAVE_MAJOR 136

#define NUMBER(which) (ctx->op->number[which])

int op_directory(struct context *ctx) {
	cleanup_fd int fd = resolve_in_root(ctx, op_text(ctx, 0), RESOLVE_CREATE_DIRECTORY);
	struct sys_stat st;
	if (fd < 0)
		return fd;
	TRY(ctx, FSTAT, sys_fstat(fd, &st));
	return (st.mode & S_IFMT) == S_IFDIR ? 0 : fail(ctx, OCIRUN_SITE_VERIFY_DESTINATION, ENOTDIR);
}

int op_symlink(struct context *ctx) {
	const char *name, *target = op_text(ctx, 1);
	if (has_flag(ctx, OCIRUN_FLAG_IF_THERE)) {
		cleanup_fd int there = resolve_in_root(ctx, target, 0);
		if (there < 0)
			return there == -ENOENT ? 0 : there;
	}
	cleanup_fd int parent = resolve_parent(ctx, ctx->root, op_text(ctx, 0), &name);
	if (parent < 0)
		return parent;
	if (has_flag(ctx, OCIRUN_FLAG_REPLACE)) {
		long removed = AT(ctx, UNLINKAT, sys3(__NR_unlinkat, parent, name, 0));
		if (removed < 0 && removed != -ENOENT)
			return (int)removed;
	}
	long made = AT(ctx, SYMLINKAT, sys3(__NR_symlinkat, target, parent, name));
	/* The image may bring its own: it is the image's own /dev then. */
	return made == -EEXIST ? 0 : (int)made;
}

/* ptmx of the container's own devpts, verified: magic, and 5:2 (CVE-2025-52565). */
static int open_ptmx(struct context *ctx) {
	struct {
		long type;
		long rest[31];
	} fs;
	int ptmx = open_in_root(ctx, "/dev/pts/ptmx", O_RDWR, 5, 2);
	if (ptmx >= 0 && (sys2(__NR_fstatfs, ptmx, &fs) < 0 || fs.type != DEVPTS_SUPER_MAGIC)) {
		sys_close(ptmx);
		return fail(ctx, OCIRUN_SITE_VERIFY_CONSOLE, ENODEV);
	}
	return ptmx;
}

/* The peer straight from the main side (4.13): no path that could be swapped. */
static int open_peer(struct context *ctx, int ptmx, int number) {
	int unlock = 0;
	TRY(ctx, IOCTL, sys3(__NR_ioctl, ptmx, TIOCSPTLCK, &unlock));
	int peer = (int)AT(ctx, IOCTL, sys3(__NR_ioctl, ptmx, TIOCGPTPEER_, O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (peer >= 0 && !is_character_device(peer, UNIX98_PTY_SLAVE_MAJOR, (uint32_t)number)) {
		sys_close(peer);
		return fail(ctx, OCIRUN_SITE_VERIFY_CONSOLE, ENODEV);
	}
	return peer;
}

static int bind_console(struct context *ctx, int peer) {
	const char *name;
	struct sys_stat st;
	cleanup_fd int parent = resolve_parent(ctx, ctx->root, "/dev/console", &name);
	if (parent < 0)
		return parent;
	long made = sys_openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0600);
	sys_close((int)made);
	if (made < 0 && made != -EEXIST)
		return (int)AT(ctx, OPENAT, made);
	cleanup_fd int target = (int)AT(ctx, OPENAT, sys_openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
	if (target < 0)
		return target;
	TRY(ctx, FSTAT, sys_fstat(target, &st));
	if ((st.mode & S_IFMT) != S_IFREG && (st.mode & S_IFMT) != S_IFCHR)
		return fail(ctx, OCIRUN_SITE_VERIFY_CONSOLE, EEXIST);
	cleanup_fd int clone =
		(int)AT(ctx, OPEN_TREE, sys_open_tree(peer, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
	if (clone >= 0) {
		TRY(ctx, MOVE_MOUNT, sys_move_mount(clone, target));
		return 0;
	}
	char from[48], to[48];
	text_number(from + text_copy(from, sizeof from, "/proc/self/fd/"), (uint64_t)peer);
	text_number(to + text_copy(to, sizeof to, "/proc/self/fd/"), (uint64_t)target);
	TRY(ctx, MOUNT, sys_mount(from, to, NULL, 4096 /* MS_BIND */, NULL));
	return 0;
}

int op_console(struct context *ctx) {
	struct {
		unsigned short rows, columns, x, y;
	} size = { (unsigned short)NUMBER(0), (unsigned short)NUMBER(1), 0, 0 };
	char name[32];
	int number = 0, error;
	int *socket = &ctx->slots[ctx->op->slot[0]];

	cleanup_fd int ptmx = open_ptmx(ctx);
	if (ptmx < 0)
		return ptmx;
	TRY(ctx, IOCTL, sys3(__NR_ioctl, ptmx, TIOCGPTN, &number));
	cleanup_fd int peer = open_peer(ctx, ptmx, number);
	if (peer < 0)
		return peer;
	if (size.rows || size.columns)
		TRY(ctx, IOCTL, sys3(__NR_ioctl, ptmx, TIOCSWINSZ, &size));
	if (NUMBER(2) != 0)
		TRY(ctx, FCHOWNAT, sys5(__NR_fchownat, peer, "", NUMBER(2), -1, AT_EMPTY_PATH));
	if (has_flag(ctx, OCIRUN_FLAG_BIND_CONSOLE) && (error = bind_console(ctx, peer)) < 0)
		return error;
	/* The engine gets the main side, with the name of the other as the payload. */
	size_t length = text_copy(name, sizeof name, "/dev/pts/");
	length += text_number(name + length, (uint64_t)number);
	TRY(ctx, SENDMSG, send_rights(*socket, name, length, ptmx, 0));
	sys_close(*socket);
	*socket = FD_NONE;
	for (int fd = 0; fd < 3; fd++)
		TRY(ctx, DUP3, sys_dup3(peer, fd, 0));
	TRY(ctx, IOCTL, sys3(__NR_ioctl, 0, TIOCSCTTY, 0));
	return 0;
}

/* The container's own /dev/null in place of the host's, and stdio owned by the user who is to use it. */
int op_stdio(struct context *ctx) {
	int is_null[3], any_null = 0;
	for (int fd = 0; fd < 3; fd++)
		any_null |= is_null[fd] = is_character_device(fd, 1, 3);
	if (any_null) {
		/* An image may bring a /dev/null of its own making: then the host's stays. */
		cleanup_fd int null = open_in_root(ctx, "/dev/null", O_RDWR, 1, 3);
		for (int fd = 0; fd < 3 && null >= 0; fd++)
			if (is_null[fd])
				TRY(ctx, DUP3, sys_dup3(null, fd, 0));
	}
	for (int fd = 0; fd < 3; fd++) {
		struct sys_stat st;
		if (is_null[fd] || sys_fstat(fd, &st) < 0 || st.uid == NUMBER(0))
			continue;
		long result = AT(ctx, FCHOWNAT, sys5(__NR_fchownat, fd, "", NUMBER(0), -1, AT_EMPTY_PATH));
		/* Not ours to change (EPERM), not mapped (EINVAL, EOVERFLOW), not changeable (EROFS): not needed. */
		if (result < 0 && result != -EPERM && result != -EINVAL && result != -EROFS && result != -EOVERFLOW)
			return (int)result;
	}
	return 0;
}
