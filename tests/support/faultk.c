/* SPDX-License-Identifier: Apache-2.0
 *
 *     faultk [OPTION…] -- COMMAND ARGS…
 *
 * Runs COMMAND under ptrace and counts the system calls of it and of everything it starts with one counter, in
 * the order in which they stop.  At call number K (from 0) it can do one thing:
 *
 *   --kill-at K        SIGKILL to the victims, before the call happens
 *   --victim WHO       parent (COMMAND itself), init (all other processes), both (default)
 *   --errno-at K       the call does not happen and answers --errno
 *   --errno N          a number
 *   --signal-at K      --signal arrives just before the call: its handler runs, and the call happens after that.
 *                      A signal during a call would end it; this one is for what looks at signals before it waits
 *   --signal N         a number
 *
 *   --payload FILE     a process that executes this file is let go and no longer counted; may be repeated
 *   --only NAMES       count these calls only; "changing" stands for those that change something outside the
 *                      process
 *   --by WHO           count the calls of these only: parent, init, both (default)
 *   --marker           start counting at prctl(0x6f636972)
 *   --log FILE         one line for each counted call: K ROLE PID NAME
 *
 * Exits as COMMAND did (128+N for signals).  What still runs when COMMAND has ended is let go, as it would have
 * been without the tracer.  strace's inject= counts for each process apart and cannot do this.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARKER 0x6f636972
#define NAMED(x, changing) {#x, SYS_##x, changing}

/* Calls with a name here can be given to --only; the flag says whether "changing" includes them. */
static const struct call {
	const char *name;
	long nr;
	int changing;
} calls[] = {
#ifdef SYS_mkdir
	NAMED(mkdir, 1), NAMED(rmdir, 1), NAMED(rename, 1), NAMED(unlink, 1), NAMED(link, 1), NAMED(symlink, 1),
	NAMED(chmod, 1), NAMED(chown, 1), NAMED(mknod, 1), NAMED(fork, 1), NAMED(vfork, 1), NAMED(open, 0), NAMED(poll, 0),
#endif
	NAMED(mkdirat, 1), NAMED(renameat, 1), NAMED(renameat2, 1), NAMED(unlinkat, 1), NAMED(linkat, 1),
	NAMED(symlinkat, 1), NAMED(fchmod, 1), NAMED(fchmodat, 1), NAMED(fchown, 1), NAMED(fchownat, 1),
	NAMED(mknodat, 1), NAMED(clone, 1), NAMED(clone3, 1), NAMED(execve, 1), NAMED(execveat, 1), NAMED(write, 1),
	NAMED(pwrite64, 1), NAMED(ftruncate, 1), NAMED(fsync, 1), NAMED(mount, 1), NAMED(umount2, 1),
	NAMED(pivot_root, 1), NAMED(chroot, 1), NAMED(fsopen, 1), NAMED(fsconfig, 1), NAMED(fsmount, 1),
	NAMED(open_tree, 1), NAMED(move_mount, 1), NAMED(mount_setattr, 1), NAMED(unshare, 1), NAMED(setns, 1),
	NAMED(sethostname, 1), NAMED(setdomainname, 1), NAMED(kill, 1), NAMED(pidfd_send_signal, 1), NAMED(bpf, 1),
	NAMED(keyctl, 1), NAMED(sendmsg, 1), NAMED(sendto, 1), NAMED(bind, 1), NAMED(connect, 1), NAMED(flock, 1),
	NAMED(prctl, 0), NAMED(setgroups, 0), NAMED(setresgid, 0), NAMED(setresuid, 0), NAMED(capset, 0),
	NAMED(seccomp, 0), NAMED(chdir, 0), NAMED(fchdir, 0), NAMED(getcwd, 0), NAMED(fstatfs, 0),
	NAMED(close_range, 0), NAMED(setsid, 0), NAMED(prlimit64, 0), NAMED(openat, 0), NAMED(openat2, 0),
	NAMED(read, 0), NAMED(recvmsg, 0), NAMED(newfstatat, 0), NAMED(statx, 0), NAMED(memfd_create, 0),
	NAMED(ppoll, 0), NAMED(clock_nanosleep, 0), NAMED(waitid, 0), NAMED(recvfrom, 0),
	NAMED(accept4, 0),
	NAMED(dup3, 0), NAMED(fcntl, 0), NAMED(ioctl, 0), NAMED(umask, 0), NAMED(mmap, 0), NAMED(capget, 0),
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static struct {
	pid_t pid;
	int failing;    /* the call that this process is in has been taken away */
	int repeating;  /* the same, and it will be made again */
	unsigned long nr, first_argument;  /* of that */
	int let_go;
} tracees[4096];
static int tracee_count;

static struct stat payloads[16];
static int payload_count;
static char counted[CALLS];
static int count_all = 1, counting = 1;
static long kill_at = -1, errno_at = -1, signal_at = -1, counter;
static int fail_errno = EIO, signal_number = SIGTERM, acted;
static const char *victim = "both", *by = "both";
static FILE *log_file;
static pid_t root;

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static int slot(pid_t pid)
{
	for (int i = 0; i < tracee_count; i++)
		if (tracees[i].pid == pid)
			return i;
	if (tracee_count == 4096)
		exit(125);
	tracees[tracee_count].pid = pid;
	tracees[tracee_count].failing = tracees[tracee_count].repeating = tracees[tracee_count].let_go = 0;
	return tracee_count++;
}

static void forget(pid_t pid)
{
	for (int i = 0; i < tracee_count; i++)
		if (tracees[i].pid == pid)
			tracees[i] = tracees[--tracee_count];
}

static const char *call_name(long nr)
{
	static char number[32];

	for (unsigned i = 0; i < CALLS; i++)
		if (calls[i].nr == nr)
			return calls[i].name;
	snprintf(number, sizeof(number), "%ld", nr);
	return number;
}

static int is_one_of(const char *who, pid_t pid)
{
	return !strcmp(who, "both") || (pid == root) == !strcmp(who, "parent");
}

static int is_counted(pid_t pid, long nr)
{
	if (!is_one_of(by, pid))
		return 0;
	if (count_all)
		return 1;
	for (unsigned i = 0; i < CALLS; i++)
		if (calls[i].nr == nr)
			return counted[i];
	return 0;
}

static void kill_victims(void)
{
	for (int i = 0; i < tracee_count; i++)
		if (!tracees[i].let_go && is_one_of(victim, tracees[i].pid))
			kill(tracees[i].pid, SIGKILL);
}

/* Turn the call that `pid` is about to make into one that does not exist. */
static void take_away(pid_t pid)
{
#if defined(__x86_64__)
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1L);
#elif defined(__aarch64__)
	int none = -1;
	struct iovec vec = {&none, sizeof(none)};

	ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &vec);
#endif
	tracees[slot(pid)].failing = 1;
}

/* Take the call away, for a signal that comes first. */
static void postpone(pid_t pid, const struct __ptrace_syscall_info *info)
{
	take_away(pid);
	tracees[slot(pid)].repeating = 1;
	tracees[slot(pid)].nr = info->entry.nr;
	tracees[slot(pid)].first_argument = info->entry.args[0];
}

/* Go back to the instruction that made the call, and let the signal come first.  The kernel does the same with
 * ERESTARTNOINTR; but a signal that is pending when a call begins would end it. */
static void repeat(pid_t pid)
{
#if defined(__x86_64__)
	struct user_regs_struct regs;

	ptrace(PTRACE_GETREGS, pid, 0, &regs);
	regs.rax = tracees[slot(pid)].nr;
	regs.rip -= 2;
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
#elif defined(__aarch64__)
	struct user_regs_struct regs;
	struct iovec vec = {&regs, sizeof(regs)};

	ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vec);
	regs.regs[0] = tracees[slot(pid)].first_argument;
	regs.pc -= 4;
	ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vec);
#endif
	tracees[slot(pid)].failing = tracees[slot(pid)].repeating = 0;
	syscall(SYS_tkill, pid, signal_number);
}

static void answer(pid_t pid)
{
#if defined(__x86_64__)
	ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), (long)-fail_errno);
#elif defined(__aarch64__)
	struct user_regs_struct regs;
	struct iovec vec = {&regs, sizeof(regs)};

	ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vec);
	regs.regs[0] = (unsigned long)-fail_errno;
	ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vec);
#endif
	tracees[slot(pid)].failing = 0;
}

/* A process stopped at the start or end of a system call. */
static void at_call(pid_t pid)
{
	struct __ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
		if (tracees[slot(pid)].repeating)
			repeat(pid);
		else if (tracees[slot(pid)].failing)
			answer(pid);
		return;
	}
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	if (info.entry.nr == SYS_prctl && info.entry.args[0] == MARKER)
		counting = 1;
	if (!counting || !is_counted(pid, (long)info.entry.nr))
		return;
	if (log_file)
		fprintf(log_file, "%ld %s %d %s\n", counter, pid == root ? "parent" : "init", (int)pid,
			call_name((long)info.entry.nr));
	if (counter == kill_at) {
		acted = 1;
		kill_victims();
	} else if (counter == errno_at) {
		acted = 1;
		take_away(pid);
	} else if (counter == signal_at) {
		acted = 1;
		postpone(pid, &info);
	}
	counter++;
}

static int is_payload(pid_t pid)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (stat(path, &st) < 0)
		return 0;
	for (int i = 0; i < payload_count; i++)
		if (payloads[i].st_dev == st.st_dev && payloads[i].st_ino == st.st_ino)
			return 1;
	return 0;
}

static void let_go(pid_t pid)
{
	ptrace(PTRACE_DETACH, pid, 0, 0);
	forget(pid);
}

/* Handle one stop and let the process go on. */
static void stopped(pid_t pid, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	slot(pid);
	if (sig == (SIGTRAP | 0x80)) {
		at_call(pid);
		ptrace(PTRACE_SYSCALL, pid, 0, 0);
	} else if (event == PTRACE_EVENT_EXEC && is_payload(pid)) {
		let_go(pid);
	} else if (event == PTRACE_EVENT_STOP && (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)) {
		ptrace(PTRACE_LISTEN, pid, 0, 0);
	} else if (event) {
		ptrace(PTRACE_SYSCALL, pid, 0, 0);
	} else {
		ptrace(PTRACE_SYSCALL, pid, 0, (long)sig);
	}
}

/* COMMAND has ended: what else runs, runs on by itself. */
static void let_all_go(void)
{
	while (tracee_count > 0) {
		pid_t pid = tracees[0].pid;
		int status;

		if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 || waitpid(pid, &status, __WALL) < 0 ||
		    !WIFSTOPPED(status)) {
			forget(pid);
			continue;
		}
		ptrace(PTRACE_DETACH, pid, 0, (status >> 16) ? 0L : WSTOPSIG(status) == (SIGTRAP | 0x80) ? 0L : (long)WSTOPSIG(status));
		forget(pid);
	}
}

static int trace(void)
{
	int result = -1, status;

	while (result < 0) {
		pid_t pid = waitpid(-1, &status, __WALL);

		if (pid < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (WIFSTOPPED(status)) {
			stopped(pid, status);
			continue;
		}
		forget(pid);
		if (pid == root)
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	let_all_go();
	return result < 0 ? 125 : result;
}

static void choose(char *names)
{
	count_all = 0;
	for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
		int known = 0;

		for (unsigned i = 0; i < CALLS; i++)
			if (!strcmp(name, "changing") ? calls[i].changing : !strcmp(calls[i].name, name))
				known = counted[i] = 1;
		if (!known) {
			fprintf(stderr, "faultk: unknown system call %s\n", name);
			exit(125);
		}
	}
}

/* A line at a time: somebody may look on. */
static FILE *open_log(const char *path)
{
	FILE *file = fopen(path, "we");

	if (file)
		setvbuf(file, NULL, _IOLBF, 0);
	return file;
}

static char **options(char **at)
{
	for (; *at && strcmp(*at, "--"); at++) {
		char *name = *at;

		if (!strcmp(name, "--marker")) {
			counting = 0;
			continue;
		}
		if (!*++at)
			break;
		if (!strcmp(name, "--kill-at"))
			kill_at = atol(*at);
		else if (!strcmp(name, "--victim"))
			victim = *at;
		else if (!strcmp(name, "--errno-at"))
			errno_at = atol(*at);
		else if (!strcmp(name, "--errno"))
			fail_errno = atoi(*at);
		else if (!strcmp(name, "--signal-at"))
			signal_at = atol(*at);
		else if (!strcmp(name, "--signal"))
			signal_number = atoi(*at);
		else if (!strcmp(name, "--by"))
			by = *at;
		else if (!strcmp(name, "--only"))
			choose(*at);
		else if (!strcmp(name, "--log"))
			log_file = open_log(*at);
		else if (!strcmp(name, "--payload") && payload_count < 16 && stat(*at, &payloads[payload_count]) == 0)
			payload_count++;
		else {
			fprintf(stderr, "faultk: cannot use %s %s\n", name, *at);
			exit(125);
		}
	}
	return *at ? at + 1 : at;
}

int main(int argc, char **argv)
{
	char **command = options(argv + 1);
	int go[2], status;
	char byte = 0;

	(void)argc;
	if (!*command || pipe2(go, O_CLOEXEC) < 0) {
		fprintf(stderr, "usage: faultk [OPTION...] -- COMMAND ARGS...\n");
		return 125;
	}
	root = fork();
	if (root < 0)
		die("fork");
	if (root == 0) {
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(125);
		execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	close(go[0]);
	if (ptrace(PTRACE_SEIZE, root, 0,
		   PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			   PTRACE_O_TRACEEXEC) < 0 ||
	    ptrace(PTRACE_INTERRUPT, root, 0, 0) < 0 || waitpid(root, &status, __WALL) < 0)
		die("ptrace");
	slot(root);
	ptrace(PTRACE_SYSCALL, root, 0, 0);
	if (write(go[1], &byte, 1) != 1)
		die("write");
	close(go[1]);
	status = trace();
	if (log_file) {
		fprintf(log_file, "total %ld acted %d status %d\n", counter, acted, status);
		fclose(log_file);
	}
	return status;
}
