/* SPDX-License-Identifier: Apache-2.0
 *
 * Raw system calls and the kernel's constants, for the two programs here that must not use libc: ocirun-init
 * (freestanding) and the child side of the spawn, which shares memory with a caller whose errno, locks and heap are
 * not ours.  Every call returns what the kernel returns: >= 0, or -errno.
 */
#ifndef OCIRUN_SYSCALLS_H
#define OCIRUN_SYSCALLS_H

#include <asm/ioctls.h>
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/stat.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

_Static_assert(sizeof(struct ocirun_header) == 32, "wire");
_Static_assert(sizeof(struct ocirun_op) == 80, "wire");
_Static_assert(sizeof(struct ocirun_message) == 32, "wire");
_Static_assert(OCIRUN_OP_COUNT < 256 && OCIRUN_SITE_COUNT < 256, "wire");

/* Newer than some headers that we build with (Debian 11: 5.10). */
#ifndef __NR_mount_setattr
#define __NR_mount_setattr 442
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef DEVPTS_SUPER_MAGIC
#define DEVPTS_SUPER_MAGIC 0x1cd1
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* Names that the kernel keeps out of its exported headers. */
#define SYS_PATH_MAX 4096
#define SIGKILL 9
#define SIGCHLD 17
#define SIG_SETMASK 2
#define SYS_NSIG 64

#define AF_UNIX 1
#define AF_INET 2
#define AF_NETLINK 16
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define SOCK_CLOEXEC 02000000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000
#define MSG_CMSG_CLOEXEC 0x40000000

#define POLLIN 0x001
#define POLLOUT 0x004
#define POLLHUP 0x010

#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_ANONYMOUS 0x20

struct sys_stat {
	uint64_t dev, ino, size;
	uint32_t mode, uid, gid, rdev_major, rdev_minor;
};

struct sys_iovec {
	void *base;
	size_t len;
};

struct sys_msghdr {
	void *name;
	uint32_t namelen;
	struct sys_iovec *iov;
	size_t iovlen;
	void *control;
	size_t controllen;
	int flags;
};

/* One descriptor of ancillary data: cmsghdr {size_t len; int level; int type;} followed by the int. */
struct sys_rights {
	size_t len;
	int level, type;
	int fd, padding;
};

struct sys_pollfd {
	int fd;
	short events, revents;
};

struct sys_timespec {
	int64_t sec, nsec;
};

#if defined(__x86_64__)
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f) {
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static inline long sys6(long nr, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
#error "ocirun-init knows x86_64 and aarch64; add the system call sequence of this machine here"
#endif

#define SYS_L(value) ((long)(value))
#define sys0(nr) sys6(nr, 0, 0, 0, 0, 0, 0)
#define sys1(nr, a) sys6(nr, SYS_L(a), 0, 0, 0, 0, 0)
#define sys2(nr, a, b) sys6(nr, SYS_L(a), SYS_L(b), 0, 0, 0, 0)
#define sys3(nr, a, b, c) sys6(nr, SYS_L(a), SYS_L(b), SYS_L(c), 0, 0, 0)
#define sys4(nr, a, b, c, d) sys6(nr, SYS_L(a), SYS_L(b), SYS_L(c), SYS_L(d), 0, 0)
#define sys5(nr, a, b, c, d, e) sys6(nr, SYS_L(a), SYS_L(b), SYS_L(c), SYS_L(d), SYS_L(e), 0)

/* Wrappers keep the kernel's name and argument order. */
static inline long sys_openat(int dir, const char *path, int flags, unsigned mode) {
	return sys4(__NR_openat, dir, path, flags, mode);
}
static inline long sys_close(int fd) {
	return fd < 0 ? 0 : sys1(__NR_close, fd);
}
static inline long sys_dup3(int from, int to, int flags) {
	return sys3(__NR_dup3, from, to, flags);
}
static inline long sys_fcntl(int fd, int command, long argument) {
	return sys3(__NR_fcntl, fd, command, argument);
}
static inline long sys_close_range(unsigned first, unsigned last, unsigned flags) {
	return sys3(__NR_close_range, first, last, flags);
}
static inline long sys_mount_setattr(int dir, const char *path, unsigned flags, struct mount_attr *attr) {
	return sys5(__NR_mount_setattr, dir, path, flags, attr, sizeof *attr);
}
static inline long sys_open_tree(int dir, const char *path, unsigned flags) {
	return sys3(__NR_open_tree, dir, path, flags);
}
static inline long sys_move_mount(int from, int to) {
	return sys5(__NR_move_mount, from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}
static inline long sys_mount(const char *source, const char *target, const char *type, unsigned long flags,
			     const char *data) {
	return sys5(__NR_mount, source, target, type, flags, data);
}
static inline long sys_fsconfig(int fd, unsigned command, const char *key, const void *value, int aux) {
	return sys5(__NR_fsconfig, fd, command, key, value, aux);
}
static inline long sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c) {
	return sys5(__NR_prctl, option, a, b, c, 0);
}

/* statx because one struct serves every architecture; newfstatat where a filter refuses it (Docker's old profiles
 * answer EPERM to calls they do not know). */
static inline long sys_stat(int dir, const char *path, int flags, struct sys_stat *out) {
	struct statx stx;
	long result = sys5(__NR_statx, dir, path, flags, STATX_BASIC_STATS, &stx);
	if (result == 0) {
		out->dev = ((uint64_t)stx.stx_dev_major << 32) | stx.stx_dev_minor;
		out->ino = stx.stx_ino;
		out->size = stx.stx_size;
		out->mode = stx.stx_mode;
		out->uid = stx.stx_uid;
		out->gid = stx.stx_gid;
		out->rdev_major = stx.stx_rdev_major;
		out->rdev_minor = stx.stx_rdev_minor;
		return 0;
	}
	if (result != -ENOSYS && result != -EPERM)
		return result;
	struct stat st;
	result = sys4(__NR_newfstatat, dir, path, &st, flags);
	if (result < 0)
		return result;
	/* The kernel's new_encode_dev(): 12 bits of major between 20 bits of minor. */
	out->dev = ((st.st_dev & 0xfff00) << 24) | (st.st_dev & 0xff) | ((st.st_dev >> 12) & 0xfff00);
	out->ino = st.st_ino;
	out->size = (uint64_t)st.st_size;
	out->mode = (uint32_t)st.st_mode;
	out->uid = (uint32_t)st.st_uid;
	out->gid = (uint32_t)st.st_gid;
	out->rdev_major = (uint32_t)((st.st_rdev >> 8) & 0xfff);
	out->rdev_minor = (uint32_t)((st.st_rdev & 0xff) | ((st.st_rdev >> 12) & 0xfff00));
	return 0;
}
static inline long sys_fstat(int fd, struct sys_stat *out) {
	return sys_stat(fd, "", AT_EMPTY_PATH, out);
}

#endif
