/* SPDX-License-Identifier: Apache-2.0
 *
 * Mounts.  Each is built detached, given its attributes while nobody can see it, and only then attached to a
 * descriptor that was resolved once (V-05).  Where the mount API of Linux 5.2 is missing or filtered, mount(2) works
 * on /proc/self/fd/N of the same descriptor and the result is verified.
 */
#include "init.h"

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256 /* 5.10 */
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000 /* 5.14 */
#endif
#define MNT_DETACH 2
#define FSCONFIG_MAX_VALUE 255 /* the kernel's strndup_user(value, 256) */

#define NUMBER(which) (ctx->op->number[which])

int is_refused(long result) {
	return result == -ENOSYS || result == -EPERM || result == -EACCES;
}

static unsigned long mount_flags(uint64_t attributes) {
	unsigned long flags = 0;
	flags |= attributes & MOUNT_ATTR_RDONLY ? MS_RDONLY : 0;
	flags |= attributes & MOUNT_ATTR_NOSUID ? MS_NOSUID : 0;
	flags |= attributes & MOUNT_ATTR_NODEV ? MS_NODEV : 0;
	flags |= attributes & MOUNT_ATTR_NOEXEC ? MS_NOEXEC : 0;
	flags |= attributes & MOUNT_ATTR_NODIRATIME ? MS_NODIRATIME : 0;
	flags |= attributes & MOUNT_ATTR_NOSYMFOLLOW ? MS_NOSYMFOLLOW : 0;
	switch (attributes & MOUNT_ATTR__ATIME) {
	case MOUNT_ATTR_NOATIME:
		return flags | MS_NOATIME;
	case MOUNT_ATTR_STRICTATIME:
		return flags | MS_STRICTATIME;
	default:
		return flags | MS_RELATIME;
	}
}

/* "/proc/self/fd/N" for mount(2), of 48 bytes; only used before pivot_root, so /proc is the host's: in a container that
 * runs (`entered`) nothing stands in for the mount API. */
void fd_path(char *to, int fd) {
	size_t size = text_copy(to, 48, "/proc/self/fd/");
	text_number(to + size, (uint64_t)fd);
}

/* What statfs(2) says about a mount, as attributes: a remount must repeat what it does not want to lose. */
static int attributes_of(struct context *ctx, int fd, uint64_t *out) {
	struct {
		long head[10];
		long flags;
		long rest[8];
	} fs;
	uint64_t attributes = 0;
	TRY(ctx, FSTAT, sys2(__NR_fstatfs, fd, &fs));
	attributes |= fs.flags & 1 ? MOUNT_ATTR_RDONLY : 0;
	attributes |= fs.flags & 2 ? MOUNT_ATTR_NOSUID : 0;
	attributes |= fs.flags & 4 ? MOUNT_ATTR_NODEV : 0;
	attributes |= fs.flags & 8 ? MOUNT_ATTR_NOEXEC : 0;
	attributes |= fs.flags & 2048 ? MOUNT_ATTR_NODIRATIME : 0;
	attributes |= fs.flags & 8192 ? MOUNT_ATTR_NOSYMFOLLOW : 0;
	if (fs.flags & 1024)
		attributes |= MOUNT_ATTR_NOATIME;
	else if (!(fs.flags & 4096))
		attributes |= MOUNT_ATTR_STRICTATIME;
	*out = attributes;
	return 0;
}

/* Set and clear attributes of the mount itself, or of the tree below it.  `attached` says that the old remount may
 * stand in where mount_setattr(2) (5.12) is missing; there is no safe stand-in for a whole tree. */
int set_attributes(struct context *ctx, int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive,
		   int attached) {
	struct mount_attr attr = { .attr_set = set, .attr_clr = clear, .propagation = propagation };
	char path[48];
	long result;

	if (!set && !clear && !propagation)
		return 0;
	result = AT(ctx, MOUNT_SETATTR,
		    sys_mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr));
	if (result >= 0 || !is_refused(result) || !attached || ctx->entered)
		return (int)result;
	fd_path(path, fd);
	if (set || clear) {
		if (recursive)
			return (int)result;
		uint64_t had;
		int error = attributes_of(ctx, fd, &had);
		if (error < 0)
			return error;
		unsigned long flags = MS_REMOUNT | MS_BIND | mount_flags((had & ~clear) | set);
		if (AT(ctx, MOUNT_SETATTR, sys_mount(NULL, path, NULL, flags, NULL)) < 0)
			return (int)result;
	}
	if (propagation)
		TRY(ctx, MOUNT, sys_mount(NULL, path, NULL, propagation | (recursive ? MS_REC : 0), NULL));
	return 0;
}

int op_propagation(struct context *ctx) {
	ctx->detail = "/";
	TRY(ctx, MOUNT, sys_mount(NULL, "/", NULL, NUMBER(0), NULL));
	return 0;
}

/* A descriptor of the source: a detached clone, or (old kernels) the place itself, for BIND to bind later. */
int op_open_tree(struct context *ctx) {
	const char *path = ctx->detail = op_text(ctx, 0);
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
	int *slot = &ctx->slots[ctx->op->slot[0]];
	if (has_flag(ctx, OCIRUN_FLAG_RECURSIVE))
		flags |= AT_RECURSIVE;
	long fd = AT(ctx, OPEN_TREE, sys_open_tree(AT_FDCWD, path, flags));
	if (is_refused(fd) && !NUMBER(0)) {
		long plain = sys_openat(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
		fd = plain < 0 ? AT(ctx, OPENAT, plain) : plain;
	}
	if (fd < 0)
		return (int)fd;
	*slot = (int)fd;
	/* What is mounted on a peer of a mount of the host's would appear on the host. */
	return set_attributes(ctx, *slot, 0, 0, NUMBER(0) & ~(uint64_t)MS_REC, (NUMBER(0) & MS_REC) != 0, 0);
}

/* Ids of files are shown, and new ones stored, as the user namespace maps them.  The kernel wants a mount that nobody
 * has seen, and power over its file system: so on the detached mount, before init gives that power up. */
int op_idmap(struct context *ctx) {
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint32_t)op_slot(ctx, 1) };
	unsigned recursive = has_flag(ctx, OCIRUN_FLAG_RECURSIVE) ? AT_RECURSIVE : 0u;
	ctx->detail = op_text(ctx, 0);
	TRY(ctx, IDMAP, sys_mount_setattr(op_slot(ctx, 0), "", AT_EMPTY_PATH | recursive, &attr));
	return 0;
}

static long bind_at(int source, int destination, int recursive) {
	char from[48], to[48];
	fd_path(from, source);
	fd_path(to, destination);
	return sys_mount(from, to, NULL, MS_BIND | (recursive ? MS_REC : 0), NULL);
}

/* Attach `*mount`, with submounts or not, on `destination`, which is `path` below `base`.  Afterwards *mount is a
 * descriptor of the attached mount. */
int attach(struct context *ctx, int *mount, int destination, int base, const char *path, int recursive) {
	long result = AT(ctx, MOVE_MOUNT, sys_move_mount(*mount, destination));
	if ((!is_refused(result) && result != -EINVAL) || ctx->entered)
		return (int)result;
	/* EINVAL: `*mount` is no detached mount, so open_tree(2) was refused before. */
	struct sys_stat wanted, found;
	long bound = bind_at(*mount, destination, recursive);
	if (bound < 0)
		return (int)(is_refused(result) ? AT(ctx, MOUNT, bound) : result);
	cleanup_fd int again = resolve_below(ctx, base, path, 0);
	if (again < 0)
		return again;
	TRY(ctx, FSTAT, sys_fstat(*mount, &wanted));
	TRY(ctx, FSTAT, sys_fstat(again, &found));
	if (wanted.dev != found.dev || wanted.ino != found.ino)
		return fail(ctx, OCIRUN_SITE_VERIFY_DESTINATION, EXDEV);
	sys_close(*mount);
	*mount = take_fd(&again);
	return 0;
}

/* Where the future root is mounted: on its own directory of the host, where createContainer hooks look for the
 * container's mounts (config.md#createcontainer-hooks).  On top of "/" where a user namespace has no search permission
 * on the way there, where the way leads to another directory by now, and where the host shares its mounts, which must
 * not get this one; pivot_root(2) only wants a mount point. */
static int open_place_of_root(struct context *ctx, const struct sys_stat *root) {
	if (NUMBER(1) != MS_PRIVATE) {
		struct sys_stat st;
		cleanup_fd int fd = (int)sys_openat(AT_FDCWD, op_text(ctx, 0), O_PATH | O_CLOEXEC, 0);
		if (fd >= 0 && sys_fstat(fd, &st) == 0 && st.dev == root->dev && st.ino == root->ino)
			return take_fd(&fd);
	}
	return (int)AT(ctx, OPENAT, sys_openat(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0));
}

int op_rootfs(struct context *ctx) {
	int *slot = &ctx->slots[ctx->op->slot[0]];
	struct sys_stat st;
	int error;

	ctx->detail = op_text(ctx, 0);
	TRY(ctx, FSTAT, sys_fstat(*slot, &st));
	if ((st.mode & S_IFMT) != S_IFDIR)
		return fail(ctx, OCIRUN_SITE_VERIFY_DESTINATION, ENOTDIR);
	cleanup_fd int place = open_place_of_root(ctx, &st);
	if (place < 0)
		return place;
	/* Where mounts are to travel to the host, this one must not, nor does pivot_root(2) want a shared parent. */
	TRY(ctx, MOUNT, sys_mount(NULL, "/", NULL, NUMBER(1), NULL));
	/* Below the root it is in this mount namespace, where its nodes can be cloned (a detached mount's only since
	 * 6.15), covered from now on, and gone with the old root. */
	if (ctx->op->slot[1] >= 0)
		TRY(ctx, MOVE_MOUNT, sys_move_mount(op_slot(ctx, 1), place));
	error = (int)AT(ctx, MOVE_MOUNT, sys_move_mount(*slot, place));
	if (is_refused(error) || error == -EINVAL) {
		/* No detached clone: mount(2) on itself; "." of the old descriptor is below that mount, so the mount
		 * is looked up by the path once more (a host path, which the administrator owns). */
		TRY(ctx, MOUNT, bind_at(*slot, *slot, 1));
		int again = (int)AT(ctx, OPENAT, sys_openat(AT_FDCWD, op_text(ctx, 0), O_PATH | O_CLOEXEC, 0));
		if (again < 0)
			return again;
		sys_close(*slot);
		*slot = again;
	} else if (error < 0) {
		return error;
	}
	ctx->root = *slot;
	*slot = FD_NONE;
	/* A clone of a shared mount is a peer of it: mounts below must not travel back to the host, and pivot_root(2)
	 * refuses a shared root. */
	return set_attributes(ctx, ctx->root, 0, 0, NUMBER(0) & ~(uint64_t)MS_REC, (NUMBER(0) & MS_REC) != 0, 1);
}

/* Resolve the destination of a mount, making it with the source's type where it is missing. */
static int open_destination(struct context *ctx, int is_directory) {
	const char *path = op_text(ctx, 3);
	unsigned policy = is_directory ? RESOLVE_CREATE_DIRECTORY : RESOLVE_CREATE_FILE;
	struct sys_stat st, root;
	struct {
		long type;
		long rest[31];
	} fs;

	if (has_flag(ctx, OCIRUN_FLAG_NO_SYMLINKS))
		policy |= RESOLVE_NO_LINKS;
	int fd = resolve_in_root(ctx, path, policy);
	if (fd < 0)
		return fd;
	int error = 0;
	if (sys_fstat(fd, &st) < 0 || sys_fstat(ctx->root, &root) < 0 || sys2(__NR_fstatfs, fd, &fs) < 0)
		error = EIO;
	else if (is_directory != ((st.mode & S_IFMT) == S_IFDIR))
		error = is_directory ? ENOTDIR : EISDIR;
	else if (st.dev == root.dev && st.ino == root.ino)
		error = EBUSY; /* a link to "/": the root handle would be shadowed */
	else if (fs.type == PROC_SUPER_MAGIC && !has_flag(ctx, OCIRUN_FLAG_ON_PROC))
		error = EPERM; /* CVE-2019-16884 */
	if (error == 0)
		return fd;
	sys_close(fd);
	return fail(ctx, OCIRUN_SITE_VERIFY_DESTINATION, error);
}

/* The kernel explains itself in the context's log: "e tmpfs: Bad value for 'size'".  Joined to the destination. */
static void read_log(struct context *ctx, int fs) {
	char log[192];
	long size = sys3(__NR_read, fs, log, sizeof log - 1);
	if (size <= 2)
		return;
	log[size] = 0;
	for (long i = 0; i < size; i++)
		if (log[i] == '\n')
			log[i] = 0;
	size_t length = text_copy(ctx->detail_text, 256, op_text(ctx, 3));
	length = length < 256 ? length : 255;
	length += text_copy(ctx->detail_text + length, 3, ": ");
	text_copy(ctx->detail_text + length, sizeof ctx->detail_text - length, log + 2);
	ctx->detail = ctx->detail_text;
}

static int configure(struct context *ctx, int fs, const char *option, uint64_t count) {
	for (; count > 0; count--, option = next_text(option)) {
		char key[256];
		const char *value = text_find(option, '=');
		long result;
		if (value) {
			size_t size = (size_t)(value - option);
			if (size >= sizeof key)
				return fail(ctx, OCIRUN_SITE_FSCONFIG, EINVAL);
			memcpy(key, option, size);
			key[size] = 0;
			result = sys_fsconfig(fs, FSCONFIG_SET_STRING, key, value + 1, 0);
		} else {
			result = sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
		}
		if (AT(ctx, FSCONFIG, result) < 0) {
			read_log(ctx, fs);
			return (int)result;
		}
	}
	return 0;
}

/* Flags of the superblock that fsconfig(2) has names for. */
#define SUPERBLOCK_NAMED 0xfu

static int configure_superblock(struct context *ctx, int fs, uint64_t flags, int set) {
	/* There is no word against dirsync. */
	const char *names = set ? "sync\0dirsync\0mand\0lazytime\0" : "async\0\0nomand\0nolazytime\0";
	for (flags &= SUPERBLOCK_NAMED; flags != 0; flags >>= 1, names = next_text(names))
		if (flags & 1 && *names)
			TRY(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_SET_FLAG, names, NULL, 0));
	return 0;
}

static int new_mount(struct context *ctx) {
	const char *type = op_text(ctx, 0), *source = op_text(ctx, 1);
	cleanup_fd int fs = (int)AT(ctx, FSOPEN, sys2(__NR_fsopen, type, FSOPEN_CLOEXEC));
	int error;
	if (fs < 0)
		return fs;
	if (source && sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		read_log(ctx, fs); /* some file systems have no source */
	if ((error = configure(ctx, fs, op_text(ctx, 2), NUMBER(3))) < 0 ||
	    (error = configure_superblock(ctx, fs, NUMBER(4), 1)) < 0)
		return error;
	error = (int)AT(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (error < 0) {
		read_log(ctx, fs);
		return error;
	}
	/* A tmpfs that is filled first becomes read-only afterwards. */
	uint64_t attributes = NUMBER(0) & ~(has_flag(ctx, OCIRUN_FLAG_COPY_UP) ? (uint64_t)MOUNT_ATTR_RDONLY : 0);
	return (int)AT(ctx, FSMOUNT, sys3(__NR_fsmount, fs, FSMOUNT_CLOEXEC, attributes));
}

/* What only mount(2) can say: silent and iversion, which fsconfig(2) has no names for, and long values. */
static int needs_old_mount(const struct context *ctx) {
	const char *option = op_text(ctx, 2), *source = op_text(ctx, 1);
	if (NUMBER(4) & ~(uint64_t)SUPERBLOCK_NAMED)
		return 1;
	if (source && text_length(source) > FSCONFIG_MAX_VALUE)
		return 1;
	for (uint64_t i = 0; i < NUMBER(3); i++, option = next_text(option)) {
		const char *value = text_find(option, '=');
		if (value && text_length(value + 1) > FSCONFIG_MAX_VALUE)
			return 1;
	}
	return 0;
}

/* The value of an SELinux option of mount(2), which splits its text at commas that are not in quotes; labels have some.
 * fsconfig(2) splits nothing, and would take quotes for a part of the label.  There is no escape for a quote in one, so
 * that the rules of mounts and of linux.mountLabel refuse it. */
size_t quote(char *to, size_t room, const char *label) {
	size_t size = text_copy(to, room, "\"");
	size += size < room ? text_copy(to + size, room - size, label) : 0;
	return size + (size < room ? text_copy(to + size, room - size, "\"") : 0);
}

static const char *context_of(const char *option) {
	const char *names = "context=\0fscontext=\0defcontext=\0rootcontext=\0";
	for (; *names; names = next_text(names))
		if (text_starts(option, names))
			return option + text_length(names);
	return NULL;
}

/* mount(2) on the descriptor, for kernels or filters without fsopen(2) and for options that it cannot take. */
static int old_mount(struct context *ctx, int destination, int *mount) {
	char data[SYS_PATH_MAX], path[48];
	size_t size = 0;
	const char *option = op_text(ctx, 2), *source = op_text(ctx, 1);
	struct sys_stat before, after;

	for (uint64_t i = 0; i < NUMBER(3); i++, option = next_text(option)) {
		if (i > 0 && size + 1 < sizeof data)
			data[size++] = ',';
		const char *label = context_of(option);
		if (label) {
			size_t name = (size_t)(label - option);
			if (size + name >= sizeof data)
				return fail(ctx, OCIRUN_SITE_MOUNT, E2BIG);
			memcpy(data + size, option, name);
			size += name;
			size += quote(data + size, sizeof data - size, label);
		} else {
			size += text_copy(data + size, sizeof data - size, option);
		}
		if (size + 1 >= sizeof data)
			return fail(ctx, OCIRUN_SITE_MOUNT, E2BIG);
	}
	data[size] = 0;
	static const unsigned long superblock[] = { MS_SYNCHRONOUS, MS_DIRSYNC, MS_MANDLOCK,
						    MS_LAZYTIME,    MS_SILENT,	MS_I_VERSION };
	unsigned long flags = mount_flags(NUMBER(0));
	for (unsigned i = 0; i < sizeof superblock / sizeof superblock[0]; i++)
		flags |= NUMBER(4) & (1ul << i) ? superblock[i] : 0;
	fd_path(path, destination);
	TRY(ctx, FSTAT, sys_fstat(destination, &before));
	TRY(ctx, MOUNT, sys_mount(source ? source : op_text(ctx, 0), path, op_text(ctx, 0), flags, data));
	/* Once more through the resolver: what is found now must be the new mount, not what stood there. */
	int fd = resolve_in_root(ctx, op_text(ctx, 3), has_flag(ctx, OCIRUN_FLAG_NO_SYMLINKS) ? RESOLVE_NO_LINKS : 0);
	if (fd < 0)
		return fd;
	*mount = fd;
	TRY(ctx, FSTAT, sys_fstat(fd, &after));
	if (before.dev == after.dev && before.ino == after.ino)
		return fail(ctx, OCIRUN_SITE_VERIFY_DESTINATION, EXDEV);
	return 0;
}

/* Keep the descriptor of a mount for those that resolve below it. */
static void keep_mount(struct context *ctx, unsigned which, int *mount) {
	if (ctx->op->slot[which] >= 0)
		ctx->slots[ctx->op->slot[which]] = take_fd(mount);
}

int op_mount(struct context *ctx) {
	cleanup_fd int mount = FD_NONE;
	cleanup_fd int destination = FD_NONE;
	int error;

	ctx->detail = op_text(ctx, 3);
	if (has_flag(ctx, OCIRUN_FLAG_DETACHED)) {
		mount = new_mount(ctx);
		if (mount < 0)
			return mount;
		keep_mount(ctx, 0, &mount);
		return 0;
	}
	if (!needs_old_mount(ctx)) {
		mount = new_mount(ctx);
		/* A filter refuses the call itself; a refusal by the file system comes from CMD_CREATE and stands. */
		if (mount < 0 && !(is_refused(mount) && ctx->site != OCIRUN_SITE_FSCONFIG))
			return mount;
	}
	destination = open_destination(ctx, 1);
	if (destination < 0)
		return destination;
	if (mount < 0) {
		if (has_flag(ctx, OCIRUN_FLAG_COPY_UP))
			return fail(ctx, OCIRUN_SITE_FSOPEN, ENOSYS);
		if ((error = old_mount(ctx, destination, &mount)) < 0)
			return error;
		error = set_attributes(ctx, mount, 0, 0, NUMBER(2) & ~(uint64_t)MS_REC, 0, 1);
		keep_mount(ctx, 0, &mount);
		return error;
	}
	if (has_flag(ctx, OCIRUN_FLAG_COPY_UP) &&
	    ((error = copy_up(ctx, destination, mount, !has_flag(ctx, OCIRUN_FLAG_OWNER_GIVEN),
			      !has_flag(ctx, OCIRUN_FLAG_MODE_GIVEN))) < 0 ||
	     (error = set_attributes(ctx, mount, NUMBER(0) & MOUNT_ATTR_RDONLY, 0, 0, 0, 0)) < 0))
		return error;
	TRY(ctx, MOVE_MOUNT, sys_move_mount(mount, destination));
	error = set_attributes(ctx, mount, 0, 0, NUMBER(2) & ~(uint64_t)MS_REC, 0, 1);
	keep_mount(ctx, 0, &mount);
	return error;
}

int op_bind(struct context *ctx) {
	int *source = &ctx->slots[ctx->op->slot[0]];
	struct sys_stat st;
	int error;

	ctx->detail = op_text(ctx, 3);
	TRY(ctx, FSTAT, sys_fstat(*source, &st));
	/* What stands at /proc must be one: labels and masks are written by its paths (V-04). */
	if (has_flag(ctx, OCIRUN_FLAG_PROC_ROOT) && !is_procfs_root(*source))
		return fail(ctx, OCIRUN_SITE_VERIFY_PROC, EINVAL);
	cleanup_fd int destination = open_destination(ctx, (st.mode & S_IFMT) == S_IFDIR);
	if (destination < 0)
		return destination;
	/* Attributes before the mount can be seen: there is no moment in which a read-only volume is writable. */
	error = set_attributes(ctx, *source, NUMBER(4), NUMBER(5), 0, 1, 0);
	if (error == 0)
		error = set_attributes(ctx, *source, NUMBER(0), NUMBER(1), 0, 0, 0);
	int late = is_refused(error) || error == -EINVAL;
	if (error < 0 && (!late || ctx->entered))
		return error;
	if ((error = attach(ctx, source, destination, ctx->root, op_text(ctx, 3),
			    has_flag(ctx, OCIRUN_FLAG_RECURSIVE))) < 0)
		return error;
	if (late && ((error = set_attributes(ctx, *source, NUMBER(4), NUMBER(5), 0, 1, 1)) < 0 ||
		     (error = set_attributes(ctx, *source, NUMBER(0), NUMBER(1), 0, 0, 1)) < 0))
		return error;
	error = set_attributes(ctx, *source, 0, 0, NUMBER(2) & ~(uint64_t)MS_REC, (NUMBER(2) & MS_REC) != 0, 1);
	keep_mount(ctx, 1, source);
	sys_close(*source);
	*source = FD_NONE;
	return error;
}

int op_remount(struct context *ctx) {
	cleanup_fd int mount = resolve_in_root(ctx, op_text(ctx, 3), 0);
	int error;
	if (mount < 0)
		return mount;
	if (NUMBER(3) > 0 || NUMBER(4) != 0 || NUMBER(5) != 0) {
		cleanup_fd int fs =
			(int)AT(ctx, FSPICK, sys3(__NR_fspick, mount, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
		if (fs < 0)
			return fs;
		if ((error = configure(ctx, fs, op_text(ctx, 2), NUMBER(3))) < 0 ||
		    (error = configure_superblock(ctx, fs, NUMBER(5), 0)) < 0 ||
		    (error = configure_superblock(ctx, fs, NUMBER(4), 1)) < 0)
			return error;
		error = (int)AT(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
		if (error < 0) {
			read_log(ctx, fs);
			return error;
		}
	}
	if ((error = set_attributes(ctx, mount, NUMBER(0), NUMBER(1), 0, 0, 1)) < 0)
		return error;
	return set_attributes(ctx, mount, 0, 0, NUMBER(2) & ~(uint64_t)MS_REC, (NUMBER(2) & MS_REC) != 0, 1);
}

/* Only looked at: whether it is a mount is for UNMOUNT to tell. */
int op_resolve(struct context *ctx) {
	ctx->detail = op_text(ctx, 0);
	int fd = resolve_in_root(ctx, op_text(ctx, 0), 0);
	if (fd < 0)
		return fd;
	ctx->slots[ctx->op->slot[0]] = fd;
	return 0;
}

/* umount2(2) takes no descriptor.  The procfs is the one that OPEN_PROC opened on the host: nobody in the container has
 * a hand in what the link in it leads to. */
int op_unmount(struct context *ctx) {
	char path[48];
	ctx->detail = op_text(ctx, 0);
	size_t size = text_copy(path, sizeof path, "thread-self/fd/");
	text_number(path + size, (uint64_t)op_slot(ctx, 0));
	TRY(ctx, FCHDIR, sys1(__NR_fchdir, ctx->proc));
	long result = AT(ctx, UMOUNT2, sys2(__NR_umount2, path, MNT_DETACH));
	TRY(ctx, FCHDIR, sys1(__NR_fchdir, ctx->root));
	if (result == -EINVAL && has_flag(ctx, OCIRUN_FLAG_IF_THERE))
		return 0;
	return (int)AT(ctx, UMOUNT2, result);
}

/* A clone of what the descriptor stands on, or that place itself where open_tree(2) is refused. */
int clone_of(struct context *ctx, int fd, unsigned flags) {
	long clone =
		AT(ctx, OPEN_TREE, sys_open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags));
	return is_refused(clone) ? (int)AT(ctx, DUP3, sys_fcntl(fd, F_DUPFD_CLOEXEC, 0)) : (int)clone;
}

int op_pivot(struct context *ctx) {
	TRY(ctx, FCHDIR, sys1(__NR_fchdir, ctx->root));
	if (has_flag(ctx, OCIRUN_FLAG_NO_PIVOT)) {
		/* On an initramfs pivot_root(2) answers EINVAL; the old root stays mounted below the new one. */
		TRY(ctx, CHROOT, sys1(__NR_chroot, "."));
		TRY(ctx, CHDIR, sys1(__NR_chdir, "/"));
		return 0;
	}
	struct sys_stat root = { 0 }, top = { 0 };
	cleanup_fd int old = (int)AT(ctx, OPENAT, sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	if (old < 0)
		return old;
	/* Stacked on itself: no directory for the old root has to exist in the image. */
	TRY(ctx, PIVOT_ROOT, sys2(__NR_pivot_root, ".", "."));
	TRY(ctx, FCHDIR, sys1(__NR_fchdir, old));
	/* Not shared any more, or the detach below would travel to the host. */
	TRY(ctx, MOUNT, sys_mount(NULL, ".", NULL, MS_REC | MS_SLAVE, NULL));
	/* "." is whatever is mounted on top there, be it ours (ROOTFS) or the host's: the old root comes last, and then
	 * "." is in no namespace any more, which is EINVAL. */
	TRY(ctx, UMOUNT2, sys2(__NR_umount2, ".", MNT_DETACH));
	long last;
	do
		last = AT(ctx, UMOUNT2, sys2(__NR_umount2, ".", MNT_DETACH));
	while (last == 0);
	if (last != -EINVAL)
		return (int)last;
	TRY(ctx, CHDIR, sys1(__NR_chdir, "/"));
	/* Nothing of the host may be left over the root; ".." of the root is what is on top of it. */
	TRY(ctx, FSTAT, sys_fstat(ctx->root, &root));
	TRY(ctx, FSTAT, sys_stat(AT_FDCWD, "/..", 0, &top));
	return root.dev == top.dev && root.ino == top.ino ? 0 : fail(ctx, OCIRUN_SITE_UMOUNT2, EBUSY);
}

int op_root_attributes(struct context *ctx) {
	int error;
	ctx->detail = "/";
	if (NUMBER(0) != 0) {
		struct mount_attr attr = { .attr_set = NUMBER(0) };
		error = (int)AT(ctx, MOUNT_SETATTR, sys_mount_setattr(ctx->root, "", AT_EMPTY_PATH, &attr));
		if (is_refused(error)) {
			uint64_t had;
			if ((error = attributes_of(ctx, ctx->root, &had)) < 0)
				return error;
			unsigned long flags = MS_REMOUNT | MS_BIND | mount_flags(had | NUMBER(0));
			error = (int)AT(ctx, MOUNT_SETATTR, sys_mount(NULL, "/", NULL, flags, NULL));
		}
		if (error < 0)
			return error;
	}
	if (NUMBER(2) != 0)
		TRY(ctx, MOUNT, sys_mount(NULL, "/", NULL, NUMBER(2), NULL));
	return 0;
}
