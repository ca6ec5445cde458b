/* SPDX-License-Identifier: Apache-2.0
 *
 * The spawn: one call from any thread of any program to a running ocirun-init.
 *
 * Between clone and execveat the child shares the caller's memory (CLONE_VM) while the calling thread sleeps
 * (CLONE_VFORK), so its cost does not depend on the caller's size.  In return the child may touch nothing that
 * belongs to the caller: no libc (its errno and locks are the caller's), no signal handler (all signals are blocked
 * before, and reset in the child before execveat), no descriptor table but its own copy (no CLONE_FILES).
 */
#include "syscalls.h"
#include "shim.h"

#define STACK_SIZE 65536
#define GUARD_SIZE 4096
#define CLONE_COMMON (CLONE_VM | CLONE_VFORK | CLONE_PIDFD)

struct child {
	struct ocirun_spawn *spawn;
	long error;
};

static long clone_call(long number, long first, long second, long third, void (*entry)(struct child *),
		       struct child *argument) {
	long result;
#if defined(__x86_64__)
	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\tmov %[argument], %%rdi\n\txor %%ebp, %%ebp\n\t"
			 "call *%[entry]\n\tud2\n1:"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second),
			   "d"(third), [entry] "r"(entry), [argument] "r"(argument)
			 : "rcx", "r11", "memory");
#else
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = first;
	register long x1 __asm__("x1") = second;
	register long x2 __asm__("x2") = third;
	__asm__ volatile("svc 0\n\tcbnz x0, 1f\n\tmov x0, %[argument]\n\tmov x29, xzr\n\tblr %[entry]\n\tbrk 1\n1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), [entry] "r"(entry), [argument] "r"(argument)
			 : "memory");
	result = x0;
#endif
	return result;
}

/* Without close_range(2): what /proc/self/fd lists.  Never a loop up to RLIMIT_NOFILE, which may be 2^30. */
static long close_listed(int first) {
	_Alignas(8) char buffer[4096];
	long directory = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (directory < 0)
		return directory;
	for (;;) {
		long size = sys3(__NR_getdents64, directory, buffer, sizeof buffer);
		if (size <= 0)
			return size;
		for (long at = 0; at < size;) {
			/* struct linux_dirent64: ino, off, reclen at 16, type, name at 19 */
			uint16_t record = *(uint16_t *)(void *)(buffer + at + 16);
			int fd = 0;
			const char *name = buffer + at + 19;
			for (; *name >= '0' && *name <= '9'; name++)
				fd = fd * 10 + (*name - '0');
			if (fd >= first && fd != directory && buffer[at + 19] != '.')
				sys_close(fd);
			at += record;
		}
	}
}

/* Lay the descriptors out from 0 and close all others.  First out of the way, then into place. */
static long lay_out(struct ocirun_spawn *spawn, int *executable) {
	int count = (int)spawn->count;
	int above = count + 1;
	for (int i = 0; i < count; i++) {
		long moved = sys_fcntl(spawn->descriptors[i], F_DUPFD_CLOEXEC, above);
		if (moved < 0)
			return moved;
		spawn->descriptors[i] = (int)moved;
	}
	long moved = sys_fcntl(spawn->executable, F_DUPFD_CLOEXEC, above);
	if (moved < 0)
		return moved;
	for (int i = 0; i < count; i++) {
		long placed = sys_dup3(spawn->descriptors[i], i, 0);
		if (placed < 0)
			return placed;
	}
	moved = sys_dup3((int)moved, count, O_CLOEXEC);
	if (moved < 0)
		return moved;
	*executable = count;
	moved = sys_close_range((unsigned)above, ~0u, 0);
	return moved == 0 ? 0 : close_listed(above);
}

static void reset_handlers(void) {
	struct {
		uintptr_t handler;
		unsigned long flags;
		uintptr_t restorer;
		uint64_t mask;
	} action = { 0, 0, 0, 0 };
	/* CLONE_CLEAR_SIGHAND would leave ignored signals ignored, across execveat and into the container. */
	for (int signal = 1; signal <= SYS_NSIG; signal++)
		sys4(__NR_rt_sigaction, signal, &action, NULL, sizeof action.mask);
}

static void decimal(char *to, unsigned number) {
	char digits[12];
	int count = 0;
	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	while (count > 0)
		*to++ = digits[--count];
	*to = 0;
}

static void child_main(struct child *child) {
	char plan[16], path[32] = "/proc/self/fd/";
	const char *argv[] = { "ocirun-init", plan, NULL };
	const char *envp[] = { NULL };
	int executable = -1;

	reset_handlers();
	child->spawn->site = OCIRUN_SITE_DUP3;
	child->error = lay_out(child->spawn, &executable);
	if (child->error == 0) {
		decimal(plan, 3 + child->spawn->keep_count);
		child->spawn->site = OCIRUN_SITE_EXECVEAT;
		/* child->error stays 0 until the last try has failed: an exec that succeeds cannot take it back. */
		long error = sys5(__NR_execveat, executable, "", argv, envp, AT_EMPTY_PATH);
		if (error == -ENOSYS || error == -EPERM) {
			/* execveat(2) filtered: the same file through procfs. */
			decimal(path + 14, (unsigned)executable);
			error = sys3(__NR_execve, path, argv, envp);
		}
		child->error = error;
	}
	sys1(__NR_exit, 127);
	__builtin_unreachable();
}

static long clone_new(struct child *child, char *stack, int cgroup) {
	struct ocirun_spawn *spawn = child->spawn;
	struct clone_args args = {
		.flags = CLONE_COMMON | spawn->clone_flags,
		.pidfd = (uint64_t)(uintptr_t)&spawn->pidfd,
		/* No exit signal: a failure before execveat is our business alone; execveat sets it to SIGCHLD. */
		.exit_signal = 0,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = STACK_SIZE,
	};
	if (cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)cgroup;
	}
	spawn->site = OCIRUN_SITE_CLONE3;
	return clone_call(__NR_clone3, (long)&args, sizeof args, 0, child_main, child);
}

static long clone_old(struct child *child, char *stack) {
	struct ocirun_spawn *spawn = child->spawn;
	spawn->site = OCIRUN_SITE_CLONE;
	return clone_call(__NR_clone, (long)(CLONE_COMMON | spawn->clone_flags), (long)(stack + STACK_SIZE),
			  (long)&spawn->pidfd, child_main, child);
}

static long clone_child(struct child *child, char *stack) {
	struct ocirun_spawn *spawn = child->spawn;
	if (spawn->cgroup >= 0) {
		long pid = clone_new(child, stack, spawn->cgroup);
		if (pid > 0)
			spawn->placed = 1;
		/* EBUSY: the cgroup has a domain controller enabled below; the caller places it by a write. */
		if (pid > 0 || (pid != -ENOSYS && pid != -EPERM && pid != -EINVAL && pid != -EBUSY && pid != -EACCES &&
				pid != -EOPNOTSUPP))
			return pid;
	}
	long pid = clone_new(child, stack, -1);
	/* Container managers' filters answer ENOSYS (or, old ones, EPERM) because they cannot look into clone3. */
	return pid == -ENOSYS || pid == -EPERM ? clone_old(child, stack) : pid;
}

int ocirun_spawn(struct ocirun_spawn *spawn) {
	struct child child = { spawn, 0 };
	uint64_t all = ~0ull, before = 0;

	spawn->pidfd = -1;
	spawn->placed = 0;
	spawn->site = OCIRUN_SITE_SEALS;
	int error = ocirun_check_executable(spawn->executable);
	if (error < 0)
		return error;
	spawn->site = OCIRUN_SITE_MMAP;
	long memory =
		sys6(__NR_mmap, 0, STACK_SIZE + GUARD_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory < 0 && memory > -4096)
		return (int)memory;
	sys3(__NR_mprotect, memory, GUARD_SIZE, 0);
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
	long pid = clone_child(&child, (char *)memory + GUARD_SIZE);
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
	sys2(__NR_munmap, memory, STACK_SIZE + GUARD_SIZE);
	if (pid > 0 && child.error < 0) {
		sys4(__NR_wait4, pid, NULL, 0x40000000 /* __WALL */, NULL);
		sys_close(spawn->pidfd);
		spawn->pidfd = -1;
		return (int)child.error;
	}
	return (int)pid;
}
