/* SPDX-License-Identifier: Apache-2.0
 *
 * ocirun-init: executes a plan.
 *
 * Started by the spawn with argv[1] = the number of the plan's descriptor; the inputs follow it.  From here to execve
 * everything runs with all signals blocked, not dumpable, umask 0, and no descriptor that execve would pass on beyond
 * 0-2 and what the caller preserves.  Raw system calls only: no libc, no heap, no environment.
 */
#include "init.h"

static int dispatch(struct context *ctx) {
	switch ((enum ocirun_opcode)ctx->op->opcode) {
	case OCIRUN_OP_OPEN_NAMESPACE:
		return op_open_namespace(ctx);
	case OCIRUN_OP_AFFINITY:
		return op_affinity(ctx);
	case OCIRUN_OP_JOIN_CGROUP:
		return op_join_cgroup(ctx);
	case OCIRUN_OP_JOIN:
		return op_join(ctx);
	case OCIRUN_OP_UNSHARE:
		return op_unshare(ctx);
	case OCIRUN_OP_ID_MAPS:
		return op_id_maps(ctx);
	case OCIRUN_OP_BECOME:
		return op_become(ctx);
	case OCIRUN_OP_FORK:
		return op_fork(ctx);
	case OCIRUN_OP_BARRIER:
		return op_barrier(ctx);
	case OCIRUN_OP_OPEN_PROC:
		return op_open_proc(ctx);
	case OCIRUN_OP_ENTER_ROOT:
		return op_enter_root(ctx);
	case OCIRUN_OP_WRITE_PROC:
		return op_write_proc(ctx);
	case OCIRUN_OP_SYSCTL:
		return op_sysctl(ctx);
	case OCIRUN_OP_HOSTNAME:
		return op_hostname(ctx);
	case OCIRUN_OP_DOMAINNAME:
		return op_domainname(ctx);
	case OCIRUN_OP_LOOPBACK:
		return op_loopback(ctx);
	case OCIRUN_OP_OPEN_NETLINK:
		return op_open_netlink(ctx);
	case OCIRUN_OP_KEYRING:
		return op_keyring(ctx);
	case OCIRUN_OP_PROPAGATION:
		return op_propagation(ctx);
	case OCIRUN_OP_OPEN_TREE:
		return op_open_tree(ctx);
	case OCIRUN_OP_IDMAP:
		return op_idmap(ctx);
	case OCIRUN_OP_ROOTFS:
		return op_rootfs(ctx);
	case OCIRUN_OP_MOUNT:
		return op_mount(ctx);
	case OCIRUN_OP_BIND:
		return op_bind(ctx);
	case OCIRUN_OP_REMOUNT:
		return op_remount(ctx);
	case OCIRUN_OP_RESOLVE:
		return op_resolve(ctx);
	case OCIRUN_OP_UNMOUNT:
		return op_unmount(ctx);
	case OCIRUN_OP_MASK:
		return op_mask(ctx);
	case OCIRUN_OP_READONLY:
		return op_readonly(ctx);
	case OCIRUN_OP_PIVOT:
		return op_pivot(ctx);
	case OCIRUN_OP_ROOT_ATTRIBUTES:
		return op_root_attributes(ctx);
	case OCIRUN_OP_DIRECTORY:
		return op_directory(ctx);
	case OCIRUN_OP_DEVICE:
		return op_device(ctx);
	case OCIRUN_OP_BIND_DEVICE:
		return op_bind_device(ctx);
	case OCIRUN_OP_SYMLINK:
		return op_symlink(ctx);
	case OCIRUN_OP_CONSOLE:
		return op_console(ctx);
	case OCIRUN_OP_STDIO:
		return op_stdio(ctx);
	case OCIRUN_OP_SETSID:
		return op_setsid(ctx);
	case OCIRUN_OP_CHDIR:
		return op_chdir(ctx);
	case OCIRUN_OP_RLIMIT:
		return op_rlimit(ctx);
	case OCIRUN_OP_PERSONALITY:
		return op_personality(ctx);
	case OCIRUN_OP_SCHEDULER:
		return op_scheduler(ctx);
	case OCIRUN_OP_IO_PRIORITY:
		return op_io_priority(ctx);
	case OCIRUN_OP_MEMORY_POLICY:
		return op_memory_policy(ctx);
	case OCIRUN_OP_BOUNDING:
		return op_bounding(ctx);
	case OCIRUN_OP_IDS:
		return op_ids(ctx);
	case OCIRUN_OP_CAPABILITIES:
		return op_capabilities(ctx);
	case OCIRUN_OP_NO_NEW_PRIVILEGES:
		return op_no_new_privileges(ctx);
	case OCIRUN_OP_FIND_EXECUTABLE:
		return op_find_executable(ctx);
	case OCIRUN_OP_FIND_HOME:
		return op_find_home(ctx);
	case OCIRUN_OP_WAIT_START:
		return op_wait_start(ctx);
	case OCIRUN_OP_HOOK:
		return op_hook(ctx);
	case OCIRUN_OP_SECCOMP:
		return op_seccomp(ctx);
	case OCIRUN_OP_ANNOUNCE:
		return op_announce(ctx);
	case OCIRUN_OP_EXEC:
		return op_exec(ctx);
	case OCIRUN_OP_END:
		return op_end(ctx);
	case OCIRUN_OP_INVALID:
	case OCIRUN_OP_COUNT:
		break;
	}
	return fail(ctx, OCIRUN_SITE_PLAN, EINVAL);
}

/* Map the plan, check all of it, and lay out the slots.  The plan is a sealed memfd: it cannot change any more. */
static int load_plan(struct context *ctx, int plan_fd) {
	long size = AT(ctx, FSTAT, sys3(__NR_lseek, plan_fd, 0, 2 /* SEEK_END */));
	if (size < 0)
		return (int)size;
	long address = AT(ctx, MMAP, sys6(__NR_mmap, 0, size, PROT_READ, MAP_PRIVATE, plan_fd, 0));
	if (address < 0 && address > -4096)
		return (int)address;
	ctx->site = OCIRUN_SITE_PLAN;
	int error = plan_check((const unsigned char *)address, (size_t)size, &ctx->plan);
	if (error < 0)
		return error;
	uint32_t count = ctx->plan.header->slot_count;
	address = AT(ctx, MMAP,
		     sys6(__NR_mmap, 0, (long)(count * sizeof(int)), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, FD_NONE, 0));
	if (address < 0 && address > -4096)
		return (int)address;
	ctx->slots = (int *)address;
	for (uint32_t i = 0; i < count; i++)
		ctx->slots[i] = i < ctx->plan.header->input_count ? ctx->first_slot + (int)i : FD_NONE;
	/* None of them outlives execve, whatever happens later. */
	for (uint32_t i = 0; i < ctx->plan.header->input_count; i++)
		TRY(ctx, FCNTL, sys_fcntl(ctx->slots[i], F_SETFD, FD_CLOEXEC));
	sys_close(plan_fd);
	return 0;
}

static int run(struct context *ctx) {
	for (uint32_t i = 0; i < ctx->plan.header->op_count; i++) {
		ctx->op = &ctx->plan.ops[i];
		ctx->op_index = i;
		ctx->detail = NULL;
		int error = dispatch(ctx);
		if (error < 0)
			return error;
		if (ctx->op->opcode == OCIRUN_OP_HOOK)
			i += (uint32_t)ctx->op->number[5]; /* which were for its process */
	}
	return 0; /* not reached: a plan ends in EXEC or END */
}

/* 127 where the program was not found, 126 where it could not be executed, as a shell says it. */
static int exit_status(const struct context *ctx, int error) {
	if (ctx->site != OCIRUN_SITE_EXECVE && ctx->site != OCIRUN_SITE_FIND_EXECUTABLE)
		return 1;
	return error == ENOENT ? 127 : 126;
}

__attribute__((noreturn, used)) void init_main(const long *stack);
void init_main(const long *stack) {
	static struct context ctx;
	long argc = stack[0];
	const char *const *argv = (const char *const *)(stack + 1);
	int plan_fd = 0;

	ctx.root = ctx.proc = ctx.sys_proc = ctx.mask_tmpfs = ctx.dev_null = ctx.start = FD_NONE;
	/* The very first thing: nobody inside may trace us or look at our descriptors (CVE-2016-9962). */
	int error = (int)AT(&ctx, PRCTL, sys_prctl(PR_SET_DUMPABLE, 0, 0, 0));
	if (argc < 2 || error < 0)
		end(1);
	for (const char *digit = argv[1]; *digit >= '0' && *digit <= '9' && plan_fd < 1000000; digit++)
		plan_fd = plan_fd * 10 + (*digit - '0');
	ctx.first_slot = plan_fd + 1;
	sys1(__NR_umask, 0);
	sys_prctl(PR_SET_NAME, (unsigned long)"ocirun:[INIT]", 0, 0);
	error = load_plan(&ctx, plan_fd);
	if (error == 0)
		error = run(&ctx);
	report_failure(&ctx, -error);
	end(exit_status(&ctx, -error));
}

/* The kernel enters with the stack pointer at argc.  The stack protector's guard comes from AT_RANDOM: there is no
 * thread area that gcc's default could read it from. */
uintptr_t __stack_chk_guard = 0x5bd1e995u;
__attribute__((noreturn)) void __stack_chk_fail(void);
void __stack_chk_fail(void) {
	end(134);
}

__attribute__((noreturn, used, optimize("no-stack-protector"))) void init_start(const long *stack);
void init_start(const long *stack) {
	const long *word = stack + 1 + stack[0] + 1;
	while (*word)
		word++;
	for (word++; word[0]; word += 2)
		if (word[0] == 25 /* AT_RANDOM: at any address, aligned or not */) {
			uintptr_t guard;
			memcpy(&guard, (const void *)word[1], sizeof guard);
			__stack_chk_guard = guard & ~(uintptr_t)0xff;
		}
	init_main(stack);
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall init_start\n\tud2\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tand sp, x0, #-16\n\tbl init_start\n\tbrk 1\n");
#endif
