/* SPDX-License-Identifier: Apache-2.0
 *
 * Masked and read-only paths.
 */
#include "init.h"

/* What MASK and READONLY resolve below: the mount itself where one was made there, so that a directory which changes
 * places with a link meanwhile cannot lead elsewhere (CVE-2019-19921, S-14).  A slot without a mount is an error: below
 * the root the path would name something else, and what is not there counts as done. */
static int base_of(const struct context *ctx) {
	return ctx->op->slot[0] >= 0 ? op_slot(ctx, 0) : ctx->root;
}

/* One read-only tmpfs serves all masked directories; with room for no file but its own root. */
static int mask_directory(struct context *ctx, int target) {
	const char *label = op_text(ctx, 1);
	if (ctx->mask_tmpfs >= 0) {
		cleanup_fd int clone = clone_of(ctx, ctx->mask_tmpfs, 0);
		return clone < 0 ? clone : attach(ctx, &clone, target, base_of(ctx), op_text(ctx, 0), 0);
	}
	cleanup_fd int fs = (int)AT(ctx, FSOPEN, sys2(__NR_fsopen, "tmpfs", FSOPEN_CLOEXEC));
	if (is_refused(fs)) {
		char path[48], data[SYS_PATH_MAX];
		size_t size = text_copy(data, sizeof data, "nr_blocks=1,nr_inodes=1");
		if (label && (size += text_copy(data + size, sizeof data - size, ",context=")) < sizeof data)
			size += quote(data + size, sizeof data - size, label);
		if (size >= sizeof data)
			return fail(ctx, OCIRUN_SITE_MOUNT, E2BIG);
		fd_path(path, target);
		TRY(ctx, MOUNT, sys_mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, data));
		return 0;
	}
	if (fs < 0)
		return fs;
	TRY(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_blocks", "1", 0));
	TRY(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0));
	if (label)
		TRY(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_SET_STRING, "context", label, 0));
	TRY(ctx, FSCONFIG, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int mount = (int)AT(ctx, FSMOUNT,
			    sys3(__NR_fsmount, fs, FSMOUNT_CLOEXEC,
				 MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
	if (mount < 0)
		return mount;
	ctx->mask_tmpfs = mount;
	TRY(ctx, MOVE_MOUNT, sys_move_mount(mount, target));
	return 0;
}

int op_mask(struct context *ctx) {
	struct sys_stat st = { 0 };
	cleanup_fd int target = resolve_below(ctx, base_of(ctx), op_text(ctx, 0), 0);
	/* Only a missing target is nothing to mask; a missing /dev/null would be (CVE-2025-31133). */
	if (target == -ENOENT)
		return 0;
	if (target < 0)
		return target;
	TRY(ctx, FSTAT, sys_fstat(target, &st));
	if ((st.mode & S_IFMT) == S_IFDIR)
		return mask_directory(ctx, target);
	int null = open_host_null(ctx);
	if (null < 0)
		return null;
	cleanup_fd int clone = clone_of(ctx, null, 0);
	return clone < 0 ? clone : attach(ctx, &clone, target, base_of(ctx), op_text(ctx, 0), 0);
}

/* The number by which mountinfo knows the mount of a descriptor. */
static int mount_id(struct context *ctx, int mount, uint64_t *id) {
	char path[48], text[512];
	size_t size = text_copy(path, sizeof path, "self/fdinfo/");
	text_number(path + size, (uint64_t)mount);
	cleanup_fd int fd = open_below_proc(ctx, 0, path, O_RDONLY);
	if (fd < 0)
		return fd;
	long got = AT(ctx, READ, sys3(__NR_read, fd, text, sizeof text - 1));
	if (got < 0)
		return (int)got;
	text[got] = 0;
	for (const char *line = text; line; line = text_find(line, '\n')) {
		line += *line == '\n';
		if (!text_starts(line, "mnt_id:\t"))
			continue;
		*id = 0;
		for (line += 8; *line >= '0' && *line <= '9'; line++)
			*id = *id * 10 + (uint64_t)(*line - '0');
		return 0;
	}
	return fail(ctx, OCIRUN_SITE_VERIFY_PROC, ENODATA);
}

/* Is anything mounted right below this mount?  Lines of mountinfo begin with the mount's number and its parent's. */
static int has_submounts(struct context *ctx, int mount) {
	char text[4096];
	uint64_t id, number = 0;
	unsigned field = 0;
	int error = mount_id(ctx, mount, &id);
	if (error < 0)
		return error;
	cleanup_fd int fd = open_below_proc(ctx, 0, "self/mountinfo", O_RDONLY);
	if (fd < 0)
		return fd;
	for (;;) {
		long got = AT(ctx, READ, sys3(__NR_read, fd, text, sizeof text));
		if (got <= 0)
			return (int)got;
		for (long i = 0; i < got; i++) {
			if (text[i] >= '0' && text[i] <= '9') {
				number = number * 10 + (uint64_t)(text[i] - '0');
				continue;
			}
			if (text[i] == ' ' && field == 1 && number == id)
				return 1;
			field = text[i] == '\n' ? 0 : field + (text[i] == ' ');
			number = 0;
		}
	}
}

int op_readonly(struct context *ctx) {
	int error;
	cleanup_fd int target = resolve_below(ctx, base_of(ctx), op_text(ctx, 0), 0);
	if (target == -ENOENT)
		return 0;
	if (target < 0)
		return target;
	cleanup_fd int clone = clone_of(ctx, target, AT_RECURSIVE);
	if (clone < 0)
		return clone;
	/* Submounts too: a volume below a read-only directory is part of what was asked for (S-27). */
	error = set_attributes(ctx, clone, MOUNT_ATTR_RDONLY, 0, 0, 1, 0);
	int late = is_refused(error) || error == -EINVAL;
	if (error < 0 && !late)
		return error;
	if ((error = attach(ctx, &clone, target, base_of(ctx), op_text(ctx, 0), 1)) < 0 || !late)
		return error;
	error = set_attributes(ctx, clone, MOUNT_ATTR_RDONLY, 0, 0, 1, 1);
	if (!is_refused(error))
		return error;
	/* Without mount_setattr(2) (5.12) a remount makes one mount read-only: enough where it is the only one. */
	int below = has_submounts(ctx, clone);
	if (below < 0)
		return below;
	ctx->detail = op_text(ctx, 0);
	if (below > 0)
		return fail(ctx, OCIRUN_SITE_MOUNT_SETATTR, -error);
	return set_attributes(ctx, clone, MOUNT_ATTR_RDONLY, 0, 0, 0, 1);
}
