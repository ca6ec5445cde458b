/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of ocirun-init share.  The program has no libc, no heap and no policy: it checks the plan, walks
 * it, and reports the first failure as (operation, call site, errno).
 */
#ifndef OCIRUN_INIT_H
#define OCIRUN_INIT_H

#include "syscalls.h"

#define FD_NONE (-1)

struct plan {
	const unsigned char *bytes;
	const struct ocirun_header *header;
	const struct ocirun_op *ops;
};

struct context {
	struct plan plan;
	const struct ocirun_op *op; /* being executed */
	uint32_t op_index;
	uint32_t site;	       /* enum ocirun_site of the last call tried */
	const char *detail;    /* path or text that belongs to the failure, or NULL */
	char detail_text[512]; /* room for a detail that is put together */
	int *slots;
	int first_slot;		/* number that slot 0 was passed in as */
	int entered;		/* among processes of the container: no path of /proc is the host's any more */
	int root;		/* O_PATH descriptor of the container's root mount */
	int proc;		/* private procfs without /proc/sys */
	int sys_proc;		/* private procfs with /proc/sys */
	int mask_tmpfs;		/* the read-only tmpfs that masks directories */
	int dev_null;		/* the host's /dev/null, verified */
	int start;		/* connection of `start` */
	const char *executable; /* found by FIND_EXECUTABLE */
	char executable_text[SYS_PATH_MAX];
	const char *program; /* what EXEC executes, and with what */
	const char **args, **env;
	int chdir_refused;	 /* the first CHDIR met EACCES */
	char home[SYS_PATH_MAX]; /* "HOME=..." for EXEC, or empty */
};

/* Record where we are, so that a failure can name its call; evaluates to the call's result. */
#define AT(ctx, site_, call) ((ctx)->site = OCIRUN_SITE_##site_, (call))

/* Return the failure of a call to the caller, leave its result in `name` otherwise. */
#define TRY(ctx, site_, call)                                                                                          \
	do {                                                                                                           \
		long try_result_ = AT(ctx, site_, call);                                                               \
		if (try_result_ < 0)                                                                                   \
			return (int)try_result_;                                                                       \
	} while (0)

static inline int fail(struct context *ctx, enum ocirun_site site, int error) {
	ctx->site = site;
	return -error;
}

/* End, whatever a filter says: it may answer exit_group(2) with an errno, and what follows in memory would be executed.
 */
__attribute__((noreturn)) static inline void end(int status) {
	sys1(__NR_exit_group, status);
	__builtin_trap();
}

static inline void cleanup_close(int *fd) {
	if (*fd >= 0)
		sys_close(*fd);
}
#define cleanup_fd __attribute__((cleanup(cleanup_close)))

static inline int take_fd(int *fd) {
	int taken = *fd;
	*fd = FD_NONE;
	return taken;
}

/* plan.c: pure, fuzzed on its own */
int plan_check(const unsigned char *bytes, size_t size, struct plan *out);
const char *plan_text(const struct plan *plan, uint32_t offset);
uint32_t plan_text_size(const struct plan *plan, uint32_t offset);
const char *next_text(const char *text);

/* text.c */
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t text_length(const char *text);
int text_equal(const char *a, const char *b);
int text_starts(const char *text, const char *prefix);
const char *text_find(const char *text, char wanted);
size_t text_copy(char *to, size_t room, const char *from);
size_t text_number(char *to, uint64_t number);

/* resolve.c: the only resolver of paths below the root */
#define RESOLVE_CREATE_DIRECTORY 1u
#define RESOLVE_CREATE_FILE 2u
#define RESOLVE_NO_LINKS 4u
int resolve_below(struct context *ctx, int base, const char *path, unsigned policy);
int resolve_in_root(struct context *ctx, const char *path, unsigned policy);
int resolve_parent(struct context *ctx, int base, const char *path, const char **name);
int open_proc(struct context *ctx, int with_sys);
int open_below_proc(struct context *ctx, int with_sys, const char *path, int flags);
int open_in_root(struct context *ctx, const char *path, int flags, uint32_t major, uint32_t minor);
int reopen(struct context *ctx, int fd, int flags);
int is_procfs_root(int fd);
int is_character_device(int fd, uint32_t major, uint32_t minor);
int open_host_null(struct context *ctx);

/* ops_mount.c */
int is_refused(long result);
void fd_path(char *to, int fd);
size_t quote(char *to, size_t room, const char *label);
int set_attributes(struct context *ctx, int fd, uint64_t set, uint64_t clear, uint64_t propagation, int recursive,
		   int attached);
int attach(struct context *ctx, int *mount, int destination, int base, const char *path, int recursive);
int clone_of(struct context *ctx, int fd, unsigned flags);

/* sync.c */
int send_message(struct context *ctx, int fd, uint32_t kind, uint32_t value, int pid, int rights);
int receive_message(struct context *ctx, int fd, uint32_t kind, int *rights);
int send_rights(int socket, const char *text, size_t size, int fd, int flags);
void report_failure(struct context *ctx, int error);

/* the operations; each returns 0 or -errno with ctx->site set */
int op_open_namespace(struct context *ctx);
int op_affinity(struct context *ctx);
int op_join_cgroup(struct context *ctx);
int op_join(struct context *ctx);
int op_unshare(struct context *ctx);
int op_id_maps(struct context *ctx);
int op_become(struct context *ctx);
int op_fork(struct context *ctx);
int op_barrier(struct context *ctx);
int op_open_proc(struct context *ctx);
int op_enter_root(struct context *ctx);
int op_write_proc(struct context *ctx);
int op_sysctl(struct context *ctx);
int op_hostname(struct context *ctx);
int op_domainname(struct context *ctx);
int op_loopback(struct context *ctx);
int op_open_netlink(struct context *ctx);
int op_keyring(struct context *ctx);
int op_propagation(struct context *ctx);
int op_open_tree(struct context *ctx);
int op_idmap(struct context *ctx);
int op_rootfs(struct context *ctx);
int op_mount(struct context *ctx);
int op_bind(struct context *ctx);
int op_remount(struct context *ctx);
int op_resolve(struct context *ctx);
int op_unmount(struct context *ctx);
int op_mask(struct context *ctx);
int op_readonly(struct context *ctx);
int op_pivot(struct context *ctx);
int op_root_attributes(struct context *ctx);
int op_directory(struct context *ctx);
int op_device(struct context *ctx);
int op_bind_device(struct context *ctx);
int op_symlink(struct context *ctx);
int op_console(struct context *ctx);
int op_stdio(struct context *ctx);
int op_setsid(struct context *ctx);
int op_chdir(struct context *ctx);
int op_rlimit(struct context *ctx);
int op_personality(struct context *ctx);
int op_scheduler(struct context *ctx);
int op_io_priority(struct context *ctx);
int op_memory_policy(struct context *ctx);
int op_bounding(struct context *ctx);
int op_ids(struct context *ctx);
int op_capabilities(struct context *ctx);
int op_no_new_privileges(struct context *ctx);
int op_find_executable(struct context *ctx);
int op_find_home(struct context *ctx);
int op_wait_start(struct context *ctx);
int op_hook(struct context *ctx);
int op_seccomp(struct context *ctx);
int op_announce(struct context *ctx);
int op_exec(struct context *ctx);
int op_end(struct context *ctx);

/* ops_process.c */
void unblock_signals(void);
const char **text_vector(struct context *ctx, const char *first, uint64_t count);

/* wait_start.c */
void close_files(struct context *ctx);

/* copy_up.c */
int copy_up(struct context *ctx, int from, int to, int with_owner, int with_mode);

static inline const char *op_text(const struct context *ctx, unsigned which) {
	return plan_text(&ctx->plan, ctx->op->text[which]);
}
static inline int op_slot(const struct context *ctx, unsigned which) {
	return ctx->slots[ctx->op->slot[which]];
}
static inline int has_flag(const struct context *ctx, unsigned flag) {
	return (ctx->op->flags & flag) != 0;
}

#endif
