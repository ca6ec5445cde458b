/* SPDX-License-Identifier: Apache-2.0
 *
 * Device filters of cgroup version 2: load, attach, find, detach.  Like abi.h, read by cffi and by the compiler.
 * All return 0, a count or a descriptor (close-on-exec, owned by the caller), or -errno.
 *
 * Kernel: bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15), BPF_F_REPLACE (5.6).
 */

/* Programs that can be attached to one cgroup; the kernel's own limit. */
#define OCIRUN_BPF_MAX_ATTACHED 64

/* program: insn_count instructions of 8 bytes.  On failure log has the verifier's reasons, NUL-terminated, unless
 * log_size is 0. */
int ocirun_bpf_load_device(const char *program, unsigned int insn_count, char *log, unsigned int log_size);

/* Attach beside what is attached already (an access needs the consent of all), or in the place of the program
 * replace_fd if that is not -1, in one step. */
int ocirun_bpf_attach_device(int cgroup_fd, int program_fd, int replace_fd);

int ocirun_bpf_detach_device(int cgroup_fd, int program_fd);

/* ids: room for OCIRUN_BPF_MAX_ATTACHED; those attached to this very cgroup, not to its ancestors. */
int ocirun_bpf_query_device(int cgroup_fd, unsigned int *ids);

/* A descriptor of the program with this id if ocirun loaded it, -ENOENT if it is gone or somebody else's. */
int ocirun_bpf_open_own(unsigned int id);
