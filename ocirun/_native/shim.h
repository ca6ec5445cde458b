/* SPDX-License-Identifier: Apache-2.0
 *
 * The parent's side: what Python calls through cffi.  Like abi.h this is read by ffi.cdef() and by the compiler.
 * Every function returns >= 0, or -errno, and releases the GIL while it runs (cffi does that).
 */

struct ocirun_spawn {
	/* in; all descriptors are borrowed */
	int executable;	  /* sealed memfd with ocirun-init */
	int *descriptors; /* stdio, kept, plan, inputs in this order; overwritten with scratch values */
	uint32_t count;	  /* of them */
	uint32_t keep_count;
	uint64_t clone_flags; /* CLONE_NEW* only */
	int cgroup;	      /* directory of a cgroup v2 to be born in, or -1 */
	/* out */
	int pidfd;     /* owned by the caller */
	int placed;    /* was it born in that cgroup? */
	uint32_t site; /* enum ocirun_site of a failure */
};

/* Start ocirun-init: CLONE_VM|CLONE_VFORK on a stack of its own, all signals blocked, descriptors laid out from 0,
 * everything else closed.  Safe from any thread of any program.  Returns the pid. */
int ocirun_spawn(struct ocirun_spawn *spawn);

/* A sealed memfd with these bytes: nobody can change it any more, whoever gets hold of it. */
int ocirun_sealed_memfd(const char *name, const char *bytes, size_t size, int executable);
/* 0 where the descriptor is a sealed memfd, or an unlinked file without write permission (the fallback). */
int ocirun_check_executable(int fd);

int ocirun_socketpair(int pair[2]);
int ocirun_listen(const char *path);
/* Waits have a deadline by CLOCK_MONOTONIC, in ms; -1: none.  A signal ends them with -EINTR, for Python to handle it;
 * whoever goes on waiting then has the same deadline. */
int ocirun_connect(const char *path, int stream, int64_t deadline_ms);
/* Send one message, with a descriptor where rights >= 0. */
int ocirun_send(int fd, const char *bytes, size_t size, int rights);
/* Receive one message: its size, 0 at end-of-file, -ETIMEDOUT.  *rights is an owned descriptor or -1. */
int ocirun_receive(int fd, char *bytes, size_t size, int *rights, int64_t deadline_ms);

/* Wait for the process to end.  *status is as waitpid(2) has it, or -1 where nobody can tell: not our child, and reaped
 * by somebody else before Linux 6.15, or not within reaping_ms after its end. */
int ocirun_wait(int pidfd, int64_t deadline_ms, int reaping_ms, int *status);
int ocirun_pidfd_signal(int pidfd, int signal);

/* For the command only, whose process is ours to change: adopt the orphans of our descendants. */
int ocirun_adopt_orphans(void);
/* For the command only: a signal whose handler is Python's is followed by reminders, signals with that number, until
 * Python says that it has been reminded, having handled all there were (reminder.c). */
int ocirun_remind_of(int signal, int reminder);
void ocirun_reminded(void);
