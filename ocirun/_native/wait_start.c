/* SPDX-License-Identifier: Apache-2.0
 *
 * The wait for `start`: what a created container does, perhaps for days.
 */
#include "init.h"

#define MAX_SILENT 4

/* Signals that end a process; pid 1 of a namespace would never get them, and `kill` of a created container should
 * work. */
static const unsigned char fatal_signals[] = { 1, 2, 3, 6, 10, 12, 13, 14, 15, 24, 25, 26, 27, 29, 30, 31 };

static int open_signals(void) {
	uint64_t set = 0;
	for (unsigned i = 0; i < sizeof fatal_signals; i++)
		set |= 1ull << (fatal_signals[i] - 1);
	return (int)sys4(__NR_signalfd4, FD_NONE, &set, sizeof set, O_CLOEXEC);
}

/* A created container keeps no descriptor of a directory or of the creator. */
void close_files(struct context *ctx) {
	int *files[] = { &ctx->root, &ctx->proc, &ctx->sys_proc, &ctx->mask_tmpfs, &ctx->dev_null };
	for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
		sys_close(*files[i]);
		*files[i] = FD_NONE;
	}
	/* Slots beyond the inputs hold mounts. */
	for (uint32_t i = ctx->plan.header->input_count; i < ctx->plan.header->slot_count; i++) {
		sys_close(ctx->slots[i]);
		ctx->slots[i] = FD_NONE;
	}
}

/* What is waited for: connections to come, signals, and connections that have not said anything yet. */
struct wait {
	struct sys_pollfd listening, signals, silent[MAX_SILENT];
	unsigned next; /* place of the next one that is silent */
};

static int accept_connection(int listening) {
	return (int)sys4(__NR_accept4, listening, NULL, NULL, O_CLOEXEC);
}

static void drop(struct sys_pollfd *silent) {
	sys_close(silent->fd);
	*silent = (struct sys_pollfd){ FD_NONE, POLLIN, 0 };
}

/* Whoever connects and says nothing must not keep `start` from us: of too many such, or where they take the last
 * descriptor, the oldest goes. */
static int take_connection(struct context *ctx, struct wait *wait) {
	int connection = (int)AT(ctx, ACCEPT4, accept_connection(wait->listening.fd));
	for (unsigned i = 0; connection == -EMFILE && i < MAX_SILENT; i++) {
		struct sys_pollfd *oldest = &wait->silent[(wait->next + i) % MAX_SILENT];
		if (oldest->fd < 0)
			continue;
		drop(oldest);
		connection = accept_connection(wait->listening.fd);
	}
	if (connection < 0)
		return connection;
	struct sys_pollfd *place = &wait->silent[wait->next++ % MAX_SILENT];
	drop(place);
	place->fd = connection;
	return 0;
}

/* Return the connection that said START, and give up those that said something else or are gone: a `start` that was
 * killed before it said so has not started us. */
static int read_connections(struct context *ctx, struct wait *wait) {
	for (unsigned i = 0; i < MAX_SILENT; i++) {
		struct sys_pollfd *each = &wait->silent[i];
		if (!each->revents)
			continue;
		int connection = each->fd;
		if (receive_message(ctx, connection, OCIRUN_MSG_START, NULL) == 0) {
			each->fd = FD_NONE;
			return connection;
		}
		drop(each);
	}
	return FD_NONE;
}

/* Wait until `start` is connected and has said so. */
static int wait_connected(struct context *ctx, struct wait *wait) {
	while (ctx->start < 0) {
		long ready = AT(ctx, POLL, sys5(__NR_ppoll, wait, 2 + MAX_SILENT, NULL, NULL, 0));
		if (ready == -EINTR)
			continue;
		if (ready < 0)
			return (int)ready;
		if (wait->signals.revents) {
			uint32_t info[32];
			sys3(__NR_read, wait->signals.fd, info, sizeof info);
			end(128 + (int)info[0]);
		}
		ctx->start = read_connections(ctx, wait);
		if (wait->listening.revents && ctx->start < 0)
			TRY(ctx, ACCEPT4, take_connection(ctx, wait));
	}
	return 0;
}

/* Created.  From the parent's PROCEED on the creator may go away; only `start` releases us, over its own connection,
 * which it keeps to learn how execve went. */
int op_wait_start(struct context *ctx) {
	int *listening = &ctx->slots[ctx->op->slot[0]];
	int *sync = &ctx->slots[OCIRUN_SLOT_SYNC];
	struct wait wait = { { *listening, POLLIN, 0 }, { FD_NONE, POLLIN, 0 }, { { 0 } }, 0 };

	sys_close(*sync);
	*sync = FD_NONE;
	for (unsigned i = 0; i < MAX_SILENT; i++)
		wait.silent[i].fd = FD_NONE; /* poll(2) passes over it */
	int error = wait.signals.fd = (int)AT(ctx, SIGNALFD4, open_signals());
	if (error >= 0)
		error = wait_connected(ctx, &wait);
	sys_close(wait.signals.fd);
	for (unsigned i = 0; i < MAX_SILENT; i++)
		sys_close(wait.silent[i].fd);
	if (error < 0) {
		/* `start` is to hear of it, also where RLIMIT_NOFILE leaves no descriptor for its connection: nothing
		 * here needs these three any more. */
		for (int fd = 0; fd < 3; fd++)
			sys_close(fd);
		ctx->start = accept_connection(*listening);
		return error;
	}
	sys_close(*listening);
	*listening = FD_NONE;
	return 0;
}
