/* SPDX-License-Identifier: Apache-2.0
 *
 * The wire between Python and ocirun-init: the plan, the messages, the opcodes, the call sites.
 *
 * This file is the only definition.  It is fed both to cffi's ffi.cdef() and to the C compiler, so it has no
 * #include and no macro beyond "#define NAME number"; syscalls.h pins the sizes with _Static_assert.
 */
/* The comments are columns of tables. */
/* clang-format off */

#define OCIRUN_MAGIC 0x6e72636f
#define OCIRUN_ABI 1

/* Limits that the checker enforces before the first effect. */
#define OCIRUN_MAX_PLAN 67108864
#define OCIRUN_MAX_OPS 65536
#define OCIRUN_MAX_SLOTS 16384
#define OCIRUN_MAX_TEXT 16777216
#define OCIRUN_MAX_MESSAGE 4096

/* A plan: this header, op_count operations, then blobs.  A blob is {uint32_t size, size bytes, NUL}; an operation
 * names a blob by its offset from the start of the plan, 0 for none. */
struct ocirun_header {
	uint32_t magic;
	uint32_t abi;
	uint32_t total_size;
	uint32_t op_count;
	uint32_t slot_count;	/* descriptors that operations may name */
	uint32_t input_count;	/* the first so many are passed in, in order, after the plan's own */
	uint32_t keep_count;	/* descriptors 3.. that the container process keeps */
	uint32_t reserved;
};

struct ocirun_op {
	uint16_t opcode;
	uint16_t flags;
	uint32_t origin;	/* text: the JSON pointer that this operation comes from; only ever sent back */
	int32_t slot[2];
	uint32_t text[4];
	uint64_t number[6];
};

/* Slot 0 is always the socket to the parent. */
#define OCIRUN_SLOT_SYNC 0

enum ocirun_opcode {
	OCIRUN_OP_INVALID = 0,
	/* namespaces */
	OCIRUN_OP_OPEN_NAMESPACE,	/* slot0 <- open(text0) unless it is an input; must be of type number0 */
	OCIRUN_OP_AFFINITY,		/* text0 = CPU mask of uint64_t */
	OCIRUN_OP_JOIN_CGROUP,		/* text0 = "tasks" of a version 1 cgroup: moving oneself is cheap, being moved is not */
	OCIRUN_OP_JOIN,			/* setns(slot0, number0) */
	OCIRUN_OP_UNSHARE,		/* number0 = CLONE_NEW* */
	OCIRUN_OP_ID_MAPS,		/* ask the parent for the maps */
	OCIRUN_OP_BECOME,		/* be number0 = uid, 1 = gid of the user namespace */
	OCIRUN_OP_FORK,			/* continue in a child made with number0 = CLONE_NEW*; the parent learns its pid */
	OCIRUN_OP_BARRIER,		/* number0 = enum ocirun_barrier; slot0 <- descriptor sent with the answer, if any;
					 * slot1 = one to send along, closed here afterwards */
	OCIRUN_OP_OPEN_PROC,		/* open the private procfs, while /proc is still the runtime's own */
	OCIRUN_OP_ENTER_ROOT,		/* paths are below "/" from now on: that of the mount namespace, or slot0 */
	OCIRUN_OP_WRITE_PROC,		/* text0 below /proc, text1 = data */
	OCIRUN_OP_SYSCTL,		/* text0 below /proc/sys, text1 = value */
	OCIRUN_OP_HOSTNAME,		/* text0 */
	OCIRUN_OP_DOMAINNAME,		/* text0 */
	OCIRUN_OP_LOOPBACK,
	OCIRUN_OP_OPEN_NETLINK,		/* slot0 <- socket that speaks to the routing part of our network namespace */
	OCIRUN_OP_KEYRING,		/* text0 = name */
	/* mounts */
	OCIRUN_OP_PROPAGATION,		/* number0 = MS_* for "/" of the new mount namespace */
	OCIRUN_OP_OPEN_TREE,		/* slot0 <- detached clone of text0; number0 = propagation that it has from the first
					 * moment, for which nothing else stands in, or 0 */
	OCIRUN_OP_IDMAP,		/* map the ids of the detached mount slot0 as the user namespace slot1 has them;
					 * text0 = where it will be */
	OCIRUN_OP_ROOTFS,		/* attach slot0, a clone of text0, as the future root; number0 = its propagation,
					 * 1 = that of the "/" it goes on; slot1 = the mount of device nodes, attached
					 * below it, where only init sees it */
	OCIRUN_OP_MOUNT,		/* text0 = type, text1 = source, text2 = options, text3 = destination;
					 * number0 = attributes set, 1 = cleared, 2 = propagation, 3 = option count,
					 * 4 = superblock flags set, 5 = cleared; slot0 <- the mount, to resolve below */
	OCIRUN_OP_BIND,			/* slot0 = detached source, text3 = destination; number0/1 = attributes set/cleared,
					 * 2 = propagation, 4/5 = recursively set/cleared; slot1 <- the mount */
	OCIRUN_OP_REMOUNT,		/* text2, text3 and all numbers as MOUNT */
	OCIRUN_OP_RESOLVE,		/* slot0 <- what stands at text0 below the root */
	OCIRUN_OP_UNMOUNT,		/* detach the mount whose root slot0 is; text0 = where, for messages */
	OCIRUN_OP_MASK,			/* text0, below the mount slot0 or the root; text1 = SELinux context of what masks
					 * directories, or none */
	OCIRUN_OP_READONLY,		/* text0, below the mount slot0 or the root */
	OCIRUN_OP_PIVOT,
	OCIRUN_OP_ROOT_ATTRIBUTES,	/* number0 = attributes set, number2 = propagation */
	/* things below the root */
	OCIRUN_OP_DIRECTORY,		/* text0: make it and its parents where missing */
	OCIRUN_OP_DEVICE,		/* text0, below the mount slot0 or the root; number0 = mode with type, 1 = device
					 * number, 2 = uid, 3 = gid */
	OCIRUN_OP_BIND_DEVICE,		/* show the node text1 below slot0, or slot0 itself, at text0; number0 to 3 as
					 * DEVICE, of which type and number are compared, the others by flags; 4 = propagation */
	OCIRUN_OP_SYMLINK,		/* text0 = path, text1 = target */
	OCIRUN_OP_CONSOLE,		/* slot0 = console socket; number0 = rows, 1 = columns, 2 = uid */
	OCIRUN_OP_STDIO,		/* number0 = uid that shall own stdio */
	/* process */
	OCIRUN_OP_SETSID,
	OCIRUN_OP_CHDIR,		/* text0 */
	OCIRUN_OP_RLIMIT,		/* number0 = resource, 1 = soft, 2 = hard */
	OCIRUN_OP_PERSONALITY,		/* number0 */
	OCIRUN_OP_SCHEDULER,		/* number0 = policy, 1 = flags, 2 = nice, 3 = priority; text0 = runtime, deadline,
					 * period in ns, three uint64_t */
	OCIRUN_OP_IO_PRIORITY,		/* number0 = class and level as ioprio_set(2) has them */
	OCIRUN_OP_MEMORY_POLICY,	/* number0 = mode and flags, 1 = bits in text0; text0 = node mask of uint64_t */
	OCIRUN_OP_BOUNDING,		/* number0 = capabilities kept, number1 = the last that the kernel knows */
	OCIRUN_OP_IDS,			/* number0 = uid, 1 = gid; text0 = additional gids, an array of uint32_t */
	OCIRUN_OP_CAPABILITIES,		/* number0 = effective, 1 = permitted, 2 = inheritable, 3 = ambient */
	OCIRUN_OP_NO_NEW_PRIVILEGES,
	OCIRUN_OP_FIND_EXECUTABLE,	/* text0 = args[0], text1 = value of PATH */
	OCIRUN_OP_FIND_HOME,		/* number0 = uid: HOME for EXEC from the container's own /etc/passwd */
	OCIRUN_OP_WAIT_START,		/* slot0 = listening start socket */
	OCIRUN_OP_HOOK,			/* text0 = path, 1 = args, 2 = env, 3 = state; number0 = arg count, 1 = env count,
					 * 2 = timeout in ms or 0, 3 = offset in the state where the pid goes, 4 = umask,
					 * 5 = how many operations behind it are done by its process alone:
					 * CAPABILITIES, NO_NEW_PRIVILEGES, SECCOMP without an agent */
	OCIRUN_OP_SECCOMP,		/* text0 = struct sock_filter[]; number0 = flags; slot0 = agent socket,
					 * slot1 = memfd with what the agent is told */
	OCIRUN_OP_ANNOUNCE,		/* close all descriptors but the container's, say EXECUTING; slot0/1 stay for SECCOMP */
	OCIRUN_OP_EXEC,			/* text0 = args, 1 = env, 2 = path or none for what FIND_EXECUTABLE found;
					 * number0 = arg count, 1 = env count, 2 = umask */
	OCIRUN_OP_END,			/* of a plan that executes nothing */
	OCIRUN_OP_COUNT
};

/* Operation flags; the meaning belongs to the opcode. */
#define OCIRUN_FLAG_RECURSIVE 1		/* OPEN_TREE, BIND, IDMAP: with submounts */
#define OCIRUN_FLAG_NO_SYMLINKS 2	/* MOUNT, BIND: the destination must not be reached through a link (CVE-2019-19921) */
#define OCIRUN_FLAG_ON_PROC 4		/* MOUNT, BIND: the destination may lie on procfs */
#define OCIRUN_FLAG_COPY_UP 8		/* MOUNT: tmpcopyup */
#define OCIRUN_FLAG_MODE_GIVEN 32	/* MOUNT: with COPY_UP: the options say which mode the root has */
#define OCIRUN_FLAG_OWNER_GIVEN 64	/* MOUNT: with COPY_UP: and whose it is */
#define OCIRUN_FLAG_DUMPABLE 16		/* ID_MAPS: an unprivileged parent must be able to open our uid_map;
					 * WRITE_PROC: and we our own files of /proc */
#define OCIRUN_FLAG_SETGROUPS 32	/* BECOME: give up the caller's groups, which the namespace allows */
#define OCIRUN_FLAG_REPLACE 64		/* SYMLINK: remove what is there first */
#define OCIRUN_FLAG_NOTIFY 128		/* SECCOMP: hand the listener to the agent */
#define OCIRUN_FLAG_PROC_ROOT 256	/* BIND: the source must be the root of a procfs */
#define OCIRUN_FLAG_NO_PIVOT 256	/* PIVOT: chroot only */
#define OCIRUN_FLAG_FINAL 512		/* CAPABILITIES: only lower the sets, under the filter: no prctl */
#define OCIRUN_FLAG_BIND_CONSOLE 1024	/* CONSOLE: show the terminal at /dev/console */
#define OCIRUN_FLAG_BEST_EFFORT 2048	/* KEYRING: a kernel without keyrings is no error */
#define OCIRUN_FLAG_TOLERANT 8192	/* CHDIR: EACCES is for RETRY, as the user, to settle */
#define OCIRUN_FLAG_RETRY 16384		/* CHDIR: only where TOLERANT was refused */
#define OCIRUN_FLAG_RAISE 32768		/* RLIMIT: only a higher hard limit, while we may */
#define OCIRUN_FLAG_DETACHED 16384	/* MOUNT: leave it to BIND to attach slot0 */
#define OCIRUN_FLAG_IF_THERE 1		/* SYMLINK: only where the target exists below the root;
					 * UNMOUNT: one that is not attached is no error */
#define OCIRUN_FLAG_SAME_MODE 1		/* BIND_DEVICE: the node must have these permissions */
#define OCIRUN_FLAG_SAME_UID 2		/* BIND_DEVICE: and this owner */
#define OCIRUN_FLAG_SAME_GID 4		/* BIND_DEVICE: and this group */

enum ocirun_barrier {
	OCIRUN_BARRIER_CGROUP = 1,	/* the parent has made the cgroup */
	OCIRUN_BARRIER_LIMITS,		/* in two steps: init was forked, so the parent may set limits */
	OCIRUN_BARRIER_NETWORK,		/* the parent moves network devices into our namespace */
	OCIRUN_BARRIER_CREATE_RUNTIME,	/* mounts are done, root not yet changed: prestart and createRuntime hooks */
	OCIRUN_BARRIER_CREATED,		/* everything but start: the parent saves the state, then says PROCEED */
	OCIRUN_BARRIER_READY,		/* exec: everything but the last steps: the parent makes the process known */
	OCIRUN_BARRIER_MOUNT		/* the parent has a look at the mount that comes with it, and sends it back */
};

enum ocirun_message_kind {
	OCIRUN_MSG_INVALID = 0,
	/* init -> parent */
	OCIRUN_MSG_NEED_ID_MAPS,
	OCIRUN_MSG_INIT_PID,	/* pid, and a pidfd as ancillary data */
	OCIRUN_MSG_AT_BARRIER,	/* value = enum ocirun_barrier */
	OCIRUN_MSG_EXECUTING,	/* end-of-file after it is success: execve closed the connection */
	OCIRUN_MSG_FAILED,	/* op, site, error; then origin and detail as text */
	/* parent -> init */
	OCIRUN_MSG_PROCEED,
	OCIRUN_MSG_START
};

struct ocirun_message {
	uint32_t kind;
	uint32_t op;		/* FAILED: index of the operation */
	uint32_t site;		/* FAILED: enum ocirun_site */
	int32_t error;		/* FAILED: errno */
	int32_t pid;
	uint32_t value;
	uint32_t origin_size;	/* bytes of text behind this struct */
	uint32_t detail_size;
};

/* Where in the C code a failure came from: the system call's name, or what was being verified. */
enum ocirun_site {
	OCIRUN_SITE_NONE = 0,
	OCIRUN_SITE_PLAN,
	OCIRUN_SITE_OPENAT,
	OCIRUN_SITE_OPENAT2,
	OCIRUN_SITE_OPEN_TREE,
	OCIRUN_SITE_MOVE_MOUNT,
	OCIRUN_SITE_MOUNT_SETATTR,
	OCIRUN_SITE_IDMAP,		/* mount_setattr(2) with MOUNT_ATTR_IDMAP */
	OCIRUN_SITE_FSOPEN,
	OCIRUN_SITE_FSCONFIG,
	OCIRUN_SITE_FSMOUNT,
	OCIRUN_SITE_FSPICK,
	OCIRUN_SITE_MOUNT,
	OCIRUN_SITE_UMOUNT2,
	OCIRUN_SITE_PIVOT_ROOT,
	OCIRUN_SITE_CHROOT,
	OCIRUN_SITE_FCHDIR,
	OCIRUN_SITE_CHDIR,
	OCIRUN_SITE_GETCWD,
	OCIRUN_SITE_MKDIRAT,
	OCIRUN_SITE_MKNODAT,
	OCIRUN_SITE_SYMLINKAT,
	OCIRUN_SITE_READLINKAT,
	OCIRUN_SITE_UNLINKAT,
	OCIRUN_SITE_FCHOWNAT,
	OCIRUN_SITE_FCHMOD,
	OCIRUN_SITE_FSTAT,
	OCIRUN_SITE_READ,
	OCIRUN_SITE_WRITE,
	OCIRUN_SITE_GETDENTS64,
	OCIRUN_SITE_DUP3,
	OCIRUN_SITE_PIPE2,
	OCIRUN_SITE_FCNTL,
	OCIRUN_SITE_MMAP,
	OCIRUN_SITE_MEMFD_CREATE,
	OCIRUN_SITE_SETNS,
	OCIRUN_SITE_UNSHARE,
	OCIRUN_SITE_CLONE,
	OCIRUN_SITE_CLONE3,
	OCIRUN_SITE_EXECVE,
	OCIRUN_SITE_EXECVEAT,
	OCIRUN_SITE_WAIT4,
	OCIRUN_SITE_POLL,
	OCIRUN_SITE_SENDMSG,
	OCIRUN_SITE_RECVMSG,
	OCIRUN_SITE_SOCKET,
	OCIRUN_SITE_ACCEPT4,
	OCIRUN_SITE_IOCTL,
	OCIRUN_SITE_SETHOSTNAME,
	OCIRUN_SITE_SETDOMAINNAME,
	OCIRUN_SITE_SETSID,
	OCIRUN_SITE_SETGROUPS,
	OCIRUN_SITE_SETRESGID,
	OCIRUN_SITE_SETRESUID,
	OCIRUN_SITE_CAPSET,
	OCIRUN_SITE_CAPGET,
	OCIRUN_SITE_PRCTL,
	OCIRUN_SITE_PRLIMIT64,
	OCIRUN_SITE_PERSONALITY,
	OCIRUN_SITE_SCHED_SETATTR,
	OCIRUN_SITE_SCHED_SETAFFINITY,
	OCIRUN_SITE_IOPRIO_SET,
	OCIRUN_SITE_SET_MEMPOLICY,
	OCIRUN_SITE_SECCOMP,
	OCIRUN_SITE_KEYCTL,
	OCIRUN_SITE_SIGNALFD4,
	OCIRUN_SITE_FIND_EXECUTABLE,	/* lookup of args[0] */
	OCIRUN_SITE_VERIFY_PROC,	/* not the procfs that it should be */
	OCIRUN_SITE_VERIFY_DEVICE,	/* a node of another type or number stands there */
	OCIRUN_SITE_VERIFY_HOST_DEVICE,	/* the host's node is not the one asked for */
	OCIRUN_SITE_VERIFY_CONSOLE,	/* ptmx or its peer is not what it should be */
	OCIRUN_SITE_VERIFY_CWD,		/* the working directory is outside the root (CVE-2024-21626) */
	OCIRUN_SITE_VERIFY_IDS,		/* read-back of ids or groups differs */
	OCIRUN_SITE_VERIFY_CAPABILITIES,
	OCIRUN_SITE_VERIFY_NAMESPACE,	/* the file is not a namespace of that kind */
	OCIRUN_SITE_VERIFY_DESTINATION,	/* the destination is on procfs or of the wrong type */
	OCIRUN_SITE_HOOK_EXIT,		/* error = exit status of a container-namespace hook */
	OCIRUN_SITE_HOOK_SIGNAL,	/* error = signal that ended the hook */
	OCIRUN_SITE_HOOK_TIMEOUT,
	OCIRUN_SITE_HOOK_EXEC,		/* error = errno of its execve */
	OCIRUN_SITE_HOOK_CONFINE,	/* error = errno of what was to confine it */
	OCIRUN_SITE_SEALS,		/* the executable is not sealed */
	OCIRUN_SITE_COUNT
};
