/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor: what creating, starting, waiting for and deleting a container costs in bare C, at the level of system
 * calls, for the configuration that `runc spec` writes.  A runtime cannot be faster than this without leaving
 * something out.
 *
 * Each iteration:
 *   - a directory in every cgroup hierarchy of the host, removed at the end; the device list of runc's defaults,
 * written to the devices controller of version 1 (and cpuset filled in, without which nothing can join it), loaded and
 *     attached as an eBPF program with version 2 alone
 *   - clone3 with new mount, pid, network, ipc and uts namespaces, into the version 2 cgroup
 *   - the child joins the version 1 cgroups (with version 2 alone: unshares the cgroup namespace that `runc spec` asks
 * for there), leads a session, takes a keyring, brings loopback up, sets the host name
 *   - the root, proc, /dev, devpts, shm, mqueue, sysfs and the cgroup mounts; six device nodes, six links
 *   - read-only and masked paths, pivot_root, a read-only root
 *   - a resource limit, bounding set, ids, capabilities, no_new_privs, a seccomp program if one is given, execve
 *   - waitpid
 *
 * Left out, because the result is the same without it: reading and checking a configuration, compiling a seccomp
 * profile, any record on disk, a gate between create and start, protection of paths against the image, an error that
 * says more than the call's name.  The ambient set is empty because the inheritable set of that configuration is, and
 * the kernel lets no capability into the one that is not in the other.  Nothing runs at the same time as anything else:
 * the sum of the work is measured, not the best that two processors could make of it.
 *
 * usage: floor ROOTFS PROGRAM COUNT [FILTER]     prints the nanoseconds of every iteration
 *        floor ROOTFS PROGRAM once [FILTER]      does it once and prints nothing, to be timed as a process
 * FILTER is a file of struct sock_filter. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_HIERARCHIES 32

static struct hierarchy {
	char parent[512]; /* the caller's own cgroup */
	char controllers[128];
	int version, is_cpuset, is_devices;
} hierarchies[MAX_HIERARCHIES];
static int hierarchy_count;
static int task_files[MAX_HIERARCHIES];

static struct sock_filter filter[4096]; /* as many as the kernel takes */
static unsigned filter_length;

static void check(long result, const char *what) {
	if (result < 0) {
		fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
		_exit(1);
	}
}

static void find_hierarchies(void) {
	char line[1024];
	FILE *file = fopen("/proc/self/cgroup", "re");
	while (file && fgets(line, sizeof line, file)) {
		struct hierarchy *each = &hierarchies[hierarchy_count];
		char *controllers = strchr(line, ':') + 1, *path = strchr(controllers, ':');
		*path++ = 0;
		path[strcspn(path, "\n")] = 0;
		const char *name = strncmp(controllers, "name=", 5) == 0 ? controllers + 5 : controllers;
		char mount[256];
		each->version = *controllers ? 1 : 2;
		if (each->version == 1)
			snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", name);
		else
			snprintf(mount, sizeof mount, "%s",
				 access("/sys/fs/cgroup/unified", F_OK) == 0 ? "/sys/fs/cgroup/unified"
									     : "/sys/fs/cgroup");
		if (access(mount, F_OK) < 0)
			continue;
		snprintf(each->parent, sizeof each->parent, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
		snprintf(each->controllers, sizeof each->controllers, "%s", controllers);
		each->is_cpuset = strstr(controllers, "cpuset") != NULL;
		each->is_devices = strstr(controllers, "devices") != NULL;
		hierarchy_count++;
	}
	if (file)
		fclose(file);
}

static void put(int dir, const char *name, const char *text) {
	int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
	check(fd, name);
	check(write(fd, text, strlen(text)), name);
	close(fd);
}

static void copy_cpuset(const char *parent, int dir, const char *name) {
	char path[600], value[256];
	snprintf(path, sizeof path, "%s/%s", parent, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd, path);
	ssize_t size = read(fd, value, sizeof value - 1);
	check(size, path);
	close(fd);
	value[size] = 0;
	put(dir, name, value);
}

/* What runc allows in every container; -1 is any number. */
static const struct rule {
	char type;
	int major, minor;
	const char *access;
} rules[] = { { 'c', -1, -1, "m" }, { 'b', -1, -1, "m" },    { 'c', 1, 3, "rwm" },   { 'c', 1, 5, "rwm" },
	      { 'c', 1, 7, "rwm" }, { 'c', 1, 8, "rwm" },    { 'c', 1, 9, "rwm" },   { 'c', 5, 0, "rwm" },
	      { 'c', 5, 2, "rwm" }, { 'c', 136, -1, "rwm" }, { 'c', 10, 200, "rwm" } };
enum { RULES = sizeof rules / sizeof *rules };

static void limit_devices_v1(int dir) {
	put(dir, "devices.deny", "a");
	int fd = openat(dir, "devices.allow", O_WRONLY | O_CLOEXEC);
	check(fd, "devices.allow");
	for (unsigned i = 0; i < RULES; i++) {
		char line[64], major[16] = "*", minor[16] = "*";
		if (rules[i].major >= 0)
			snprintf(major, sizeof major, "%d", rules[i].major);
		if (rules[i].minor >= 0)
			snprintf(minor, sizeof minor, "%d", rules[i].minor);
		int size = snprintf(line, sizeof line, "%c %s:%s %s", rules[i].type, major, minor, rules[i].access);
		check(write(fd, line, (size_t)size), "devices.allow");
	}
	close(fd);
}

#define LOAD(to, offset) ((struct bpf_insn){ BPF_LDX | BPF_MEM | BPF_W, to, BPF_REG_1, offset, 0 })
#define MOVE(to, from) ((struct bpf_insn){ BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0 })
#define WITH(operation, to, number) ((struct bpf_insn){ BPF_ALU | operation | BPF_K, to, 0, 0, number })
#define UNLESS(reg, number, skip) ((struct bpf_insn){ BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, number })
#define RETURN ((struct bpf_insn){ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 })

static void limit_devices_v2(int dir) {
	struct bpf_insn program[8 + 8 * RULES];
	unsigned n = 0;
	program[n++] = LOAD(BPF_REG_2, 0); /* access_type: the type in its low half, the access in its high half */
	program[n++] = MOVE(BPF_REG_3, BPF_REG_2);
	program[n++] = WITH(BPF_AND, BPF_REG_2, 0xffff);
	program[n++] = WITH(BPF_RSH, BPF_REG_3, 16);
	program[n++] = LOAD(BPF_REG_4, 4);
	program[n++] = LOAD(BPF_REG_5, 8);
	for (unsigned i = 0; i < RULES; i++) {
		int only_mknod = rules[i].access[0] == 'm',
		    tests = 1 + only_mknod + (rules[i].major >= 0) + (rules[i].minor >= 0);
		program[n++] = UNLESS(BPF_REG_2, rules[i].type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK,
				      (int16_t)(tests + 1));
		if (only_mknod)
			program[n++] = UNLESS(BPF_REG_3, BPF_DEVCG_ACC_MKNOD, 2);
		if (rules[i].major >= 0)
			program[n++] = UNLESS(BPF_REG_4, rules[i].major, (int16_t)(rules[i].minor >= 0 ? 3 : 2));
		if (rules[i].minor >= 0)
			program[n++] = UNLESS(BPF_REG_5, rules[i].minor, 2);
		program[n++] = WITH(BPF_MOV, BPF_REG_0, 1);
		program[n++] = RETURN;
	}
	program[n++] = WITH(BPF_MOV, BPF_REG_0, 0);
	program[n++] = RETURN;
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
				.insns = (uint64_t)(uintptr_t)program,
				.insn_cnt = n,
				.license = (uint64_t)(uintptr_t) "Apache-2.0" };
	int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	check(fd, "BPF_PROG_LOAD");
	union bpf_attr attach = { .target_fd = (uint32_t)dir,
				  .attach_bpf_fd = (uint32_t)fd,
				  .attach_type = BPF_CGROUP_DEVICE,
				  .attach_flags = BPF_F_ALLOW_MULTI };
	check(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach), "BPF_PROG_ATTACH");
	close(fd);
}

static int only_version_2(void) {
	return hierarchy_count == 1 && hierarchies[0].version == 2;
}

static int make_cgroups(const char *name) {
	char path[700];
	int unified = -1;
	for (int i = 0; i < hierarchy_count; i++) {
		struct hierarchy *each = &hierarchies[i];
		snprintf(path, sizeof path, "%s/%s", each->parent, name);
		check(mkdir(path, 0755), path);
		int dir = open(path, O_DIRECTORY | O_CLOEXEC);
		check(dir, path);
		if (each->is_cpuset) {
			copy_cpuset(each->parent, dir, "cpuset.cpus");
			copy_cpuset(each->parent, dir, "cpuset.mems");
		}
		if (each->is_devices)
			limit_devices_v1(dir);
		else if (only_version_2())
			limit_devices_v2(dir);
		task_files[i] = -1;
		if (each->version == 1) {
			task_files[i] = openat(dir, "tasks", O_WRONLY | O_CLOEXEC);
			check(task_files[i], path);
			close(dir);
		} else {
			unified = dir;
		}
	}
	return unified;
}

static void remove_cgroups(const char *name) {
	char path[700];
	for (int i = 0; i < hierarchy_count; i++) {
		snprintf(path, sizeof path, "%s/%s", hierarchies[i].parent, name);
		/* A dying process may still be counted for a moment. */
		while (rmdir(path) < 0 && errno == EBUSY)
			usleep(100);
		if (task_files[i] >= 0)
			close(task_files[i]);
	}
}

static void attach(int mount, int root, const char *destination) {
	int target = openat(root, destination, O_PATH | O_CLOEXEC);
	check(target, destination);
	check(syscall(SYS_move_mount, mount, "", target, "", 4 | 0x40), destination);
	close(target);
}

static void new_mount(int root, const char *type, const char *const *options, unsigned attributes,
		      const char *destination) {
	int fs = (int)syscall(SYS_fsopen, type, 1);
	check(fs, type);
	syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", type, 0);
	for (; options && *options; options += 2)
		check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[0], options[1], 0), options[0]);
	check(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
	int mount = (int)syscall(SYS_fsmount, fs, 1, attributes);
	check(mount, type);
	attach(mount, root, destination);
	close(mount);
	close(fs);
}

static void mount_cgroups(int root, const char *name, unsigned attributes) {
	static const char *mode[] = { "mode", "755", NULL };
	if (only_version_2()) {
		new_mount(root, "cgroup2", NULL, attributes | MOUNT_ATTR_RDONLY, "sys/fs/cgroup");
		return;
	}
	new_mount(root, "tmpfs", mode, attributes, "sys/fs/cgroup");
	for (int i = 0; i < hierarchy_count; i++) {
		char path[700], place[256];
		if (hierarchies[i].version != 1)
			continue;
		const char *last = hierarchies[i].controllers;
		snprintf(path, sizeof path, "%s/%s", hierarchies[i].parent, name);
		snprintf(place, sizeof place, "sys/fs/cgroup/%s", strncmp(last, "name=", 5) == 0 ? last + 5 : last);
		check(mkdirat(root, place, 0755), place);
		int mount = (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		struct mount_attr attr = { .attr_set = attributes | MOUNT_ATTR_RDONLY };
		check(mount, path);
		check(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attr, sizeof attr), path);
		attach(mount, root, place);
		close(mount);
	}
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	check(syscall(SYS_mount_setattr, root, "sys/fs/cgroup", 0, &readonly, sizeof readonly), "sys/fs/cgroup");
}

static void fill_dev(int root) {
	static const struct {
		const char *name;
		int major, minor;
	} nodes[] = { { "dev/null", 1, 3 },   { "dev/zero", 1, 5 },    { "dev/full", 1, 7 },
		      { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };
	static const char *links[][2] = { { "/proc/self/fd", "dev/fd" },       { "/proc/self/fd/0", "dev/stdin" },
					  { "/proc/self/fd/1", "dev/stdout" }, { "/proc/self/fd/2", "dev/stderr" },
					  { "/proc/kcore", "dev/core" },       { "pts/ptmx", "dev/ptmx" } };
	for (unsigned i = 0; i < 6; i++)
		check(mknodat(root, nodes[i].name, S_IFCHR | 0666,
			      makedev((unsigned)nodes[i].major, (unsigned)nodes[i].minor)),
		      nodes[i].name);
	for (unsigned i = 0; i < 6; i++) {
		if (i == 4 && faccessat(root, "proc/kcore", F_OK, 0) < 0)
			continue;
		check(symlinkat(links[i][0], root, links[i][1]), links[i][1]);
	}
}

static void restrict_paths(int root) {
	static const char *readonly[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
	static const char *masked[] = { "proc/acpi",	      "proc/asound",	 "proc/kcore",	     "proc/keys",
					"proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug",
					"sys/firmware",	      "proc/scsi" };
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	int tmpfs = -1;
	for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++) {
		int target = openat(root, readonly[i], O_PATH | O_CLOEXEC);
		if (target < 0)
			continue;
		int clone = (int)syscall(SYS_open_tree, target, "",
					 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);
		check(clone, readonly[i]);
		check(syscall(SYS_mount_setattr, clone, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr),
		      readonly[i]);
		check(syscall(SYS_move_mount, clone, "", target, "", 4 | 0x40), readonly[i]);
		close(clone);
		close(target);
	}
	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
		struct stat st;
		int target = openat(root, masked[i], O_PATH | O_CLOEXEC), mount;
		if (target < 0)
			continue;
		fstat(target, &st);
		if (S_ISDIR(st.st_mode) && tmpfs < 0) {
			int fs = (int)syscall(SYS_fsopen, "tmpfs", 1);
			syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
			mount = tmpfs = (int)syscall(SYS_fsmount, fs, 1, MOUNT_ATTR_RDONLY);
			close(fs);
		} else if (S_ISDIR(st.st_mode)) {
			mount = (int)syscall(SYS_open_tree, tmpfs, "",
					     OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
		} else {
			mount = (int)syscall(SYS_open_tree, AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		}
		check(syscall(SYS_move_mount, mount, "", target, "", 4 | 0x40), masked[i]);
		close(target);
	}
}

static void become(void) {
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	const uint32_t kept = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	struct __user_cap_data_struct data[2] = { { kept, kept, 0 }, { 0, 0, 0 } };
	struct rlimit limit = { 1024, 1024 };
	check(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	for (int bit = 0; bit <= CAP_LAST_CAP; bit++)
		if (!(kept & (bit < 32 ? 1u << bit : 0)))
			prctl(PR_CAPBSET_DROP, bit, 0, 0, 0);
	check(syscall(SYS_setgroups, 0, NULL), "setgroups");
	check(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
	check(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
	check(syscall(SYS_capset, &header, data), "capset");
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	syscall(SYS_close_range, 3, ~0u, 0);
	umask(022);
	if (filter_length) {
		struct sock_fprog program = { (unsigned short)filter_length, filter };
		check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
	}
}

static void child(const char *rootfs, const char *program, const char *name) {
	static const char *dev[] = { "mode", "755", "size", "65536k", NULL };
	/* newinstance is what the kernel does in any case */
	static const char *pts[] = { "ptmxmode", "0666", "mode", "0620", "gid", "5", NULL };
	static const char *shm[] = { "mode", "1777", "size", "65536k", NULL };
	const unsigned restricted = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;
	struct ifreq request = { .ifr_name = "lo" };
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	char *const argv[] = { (char *)(uintptr_t)program, NULL }, *const envp[] = { NULL };

	for (int i = 0; i < hierarchy_count; i++)
		if (task_files[i] >= 0)
			check(write(task_files[i], "0", 1), "tasks");
	if (only_version_2())
		check(unshare(CLONE_NEWCGROUP), "unshare");
	setsid();
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "floor");
	int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	request.ifr_flags = IFF_UP;
	check(ioctl(socket_fd, SIOCSIFFLAGS, &request), "lo");
	close(socket_fd);
	check(sethostname("floor", 5), "sethostname");
	check(syscall(SYS_mount, NULL, "/", NULL, 1ul << 19 | 1ul << 14, NULL), "rslave");
	int root = (int)syscall(SYS_open_tree, AT_FDCWD, rootfs, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	check(root, rootfs);
	int top = open("/", O_PATH | O_CLOEXEC);
	check(syscall(SYS_move_mount, root, "", top, "", 4 | 0x40), "root");
	new_mount(root, "proc", NULL, 0, "proc");
	new_mount(root, "tmpfs", dev, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME, "dev");
	check(mkdirat(root, "dev/pts", 0755), "pts");
	check(mkdirat(root, "dev/shm", 0755), "shm");
	check(mkdirat(root, "dev/mqueue", 0755), "mqueue");
	new_mount(root, "devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, "dev/pts");
	new_mount(root, "tmpfs", shm, restricted, "dev/shm");
	new_mount(root, "mqueue", NULL, restricted, "dev/mqueue");
	new_mount(root, "sysfs", NULL, restricted | MOUNT_ATTR_RDONLY, "sys");
	mount_cgroups(root, name, restricted);
	fill_dev(root);
	restrict_paths(root);
	check(fchdir(root), "fchdir");
	check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	check(fchdir(top), "fchdir");
	check(syscall(SYS_umount2, ".", 2), "umount2");
	check(chdir("/"), "chdir");
	check(syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &attr, sizeof attr), "read-only root");
	become();
	execve(program, argv, envp);
	check(-1, program);
}

static void read_filter(const char *path) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd, path);
	ssize_t size = read(fd, filter, sizeof filter);
	check(size, path);
	filter_length = (unsigned)((size_t)size / sizeof *filter);
	close(fd);
}

static int live(const char *rootfs, const char *program, const char *name) {
	int status, unified = make_cgroups(name);
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
			 (unified >= 0 ? CLONE_INTO_CGROUP : 0),
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)(unified >= 0 ? unified : 0),
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	check(pid, "clone3");
	if (pid == 0)
		child(rootfs, program, name);
	check(waitpid((pid_t)pid, &status, 0), "waitpid");
	if (unified >= 0)
		close(unified);
	remove_cgroups(name);
	return status;
}

int main(int argc, char **argv) {
	if (argc != 4 && argc != 5)
		return 2;
	int once = strcmp(argv[3], "once") == 0;
	find_hierarchies();
	if (argc == 5)
		read_filter(argv[4]);
	umask(0);
	for (int count = once ? 1 : atoi(argv[3]); count > 0; count--) {
		struct timespec before, after;
		char name[64];
		clock_gettime(CLOCK_MONOTONIC, &before);
		snprintf(name, sizeof name, "floor-%d-%d", getpid(), count);
		int status = live(argv[1], argv[2], name);
		clock_gettime(CLOCK_MONOTONIC, &after);
		if (status != 0) {
			fprintf(stderr, "floor: the program ended with status %#x\n", (unsigned)status);
			return 1;
		}
		if (!once)
			printf("%lld\n", (long long)(after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec -
						 before.tv_nsec);
	}
	return 0;
}
