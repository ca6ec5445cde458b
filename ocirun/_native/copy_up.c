/* SPDX-License-Identifier: Apache-2.0
 *
 * tmpcopyup: the content of the directory that a tmpfs is about to cover, copied into that tmpfs.
 *
 * The source is image content: links are copied as links and never followed, devices and sockets are left out, the
 * depth is bounded.
 */
#include "init.h"

#define MAX_COPY_DEPTH 64

struct entry { /* struct linux_dirent64 */
	uint64_t ino;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static int copy_owner(struct context *ctx, int dir, const char *name, const struct sys_stat *st) {
	TRY(ctx, FCHOWNAT, sys5(__NR_fchownat, dir, name, st->uid, st->gid, AT_SYMLINK_NOFOLLOW));
	return 0;
}

static int copy_file(struct context *ctx, int from_dir, int to_dir, const char *name, const struct sys_stat *st) {
	char buffer[16384];
	cleanup_fd int from =
		(int)AT(ctx, OPENAT, sys_openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0));
	if (from < 0)
		return from;
	cleanup_fd int to =
		(int)AT(ctx, OPENAT, sys_openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	if (to < 0)
		return to;
	for (;;) {
		long size = AT(ctx, READ, sys3(__NR_read, from, buffer, sizeof buffer));
		if (size == -EINTR)
			continue;
		if (size < 0)
			return (int)size;
		if (size == 0)
			break;
		for (long done = 0; done < size;) {
			long written = AT(ctx, WRITE, sys3(__NR_write, to, buffer + done, size - done));
			if (written < 0 && written != -EINTR)
				return (int)written;
			done += written > 0 ? written : 0;
		}
	}
	int error = copy_owner(ctx, to_dir, name, st);
	/* After the owner: chown(2) clears the set-id bits. */
	if (error == 0)
		error = (int)AT(ctx, FCHMOD, sys2(__NR_fchmod, to, st->mode & 07777));
	return error;
}

static int copy_link(struct context *ctx, int from_dir, int to_dir, const char *name, const struct sys_stat *st) {
	char target[SYS_PATH_MAX];
	long size = AT(ctx, READLINKAT, sys4(__NR_readlinkat, from_dir, name, target, sizeof target - 1));
	if (size < 0)
		return (int)size;
	target[size] = 0;
	TRY(ctx, SYMLINKAT, sys3(__NR_symlinkat, target, to_dir, name));
	return copy_owner(ctx, to_dir, name, st);
}

static int copy_directory(struct context *ctx, int from, int to, unsigned depth);

static int copy_entry(struct context *ctx, int from, int to, const char *name, unsigned depth) {
	struct sys_stat st;
	TRY(ctx, FSTAT, sys_stat(from, name, AT_SYMLINK_NOFOLLOW, &st));
	switch (st.mode & S_IFMT) {
	case S_IFREG:
		return copy_file(ctx, from, to, name, &st);
	case S_IFLNK:
		return copy_link(ctx, from, to, name, &st);
	case S_IFDIR:
		break;
	default:
		return 0;
	}
	if (depth >= MAX_COPY_DEPTH)
		return fail(ctx, OCIRUN_SITE_GETDENTS64, ELOOP);
	TRY(ctx, MKDIRAT, sys3(__NR_mkdirat, to, name, 0700));
	cleanup_fd int below =
		(int)AT(ctx, OPENAT, sys_openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
	if (below < 0)
		return below;
	cleanup_fd int made =
		(int)AT(ctx, OPENAT, sys_openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
	if (made < 0)
		return made;
	int error = copy_directory(ctx, below, made, depth + 1);
	if (error == 0)
		error = copy_owner(ctx, to, name, &st);
	if (error == 0)
		error = (int)AT(ctx, FCHMOD, sys2(__NR_fchmod, made, st.mode & 07777));
	return error;
}

static int copy_directory(struct context *ctx, int from, int to, unsigned depth) {
	_Alignas(8) char buffer[1024];
	for (;;) {
		long size = AT(ctx, GETDENTS64, sys3(__NR_getdents64, from, buffer, sizeof buffer));
		if (size <= 0)
			return (int)size;
		for (long at = 0; at < size;) {
			const struct entry *entry = (const struct entry *)(const void *)(buffer + at);
			at += entry->size;
			if (text_equal(entry->name, ".") || text_equal(entry->name, ".."))
				continue;
			int error = copy_entry(ctx, from, to, entry->name, depth);
			if (error < 0)
				return error;
		}
	}
}

/* Copy the directory `from` (O_PATH) into the root of the detached mount `to`, with its own owner and mode if so. */
int copy_up(struct context *ctx, int from, int to, int with_owner, int with_mode) {
	struct sys_stat st;
	cleanup_fd int source = reopen(ctx, from, O_RDONLY | O_DIRECTORY);
	if (source < 0)
		return source;
	cleanup_fd int target = (int)AT(ctx, OPENAT, sys_openat(to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
	if (target < 0)
		return target;
	TRY(ctx, FSTAT, sys_fstat(source, &st));
	if (with_owner)
		TRY(ctx, FCHOWNAT, sys5(__NR_fchownat, target, "", st.uid, st.gid, AT_EMPTY_PATH));
	if (with_mode)
		TRY(ctx, FCHMOD, sys2(__NR_fchmod, target, st.mode & 07777));
	return copy_directory(ctx, source, target, 0);
}
