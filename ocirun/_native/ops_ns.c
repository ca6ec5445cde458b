/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations on namespaces, identities of namespaces, and the rendezvous with the parent.
 */
#include "init.h"

#define NS_GET_NSTYPE 0xb703
#define IFF_UP 0x1
#define SIOCGIFFLAGS 0x8913
#define SIOCSIFFLAGS 0x8914

#define NUMBER(which) (ctx->op->number[which])

int op_open_namespace(struct context *ctx) {
	const char *path = ctx->detail = op_text(ctx, 0);
	/* An input was opened by the parent: what it knows of the namespace would not be true of the path for long. */
	long fd = op_slot(ctx, 0);
	if (fd < 0)
		fd = AT(ctx, OPENAT, sys_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0));
	if (fd < 0)
		return (int)fd;
	ctx->slots[ctx->op->slot[0]] = (int)fd;
	/* "An error if the path is not of that type": asked here, while nothing has happened yet (4.11). */
	long type = AT(ctx, VERIFY_NAMESPACE, sys3(__NR_ioctl, fd, NS_GET_NSTYPE, 0));
	return type == (long)ctx->op->number[0] ? 0 : -EINVAL;
}

/* A process that moves another makes the kernel wait for every CPU (12 ms on an idle host); a single-threaded one that
 * moves itself does not (0.2 ms for nine hierarchies). */
int op_join_cgroup(struct context *ctx) {
	long result = -EINVAL;
	ctx->detail = op_text(ctx, 0);
	/* A path of the host, which the administrator owns. */
	cleanup_fd int fd = (int)AT(ctx, OPENAT, sys_openat(AT_FDCWD, ctx->detail, O_WRONLY | O_NOCTTY | O_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	/* EINVAL while the hierarchy is being changed below our feet. */
	for (int tries = 0; tries < 5; tries++) {
		result = AT(ctx, WRITE, sys3(__NR_write, fd, "0", 1));
		if (result != -EINVAL && result != -EINTR)
			break;
		struct sys_timespec pause = { 0, 30000000 };
		sys2(__NR_nanosleep, &pause, NULL);
	}
	return result < 0 ? (int)result : 0;
}

int op_join(struct context *ctx) {
	int *fd = &ctx->slots[ctx->op->slot[0]];
	TRY(ctx, SETNS, sys2(__NR_setns, *fd, ctx->op->number[0]));
	sys_close(*fd);
	*fd = FD_NONE;
	return 0;
}

int op_unshare(struct context *ctx) {
	TRY(ctx, UNSHARE, sys1(__NR_unshare, ctx->op->number[0]));
	return 0;
}

int op_id_maps(struct context *ctx) {
	int sync = ctx->slots[OCIRUN_SLOT_SYNC];
	int error;
	if (has_flag(ctx, OCIRUN_FLAG_DUMPABLE))
		TRY(ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 1, 0, 0));
	if ((error = send_message(ctx, sync, OCIRUN_MSG_NEED_ID_MAPS, 0, 0, FD_NONE)) < 0 ||
	    (error = receive_message(ctx, sync, OCIRUN_MSG_PROCEED, NULL)) < 0)
		return error;
	TRY(ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 0, 0, 0));
	return 0;
}

/* Whose ids are not mapped cannot make files, and loses all capabilities with the next exec. */
int op_become(struct context *ctx) {
	TRY(ctx, SETRESGID, sys3(__NR_setresgid, NUMBER(1), NUMBER(1), NUMBER(1)));
	TRY(ctx, SETRESUID, sys3(__NR_setresuid, NUMBER(0), NUMBER(0), NUMBER(0)));
	if (has_flag(ctx, OCIRUN_FLAG_SETGROUPS))
		TRY(ctx, SETGROUPS, sys2(__NR_setgroups, 0, NULL));
	TRY(ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 0, 0, 0));
	return 0;
}

/* A pid namespace takes effect for children only, and so does a time namespace.  CLONE_PARENT makes the child our
 * sibling: the runtime, not this process that is about to end, is the parent of init. */
int op_fork(struct context *ctx) {
	int pidfd = FD_NONE, gate[2];
	char byte;
	/* The child goes on when this process has ended, which is after the parent was told its pid: otherwise its own
	 * messages could come first. */
	TRY(ctx, PIPE2, sys2(__NR_pipe2, gate, O_CLOEXEC));
	unsigned long flags = ctx->op->number[0] | CLONE_PARENT | CLONE_PIDFD;
	/* The third argument receives the pidfd on every architecture; the others are unused. */
	long pid = AT(ctx, CLONE, sys5(__NR_clone, flags, 0, &pidfd, 0, 0));
	if (pid < 0)
		return (int)pid;
	if (pid == 0) {
		sys_close(gate[1]);
		while (sys3(__NR_read, gate[0], &byte, 1) == -EINTR)
			;
		sys_close(gate[0]);
		TRY(ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 0, 0, 0));
		return 0;
	}
	int error = send_message(ctx, ctx->slots[OCIRUN_SLOT_SYNC], OCIRUN_MSG_INIT_PID, 0, (int)pid, pidfd);
	if (error < 0) {
		sys4(__NR_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		return error;
	}
	end(0);
}

int op_barrier(struct context *ctx) {
	int sync = ctx->slots[OCIRUN_SLOT_SYNC];
	int rights = FD_NONE;
	int *sent = ctx->op->slot[1] >= 0 ? &ctx->slots[ctx->op->slot[1]] : NULL;
	/* Now, not when PROCEED is here: create may have returned by then, and somebody look. */
	if (ctx->op->number[0] == OCIRUN_BARRIER_CREATED)
		close_files(ctx);
	int error =
		send_message(ctx, sync, OCIRUN_MSG_AT_BARRIER, (uint32_t)ctx->op->number[0], 0, sent ? *sent : FD_NONE);
	if (error < 0)
		return error;
	if (sent)
		sys_close(take_fd(sent));
	if ((error = receive_message(ctx, sync, OCIRUN_MSG_PROCEED, &rights)) < 0)
		return error;
	if (ctx->op->slot[0] >= 0)
		ctx->slots[ctx->op->slot[0]] = rights;
	else
		sys_close(rights);
	return 0;
}

/* The labels of security modules are written later, when /proc may be the container's. */
int op_open_proc(struct context *ctx) {
	int fd = open_proc(ctx, 0);
	return fd < 0 ? fd : 0;
}

/* setns(2) leaves us at the root of the mount namespace, or what is mounted over it: the container's root, unless that
 * was made by chroot(2) alone. */
int op_enter_root(struct context *ctx) {
	ctx->detail = "/";
	if (ctx->op->slot[0] >= 0) {
		TRY(ctx, FCHDIR, sys1(__NR_fchdir, op_slot(ctx, 0)));
		TRY(ctx, CHROOT, sys1(__NR_chroot, "."));
	}
	TRY(ctx, CHDIR, sys1(__NR_chdir, "/"));
	ctx->entered = 1;
	ctx->root = (int)AT(ctx, OPENAT, sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	return ctx->root < 0 ? ctx->root : 0;
}

static int write_all(struct context *ctx, int fd, const char *data) {
	size_t size = text_length(data);
	long written;
	/* One write: files of procfs take their value whole. */
	do
		written = AT(ctx, WRITE, sys3(__NR_write, fd, data, size));
	while (written == -EINTR);
	if (written < 0)
		return (int)written;
	return (size_t)written == size ? 0 : -EIO;
}

int op_write_proc(struct context *ctx) {
	/* Only the moment of opening asks whose the file is. */
	if (has_flag(ctx, OCIRUN_FLAG_DUMPABLE))
		TRY(ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 1, 0, 0));
	ctx->detail = op_text(ctx, 0);
	cleanup_fd int fd = open_below_proc(ctx, 0, op_text(ctx, 0), O_WRONLY | O_NOCTTY);
	if (has_flag(ctx, OCIRUN_FLAG_DUMPABLE)) {
		long hidden = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0);
		if (hidden < 0)
			return (int)AT(ctx, PRCTL, hidden);
	}
	return fd < 0 ? fd : write_all(ctx, fd, op_text(ctx, 1));
}

int op_sysctl(struct context *ctx) {
	char path[SYS_PATH_MAX];
	size_t size = text_copy(path, sizeof path, "sys/");
	ctx->detail = op_text(ctx, 0);
	if (size + text_copy(path + size, sizeof path - size, op_text(ctx, 0)) >= sizeof path)
		return fail(ctx, OCIRUN_SITE_OPENAT2, ENAMETOOLONG);
	cleanup_fd int fd = open_below_proc(ctx, 1, path, O_WRONLY | O_NOCTTY);
	return fd < 0 ? fd : write_all(ctx, fd, op_text(ctx, 1));
}

int op_hostname(struct context *ctx) {
	const char *name = op_text(ctx, 0);
	TRY(ctx, SETHOSTNAME, sys2(__NR_sethostname, name, text_length(name)));
	return 0;
}

int op_domainname(struct context *ctx) {
	const char *name = op_text(ctx, 0);
	TRY(ctx, SETDOMAINNAME, sys2(__NR_setdomainname, name, text_length(name)));
	return 0;
}

int op_loopback(struct context *ctx) {
	struct {
		char name[16];
		short flags;
		char rest[22];
	} request = { "lo", 0, { 0 } };
	cleanup_fd int fd = (int)AT(ctx, SOCKET, sys3(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (fd < 0)
		return fd;
	TRY(ctx, IOCTL, sys3(__NR_ioctl, fd, SIOCGIFFLAGS, &request));
	request.flags |= IFF_UP;
	TRY(ctx, IOCTL, sys3(__NR_ioctl, fd, SIOCSIFFLAGS, &request));
	return 0;
}

/* The parent gets it: whoever holds it can configure this network namespace without ever being in it.  The kernel asks
 * both for the power of who opened it and of who uses it, so it is opened while we still have ours. */
int op_open_netlink(struct context *ctx) {
	long fd = AT(ctx, SOCKET, sys3(__NR_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */));
	if (fd < 0)
		return (int)fd;
	ctx->slots[ctx->op->slot[0]] = (int)fd;
	return 0;
}

/* A session keyring of our own: without it the container could search the caller's (V-14). */
int op_keyring(struct context *ctx) {
	long serial = AT(ctx, KEYCTL, sys2(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, op_text(ctx, 0)));
	if (serial == -ENOSYS && has_flag(ctx, OCIRUN_FLAG_BEST_EFFORT))
		return 0;
	if (serial < 0)
		return (int)serial;
	/* Possessor: all; owner: view, read, search.  What the kernel gives a session keyring by itself leaves the
	 * owner nothing but view. */
	TRY(ctx, KEYCTL, sys3(__NR_keyctl, KEYCTL_SETPERM, serial, 0x3f0b0000));
	return 0;
}
