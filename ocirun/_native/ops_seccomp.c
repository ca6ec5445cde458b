/* SPDX-License-Identifier: Apache-2.0
 *
 * The seccomp filter, and the handover of its listener to the agent.
 */
#include "init.h"

#include <linux/userfaultfd.h>

#define NUMBER(which) (ctx->op->number[which])

#define AGENT_SECONDS 10

/* Between loading a filter with a listener and the agent holding that listener, every call of this thread may be one
 * that the agent has to answer, or that the filter forbids: it cannot even sleep by one.  So a second thread, which has
 * no filter, sends the listener and closes it.  This one touches a page that userfaultfd(2) watches: that tells the
 * other that the filter is loaded, and sleeps until that closes the descriptor.  Where there is none
 * (CONFIG_USERFAULTFD, or the runtime's own filter) each looks at memory until the other is done. */
#define GATE_SIZE 65536 /* a page, however large those are */
struct handover {
	volatile int listener; /* FD_NONE until the filter is loaded */
	volatile int done;
	int fault; /* the userfaultfd, or FD_NONE */
	const volatile char *gate;
	struct context *ctx;
	const char *text;
	size_t size;
	_Alignas(16) char stack[16384];
};

static void open_gate(struct handover *handover) {
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register page = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	handover->fault = FD_NONE;
	/* 5.11; for faults of the program alone no sysctl and no capability is asked */
	cleanup_fd int fd = (int)sys1(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd == -EINVAL)
		fd = (int)sys1(__NR_userfaultfd, O_CLOEXEC);
	if (fd < 0 || sys3(__NR_ioctl, fd, UFFDIO_API, &api) < 0)
		return;
	long gate = sys6(__NR_mmap, 0, GATE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, FD_NONE, 0);
	if (gate < 0 && gate > -4096)
		return;
	page.range.start = (uint64_t)gate;
	page.range.len = GATE_SIZE;
	if (sys3(__NR_ioctl, fd, UFFDIO_REGISTER, &page) < 0)
		return;
	handover->gate = (const volatile char *)gate;
	handover->fault = take_fd(&fd);
}

/* The filtered thread: until the other is done. */
static void wait_at_gate(const struct handover *handover) {
	if (handover->fault >= 0)
		(void)*handover->gate;
	while (!handover->done)
		__asm__ volatile("" ::: "memory");
}

/* The other: until the filter is loaded. */
static void wait_for_filter(const struct handover *handover) {
	struct uffd_msg message;
	if (handover->fault >= 0)
		while (sys3(__NR_read, handover->fault, &message, sizeof message) == -EINTR)
			;
	while (handover->listener == FD_NONE)
		sys0(__NR_sched_yield);
}

/* The listener goes with the first bytes; a socket may take fewer than a long text has, and an agent may never read
 * what it holds. */
static int send_to_agent(int agent, const char *text, size_t size, int listener) {
	struct sys_pollfd poll = { agent, POLLOUT, 0 };
	struct sys_timespec left = { AGENT_SECONDS, 0 };
	for (size_t sent = 0; sent < size;) {
		/* ppoll(2) leaves the remaining time in `left`: it is for the whole text. */
		long ready = sys5(__NR_ppoll, &poll, 1, &left, NULL, 0);
		if (ready == -EINTR)
			continue;
		if (ready <= 0)
			return ready == 0 ? -ETIMEDOUT : (int)ready;
		int taken = send_rights(agent, text + sent, size - sent, sent == 0 ? listener : FD_NONE, MSG_DONTWAIT);
		if (taken == -EAGAIN)
			continue;
		if (taken < 0)
			return taken;
		sent += (size_t)taken;
	}
	return 0;
}

static void hand_over(void *argument) {
	struct handover *handover = argument;
	struct context *ctx = handover->ctx;
	wait_for_filter(handover);
	if (handover->listener >= 0) {
		int agent = op_slot(ctx, 0);
		int error = send_to_agent(agent, handover->text, handover->size, handover->listener);
		if (error < 0) {
			/* Here, since the other thread's filter may forbid to say so. */
			report_failure(ctx, -fail(ctx, OCIRUN_SITE_SENDMSG, -error));
			end(1);
		}
		sys_close(handover->listener);
		sys_close(agent);
	}
	handover->done = 1;
	sys_close(handover->fault); /* wakes whoever waits for a page of it */
	sys1(__NR_exit, 0);
}

static long start_thread(void *top, void (*entry)(void *), void *argument) {
	unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	long result;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = 0;
	register long r8 __asm__("r8") = 0;
	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tmov %[argument], %%rdi\n\txor %%ebp, %%ebp\n\t"
			 "call *%[entry]\n\tud2\n1:"
			 : "=a"(result)
			 : "a"(__NR_clone), "D"(flags), "S"(top), "d"(0), "r"(r10),
			   "r"(r8), [entry] "r"(entry), [argument] "r"(argument)
			 : "rcx", "r11", "memory");
#else
	register long x8 __asm__("x8") = __NR_clone;
	register long x0 __asm__("x0") = (long)flags;
	register long x1 __asm__("x1") = (long)top;
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0;
	register long x4 __asm__("x4") = 0;
	__asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x0, %[argument]\n\tmov x29, xzr\n\tblr %[entry]\n\tbrk 1\n1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), [entry] "r"(entry), [argument] "r"(argument)
			 : "memory");
	result = x0;
#endif
	return result;
}

static int seccomp_with_listener(struct context *ctx, struct sock_fprog *program) {
	static struct handover handover;
	long size = AT(ctx, READ, sys3(__NR_lseek, op_slot(ctx, 1), 0, 2 /* SEEK_END */));
	if (size < 0)
		return (int)size;
	long address = AT(ctx, MMAP, sys6(__NR_mmap, 0, size, PROT_READ, MAP_PRIVATE, op_slot(ctx, 1), 0));
	if (address < 0 && address > -4096)
		return (int)address;
	handover.text = (const char *)address;
	handover.size = (size_t)size;
	handover.listener = FD_NONE;
	handover.ctx = ctx;
	open_gate(&handover);
	long thread = AT(ctx, CLONE, start_thread(handover.stack + sizeof handover.stack, hand_over, &handover));
	if (thread < 0)
		return (int)thread;
	long listener = AT(ctx, SECCOMP, sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, NUMBER(0), program));
	handover.listener = listener < 0 ? -2 : (int)listener;
	wait_at_gate(&handover);
	return listener < 0 ? (int)listener : 0;
}

int op_seccomp(struct context *ctx) {
	struct sock_fprog program = { (unsigned short)(plan_text_size(&ctx->plan, ctx->op->text[0]) /
						       sizeof(struct sock_filter)),
				      (struct sock_filter *)(uintptr_t)op_text(ctx, 0) };
	if (has_flag(ctx, OCIRUN_FLAG_NOTIFY))
		return seccomp_with_listener(ctx, &program);
	TRY(ctx, SECCOMP, sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, NUMBER(0), &program));
	return 0;
}
