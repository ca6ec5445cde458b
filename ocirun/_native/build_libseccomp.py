# SPDX-License-Identifier: Apache-2.0
"""Build script of `ocirun._native._libseccomp`: what ocirun calls in libseccomp and in libc.

The module is generated in cffi's out-of-line ABI mode: no compiler and no libseccomp headers are
needed to build, libseccomp is opened with `dlopen` when a profile must be compiled, and a machine
whose filters are all cached does without it.  Run as a program, this file writes the module next
to itself.
"""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()
ffibuilder.set_source("ocirun._native._libseccomp", None)
ffibuilder.cdef(
    """
    /* libseccomp, seccomp.h */
    struct scmp_version { unsigned int major; unsigned int minor; unsigned int micro; };
    const struct scmp_version *seccomp_version(void);
    uint32_t seccomp_arch_native(void);
    uint32_t seccomp_arch_resolve_name(const char *name);
    char *seccomp_syscall_resolve_num_arch(uint32_t token, int number);
    int seccomp_syscall_resolve_name_arch(uint32_t token, const char *name);
    int seccomp_syscall_resolve_name_rewrite(uint32_t token, const char *name);

    /* The C library. */
    typedef struct {
        const char *dli_fname; void *dli_fbase; const char *dli_sname; void *dli_saddr;
    } Dl_info;
    int dladdr(const void *address, Dl_info *info);
    long syscall(long number, ...);
    void free(void *pointer);
    """
)

if __name__ == "__main__":
    from pathlib import Path

    ffibuilder.emit_python_code(str(Path(__file__).with_name("_libseccomp.py")))
