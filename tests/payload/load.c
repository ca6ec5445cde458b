/* SPDX-License-Identifier: Apache-2.0
 *
 * Verbs that use up what cgroups limit.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "out.h"
#include "verbs.h"

static long now_ms(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* burn CPU_MS [IDLE_MS TIMES]: use that much CPU time, each time after having used none for a while */
int verb_burn(int argc, char **argv)
{
	long cpu_ms = argc > 1 ? atol(argv[1]) : 1, idle_ms = argc > 2 ? atol(argv[2]) : 0;
	int times = argc > 3 ? atoi(argv[3]) : 1;

	for (int i = 0; i < times; i++) {
		struct timespec idle = {idle_ms / 1000, idle_ms % 1000 * 1000000};
		long end;

		nanosleep(&idle, NULL);
		end = now_ms(CLOCK_PROCESS_CPUTIME_ID) + cpu_ms;
		while (now_ms(CLOCK_PROCESS_CPUTIME_ID) < end)
			;
	}
	j_open('{');
	j_kstr("verb", "burn");
	j_close('}');
	j_line_end();
	return 0;
}

static _Alignas(4096) char block[1 << 20];

/* disk read|write PATH BYTES COUNT: so many direct operations, one after the other, from the start of a device */
int verb_disk(int argc, char **argv)
{
	int writes, fd, error = 0;
	long from, done = 0;
	size_t bytes;

	if (argc < 5 || (bytes = strtoul(argv[3], NULL, 0)) > sizeof(block))
		return 125;
	writes = !strcmp(argv[1], "write");
	fd = open(argv[2], (writes ? O_WRONLY : O_RDONLY) | O_DIRECT | O_CLOEXEC);
	error = fd < 0 ? errno : 0;
	from = now_ms(CLOCK_MONOTONIC);
	for (long i = 0, count = atol(argv[4]); !error && i < count; i++) {
		ssize_t n = writes ? write(fd, block, bytes) : read(fd, block, bytes);

		if (n < 0)
			error = errno;
		else
			done += n;
	}
	j_open('{');
	j_kstr("verb", "disk");
	j_kstr("path", argv[2]);
	j_kint("done", done);
	j_kint("elapsed_ms", now_ms(CLOCK_MONOTONIC) - from);
	if (error)
		j_kerrno(error);
	j_close('}');
	j_line_end();
	return 0;
}
