/* SPDX-License-Identifier: Apache-2.0
 *
 * The process: session, limits, identity, capabilities, execve.
 */
#include "init.h"

#define NUMBER(which) (ctx->op->number[which])

int op_setsid(struct context *ctx) {
	/* EPERM: we lead a group already, which a freshly cloned process does not; pid 1 of a pid namespace may. */
	long result = AT(ctx, SETSID, sys0(__NR_setsid));
	return result < 0 && result != -EPERM ? (int)result : 0;
}

/* "(unreachable)/..." is what the raw call says of a directory outside the root; libc hides it (CVE-2024-21626). */
static int verify_cwd(struct context *ctx) {
	char path[SYS_PATH_MAX];
	long size = AT(ctx, GETCWD, sys2(__NR_getcwd, path, sizeof path));
	if (size < 0 && size != -ENOENT)
		return (int)size;
	return size > 0 && path[0] == '/' ? 0 : fail(ctx, OCIRUN_SITE_VERIFY_CWD, EXDEV);
}

int op_chdir(struct context *ctx) {
	if (has_flag(ctx, OCIRUN_FLAG_RETRY) && !ctx->chdir_refused)
		return 0;
	ctx->detail = op_text(ctx, 0);
	long result = AT(ctx, CHDIR, sys1(__NR_chdir, ctx->detail));
	/* On a root-squashed or FUSE file system root may be the one who is refused. */
	if (result == -EACCES && has_flag(ctx, OCIRUN_FLAG_TOLERANT)) {
		ctx->chdir_refused = 1;
		return 0;
	}
	return result < 0 ? (int)result : verify_cwd(ctx);
}

int op_rlimit(struct context *ctx) {
	uint64_t limit[2] = { NUMBER(1), NUMBER(2) };
	if (has_flag(ctx, OCIRUN_FLAG_RAISE)) {
		/* Before a user namespace takes CAP_SYS_RESOURCE away; the soft limit follows at the end. */
		uint64_t now[2];
		TRY(ctx, PRLIMIT64, sys4(__NR_prlimit64, 0, NUMBER(0), NULL, now));
		if (now[1] >= NUMBER(2))
			return 0;
		limit[0] = now[0];
	}
	TRY(ctx, PRLIMIT64, sys4(__NR_prlimit64, 0, NUMBER(0), limit, NULL));
	return 0;
}

int op_personality(struct context *ctx) {
	TRY(ctx, PERSONALITY, sys1(__NR_personality, NUMBER(0)));
	return 0;
}

int op_scheduler(struct context *ctx) {
	const uint64_t *times = (const uint64_t *)(const void *)op_text(ctx, 0);
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t util_min, util_max;
	} attr = { .size = sizeof attr,
		   .policy = (uint32_t)NUMBER(0),
		   .flags = NUMBER(1),
		   .nice = (int32_t)NUMBER(2),
		   .priority = (uint32_t)NUMBER(3) };
	if (times)
		attr.runtime = times[0], attr.deadline = times[1], attr.period = times[2];
	TRY(ctx, SCHED_SETATTR, sys3(__NR_sched_setattr, 0, &attr, 0));
	return 0;
}

int op_affinity(struct context *ctx) {
	TRY(ctx, SCHED_SETAFFINITY,
	    sys3(__NR_sched_setaffinity, 0, plan_text_size(&ctx->plan, ctx->op->text[0]), op_text(ctx, 0)));
	return 0;
}

int op_io_priority(struct context *ctx) {
	/* The specification says the process group: IOPRIO_WHO_PGRP is 2 (1 would be the process alone). */
	TRY(ctx, IOPRIO_SET, sys3(__NR_ioprio_set, 2, 0, NUMBER(0)));
	return 0;
}

int op_memory_policy(struct context *ctx) {
	/* The kernel takes one bit more than it reads: maxnode counts from 1. */
	TRY(ctx, SET_MEMPOLICY,
	    sys3(__NR_set_mempolicy, NUMBER(0), op_text(ctx, 0), op_text(ctx, 0) ? NUMBER(1) + 1 : 0));
	return 0;
}

int op_bounding(struct context *ctx) {
	/* To the last that the kernel knows, which the plan says: a loop that EINVAL ends would fail open. */
	for (unsigned long bit = 0; bit <= NUMBER(1) && bit < 64; bit++) {
		long present = AT(ctx, PRCTL, sys_prctl(PR_CAPBSET_READ, bit, 0, 0));
		if (present < 0)
			return (int)present;
		if (present && !(NUMBER(0) & (1ull << bit)))
			TRY(ctx, PRCTL, sys_prctl(PR_CAPBSET_DROP, bit, 0, 0));
	}
	/* And the plan must be right: where the parent could not read the number, it may have said too little. */
	if (NUMBER(1) < 63 && sys_prctl(PR_CAPBSET_READ, NUMBER(1) + 1, 0, 0) != -EINVAL)
		return fail(ctx, OCIRUN_SITE_PRCTL, ERANGE);
	return 0;
}

int op_ids(struct context *ctx) {
	const uint32_t *groups = (const uint32_t *)(const void *)op_text(ctx, 0);
	uint32_t count = plan_text_size(&ctx->plan, ctx->op->text[0]) / 4;
	uint32_t found[3];

	TRY(ctx, PRCTL, sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0));
	/* Always, also for an empty list: the caller's groups must not survive (V-10).  A user namespace in which
	 * setgroups is denied has none to give: the builder leaves the list out then, which is text 0. */
	if (groups) {
		TRY(ctx, SETGROUPS, sys2(__NR_setgroups, count, groups));
		long left = AT(ctx, SETGROUPS, sys2(__NR_getgroups, 0, NULL));
		if (left != (long)count)
			return fail(ctx, OCIRUN_SITE_VERIFY_IDS, EPERM);
	}
	TRY(ctx, SETRESGID, sys3(__NR_setresgid, NUMBER(1), NUMBER(1), NUMBER(1)));
	TRY(ctx, SETRESUID, sys3(__NR_setresuid, NUMBER(0), NUMBER(0), NUMBER(0)));
	TRY(ctx, PRCTL, sys_prctl(PR_SET_KEEPCAPS, 0, 0, 0));
	TRY(ctx, SETRESUID, sys3(__NR_getresuid, &found[0], &found[1], &found[2]));
	if (found[0] != NUMBER(0) || found[1] != NUMBER(0) || found[2] != NUMBER(0))
		return fail(ctx, OCIRUN_SITE_VERIFY_IDS, EPERM);
	TRY(ctx, SETRESGID, sys3(__NR_getresgid, &found[0], &found[1], &found[2]));
	if (found[0] != NUMBER(1) || found[1] != NUMBER(1) || found[2] != NUMBER(1))
		return fail(ctx, OCIRUN_SITE_VERIFY_IDS, EPERM);
	/* A change of ids may have made us dumpable by the sysctl fs.suid_dumpable. */
	TRY(ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 0, 0, 0));
	return 0;
}

struct capabilities {
	struct __user_cap_header_struct header;
	struct __user_cap_data_struct data[2];
};

static int set_capabilities(struct context *ctx, uint64_t effective, uint64_t permitted, uint64_t inheritable) {
	struct capabilities want = { { _LINUX_CAPABILITY_VERSION_3, 0 }, { { 0 } } };
	struct capabilities have = want;
	for (unsigned word = 0; word < 2; word++) {
		want.data[word].effective = (uint32_t)(effective >> (32 * word));
		want.data[word].permitted = (uint32_t)(permitted >> (32 * word));
		want.data[word].inheritable = (uint32_t)(inheritable >> (32 * word));
	}
	TRY(ctx, CAPSET, sys2(__NR_capset, &want.header, want.data));
	TRY(ctx, CAPGET, sys2(__NR_capget, &have.header, have.data));
	if (memcmp(want.data, have.data, sizeof want.data) != 0)
		return fail(ctx, OCIRUN_SITE_VERIFY_CAPABILITIES, EPERM);
	return 0;
}

/* The builder says what to hold when: CAP_SYS_ADMIN stays permitted until the filter of a process without
 * no_new_privs is loaded, everything else is as the container process will have it. */
int op_capabilities(struct context *ctx) {
	int error = set_capabilities(ctx, NUMBER(0), NUMBER(1), NUMBER(2));
	if (error < 0)
		return error;
	if (has_flag(ctx, OCIRUN_FLAG_FINAL))
		return 0; /* the kernel has lowered ambient along with permitted */
	/* Raised once everything is in its final place: ambient needs permitted and inheritable. */
	TRY(ctx, PRCTL, sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0));
	for (unsigned long bit = 0; bit < 64; bit++)
		if (NUMBER(3) & (1ull << bit))
			TRY(ctx, PRCTL, sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit, 0));
	return 0;
}

int op_no_new_privileges(struct context *ctx) {
	TRY(ctx, PRCTL, sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0));
	return 0;
}

/* May this user execute it?  faccessat2(2) (5.8) answers for the effective ids; an older kernel says so at execve. */
static long may_execute(const char *path) {
	struct sys_stat st = { 0 };
	long result = sys_stat(AT_FDCWD, path, 0, &st);
	if (result < 0)
		return result;
	if ((st.mode & S_IFMT) != S_IFREG)
		return -EACCES;
	result = sys4(__NR_faccessat2, AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS);
	return result == -ENOSYS || result == -EPERM ? 0 : result;
}

int op_find_executable(struct context *ctx) {
	const char *name = op_text(ctx, 0), *path = op_text(ctx, 1);
	long best = -ENOENT;

	ctx->detail = name;
	if (!*name)
		return fail(ctx, OCIRUN_SITE_FIND_EXECUTABLE, ENOENT);
	if (text_find(name, '/')) {
		ctx->executable = name;
		return (int)AT(ctx, FIND_EXECUTABLE, may_execute(name));
	}
	while (path) {
		const char *end = text_find(path, ':');
		size_t size = end ? (size_t)(end - path) : text_length(path);
		/* An empty entry is the working directory, as execvp(3) has it. */
		if (size + 2 + text_length(name) < sizeof ctx->executable_text) {
			char *text = ctx->executable_text;
			memcpy(text, path, size);
			if (size > 0)
				text[size++] = '/';
			text_copy(text + size, sizeof ctx->executable_text - size, name);
			long result = may_execute(text);
			if (result == 0) {
				ctx->executable = text;
				return 0;
			}
			if (result != -ENOENT && result != -ENOTDIR)
				best = result;
		}
		path = end ? end + 1 : NULL;
	}
	return (int)AT(ctx, FIND_EXECUTABLE, best);
}

/* Parse "name:password:uid:gid:gecos:home:shell" and keep the home where the uid is the one wanted. */
static int take_home(struct context *ctx, const char *line, size_t size, uint64_t uid) {
	char *home = ctx->home;
	size_t at = 0, kept = 5;
	uint64_t number = 0;
	unsigned digits = 0;
	for (unsigned field = 0; field < 6 && at <= size; field++, at++) {
		for (; at < size && line[at] != ':'; at++) {
			if (field == 2) {
				/* Digits only, and no more than a uid has (CVE-2016-3697). */
				if (line[at] < '0' || line[at] > '9' || ++digits > 10)
					return 0;
				number = number * 10 + (uint64_t)(line[at] - '0');
			}
			if (field == 5 && kept + 1 < sizeof ctx->home)
				home[kept++] = line[at];
		}
		if (field == 2 && (digits == 0 || number != uid))
			return 0;
	}
	if (kept == 5 || home[5] != '/')
		return 0;
	home[kept] = 0;
	return 1;
}

/* The image's passwd is read like any file of an attacker: below the root, regular, without blocking, 1 MiB of it.
 * Whatever is wrong with it, HOME is "/" (runc and crun do this when the configuration has no HOME). */
int op_find_home(struct context *ctx) {
	char line[1024], buffer[4096];
	size_t size = 0, total = 0;

	text_copy(ctx->home, sizeof ctx->home, "HOME=/");
	cleanup_fd int fd = open_in_root(ctx, "/etc/passwd", O_RDONLY, 0, 0);
	int found = 0;
	while (fd >= 0 && !found && total < 1048576) {
		long got = sys3(__NR_read, fd, buffer, sizeof buffer);
		if (got <= 0)
			break;
		total += (size_t)got;
		for (long i = 0; i < got && !found; i++) {
			if (buffer[i] == '\n') {
				found = size < sizeof line && take_home(ctx, line, size, NUMBER(0));
				size = 0;
			} else if (size < sizeof line) {
				line[size++] = buffer[i];
			}
		}
	}
	if (!found && !(size > 0 && size < sizeof line && take_home(ctx, line, size, NUMBER(0))))
		text_copy(ctx->home, sizeof ctx->home, "HOME=/");
	return 0;
}

/* Handlers and ignored signals were reset by the spawn, and nothing here has set one since. */
void unblock_signals(void) {
	uint64_t none = 0;
	sys4(__NR_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

/* An argv or envp on pages of our own: there is no heap. */
const char **text_vector(struct context *ctx, const char *first, uint64_t count) {
	size_t size = (size_t)(count + 2) * sizeof(char *); /* one more for HOME, and the end */
	long address =
		AT(ctx, MMAP,
		   sys6(__NR_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, FD_NONE, 0));
	if (address < 0 && address > -4096)
		return NULL;
	const char **vector = (const char **)address;
	for (uint64_t i = 0; i < count; i++, first = next_text(first))
		vector[i] = first;
	return vector;
}

static int move_fd(int fd, unsigned *to) {
	if (fd < 0 || sys_dup3(fd, (int)*to, O_CLOEXEC) < 0)
		return fd;
	return (int)(*to)++;
}

/* What EXEC, the last operation of every plan, will need: its own call shall be execve and nothing else, since it may
 * run under a filter that allows nothing else. */
static int prepare_exec(struct context *ctx) {
	const struct ocirun_op *exec = &ctx->plan.ops[ctx->plan.header->op_count - 1];
	const char *first = plan_text(&ctx->plan, exec->text[0]);
	const char *path = plan_text(&ctx->plan, exec->text[2]);

	ctx->args = text_vector(ctx, first, exec->number[0]);
	ctx->env = text_vector(ctx, plan_text(&ctx->plan, exec->text[1]), exec->number[1]);
	if (!ctx->args || !ctx->env)
		return -ENOMEM;
	if (ctx->home[0])
		ctx->env[exec->number[1]] = ctx->home;
	ctx->program = path ? path : ctx->executable ? ctx->executable : first;
	sys1(__NR_umask, exec->number[2]);
	return 0;
}

/* Only 0-2, what the caller preserves, and our connection are left: close-on-exec, and not to be opened by a path.
 * Done before the filter, which may forbid closing and telling alike. */
int op_announce(struct context *ctx) {
	unsigned first = 3 + ctx->plan.header->keep_count;
	int connection = ctx->start >= 0 ? ctx->start : ctx->slots[OCIRUN_SLOT_SYNC];
	int agent = ctx->op->slot[0] >= 0 ? op_slot(ctx, 0) : FD_NONE;
	int text = ctx->op->slot[1] >= 0 ? op_slot(ctx, 1) : FD_NONE;

	/* Each is moved to the lowest number that no one of them holds yet; above them everything goes. */
	unsigned low = first + 3;
	connection = (int)AT(ctx, FCNTL, sys_fcntl(connection, F_DUPFD_CLOEXEC, (long)low));
	if (connection < 0)
		return connection;
	agent = agent < 0 ? agent : (int)sys_fcntl(agent, F_DUPFD_CLOEXEC, (long)low);
	text = text < 0 ? text : (int)sys_fcntl(text, F_DUPFD_CLOEXEC, (long)low);
	ctx->start = move_fd(connection, &first);
	if (ctx->op->slot[0] >= 0)
		ctx->slots[ctx->op->slot[0]] = move_fd(agent, &first);
	if (ctx->op->slot[1] >= 0)
		ctx->slots[ctx->op->slot[1]] = move_fd(text, &first);
	/* All of them are close-on-exec since the start: this is the second line, and may be refused. */
	sys_close_range(first, ~0u, 0);
	int error = prepare_exec(ctx);
	if (error < 0)
		return error;
	error = send_message(ctx, ctx->start, OCIRUN_MSG_EXECUTING, 0, 0, FD_NONE);
	unblock_signals();
	return error;
}

int op_exec(struct context *ctx) {
	return (int)AT(ctx, EXECVE, sys3(__NR_execve, ctx->detail = ctx->program, ctx->args, ctx->env));
}

/* Nothing is executed: that the work is done shows in the exit status. */
int op_end(struct context *ctx) {
	(void)ctx;
	end(0);
}
