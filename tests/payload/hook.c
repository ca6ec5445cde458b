/* SPDX-License-Identifier: Apache-2.0
 *
 * The probe as a hook:  probe hook FILE [OPTION…]
 *
 * Appends one line to FILE: everything that "report" says, and what came on stdin.  Options, in this order of
 * effect:
 *   --tag TEXT      recorded as "tag", to tell hooks apart
 *   --no-stdin      do not read stdin
 *   --flood BYTES   write that many bytes to stdout and as many to stderr
 *   --say TEXT      write TEXT to stderr
 *   --daemon        leave a child behind that keeps stdout and stderr open
 *   --hang          never end
 *   --kill-parent   SIGKILL to the parent
 *   --signal N      die by that signal
 *   --fail N        exit with N
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "out.h"
#include "report.h"
#include "verbs.h"

static const char *option(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], name))
			return i + 1 < argc ? argv[i + 1] : "";
	return NULL;
}

static void record(const char *path, const char *tag, int with_stdin)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);

	if (fd < 0)
		_exit(124);
	report_own_fd = fd;
	out_to(fd);
	j_open('{');
	j_kstr("verb", "hook");
	j_kstr("tag", tag);
	report_members();
	if (with_stdin) {
		static char text[1 << 20];
		size_t used = 0;
		ssize_t n;

		while (used < sizeof(text) &&
		       ((n = read(0, text + used, sizeof(text) - used)) > 0 || (n < 0 && errno == EINTR)))
			used += n > 0 ? (size_t)n : 0;
		j_key("stdin");
		j_bytes(text, used);
	}
	j_close('}');
	j_line_end();
	out_to(1);
	close(fd);
}

static void flood(int fd, long bytes)
{
	static const char block[] = "the quick brown fox jumps over the lazy dog 0123456789 abcdefg\n";

	while (bytes > 0) {
		ssize_t n = write(fd, block, sizeof(block) - 1);

		if (n < 0 && errno != EINTR)
			break;
		bytes -= n > 0 ? n : 0;
	}
}

int verb_hook(int argc, char **argv)
{
	const char *value;

	if (argc < 2)
		return 125;
	record(argv[1], option(argc, argv, "--tag"), !option(argc, argv, "--no-stdin"));
	if ((value = option(argc, argv, "--flood"))) {
		flood(1, atol(value));
		flood(2, atol(value));
	}
	if ((value = option(argc, argv, "--say")))
		if (write(2, value, strlen(value)) < 0)
			return 125;
	if (option(argc, argv, "--daemon") && fork() == 0)
		for (;;)
			pause();
	if (option(argc, argv, "--hang"))
		for (;;)
			pause();
	if (option(argc, argv, "--kill-parent"))
		kill(getppid(), SIGKILL);
	if ((value = option(argc, argv, "--signal")))
		kill(getpid(), atoi(value));
	value = option(argc, argv, "--fail");
	return value ? atoi(value) : 0;
}
