/* SPDX-License-Identifier: Apache-2.0
 *
 * Signals that come just before a wait.  For the command only, whose process is ours to change.
 *
 * Python handles a signal between two of its instructions; in C it is only noted.  So one that comes after Python's
 * last look and before poll(2), or any other call that blocks, is handled when that call ends, which may be never.
 * That cannot be closed where the waits are: there are twenty of them, half of them in Python's own modules.  Instead
 * a signal that was noted is followed by a reminder every 2 ms, until Python says that it has handled everything: the
 * first that finds the call blocked ends it (EINTR), upon which Python has a look.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>

#include "shim.h"

#define REMINDER_NS 2000000

static void (*handlers[NSIG])(int);
static timer_t timer;
static int has_timer;
static volatile sig_atomic_t is_new;

static void remind(long every_ns) {
	struct itimerspec times = { { 0, every_ns }, { 0, every_ns } };
	timer_settime(timer, 0, &times, NULL);
}

static void note(int signal) {
	int error = errno;
	handlers[signal](signal);
	is_new = 1;
	remind(REMINDER_NS);
	errno = error;
}

int ocirun_remind_of(int signal, int reminder) {
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = reminder };
	struct sigaction action;

	if (!has_timer && timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		/* EAGAIN: no room for one (RLIMIT_SIGPENDING).  We can do without, as everybody else does. */
		return errno == EAGAIN ? 0 : -errno;
	has_timer = 1;
	if (sigaction(signal, NULL, &action) < 0)
		return -errno;
	handlers[signal] = action.sa_handler;
	action.sa_handler = note;
	return sigaction(signal, &action, NULL) < 0 ? -errno : 0;
}

void ocirun_reminded(void) {
	/* In this order: what comes in between starts them again by itself.  And once more after any that was noted
	 * since the last time: Python goes through the signals by their numbers, and may have passed that one. */
	remind(0);
	if (!is_new)
		return;
	is_new = 0;
	remind(REMINDER_NS);
}
