/* SPDX-License-Identifier: Apache-2.0
 *
 * The command `ocirun`: finds the interpreter and the package that it was installed with, and executes
 *
 *     pythonX.Y -I -S -Xutf8 PREFIX/lib/pythonX.Y/site-packages/ocirun/cli/boot.py ARGUMENTS
 *
 * A script could not say so: pip replaces its first line, and an interpreter that loads `site` and looks at its
 * environment takes three times as long and obeys whoever set PYTHONPATH (V-18).  Paths in config.json are UTF-8
 * whatever the caller's locale, hence -Xutf8.  PREFIX is the directory above the one that this program lies in, so
 * virtual environments, --user and --prefix installations all work; so do the directories of distributions.  Where
 * there is no package, as after `pip install -e`, the interpreter beside us is asked to find it: slower.
 */
#include "init.h"

/* access(2) */
#define X_OK 1
#define R_OK 4

struct entry { /* struct linux_dirent64 */
	uint64_t ino;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

struct found {
	char interpreter[SYS_PATH_MAX];
	char boot[SYS_PATH_MAX];
	unsigned rank;
};

static int join(char *to, const char *a, const char *b, const char *c) {
	size_t size = text_copy(to, SYS_PATH_MAX, a);
	if (size < SYS_PATH_MAX)
		size += text_copy(to + size, SYS_PATH_MAX - size, b);
	if (size < SYS_PATH_MAX)
		size += text_copy(to + size, SYS_PATH_MAX - size, c);
	return size < SYS_PATH_MAX;
}

static int exists(const char *path, int mode) {
	return sys3(__NR_faccessat, AT_FDCWD, path, mode) == 0;
}

__attribute__((noreturn)) static void give_up(const char *text, const char *path) {
	sys3(__NR_write, 2, text, text_length(text));
	sys3(__NR_write, 2, path, text_length(path));
	sys3(__NR_write, 2, "\n", 1);
	sys1(__NR_exit_group, 1);
	__builtin_unreachable();
}

/* Cut the last component off; "/" has none. */
static int cut(char *path) {
	size_t size = text_length(path);
	while (size > 0 && path[size - 1] != '/')
		size--;
	if (size <= 1)
		return 0;
	path[size - 1] = 0;
	return 1;
}

/* How good is a directory of this name in lib?  "python3.12" is better than "python3.11", both are better than
 * "python3", which Debian has for all versions; 0 for any other name, and for versions that are too old. */
static unsigned rank_of(const char *name) {
	unsigned minor = 0;
	if (text_equal(name, "python3"))
		return 1;
	if (!text_starts(name, "python3."))
		return 0;
	for (name += 8; *name >= '0' && *name <= '9' && minor < 1000; name++)
		minor = minor * 10 + (unsigned)(*name - '0');
	return *name || minor < 11 ? 0 : minor;
}

static int find_interpreter(char *path, const char *bin, const char *name) {
	return (join(path, bin, "/", name) && exists(path, X_OK)) ||
	       (join(path, "/usr/local/bin/", name, "") && exists(path, X_OK)) ||
	       (join(path, "/usr/bin/", name, "") && exists(path, X_OK));
}

/* One PREFIX/lib/pythonX.Y: is the package there, and is an interpreter of that name? */
static void consider(const char *bin, const char *library, const char *name, struct found *best) {
	static char base[SYS_PATH_MAX], boot[SYS_PATH_MAX], interpreter[SYS_PATH_MAX];
	unsigned rank = rank_of(name);
	if (rank <= best->rank || !join(base, library, "/", name))
		return;
	if (!(join(boot, base, "/site-packages", "/ocirun/cli/boot.py") && exists(boot, R_OK)) &&
	    !(join(boot, base, "/dist-packages", "/ocirun/cli/boot.py") && exists(boot, R_OK)))
		return;
	if (!find_interpreter(interpreter, bin, name))
		return;
	text_copy(best->interpreter, SYS_PATH_MAX, interpreter);
	text_copy(best->boot, SYS_PATH_MAX, boot);
	best->rank = rank;
}

/* Follow the links that lead to the interpreter: through the one in a virtual environment it would go looking for the
 * environment, which is 1.7 ms for a search path that -S does not even want. */
static void follow_links(char *path) {
	static char target[SYS_PATH_MAX], link[40];
	long fd = sys_openat(AT_FDCWD, path, O_PATH | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	text_number(link + text_copy(link, sizeof link, "/proc/self/fd/"), (uint64_t)fd);
	long size = sys4(__NR_readlinkat, AT_FDCWD, link, target, sizeof target - 1);
	sys_close((int)fd);
	if (size <= 0 || target[0] != '/')
		return;
	target[size] = 0;
	if (exists(target, X_OK))
		text_copy(path, SYS_PATH_MAX, target);
}

static void search(const char *bin, const char *library, struct found *best) {
	_Alignas(8) static char buffer[8192];
	long directory = sys_openat(AT_FDCWD, library, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (directory < 0)
		return;
	for (;;) {
		long size = sys3(__NR_getdents64, directory, buffer, sizeof buffer);
		if (size <= 0)
			break;
		for (long at = 0; at < size;) {
			const struct entry *entry = (const struct entry *)(const void *)(buffer + at);
			at += entry->size;
			consider(bin, library, entry->name, best);
		}
	}
	sys_close((int)directory);
}

/* Find out what to execute, and with which options after -I. */
static void find(struct found *best, const char *options[3]) {
	static char bin[SYS_PATH_MAX], prefix[SYS_PATH_MAX], library[SYS_PATH_MAX];
	long size = sys4(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", bin, sizeof bin - 1);
	if (size <= 0 || !cut(bin))
		give_up("ocirun: cannot find out where it is installed: is /proc mounted?", "");
	text_copy(prefix, sizeof prefix, bin);
	if (!cut(prefix))
		prefix[0] = 0;
	if (join(library, prefix, "/lib", ""))
		search(bin, library, best);
	if (join(library, prefix, "/lib64", "")) /* Fedora has it there */
		search(bin, library, best);
	if (best->rank > 0) {
		follow_links(best->interpreter);
		options[0] = "-S";
		options[1] = "-Xutf8";
		options[2] = best->boot;
	} else if (join(best->interpreter, bin, "/python3", "") && exists(best->interpreter, X_OK)) {
		options[0] = "-Xutf8";
		options[1] = "-m";
		options[2] = "ocirun";
	} else {
		give_up("ocirun: no Python 3.11 or newer with the package ocirun belongs to ", bin);
	}
}

__attribute__((noreturn, used)) void launch_main(const long *stack);
void launch_main(const long *stack) {
	static struct found best;
	long argc = stack[0];
	const char *const *argv = (const char *const *)(stack + 1);
	const char *const *envp = argv + argc + 1;
	const char *options[3];

	find(&best, options);
	size_t room = ((size_t)argc + 6) * sizeof(char *);
	long memory = sys6(__NR_mmap, 0, (long)room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory < 0 && memory > -4096)
		give_up("ocirun: out of memory", "");
	const char **words = (const char **)memory;
	long count = 0;
	words[count++] = best.interpreter;
	words[count++] = "-I";
	for (long i = 0; i < 3; i++)
		words[count++] = options[i];
	for (long i = 1; i < argc; i++)
		words[count++] = argv[i];
	sys3(__NR_execve, best.interpreter, words, envp);
	give_up("ocirun: cannot execute ", best.interpreter);
}

/* No guard to be seeded: this program parses nothing that an enemy wrote. */
uintptr_t __stack_chk_guard = 0x5bd1e995u;
__attribute__((noreturn)) void __stack_chk_fail(void);
void __stack_chk_fail(void) {
	sys1(__NR_exit_group, 134);
	__builtin_unreachable();
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall launch_main\n\tud2\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tand sp, x0, #-16\n\tbl launch_main\n\tbrk 1\n");
#endif
