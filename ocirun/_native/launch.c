/* SPDX-License-Identifier: Apache-2.0
 *
 * The command `ocirun`: finds the interpreter and the package that it was installed with, and executes
 *
 *     pythonX.Y -I -S PREFIX/lib/pythonX.Y/site-packages/ocirun/cli/boot.py ARGUMENTS
 *
 * A script could not say so: pip replaces its first line, and an interpreter that loads `site` and looks at its
 * environment takes three times as long and obeys whoever set PYTHONPATH (V-18).  PREFIX is the directory above the one
 * that this program lies in, so virtual environments, --user and --prefix installations all work.
 */
#include "init.h"

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
	unsigned minor;
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

static void complain(const char *text) {
	sys3(__NR_write, 2, text, text_length(text));
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

/* "python3.11" -> 11, 0 for any other name. */
static unsigned minor_version(const char *name) {
	unsigned minor = 0;
	if (!text_starts(name, "python3."))
		return 0;
	for (name += 8; *name >= '0' && *name <= '9'; name++)
		minor = minor * 10 + (unsigned)(*name - '0');
	return *name ? 0 : minor;
}

/* One PREFIX/lib/pythonX.Y: is the package there, and is an interpreter of that version? */
static void consider(const char *bin, const char *library, const char *name, struct found *best) {
	static char base[SYS_PATH_MAX], boot[SYS_PATH_MAX], interpreter[SYS_PATH_MAX], directory[SYS_PATH_MAX];
	unsigned minor = minor_version(name);
	if (minor < 11 || minor <= best->minor || !join(base, library, "/", name))
		return;
	if (!(join(boot, base, "/site-packages", "/ocirun/cli/boot.py") && exists(boot, 4)) &&
	    !(join(boot, base, "/dist-packages", "/ocirun/cli/boot.py") && exists(boot, 4)))
		return;
	for (unsigned place = 0; place < 3; place++) {
		text_copy(directory, sizeof directory, place == 0 ? bin : place == 1 ? "/usr/local/bin" : "/usr/bin");
		if (join(interpreter, directory, "/", name) && exists(interpreter, 1)) {
			text_copy(best->interpreter, SYS_PATH_MAX, interpreter);
			text_copy(best->boot, SYS_PATH_MAX, boot);
			best->minor = minor;
			return;
		}
	}
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
	if (exists(target, 1))
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

__attribute__((noreturn, used)) void launch_main(const long *stack);
void launch_main(const long *stack) {
	static char bin[SYS_PATH_MAX], prefix[SYS_PATH_MAX], library[SYS_PATH_MAX];
	static struct found best;
	long argc = stack[0];
	const char *const *argv = (const char *const *)(stack + 1);
	const char *const *envp = argv + argc + 1;

	long size = sys4(__NR_readlinkat, AT_FDCWD, "/proc/self/exe", bin, sizeof bin - 1);
	if (size <= 0 || !cut(bin)) {
		complain("ocirun: cannot find out where it is installed: /proc is not mounted\n");
		sys1(__NR_exit_group, 1);
	}
	text_copy(prefix, sizeof prefix, bin);
	if (!cut(prefix))
		prefix[0] = 0;
	if (join(library, prefix, "/lib", ""))
		search(bin, library, &best);
	if (best.minor == 0) {
		complain("ocirun: no Python 3.11 or newer with the package ocirun belongs to ");
		complain(bin);
		complain("\n");
		sys1(__NR_exit_group, 1);
	}
	follow_links(best.interpreter);
	size_t room = ((size_t)argc + 5) * sizeof(char *);
	long memory = sys6(__NR_mmap, 0, (long)room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory < 0 && memory > -4096)
		sys1(__NR_exit_group, 1);
	const char **words = (const char **)memory;
	long count = 0;
	words[count++] = best.interpreter;
	words[count++] = "-I";
	words[count++] = "-S";
	words[count++] = best.boot;
	for (long i = 1; i < argc; i++)
		words[count++] = argv[i];
	sys3(__NR_execve, best.interpreter, words, envp);
	complain("ocirun: cannot execute ");
	complain(best.interpreter);
	complain("\n");
	sys1(__NR_exit_group, 126);
	__builtin_unreachable();
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
