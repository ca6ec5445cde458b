/* SPDX-License-Identifier: Apache-2.0
 *
 * What a process can say about itself.  Whatever can be had from a system call is not read from /proc, which
 * the container under test may not have, or may have faked.
 */
#define _GNU_SOURCE
#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "out.h"

extern char **environ;
char **probe_argv;
int report_own_fd = -1;

static char scratch[1 << 20];

long slurp(const char *path, char *data, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < size) {
		ssize_t n = read(fd, data + done, size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			long error = -errno;

			close(fd);
			return error;
		}
		if (n == 0)
			break;
		done += (size_t)n;
	}
	close(fd);
	return (long)done;
}

void report_file(const char *key, const char *path)
{
	long n = slurp(path, scratch, sizeof(scratch));

	j_key(key);
	if (n < 0)
		j_str(NULL);
	else
		j_bytes(scratch, (size_t)n);
}

void report_cwd(const char *key)
{
	char cwd[8192];
	long n = syscall(SYS_getcwd, cwd, sizeof(cwd));

	j_key(key);
	if (n < 0)
		j_str(NULL);
	else
		j_str(cwd);
}

const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG: return "file";
	case S_IFDIR: return "dir";
	case S_IFLNK: return "link";
	case S_IFCHR: return "char";
	case S_IFBLK: return "block";
	case S_IFIFO: return "fifo";
	case S_IFSOCK: return "socket";
	default: return "other";
	}
}

static void stat_members(const struct stat *st)
{
	j_kstr("type", type_name(st->st_mode));
	j_kuint("mode", st->st_mode & 07777);
	j_kuint("uid", st->st_uid);
	j_kuint("gid", st->st_gid);
	j_kuint("dev", st->st_dev);
	j_kuint("ino", st->st_ino);
	j_kuint("nlink", st->st_nlink);
	j_kint("size", st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		j_key("rdev");
		j_open('[');
		j_uint(major(st->st_rdev));
		j_uint(minor(st->st_rdev));
		j_close(']');
	}
	j_kint("atime_ns", st->st_atim.tv_sec * 1000000000LL + st->st_atim.tv_nsec);
	j_kint("mtime_ns", st->st_mtim.tv_sec * 1000000000LL + st->st_mtim.tv_nsec);
}

void report_stat(const char *path, int follow)
{
	struct stat st;
	struct statx sx;
	struct statfs fs;
	char target[4096];

	j_open('{');
	j_kstr("path", path);
	if ((follow ? stat(path, &st) : lstat(path, &st)) < 0) {
		j_kerrno(errno);
		j_close('}');
		return;
	}
	stat_members(&st);
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, target, sizeof(target));

		j_key("target");
		j_bytes(target, n < 0 ? 0 : (size_t)n);
	} else if (statfs(path, &fs) == 0) {
		j_kuint("fs", (unsigned long)fs.f_type);
		j_kuint("fs_flags", (unsigned long)fs.f_flags);
	}
	if (syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0x1000 /* MNT_ID */, &sx) == 0) {
		j_kuint("mnt_id", sx.stx_mnt_id);
		j_kbool("mount_root", (sx.stx_attributes & 0x2000) != 0);
	}
	j_close('}');
}

static void report_fd(int fd)
{
	struct stat st;
	char path[64], text[4096];
	long n;

	j_open('{');
	j_kint("fd", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, text, sizeof(text));
	j_key("link");
	if (n < 0)
		j_str(NULL);
	else
		j_bytes(text, (size_t)n);
	if (fstat(fd, &st) == 0)
		stat_members(&st);
	j_kbool("cloexec", (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	j_kint("flags", fcntl(fd, F_GETFL));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	n = slurp(path, text, sizeof(text) - 1);
	if (n > 0) {
		char *at;

		text[n] = 0;
		at = strstr(text, "mnt_id:");
		if (at)
			j_kint("mnt_id", strtoll(at + 7, NULL, 10));
	}
	j_close('}');
}

static void report_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct statfs fs;

	j_open('[');
	if (dir && fstatfs(dirfd(dir), &fs) == 0 && fs.f_type == 0x9fa0) {
		struct dirent *entry;

		while ((entry = readdir(dir))) {
			int fd = atoi(entry->d_name);

			if (entry->d_name[0] != '.' && fd != dirfd(dir) && fd != report_own_fd)
				report_fd(fd);
		}
	} else {
		int own = dir ? dirfd(dir) : -1;

		for (int fd = 0; fd < 65536; fd++)
			if (fd != own && fd != report_own_fd && fcntl(fd, F_GETFD) >= 0)
				report_fd(fd);
	}
	if (dir)
		closedir(dir);
	j_close(']');
}

static void strings(const char *key, char **list)
{
	j_key(key);
	j_open('[');
	for (; *list; list++)
		j_str(*list);
	j_close(']');
}

static void ids(void)
{
	uid_t r, e, s;
	static gid_t groups[65536];
	int n;

	getresuid(&r, &e, &s);
	j_key("uids");
	j_open('[');
	j_uint(r);
	j_uint(e);
	j_uint(s);
	j_uint((uid_t)setfsuid((uid_t)-1));
	j_close(']');
	getresgid(&r, &e, &s);
	j_key("gids");
	j_open('[');
	j_uint(r);
	j_uint(e);
	j_uint(s);
	j_uint((gid_t)setfsgid((gid_t)-1));
	j_close(']');
	n = getgroups(65536, groups);
	j_key("groups");
	j_open('[');
	for (int i = 0; i < n; i++)
		j_uint(groups[i]);
	j_close(']');
}

static void capability_sets(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2] = {0};
	uint64_t bounding = 0, ambient = 0;

	syscall(SYS_capget, &head, data);
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			bounding |= 1ULL << cap;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			ambient |= 1ULL << cap;
	}
	j_key("caps");
	j_open('{');
	j_kuint("bounding", bounding);
	j_kuint("effective", data[0].effective | (uint64_t)data[1].effective << 32);
	j_kuint("permitted", data[0].permitted | (uint64_t)data[1].permitted << 32);
	j_kuint("inheritable", data[0].inheritable | (uint64_t)data[1].inheritable << 32);
	j_kuint("ambient", ambient);
	j_close('}');
	j_kint("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
}

/* the number behind "name:" in /proc/self/status, or -1 */
static long status_number(const char *name)
{
	long n = slurp("/proc/self/status", scratch, sizeof(scratch) - 1);
	char *at;

	if (n < 0)
		return -1;
	scratch[n] = 0;
	at = strstr(scratch, name);
	return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

static void protections(void)
{
	mode_t mask = umask(0);
	int sig = 0;

	umask(mask);
	capability_sets();
	j_kint("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	j_key("seccomp");
	j_open('{');
	j_kint("mode", status_number("\nSeccomp:"));
	j_kint("filters", status_number("\nSeccomp_filters:"));
	j_close('}');
	j_kint("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
	j_kuint("umask", mask);
	j_kint("subreaper", (prctl(PR_GET_CHILD_SUBREAPER, &sig, 0, 0, 0), sig));
	sig = 0;
	j_kint("pdeathsig", (prctl(PR_GET_PDEATHSIG, &sig, 0, 0, 0), sig));
	j_kint("personality", personality(0xffffffff));
	j_kuint("at_secure", getauxval(AT_SECURE));
	report_file("attr_current", "/proc/self/attr/current");
}

static void signals(void)
{
	uint64_t blocked = 0, ignored = 0, caught = 0, pending = 0;

	/* The kernel's structure and set: glibc hides signals 32 and 33. */
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked, 8);
	syscall(SYS_rt_sigpending, &pending, 8);
	for (int sig = 1; sig <= 64; sig++) {
		struct {
			void (*handler)(int);
			unsigned long flags;
			void (*restorer)(void);
			uint64_t mask;
		} act = {0};

		if (syscall(SYS_rt_sigaction, sig, NULL, &act, 8) < 0)
			continue;
		if (act.handler == SIG_IGN)
			ignored |= 1ULL << (sig - 1);
		else if (act.handler != SIG_DFL)
			caught |= 1ULL << (sig - 1);
	}
	j_key("signals");
	j_open('{');
	j_kuint("blocked", blocked);
	j_kuint("pending", pending);
	j_kuint("ignored", ignored);
	j_kuint("caught", caught);
	j_close('}');
}

static void rlimits(void)
{
	static const char *const names[] = {
		"RLIMIT_CPU",     "RLIMIT_FSIZE",   "RLIMIT_DATA",   "RLIMIT_STACK",
		"RLIMIT_CORE",    "RLIMIT_RSS",     "RLIMIT_NPROC",  "RLIMIT_NOFILE",
		"RLIMIT_MEMLOCK", "RLIMIT_AS",      "RLIMIT_LOCKS",  "RLIMIT_SIGPENDING",
		"RLIMIT_MSGQUEUE", "RLIMIT_NICE",   "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
	};

	j_key("rlimits");
	j_open('{');
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct rlimit limit;

		if (getrlimit(i, &limit) < 0)
			continue;
		j_key(names[i]);
		j_open('[');
		j_uint(limit.rlim_cur);
		j_uint(limit.rlim_max);
		j_close(']');
	}
	j_close('}');
}

static void namespaces(void)
{
	static const char *const kinds[] = {"cgroup", "ipc",  "mnt",  "net",  "pid", "pid_for_children",
					    "time",   "time_for_children", "user", "uts"};

	j_key("namespaces");
	j_open('{');
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		if (stat(path, &st) == 0)
			j_kuint(kinds[i], st.st_ino);
	}
	j_close('}');
}

static void scheduling(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t util_min, util_max;
	} attr = {.size = sizeof(attr)};
	unsigned long cpus[16] = {0}, nodes[16] = {0};
	int mode = 0;

	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) == 0) {
		j_key("scheduler");
		j_open('{');
		j_kuint("policy", attr.policy);
		j_kuint("flags", attr.flags);
		j_kint("nice", attr.nice);
		j_kuint("priority", attr.priority);
		j_kuint("runtime", attr.runtime);
		j_kuint("deadline", attr.deadline);
		j_kuint("period", attr.period);
		j_close('}');
	}
	j_kint("ioprio", syscall(SYS_ioprio_get, 1, 0));
	j_kint("ioprio_group", syscall(SYS_ioprio_get, 2, 0));
	j_kint("timerslack", prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
	if (syscall(SYS_sched_getaffinity, 0, sizeof(cpus), cpus) > 0)
		j_kuint("affinity", cpus[0]);
	if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, 0, 0) == 0) {
		j_kint("mempolicy", mode);
		j_kuint("mempolicy_nodes", nodes[0]);
	}
}

static void terminal(void)
{
	long n = slurp("/proc/self/stat", scratch, sizeof(scratch) - 1);
	int fd;

	j_kint("pgid", getpgid(0));
	j_kint("sid", getsid(0));
	if (n > 0) {
		/* pid (comm) state ppid pgrp session tty_nr … : comm may hold anything, so take the last ")" */
		char *at = (scratch[n] = 0, strrchr(scratch, ')'));
		int field = 0;

		for (; at && *at && field < 5; at++)
			field += *at == ' ';
		j_kint("tty_nr", at ? atol(at) : -1);
	}
	fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	j_kbool("has_ctty", fd >= 0);
	if (fd >= 0)
		close(fd);
	j_key("stdio");
	j_open('[');
	for (fd = 0; fd < 3; fd++) {
		struct winsize size;

		j_open('{');
		j_kbool("tty", isatty(fd));
		if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
			j_kuint("rows", size.ws_row);
			j_kuint("cols", size.ws_col);
		}
		j_close('}');
	}
	j_close(']');
}

static void keyring(void)
{
	long serial = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);

	j_key("keyring");
	j_open('{');
	if (serial < 0) {
		j_kerrno(errno);
	} else {
		char text[512] = "";

		j_kint("serial", serial);
		if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, serial, text, sizeof(text)) > 0)
			j_kstr("description", text);
	}
	j_close('}');
}

static void clocks(void)
{
	static const struct {
		const char *name;
		clockid_t id;
	} table[] = {{"monotonic", CLOCK_MONOTONIC}, {"boottime", CLOCK_BOOTTIME}, {"realtime", CLOCK_REALTIME}};

	j_key("clocks");
	j_open('{');
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct timespec now = {0};

		clock_gettime(table[i].id, &now);
		j_kint(table[i].name, now.tv_sec * 1000000000LL + now.tv_nsec);
	}
	j_close('}');
}

void report_members(void)
{
	struct utsname uts = {0};
	struct stat root = {0};
	char exe[4096] = "";

	/* Descriptors first: nothing below may add one that is then reported. */
	j_key("fds");
	report_fds();
	j_kint("pid", getpid());
	j_kint("ppid", getppid());
	ids();
	protections();
	report_cwd("raw_cwd");
	strings("environ", environ);
	strings("argv", probe_argv);
	signals();
	rlimits();
	namespaces();
	scheduling();
	terminal();
	keyring();
	clocks();
	uname(&uts);
	j_kstr("hostname", uts.nodename);
	j_kstr("domainname", uts.domainname);
	j_kstr("machine", uts.machine);
	stat("/", &root);
	j_key("root");
	j_open('{');
	stat_members(&root);
	j_close('}');
	j_kstr("exe", readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0 ? NULL : exe);
	report_file("oom_score_adj", "/proc/self/oom_score_adj");
	report_file("cgroup", "/proc/self/cgroup");
	report_file("uid_map", "/proc/self/uid_map");
	report_file("gid_map", "/proc/self/gid_map");
	report_file("setgroups", "/proc/self/setgroups");
	report_file("mountinfo", "/proc/self/mountinfo");
}
