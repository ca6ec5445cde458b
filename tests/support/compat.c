/* SPDX-License-Identifier: Apache-2.0
 *
 *     compat ERRNO NAME,NAME,… -- COMMAND ARGS…
 *
 * Runs COMMAND under a seccomp filter that makes the named system calls fail, as an older kernel (ENOSYS) or
 * an outer container's profile (EPERM) would.  The filter stays on for everything below, the container's
 * program included, so whoever compares filter counts subtracts one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define NAMED(x) {#x, SYS_##x}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "add this architecture"
#endif

static const struct {
	const char *name;
	unsigned nr;
} calls[] = {
	NAMED(openat2),	    NAMED(fsopen),	NAMED(fsconfig),   NAMED(fsmount),
	NAMED(open_tree),   NAMED(move_mount),	NAMED(mount_setattr), NAMED(close_range),
	NAMED(pidfd_open),  NAMED(pidfd_send_signal), NAMED(clone3), NAMED(memfd_create),
	NAMED(execveat),    NAMED(statx),	NAMED(fchmodat2),  NAMED(keyctl), NAMED(userfaultfd),
	NAMED(add_key),     NAMED(seccomp),	NAMED(setns),	   NAMED(unshare),	NAMED(umount2),
};

static const struct {
	const char *name;
	unsigned value;
} errors[] = {{"ENOSYS", ENOSYS}, {"EPERM", EPERM}, {"EACCES", EACCES}, {"EINVAL", EINVAL}, {"EDQUOT", EDQUOT}};

static unsigned call_number(const char *name)
{
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!strcmp(calls[i].name, name))
			return calls[i].nr;
	fprintf(stderr, "compat: unknown system call %s\n", name);
	exit(125);
}

int main(int argc, char **argv)
{
	struct sock_filter code[64];
	struct sock_fprog program = {.filter = code};
	unsigned error = 0, n = 0;

	if (argc < 5 || strcmp(argv[3], "--")) {
		fprintf(stderr, "usage: compat ERRNO NAME,NAME... -- COMMAND ARGS...\n");
		return 125;
	}
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (!strcmp(errors[i].name, argv[1]))
			error = errors[i].value;
	if (!error) {
		fprintf(stderr, "compat: unknown errno %s\n", argv[1]);
		return 125;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (char *name = strtok(argv[2], ","); name && n < 60; name = strtok(NULL, ",")) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call_number(name), 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = (unsigned short)n;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
		/* without CAP_SYS_ADMIN a filter needs no_new_privs, which the container then inherits too */
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) {
			perror("compat: seccomp");
			return 125;
		}
	}
	execvp(argv[4], argv + 4);
	perror(argv[4]);
	return 127;
}
