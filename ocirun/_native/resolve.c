/* SPDX-License-Identifier: Apache-2.0
 *
 * The one resolver: every path below the root, and every file of procfs, is opened here, once.
 *
 * openat2(2) (5.6) does it in the kernel.  Where it is missing or filtered, and wherever something has to be created,
 * the walk below goes component by component over descriptors; links are expanded as text and stay inside the root,
 * ".." pops a descriptor, so no rename behind our back can lead outside (V-05, V-08).
 */
#include "init.h"

#define MAX_LINKS 255
#define MAX_DEPTH 128
#define OPENAT2_TRIES 128

static int is_missing(long result) {
	/* Filters of container managers answer EPERM or EACCES to calls that they do not know. */
	return result == -ENOSYS || result == -EPERM || result == -EACCES;
}

static long openat2_retrying(int dir, const char *path, uint64_t flags, uint64_t resolve) {
	struct open_how how = { .flags = flags, .resolve = resolve };
	long result = -EAGAIN;
	/* EAGAIN: a rename ran beside the walk of ".."; a storm of them on 16 cores needed more than 32 tries. */
	for (int tries = 0; tries < OPENAT2_TRIES && (result == -EAGAIN || result == -EINTR); tries++)
		result = sys4(__NR_openat2, dir, path, &how, sizeof how);
	return result;
}

struct walk {
	int stack[MAX_DEPTH]; /* stack[0] is the root and belongs to the context */
	int depth;
	unsigned links;
	char rest[SYS_PATH_MAX];
};

static void walk_end(struct walk *walk) {
	while (walk->depth > 0)
		sys_close(walk->stack[walk->depth--]);
}

static int walk_push_link(struct walk *walk, int link, const char *rest) {
	char text[SYS_PATH_MAX];
	long size = sys4(__NR_readlinkat, link, "", text, sizeof text - 2);
	if (size < 0)
		return (int)size;
	if (++walk->links > MAX_LINKS)
		return -ELOOP;
	text[size] = '/';
	/* rest lies inside walk->rest, so the new text is put together aside. */
	if (text_copy(text + size + 1, sizeof text - (size_t)size - 1, rest) >= sizeof text - (size_t)size - 1)
		return -ENAMETOOLONG;
	text_copy(walk->rest, sizeof walk->rest, text);
	if (text[0] == '/')
		walk_end(walk);
	return 0;
}

/* Open one component, making it where the policy says so. */
static long walk_step(struct walk *walk, const char *name, int is_last, unsigned policy) {
	int dir = walk->stack[walk->depth];
	for (int tries = 0; tries < 3; tries++) {
		long fd = sys_openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
		if (fd != -ENOENT || !(policy & (RESOLVE_CREATE_DIRECTORY | RESOLVE_CREATE_FILE)))
			return fd;
		long made;
		if (is_last && (policy & RESOLVE_CREATE_FILE)) {
			made = sys_openat(dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);
			sys_close((int)made);
		} else {
			made = sys3(__NR_mkdirat, dir, name, 0755);
		}
		/* EEXIST: somebody else made it; look again, links included. */
		if (made < 0 && made != -EEXIST)
			return made;
	}
	return -EAGAIN;
}

static int walk_in_root(int root, const char *path, unsigned policy) {
	struct walk walk = { .stack = { root } };
	int result = 0;

	if (text_copy(walk.rest, sizeof walk.rest, path) >= sizeof walk.rest)
		return -ENAMETOOLONG;
	const char *rest = walk.rest;
	for (;;) {
		char name[256];
		size_t length = 0;
		while (*rest == '/')
			rest++;
		if (!*rest)
			break;
		while (rest[length] && rest[length] != '/')
			length++;
		if (length >= sizeof name) {
			result = -ENAMETOOLONG;
			break;
		}
		memcpy(name, rest, length);
		name[length] = 0;
		rest += length;
		if (text_equal(name, "."))
			continue;
		if (text_equal(name, "..")) {
			if (walk.depth > 0)
				sys_close(walk.stack[walk.depth--]);
			continue;
		}
		const char *after = rest;
		while (*after == '/')
			after++;
		long fd = walk_step(&walk, name, *after == 0, policy);
		struct sys_stat st;
		if (fd < 0 || (result = (int)sys_fstat((int)fd, &st)) < 0) {
			result = fd < 0 ? (int)fd : result;
			sys_close((int)fd);
			break;
		}
		if ((st.mode & S_IFMT) == S_IFLNK) {
			result = policy & RESOLVE_NO_LINKS ? -ELOOP : walk_push_link(&walk, (int)fd, rest);
			sys_close((int)fd);
			if (result < 0)
				break;
			rest = walk.rest;
			continue;
		}
		if (walk.depth + 1 >= MAX_DEPTH) {
			sys_close((int)fd);
			result = -ENAMETOOLONG;
			break;
		}
		walk.stack[++walk.depth] = (int)fd;
	}
	if (result == 0) {
		/* The last descriptor is the answer; a fresh one where the path was the root itself. */
		if (walk.depth == 0)
			return (int)sys_openat(root, ".", O_PATH | O_CLOEXEC, 0);
		result = walk.stack[walk.depth--];
	}
	walk_end(&walk);
	return result;
}

int resolve_in_root(struct context *ctx, const char *path, unsigned policy) {
	return resolve_below(ctx, ctx->root, path, policy);
}

/* Open `path` as a process sees it whose root is `base`.  Returns an owned O_PATH descriptor or -errno. */
int resolve_below(struct context *ctx, int base, const char *path, unsigned policy) {
	uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
	if (policy & RESOLVE_NO_LINKS)
		resolve |= RESOLVE_NO_SYMLINKS;
	ctx->site = OCIRUN_SITE_OPENAT2;
	ctx->detail = path;
	long fd = openat2_retrying(base, path, O_PATH | O_CLOEXEC, resolve);
	if (fd >= 0)
		return (int)fd;
	if (is_missing(fd) || (fd == -ENOENT && (policy & (RESOLVE_CREATE_DIRECTORY | RESOLVE_CREATE_FILE)))) {
		ctx->site = OCIRUN_SITE_OPENAT;
		fd = walk_in_root(base, path, policy);
	}
	return (int)fd;
}

/* Open the directory that holds the last component, making it where missing; *name is that component, never with a
 * slash: openat("link/", O_NOFOLLOW) would follow the link. */
int resolve_parent(struct context *ctx, int base, const char *path, const char **name) {
	char directory[SYS_PATH_MAX];
	size_t end = text_length(path);
	if (end >= sizeof directory)
		return -ENAMETOOLONG;
	while (end > 0 && path[end - 1] != '/')
		end--;
	*name = path + end;
	if (!**name || text_equal(*name, ".") || text_equal(*name, ".."))
		return -EINVAL;
	memcpy(directory, path, end);
	directory[end] = 0;
	int fd = resolve_below(ctx, base, end ? directory : "/", RESOLVE_CREATE_DIRECTORY);
	ctx->detail = path;
	return fd;
}

int is_procfs_root(int fd) {
	struct {
		long type;
		long rest[31];
	} fs;
	struct sys_stat st;
	/* The root of a procfs is always inode 1: a bind of some directory of it would pass the magic alone. */
	return sys2(__NR_fstatfs, fd, &fs) == 0 && fs.type == PROC_SUPER_MAGIC && sys_fstat(fd, &st) == 0 &&
	       st.ino == 1;
}

static long new_procfs(int with_sys) {
	cleanup_fd int fs = (int)sys2(__NR_fsopen, "proc", FSOPEN_CLOEXEC);
	if (fs < 0)
		return fs;
	/* Both options are of Linux 5.8; without them the mount shows more, which is no harm: it is never attached. */
	if (!with_sys) {
		sys_fsconfig(fs, FSCONFIG_SET_STRING, "hidepid", "ptraceable", 0);
		sys_fsconfig(fs, FSCONFIG_SET_STRING, "subset", "pid", 0);
	}
	long result = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (result < 0)
		return result;
	return sys3(__NR_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV);
}

/* A procfs that nobody can mount over (CVE-2025-52881): our own, else a clone of /proc, else /proc itself, verified. */
int open_proc(struct context *ctx, int with_sys) {
	int *cached = with_sys ? &ctx->sys_proc : &ctx->proc;
	if (*cached >= 0)
		return *cached;
	long fd = new_procfs(with_sys);
	if (fd < 0)
		fd = sys_open_tree(AT_FDCWD, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		fd = sys_openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return (int)AT(ctx, OPENAT, fd);
	if (!is_procfs_root((int)fd)) {
		sys_close((int)fd);
		return fail(ctx, OCIRUN_SITE_VERIFY_PROC, EXDEV);
	}
	return *cached = (int)fd;
}

/* Open a file of the private procfs; no links, no mounts on the way. */
int open_below_proc(struct context *ctx, int with_sys, const char *path, int flags) {
	int proc = open_proc(ctx, with_sys);
	if (proc < 0)
		return proc;
	ctx->site = OCIRUN_SITE_OPENAT2;
	long fd = openat2_retrying(proc, path, (uint64_t)flags | O_CLOEXEC,
				   RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
	if (!is_missing(fd))
		return (int)fd;
	/* EACCES and EPERM may also be the file's own answer: the walk then gives it again. */
	ctx->site = OCIRUN_SITE_OPENAT;
	cleanup_fd int last = walk_in_root(proc, path, 0);
	if (last < 0)
		return last;
	struct {
		long type;
		long rest[31];
	} fs;
	if (sys2(__NR_fstatfs, last, &fs) < 0 || fs.type != PROC_SUPER_MAGIC)
		return fail(ctx, OCIRUN_SITE_VERIFY_PROC, EXDEV);
	return reopen(ctx, last, flags);
}

/* Turn an O_PATH descriptor into one that can be read or written, through procfs' magic link. */
int reopen(struct context *ctx, int fd, int flags) {
	char path[48];
	int proc = open_proc(ctx, 0);
	if (proc < 0)
		return proc;
	size_t size = text_copy(path, sizeof path, "thread-self/fd/");
	text_number(path + size, (uint64_t)fd);
	return (int)AT(ctx, OPENAT, sys_openat(proc, path, flags | O_CLOEXEC, 0));
}

/* Open a file below the root for use, when it is a character device of this number (or any regular file, major 0).
 * Looked at first, since opening a device or a FIFO of the image has effects; and again, since names can change. */
int open_in_root(struct context *ctx, const char *path, int flags, uint32_t major, uint32_t minor) {
	const char *name;
	struct sys_stat looked, opened;
	cleanup_fd int parent = resolve_parent(ctx, ctx->root, path, &name);
	if (parent < 0)
		return parent;
	TRY(ctx, FSTAT, sys_stat(parent, name, AT_SYMLINK_NOFOLLOW, &looked));
	uint32_t type = major ? S_IFCHR : S_IFREG;
	if ((looked.mode & S_IFMT) != type || (major && (looked.rdev_major != major || looked.rdev_minor != minor)))
		return fail(ctx, OCIRUN_SITE_VERIFY_DEVICE, ENODEV);
	cleanup_fd int fd = (int)AT(
		ctx, OPENAT, sys_openat(parent, name, flags | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	TRY(ctx, FSTAT, sys_fstat(fd, &opened));
	if (opened.dev != looked.dev || opened.ino != looked.ino || opened.mode != looked.mode)
		return fail(ctx, OCIRUN_SITE_VERIFY_DEVICE, ENODEV);
	TRY(ctx, FCNTL, sys_fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
	return take_fd(&fd);
}

int is_character_device(int fd, uint32_t major, uint32_t minor) {
	struct sys_stat st;
	return sys_fstat(fd, &st) == 0 && (st.mode & S_IFMT) == S_IFCHR && st.rdev_major == major &&
	       st.rdev_minor == minor;
}

/* The host's /dev/null, opened while the host's root is still ours and checked to be 1:3 (CVE-2025-31133). */
int open_host_null(struct context *ctx) {
	if (ctx->dev_null >= 0)
		return ctx->dev_null;
	long fd = AT(ctx, OPENAT, sys_openat(AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
	if (fd < 0)
		return (int)fd;
	if (!is_character_device((int)fd, 1, 3)) {
		sys_close((int)fd);
		return fail(ctx, OCIRUN_SITE_VERIFY_DEVICE, ENODEV);
	}
	return ctx->dev_null = (int)fd;
}
