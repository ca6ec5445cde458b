/* SPDX-License-Identifier: Apache-2.0
 *
 * The other calls of the parent: memfds, sockets with descriptors, pidfds.  Ordinary libc code; nothing here runs in
 * a child, and nothing but ocirun_adopt_orphans changes an attribute of the calling process or thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* PIDFD_GET_INFO, Linux 6.13; the exit status since 6.15, to whoever holds a pidfd, also after the reaping. */
struct pidfd_info_v0 {
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define PIDFD_INFO_EXIT_ (1ull << 3)
#define PIDFD_GET_INFO_ _IOWR(0xFF, 11, struct pidfd_info_v0)

static int result_of(long result) {
	return result < 0 ? -errno : (int)result;
}

static int write_all(int fd, const char *bytes, size_t size) {
	while (size > 0) {
		ssize_t written = write(fd, bytes, size);
		if (written < 0 && errno != EINTR)
			return -errno;
		if (written > 0) {
			bytes += written;
			size -= (size_t)written;
		}
	}
	return 0;
}

int ocirun_sealed_memfd(const char *name, const char *bytes, size_t size, int executable) {
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	/* Said explicitly since 6.3, where vm.memfd_noexec may change the default; older kernels answer EINVAL. */
	int fd = memfd_create(name, flags | (executable ? MFD_EXEC : MFD_NOEXEC_SEAL));
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	if (fd < 0)
		return -errno;
	int error = write_all(fd, bytes, size);
	if (error == 0 && executable && fchmod(fd, 0511) < 0)
		error = -errno;
	if (error == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		error = -errno;
	if (error == 0)
		return fd;
	close(fd);
	return error;
}

int ocirun_check_executable(int fd) {
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	/* F_SEAL_SEAL alone is what every file on a tmpfs has, and the state root usually is one. */
	if (seals >= 0 && seals != F_SEAL_SEAL)
		return (seals & SEALS) == SEALS ? 0 : -EPERM;
	/* The fallback where memfd_create(2) is refused: a file that no name leads to and no one may write. */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 0 || (st.st_mode & 0222) != 0)
		return -EPERM;
	return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY ? 0 : -ETXTBSY;
}

int ocirun_socketpair(int pair[2]) {
	return result_of(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
}

static int unix_address(struct sockaddr_un *address, const char *path) {
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof address->sun_path)
		return -ENAMETOOLONG;
	memcpy(address->sun_path, path, strlen(path));
	return 0;
}

int ocirun_listen(const char *path) {
	struct sockaddr_un address;
	int error = unix_address(&address, path);
	if (error < 0)
		return error;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 8) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error;
}

static int64_t now_ms(void) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int ocirun_connect(const char *path, int stream, int64_t deadline_ms) {
	struct sockaddr_un address;
	int error = unix_address(&address, path);
	if (error < 0)
		return error;
	int fd = socket(AF_UNIX, (stream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* connect(2) to a unix socket blocks while the listener's queue is full, for at most the send timeout. */
	if (deadline_ms >= 0) {
		int64_t left = deadline_ms - now_ms();
		if (left < 1)
			left = 1; /* 0 would be no limit */
		struct timeval limit = { left / 1000, (left % 1000) * 1000 };
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	}
	if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	error = -errno;
	close(fd);
	return error == -EAGAIN ? -ETIMEDOUT : error;
}

int ocirun_send(int fd, const char *bytes, size_t size, int rights) {
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (rights >= 0) {
		message.msg_control = control.buffer;
		message.msg_controllen = sizeof control.buffer;
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &rights, sizeof rights);
	}
	do
		sent = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return result_of(sent);
}

/* poll(2): 1 ready, 0 timed out, -errno. */
static int wait_readable(int fd, int64_t deadline_ms) {
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	int64_t left = -1;
	if (deadline_ms >= 0) {
		left = deadline_ms - now_ms();
		left = left < 0 ? 0 : left > INT_MAX ? INT_MAX : left;
	}
	return result_of(poll(&poll_fd, 1, (int)left));
}

int ocirun_receive(int fd, char *bytes, size_t size, int *rights, int64_t deadline_ms) {
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { bytes, size };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buffer, .msg_controllen = sizeof control.buffer
	};
	*rights = -1;
	int ready = wait_readable(fd, deadline_ms);
	if (ready <= 0)
		return ready == 0 ? -ETIMEDOUT : ready;
	ssize_t received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (received < 0 && errno == ECONNRESET) {
		/* Whoever dies with our message unread resets the connection.  That is told once, before what was said
		 * until then and end-of-file. */
		message.msg_controllen = sizeof control.buffer;
		received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	}
	if (received < 0)
		return -errno;
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(rights, CMSG_DATA(header), sizeof *rights);
	return (int)received;
}

static int status_of(const siginfo_t *info) {
	return info->si_code == CLD_EXITED ? (info->si_status & 0xff) << 8 : info->si_status & 0x7f;
}

/*
 * Ask the pidfd for the status of a process that another has reaped, or is about to reap.
 *
 * A pidfd is readable as soon as the process is a zombie; its exit status is there when the process has been released,
 * which POLLHUP tells.  Between the two lies the parent's waitpid(2), or with SIGCHLD ignored the kernel's own reaping.
 */
static void read_exit_status(int pidfd, int reaping_ms, int *status) {
	int64_t deadline = now_ms() + reaping_ms;
	for (int is_released = 0;;) {
		struct pidfd_info_v0 info = { .mask = PIDFD_INFO_EXIT_ };
		if (ioctl(pidfd, PIDFD_GET_INFO_, &info) < 0)
			return; /* ENOTTY before Linux 6.13, ESRCH before 6.15 */
		if (info.mask & PIDFD_INFO_EXIT_) {
			*status = info.exit_code;
			return;
		}
		int64_t left = deadline - now_ms();
		if (is_released || left <= 0)
			return;
		/* SIGCHLD, for one, is likely to come just now, and says nothing about the parent. */
		struct pollfd released = { .fd = pidfd, .events = 0 };
		int ready = poll(&released, 1, (int)left);
		if (ready < 0 && errno != EINTR)
			return;
		is_released = ready > 0;
	}
}

int ocirun_wait(int pidfd, int64_t deadline_ms, int reaping_ms, int *status) {
	*status = -1;
	int ready = wait_readable(pidfd, deadline_ms);
	if (ready <= 0)
		return ready == 0 ? -ETIMEDOUT : ready;
	siginfo_t info = { 0 };
	if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL) == 0) {
		*status = status_of(&info);
		return 0;
	}
	/* ECHILD: not our child, or the host process reaped it (it may: it is the host's process). */
	read_exit_status(pidfd, reaping_ms, status);
	return 0;
}

int ocirun_pidfd_signal(int pidfd, int signal) {
	return result_of(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int ocirun_adopt_orphans(void) {
	return result_of(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}
