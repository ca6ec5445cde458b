/* SPDX-License-Identifier: Apache-2.0
 *
 * Hooks of the container's namespaces: createContainer and startContainer.
 */
#include "init.h"

#define NUMBER(which) (ctx->op->number[which])
#define PIPE_CAPACITY 65536

/* What the hook reads: the state with our pid as its namespace sees it. */
static int write_state(struct context *ctx, int fd) {
	const char *state = op_text(ctx, 3);
	size_t at = NUMBER(3), size = text_length(state);
	char pid[24];
	size_t digits = text_number(pid, (uint64_t)sys0(__NR_getpid));
	struct sys_iovec parts[3] = { { (void *)(uintptr_t)state, at },
				      { pid, digits },
				      { (void *)(uintptr_t)(state + at), size - at } };
	long written = AT(ctx, WRITE, sys3(__NR_writev, fd, parts, 3));
	if (written < 0)
		return (int)written;
	return (size_t)written == size + digits ? 0 : fail(ctx, OCIRUN_SITE_WRITE, EIO);
}

/* In a file, which takes any size without a reader; where there is no memfd, or RLIMIT_FSIZE is in the way, in a pipe.
 */
static int hook_stdin(struct context *ctx) {
	int fds[2];
	cleanup_fd int file = (int)AT(ctx, MEMFD_CREATE, sys2(__NR_memfd_create, "ocirun-hook-state", MFD_CLOEXEC));
	int error = file < 0 ? file : write_state(ctx, file);
	if (error == 0) {
		TRY(ctx, READ, sys3(__NR_lseek, file, 0, 0));
		return take_fd(&file);
	}
	if (text_length(op_text(ctx, 3)) + 24 > PIPE_CAPACITY)
		return error;
	TRY(ctx, PIPE2, sys2(__NR_pipe2, fds, O_CLOEXEC));
	/* A user with too many pipes has smaller ones (pipe(7)): better an error than a wait without a reader. */
	error = (int)AT(ctx, FCNTL, sys_fcntl(fds[1], F_SETFL, O_WRONLY | O_NONBLOCK));
	error = error < 0 ? error : write_state(ctx, fds[1]);
	sys_close(fds[1]);
	if (error < 0) {
		sys_close(fds[0]);
		return error;
	}
	return fds[0];
}

/* The operations that follow are the hook's: what confines the process confines what runs in its place before it. */
static int confine(struct context *ctx, uint64_t count) {
	int error = 0;
	for (; count > 0 && error == 0; count--) {
		ctx->op++;
		switch (ctx->op->opcode) {
		case OCIRUN_OP_NO_NEW_PRIVILEGES:
			error = op_no_new_privileges(ctx);
			break;
		case OCIRUN_OP_CAPABILITIES:
			error = op_capabilities(ctx);
			break;
		default:
			error = op_seccomp(ctx);
		}
	}
	return error;
}

struct hook_failure {
	int site, error;
};

__attribute__((noreturn)) static void run_hook(struct context *ctx, int input, int failure) {
	const struct ocirun_op *hook = ctx->op;
	const char **args = text_vector(ctx, op_text(ctx, 1), NUMBER(0));
	const char **env = text_vector(ctx, op_text(ctx, 2), NUMBER(1));
	int error = args && env ? 0 : -ENOMEM;
	if (error == 0) {
		sys2(__NR_setpgid, 0, 0);
		error = (int)AT(ctx, DUP3, sys_dup3(input, 0, 0));
	}
	/* Before the root is changed that is where a hook is, as with runc and crun; afterwards where the process is.
	 */
	if (error == 0 && ctx->root >= 0)
		error = (int)AT(ctx, FCHDIR, sys1(__NR_fchdir, ctx->root));
	if (error == 0) {
		/* What the caller preserves is for the process alone; all others are close-on-exec. */
		for (uint32_t i = 0; i < ctx->plan.header->keep_count; i++)
			sys_close(3 + (int)i);
		sys1(__NR_umask, NUMBER(4));
		unblock_signals();
		error = confine(ctx, NUMBER(5));
	}
	if (error == 0)
		error = (int)AT(ctx, EXECVE, sys3(__NR_execve, plan_text(&ctx->plan, hook->text[0]), args, env));
	struct hook_failure why = { (int)ctx->site, -error };
	sys3(__NR_write, failure, &why, sizeof why);
	end(127);
}

static int wait_hook(struct context *ctx, int pidfd, int pid) {
	struct sys_pollfd poll = { pidfd, POLLIN, 0 };
	struct sys_timespec left = { (int64_t)(NUMBER(2) / 1000), (int64_t)(NUMBER(2) % 1000) * 1000000 };
	int status = 0;
	long ready;
	/* ppoll(2) leaves the remaining time in `left`. */
	do
		ready = AT(ctx, POLL, sys5(__NR_ppoll, &poll, 1, NUMBER(2) ? &left : NULL, NULL, 0));
	while (ready == -EINTR);
	if (ready <= 0) {
		sys2(__NR_kill, -pid, SIGKILL); /* its whole group, */
		sys2(__NR_kill, pid, SIGKILL);	/* and itself, should it have left that */
	}
	TRY(ctx, WAIT4, sys4(__NR_wait4, pid, &status, 0x40000000 /* __WALL */, NULL));
	if (ready == 0)
		return fail(ctx, OCIRUN_SITE_HOOK_TIMEOUT, ETIMEDOUT);
	if (ready < 0)
		return (int)ready;
	if ((status & 0x7f) != 0)
		return fail(ctx, OCIRUN_SITE_HOOK_SIGNAL, status & 0x7f);
	return status == 0 ? 0 : fail(ctx, OCIRUN_SITE_HOOK_EXIT, (status >> 8) & 0xff);
}

int op_hook(struct context *ctx) {
	int failure[2], pidfd = FD_NONE;
	struct hook_failure why = { 0, 0 };

	ctx->detail = op_text(ctx, 0);
	cleanup_fd int input = hook_stdin(ctx);
	if (input < 0)
		return input;
	TRY(ctx, PIPE2, sys2(__NR_pipe2, failure, O_CLOEXEC));
	long pid = AT(ctx, CLONE, sys5(__NR_clone, SIGCHLD | CLONE_PIDFD, 0, &pidfd, 0, 0));
	if (pid == 0)
		run_hook(ctx, input, failure[1]);
	sys_close(failure[1]);
	if (pid < 0) {
		sys_close(failure[0]);
		return (int)pid;
	}
	/* First the end: even execve(2) may hang, on a file system that does not answer. */
	int result = wait_hook(ctx, pidfd, (int)pid);
	long size = sys3(__NR_read, failure[0], &why, sizeof why);
	sys_close(failure[0]);
	sys_close(pidfd);
	if (size != sizeof why)
		return result;
	return fail(ctx, why.site == OCIRUN_SITE_EXECVE ? OCIRUN_SITE_HOOK_EXEC : OCIRUN_SITE_HOOK_CONFINE, why.error);
}
