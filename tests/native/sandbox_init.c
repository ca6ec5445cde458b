/* SPDX-License-Identifier: Apache-2.0
 *
 * S-50: ocirun-init with plans that are none, in a sandbox.
 *
 *     sandbox_init INIT PLAN
 *
 * The good plan is cut at every offset and each of its bytes is changed; INIT is executed on every one of these under
 * a seccomp filter that kills it at any system call but the few that it needs to look at its plan.  What the checker
 * (linked into this program) refuses must end with status 1 and nothing else; what is still a plan must not: that the
 * filter stops it shows that the filter works.
 *
 * Prints "refused R stopped S" and exits with 0; 1 and a line for the first input that does not hold.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../ocirun/_native/abi.h"

struct plan {
	const unsigned char *bytes;
	const struct ocirun_header *header;
	const struct ocirun_op *ops;
};
int plan_check(const unsigned char *bytes, size_t size, struct plan *out);

#define PLAN_FD 3
#define ROOM (1u << 20)
#define ALLOW(name)                                                                                                    \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void enter_sandbox(void) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(execveat),
		ALLOW(prctl),
		ALLOW(umask),
		ALLOW(lseek),
		ALLOW(mmap),
		ALLOW(fcntl),
		ALLOW(close),
		ALLOW(write),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(99);
}

static int run_init(int executable, const unsigned char *bytes, size_t size) {
	int status;
	int low = memfd_create("plan", MFD_CLOEXEC);
	int plan = fcntl(low, F_DUPFD_CLOEXEC, 20);
	if (plan < 0 || (size > 0 && write(plan, bytes, size) != (ssize_t)size))
		exit(2);
	pid_t pid = vfork();
	if (pid == 0) {
		static char *argv[] = { "ocirun-init", "3", NULL };
		static char *envp[] = { NULL };
		/* A byte of the plan's numbers decides how many descriptors are its inputs: all of these are there. */
		for (int fd = PLAN_FD; fd < 12; fd++)
			dup2(plan, fd);
		enter_sandbox();
		syscall(SYS_execveat, executable, "", argv, envp, AT_EMPTY_PATH);
		_exit(98);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		exit(2);
	close(low);
	close(plan);
	return status;
}

static unsigned long refused, stopped;

static void check(int executable, const unsigned char *bytes, size_t size, const char *what, size_t at) {
	struct plan plan;
	int is_plan = plan_check(bytes, size, &plan) == 0;
	int status = run_init(executable, bytes, size);
	if (is_plan && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
		stopped++;
		return;
	}
	/* More inputs than there are descriptors: refused by fcntl, still before any effect. */
	if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
		refused++;
		return;
	}
	printf("%s at %zu: %s, wait status %#x\n", what, at, is_plan ? "a plan" : "no plan", (unsigned)status);
	exit(1);
}

int main(int argc, char **argv) {
	static _Alignas(16) unsigned char original[ROOM], changed[ROOM];
	int low = argc == 3 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	int executable = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, 20);
	FILE *input = argc == 3 ? fopen(argv[2], "rbe") : NULL;
	if (executable < 0 || !input)
		return 2;
	size_t size = fread(original, 1, ROOM, input);
	fclose(input);
	check(executable, original, size, "unchanged", 0);
	if (stopped != 1) {
		puts("the good plan was not stopped by the filter");
		return 1;
	}
	for (size_t at = 0; at < size; at++)
		check(executable, original, at, "cut", at);
	if (stopped != 1) {
		puts("a plan that was cut was executed");
		return 1;
	}
	memmove(changed, original, size);
	for (size_t at = 0; at < size; at++) {
		changed[at] ^= 0x5a;
		check(executable, changed, size, "changed", at);
		changed[at] = original[at];
	}
	printf("refused %lu stopped %lu\n", refused, stopped);
	return 0;
}
