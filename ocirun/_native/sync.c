/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages between init and its parent: one SOCK_SEQPACKET socket, one struct, drawn in docs/init-protocol.md.
 */
#include "init.h"

static long send_retrying(int fd, const struct sys_msghdr *message, int flags) {
	long result;
	do
		result = sys3(__NR_sendmsg, fd, message, MSG_NOSIGNAL | flags);
	while (result == -EINTR);
	return result;
}

/* Returns how many bytes were sent. */
int send_rights(int socket, const char *text, size_t size, int fd, int flags) {
	struct sys_rights rights = { offsetof(struct sys_rights, padding), SOL_SOCKET, SCM_RIGHTS, fd, 0 };
	struct sys_iovec iov = { (void *)(uintptr_t)text, size };
	struct sys_msghdr message = { NULL, 0, &iov, 1, &rights, sizeof rights, 0 };
	if (fd < 0)
		message.control = NULL, message.controllen = 0;
	return (int)send_retrying(socket, &message, flags);
}

int send_message(struct context *ctx, int fd, uint32_t kind, uint32_t value, int pid, int rights) {
	struct ocirun_message message = { 0 };
	message.kind = kind;
	message.value = value;
	message.pid = pid;
	TRY(ctx, SENDMSG, send_rights(fd, (const char *)&message, sizeof message, rights, 0));
	return 0;
}

/* Wait for a message of exactly this kind.  End-of-file means that the parent is gone: EPIPE. */
int receive_message(struct context *ctx, int fd, uint32_t kind, int *rights) {
	struct ocirun_message message;
	struct sys_rights control;
	struct sys_iovec iov = { &message, sizeof message };
	struct sys_msghdr header = { NULL, 0, &iov, 1, &control, sizeof control, 0 };
	long size;

	ctx->site = OCIRUN_SITE_RECVMSG;
	do
		size = sys3(__NR_recvmsg, fd, &header, MSG_CMSG_CLOEXEC);
	while (size == -EINTR);
	if (size < 0)
		return (int)size;
	if (size == 0)
		return -EPIPE;
	int received = header.controllen >= offsetof(struct sys_rights, padding) && control.level == SOL_SOCKET &&
				       control.type == SCM_RIGHTS
			       ? control.fd
			       : FD_NONE;
	if (rights)
		*rights = received;
	else
		sys_close(received);
	return size == sizeof message && message.kind == kind ? 0 : -EPROTO;
}

/* Tell whoever waits for us what failed: `start` once it is connected, the creator before that. */
void report_failure(struct context *ctx, int error) {
	union {
		struct ocirun_message message;
		char bytes[OCIRUN_MAX_MESSAGE];
	} buffer;
	struct ocirun_message *message = &buffer.message;
	size_t size = sizeof *message;
	const char *origin = ctx->op ? plan_text(&ctx->plan, ctx->op->origin) : NULL;
	int socket = ctx->start >= 0 ? ctx->start : ctx->slots ? ctx->slots[OCIRUN_SLOT_SYNC] : FD_NONE;

	*message = (struct ocirun_message){
		.kind = OCIRUN_MSG_FAILED, .op = ctx->op_index, .site = ctx->site, .error = error
	};
	for (int which = 0; which < 2; which++) {
		const char *text = which == 0 ? origin : ctx->detail;
		size_t room = (sizeof buffer - sizeof *message) / 2;
		if (!text)
			continue;
		size_t length = text_copy(buffer.bytes + size, room, text);
		length = length < room ? length : room - 1;
		*(which == 0 ? &message->origin_size : &message->detail_size) = (uint32_t)length;
		size += length;
	}
	/* write(2), which more filters allow than sendmsg(2).  Nobody is left to be told if it fails. */
	(void)sys3(__NR_write, socket, buffer.bytes, size);
}
