/* SPDX-License-Identifier: Apache-2.0
 *
 * The bpf(2) calls for device filters; see bpf.h.  glibc has no wrapper, and libbpf would be a library for five calls.
 */

#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf.h"

/* Tells our programs from those that systemd or somebody else attached to the same cgroup. */
static const char program_name[BPF_OBJ_NAME_LEN] = "ocirun_devices";

/* Reaches no helper that asks for a GPL-compatible program. */
static const char license[] = "Apache-2.0";

static int bpf(enum bpf_cmd command, union bpf_attr *attr) {
	long result = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return result < 0 ? -errno : (int)result;
}

/* The verifier gives up with EAGAIN as soon as a signal waits for the thread (Linux 5.0): none is let through
 * meanwhile. A debugger's or the freezer's wish counts as one too, hence the few tries more. */
static int load(union bpf_attr *attr) {
	sigset_t all, before;
	int fd, tries = 5;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	do
		fd = bpf(BPF_PROG_LOAD, attr);
	while (fd == -EAGAIN && --tries > 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return fd;
}

static uint64_t address(const void *pointer) {
	return (uint64_t)(uintptr_t)pointer;
}

int ocirun_bpf_load_device(const char *program, unsigned int insn_count, char *log, unsigned int log_size) {
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insns = address(program);
	attr.insn_cnt = insn_count;
	attr.license = address(license);
	memcpy(attr.prog_name, program_name, sizeof(program_name));
	/* First without a log: writing one takes the verifier longer, and a program as ours fails for a reason of the
	 * host's, hardly ever for one of its own. */
	fd = load(&attr);
	if (fd >= 0 || log_size == 0)
		return fd;
	log[0] = '\0';
	if (fd != -EINVAL && fd != -EACCES && fd != -E2BIG)
		return fd;
	attr.log_level = 1;
	attr.log_buf = address(log);
	attr.log_size = log_size;
	fd = load(&attr);
	log[log_size - 1] = '\0';
	return fd;
}

int ocirun_bpf_attach_device(int cgroup_fd, int program_fd, int replace_fd) {
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)program_fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	if (replace_fd >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (uint32_t)replace_fd;
	}
	return bpf(BPF_PROG_ATTACH, &attr);
}

int ocirun_bpf_detach_device(int cgroup_fd, int program_fd) {
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)program_fd;
	attr.attach_type = BPF_CGROUP_DEVICE;
	return bpf(BPF_PROG_DETACH, &attr);
}

int ocirun_bpf_query_device(int cgroup_fd, unsigned int *ids) {
	union bpf_attr attr;
	int result;

	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = (uint32_t)cgroup_fd;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = address(ids);
	attr.query.prog_cnt = OCIRUN_BPF_MAX_ATTACHED;
	result = bpf(BPF_PROG_QUERY, &attr);
	return result < 0 ? result : (int)attr.query.prog_cnt;
}

int ocirun_bpf_open_own(unsigned int id) {
	struct bpf_prog_info info;
	union bpf_attr attr;
	int fd, result;

	memset(&attr, 0, sizeof(attr));
	attr.prog_id = id;
	fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
	if (fd < 0)
		return fd;
	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = (uint32_t)fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = address(&info);
	result = bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
	if (result == 0 && memcmp(info.name, program_name, sizeof(program_name)) == 0)
		return fd;
	close(fd);
	return result < 0 ? result : -ENOENT;
}
