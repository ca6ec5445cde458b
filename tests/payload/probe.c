/* SPDX-License-Identifier: Apache-2.0
 *
 * The one program that runs inside the containers of the tests and of the example bundles.
 *
 *     probe VERB ARGS…            one verb
 *     probe seq VERB ARGS… -- VERB ARGS…    several, one after the other
 *
 * Each verb prints one JSON object on a line of its own ("echo" and "env" print plain text).  A verb that fails
 * says so in its object ("errno") and the program goes on: what failed is the test's business.  The exit
 * status is 0 unless the verb "exit" says otherwise.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "out.h"
#include "report.h"
#include "verbs.h"

static char data[1 << 20];

static void begin(const char *verb)
{
	j_open('{');
	j_kstr("verb", verb);
}

static void end(void)
{
	j_close('}');
	j_line_end();
}

/* "ret" and, for a failure, "errno" */
static void result(long ret)
{
	int error = errno;

	j_kint("ret", ret < 0 ? -1 : ret);
	if (ret < 0)
		j_kerrno(error);
}

/* one line: verb, path (may be NULL), result */
static int simple(const char *verb, const char *path, long ret)
{
	int error = errno;

	begin(verb);
	if (path)
		j_kstr("path", path);
	errno = error;
	result(ret);
	end();
	return 0;
}

static int usage(const char *verb)
{
	dprintf(2, "probe: wrong arguments for %s\n", verb);
	return 125;
}

/* ---- talking ---- */

static int v_report(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	begin("report");
	report_members();
	end();
	return 0;
}

static int v_echo(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (i > 1)
			out_text(" ");
		out_text(argv[i]);
	}
	out_text("\n");
	out_flush();
	return 0;
}

static int v_env(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	for (char **var = environ; *var; var++) {
		out_text(*var);
		out_text("\n");
	}
	out_flush();
	return 0;
}

static void digest_list(const char *key, char **list)
{
	j_key(key);
	j_open('[');
	for (; *list; list++) {
		uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a, as in tests/support/report.py */
		size_t len = 0;

		for (const char *c = *list; *c; c++, len++)
			hash = (hash ^ (unsigned char)*c) * 0x100000001b3ULL;
		j_open('[');
		j_uint(len);
		j_uint(hash);
		j_close(']');
	}
	j_close(']');
}

/* lengths and hashes of argv and environ: for strings too long to send back */
static int v_digest(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	begin("digest");
	digest_list("argv", probe_argv);
	digest_list("environ", environ);
	end();
	return 0;
}

static int v_exit(int argc, char **argv)
{
	out_flush();
	_exit(argc > 1 ? atoi(argv[1]) : 0);
}

/* ---- time and signals ---- */

static int v_sleep(int argc, char **argv)
{
	if (argc > 1) {
		double s = atof(argv[1]);
		struct timespec t = {.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};

		nanosleep(&t, NULL);
		return 0;
	}
	for (;;)
		pause();
}

/* sleep, but first tell the test that the payload runs */
static int v_ready(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	begin("ready");
	j_kint("pid", getpid());
	end();
	return 0;
}

/* waits for one signal of any kind and says which came */
static int v_wait_signal(int argc, char **argv)
{
	sigset_t all;
	siginfo_t info;
	int sig;

	(void)argc;
	(void)argv;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	begin("wait-signal");
	j_kbool("ready", 1);
	end();
	do {
		sig = sigwaitinfo(&all, &info);
	} while (sig < 0 && errno == EINTR);
	begin("wait-signal");
	j_kint("signal", sig);
	j_kint("code", info.si_code);
	end();
	return 0;
}

static int exit_codes[65];

/* Not by out.c, whose line may be half written when the signal comes, and would be written twice. */
static void on_signal(int sig)
{
	int error = errno;

	dprintf(STDOUT_FILENO, "{\"verb\":\"signal\",\"signal\":%d}\n", sig);
	if (exit_codes[sig] >= 0)
		_exit(exit_codes[sig]);
	errno = error;
}

/* on-signal SIG CODE: from now on print the signal, and exit with CODE unless that is negative */
static int v_on_signal(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_signal};
	int sig;

	if (argc != 3 || (sig = atoi(argv[1])) < 1 || sig > 64)
		return usage(argv[0]);
	exit_codes[sig] = atoi(argv[2]);
	sigfillset(&act.sa_mask);
	return simple("on-signal", NULL, sigaction(sig, &act, NULL));
}

/* ---- files ---- */

static long flag_word(const char *word, size_t len)
{
	static const struct {
		const char *name;
		int value;
	} table[] = {{"rdonly", O_RDONLY},     {"wronly", O_WRONLY},	     {"rdwr", O_RDWR},
		     {"creat", O_CREAT},       {"excl", O_EXCL},	     {"trunc", O_TRUNC},
		     {"append", O_APPEND},     {"directory", O_DIRECTORY}, {"nofollow", O_NOFOLLOW},
		     {"nonblock", O_NONBLOCK}, {"path", O_PATH},	     {"noctty", O_NOCTTY}};

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == len && !memcmp(word, table[i].name, len))
			return table[i].value;
	return strtol(word, NULL, 0);
}

static int v_open(int argc, char **argv)
{
	int flags = 0, fd;

	if (argc < 3)
		return usage(argv[0]);
	for (const char *word = argv[2]; *word;) {
		size_t len = strcspn(word, ",");

		flags |= (int)flag_word(word, len);
		word += len + (word[len] == ',');
	}
	fd = open(argv[1], flags | O_CLOEXEC, 0666);
	simple("open", argv[1], fd < 0 ? -1 : 0);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* write PATH BYTES: into a file that exists */
static int v_write(int argc, char **argv)
{
	long ret = -1;
	int fd;

	if (argc != 3)
		return usage(argv[0]);
	fd = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		ret = write(fd, argv[2], strlen(argv[2]));
	simple("write", argv[1], ret);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* create PATH BYTES */
static int v_create(int argc, char **argv)
{
	long ret = -1;
	int fd;

	if (argc != 3)
		return usage(argv[0]);
	fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd >= 0)
		ret = write(fd, argv[2], strlen(argv[2]));
	simple("create", argv[1], ret);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* read PATH [MAX]; a fifo blocks until the test opens the other end */
static int v_read(int argc, char **argv)
{
	size_t max = argc > 2 ? strtoul(argv[2], NULL, 0) : sizeof(data);
	long n;

	if (argc < 2)
		return usage(argv[0]);
	n = slurp(argv[1], data, max < sizeof(data) ? max : sizeof(data));
	begin("read");
	j_kstr("path", argv[1]);
	if (n < 0) {
		j_kerrno((int)-n);
	} else {
		j_key("data");
		j_bytes(data, (size_t)n);
	}
	end();
	return 0;
}

static int v_stdin(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	begin("stdin");
	report_file("data", "/proc/self/fd/0");
	end();
	return 0;
}

/* copies stdin to stdout until end of file */
static int v_cat(int argc, char **argv)
{
	ssize_t n;

	(void)argc;
	(void)argv;
	while ((n = read(0, data, sizeof(data))) > 0 || (n < 0 && errno == EINTR))
		for (ssize_t done = 0; done < n;) {
			ssize_t m = write(1, data + done, (size_t)(n - done));

			if (m <= 0)
				return 0;
			done += m;
		}
	return 0;
}

static int v_stat(int argc, char **argv)
{
	begin(argv[0]);
	j_key("files");
	j_open('[');
	for (int i = 1; i < argc; i++)
		report_stat(argv[i], strcmp(argv[0], "stat") == 0);
	j_close(']');
	end();
	return 0;
}

static int v_ls(int argc, char **argv)
{
	DIR *dir;
	struct dirent *entry;

	if (argc != 2)
		return usage(argv[0]);
	dir = opendir(argv[1]);
	if (!dir)
		return simple("ls", argv[1], -1);
	begin("ls");
	j_kstr("path", argv[1]);
	j_key("names");
	j_open('[');
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			j_str(entry->d_name);
	j_close(']');
	closedir(dir);
	end();
	return 0;
}

static int v_chdir(int argc, char **argv)
{
	if (argc != 2)
		return usage(argv[0]);
	return simple("chdir", argv[1], chdir(argv[1]));
}

/* mount-flags PATH: what the mount below PATH allows, as statvfs and as mountinfo say it */
static int v_mount_flags(int argc, char **argv)
{
	struct statx sx = {0};
	struct statvfs vfs = {0};

	if (argc != 2)
		return usage(argv[0]);
	if (statvfs(argv[1], &vfs) < 0 || syscall(SYS_statx, AT_FDCWD, argv[1], 0, 0x1000, &sx) < 0)
		return simple("mount-flags", argv[1], -1);
	begin("mount-flags");
	j_kstr("path", argv[1]);
	j_kuint("flags", vfs.f_flag);
	j_kuint("mnt_id", sx.stx_mnt_id);
	j_kbool("mount_root", (sx.stx_attributes & 0x2000) != 0);
	end();
	return 0;
}

/* walk-up [NAME]: follow ".." from the working directory to the top; is that "/"?  Is NAME seen on the way? */
static int v_walk_up(int argc, char **argv)
{
	struct stat here = {0}, up = {0}, root = {0};
	int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), depth = 0, found = 0;

	begin("walk-up");
	report_cwd("raw_cwd");
	while (fd >= 0 && depth < 4096) {
		int next;

		fstat(fd, &here);
		if (argc > 1)
			found |= faccessat(fd, argv[1], F_OK, AT_SYMLINK_NOFOLLOW) == 0;
		next = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (next >= 0)
			fstat(next, &up);
		close(fd);
		fd = next;
		depth++;
		if (here.st_ino == up.st_ino && here.st_dev == up.st_dev)
			break;
	}
	if (fd >= 0)
		close(fd);
	stat("/", &root);
	j_kint("depth", depth);
	j_kbool("at_root", here.st_ino == root.st_ino && here.st_dev == root.st_dev);
	j_kbool("found", found);
	end();
	return 0;
}

/* spin-rename A B: exchange two names for ever */
static int v_spin_rename(int argc, char **argv)
{
	if (argc != 3)
		return usage(argv[0]);
	begin("spin-rename");
	j_kbool("ready", 1);
	end();
	for (;;)
		if (syscall(SYS_renameat2, AT_FDCWD, argv[1], AT_FDCWD, argv[2], 2 /* EXCHANGE */) < 0 &&
		    errno != ENOENT)
			return simple("spin-rename", argv[1], -1);
}

/* mknod PATH c|b|p MAJOR MINOR [MODE] */
static int v_mknod(int argc, char **argv)
{
	mode_t mode = 0666;

	if (argc < 5)
		return usage(argv[0]);
	if (argc > 5)
		mode = (mode_t)strtoul(argv[5], NULL, 8);
	mode |= argv[2][0] == 'c' ? S_IFCHR : argv[2][0] == 'b' ? S_IFBLK : S_IFIFO;
	return simple("mknod", argv[1],
		      mknod(argv[1], mode, makedev(strtoul(argv[3], NULL, 0), strtoul(argv[4], NULL, 0))));
}

/* ---- processes ---- */

/* run PATH ARGS…: fork, exec, wait; the child's own output comes first */
static int v_run(int argc, char **argv)
{
	int error[2], status = 0, code = 0;
	pid_t pid;

	if (argc < 2 || pipe2(error, O_CLOEXEC) < 0)
		return usage(argv[0]);
	pid = fork();
	if (pid == 0) {
		execve(argv[1], argv + 1, environ);
		code = errno;
		if (write(error[1], &code, sizeof(code)) < 0)
			_exit(125);
		_exit(126);
	}
	close(error[1]);
	if (read(error[0], &code, sizeof(code)) != sizeof(code))
		code = 0;
	close(error[0]);
	waitpid(pid, &status, 0);
	begin("run");
	j_kstr("path", argv[1]);
	j_kerrno(pid < 0 ? errno : code);
	j_kint("status", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	end();
	return 0;
}

/* exec PATH ARGS…: replaces the probe */
static int v_exec(int argc, char **argv)
{
	if (argc < 2)
		return usage(argv[0]);
	execve(argv[1], argv + 1, environ);
	return simple("exec", argv[1], -1);
}

/* fork N: children that sleep; says how many could be made */
static int v_fork(int argc, char **argv)
{
	int want = argc > 1 ? atoi(argv[1]) : 1, made = 0, error = 0;

	for (; made < want; made++) {
		pid_t pid = fork();

		if (pid == 0)
			for (;;)
				pause();
		if (pid < 0) {
			error = errno;
			break;
		}
	}
	begin("fork");
	j_kint("made", made);
	j_kerrno(error);
	end();
	return 0;
}

/* zombie N: children that are gone and never waited for */
static int v_zombie(int argc, char **argv)
{
	int want = argc > 1 ? atoi(argv[1]) : 1, made = 0;

	for (; made < want; made++) {
		siginfo_t info;
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		if (pid < 0)
			break;
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	}
	begin("zombie");
	j_kint("made", made);
	end();
	return 0;
}

/* touch-memory MIB: make that much anonymous memory resident */
static int v_touch_memory(int argc, char **argv)
{
	size_t size = (argc > 1 ? strtoul(argv[1], NULL, 0) : 1) << 20;
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return simple("touch-memory", NULL, -1);
	for (size_t i = 0; i < size; i += 4096)
		at[i] = 1;
	return simple("touch-memory", NULL, 0);
}

/* ---- sockets ---- */

static int unix_socket(const char *path, int type, struct sockaddr_un *addr)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	strncpy(addr->sun_path, path, sizeof(addr->sun_path) - 1);
	if (addr->sun_path[0] == '@')
		addr->sun_path[0] = 0;
	return socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
}

static int v_connect(int argc, char **argv)
{
	struct sockaddr_un addr;
	int fd;
	long ret;

	if (argc != 2)
		return usage(argv[0]);
	fd = unix_socket(argv[1], SOCK_STREAM, &addr);
	ret = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	simple("connect", argv[1], ret);
	close(fd);
	return 0;
}

/* sdnotify MESSAGE: to $NOTIFY_SOCKET */
static int v_sdnotify(int argc, char **argv)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr;
	long ret;
	int fd;

	if (argc != 2 || !path)
		return usage(argv[0]);
	fd = unix_socket(path, SOCK_DGRAM, &addr);
	ret = sendto(fd, argv[1], strlen(argv[1]), 0, (struct sockaddr *)&addr, sizeof(addr));
	simple("sdnotify", path, ret);
	close(fd);
	return 0;
}

/* ---- several verbs ---- */

static int v_seq(int argc, char **argv);

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"report", v_report},
	{"echo", v_echo},
	{"env", v_env},
	{"digest", v_digest},
	{"exit", v_exit},
	{"sleep", v_sleep},
	{"ready", v_ready},
	{"wait-signal", v_wait_signal},
	{"on-signal", v_on_signal},
	{"open", v_open},
	{"write", v_write},
	{"create", v_create},
	{"read", v_read},
	{"stdin", v_stdin},
	{"cat", v_cat},
	{"stat", v_stat},
	{"lstat", v_stat},
	{"ls", v_ls},
	{"chdir", v_chdir},
	{"mount-flags", v_mount_flags},
	{"walk-up", v_walk_up},
	{"spin-rename", v_spin_rename},
	{"mknod", v_mknod},
	{"run", v_run},
	{"exec", v_exec},
	{"fork", v_fork},
	{"zombie", v_zombie},
	{"touch-memory", v_touch_memory},
	{"connect", v_connect},
	{"sdnotify", v_sdnotify},
	{"syscall", verb_syscall},
	{"syscall32", verb_syscall32},
	{"keyctl", verb_keyctl},
	{"netif", verb_netif},
	{"network", verb_network},
	{"tcp", verb_tcp},
	{"exe-attack", verb_exe_attack},
	{"burn", verb_burn},
	{"disk", verb_disk},
	{"hook", verb_hook},
	{"seq", v_seq},
};

static int dispatch(int argc, char **argv)
{
	for (unsigned i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, argv[0]))
			return verbs[i].run(argc, argv);
	dprintf(2, "probe: unknown verb %s\n", argv[0]);
	return 125;
}

static int v_seq(int argc, char **argv)
{
	int code = 0;

	for (int from = 1, to; from < argc; from = to + 1) {
		for (to = from; to < argc && strcmp(argv[to], "--"); to++)
			;
		if (to == from)
			continue;
		argv[to] = to < argc ? NULL : argv[to];
		code = dispatch(to - from, argv + from);
		if (code)
			break;
	}
	return code;
}

int main(int argc, char **argv)
{
	static char *copy[4096];
	char **args = argv;

	/* seq cuts argv into pieces, and the report shows argv whole: work on a copy where it fits */
	if (argc < (int)(sizeof(copy) / sizeof(copy[0]))) {
		memcpy(copy, argv, (size_t)(argc + 1) * sizeof(char *));
		args = copy;
	}
	probe_argv = argv;
	if (argc < 2) {
		dprintf(2, "usage: probe VERB ARGS...\n");
		return 125;
	}
	return dispatch(argc - 1, args + 1);
}
