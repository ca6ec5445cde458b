# SPDX-License-Identifier: Apache-2.0
"""The typed face of bpf.c: device filters of cgroup version 2.  Re-exported by the package."""

from __future__ import annotations

import os
from errno import ENOENT

from ocirun.errors import KernelError

from ._shim import ffi, lib

_LOG_SIZE = 65536


def load_device_program(program: bytes) -> int:
    """Load a device filter (struct bpf_insn words) and return an owned descriptor of it.

    Kernel: bpf(2), BPF_PROG_LOAD
    Errors: KernelError; EPERM without CAP_BPF or in a user namespace.  The verifier's log is in
    `detail`.
    """
    log = ffi.new("char[]", _LOG_SIZE)
    result = lib.ocirun_bpf_load_device(ffi.from_buffer(program), len(program) // 8, log, _LOG_SIZE)
    if result < 0:
        text = ffi.string(log).decode("utf-8", "replace").strip()
        detail = f"load device filter\n{text}" if text else "load device filter"
        raise KernelError(-result, "bpf", detail)
    return int(result)


def attach_device_program(cgroup: int, program: int) -> None:
    """Make *program* the device filter of the cgroup directory *cgroup* (both borrowed).

    An earlier filter of ours is replaced in one step.  Filters of others, such as systemd's, stay,
    and both must allow an access.

    Kernel: bpf(2), BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI and BPF_F_REPLACE
    Errors: KernelError
    """
    previous = _own_programs(cgroup)
    try:
        replaced = previous[0] if previous else -1
        result = lib.ocirun_bpf_attach_device(cgroup, program, replaced)
        if result < 0:
            raise KernelError(-result, "bpf", "attach device filter")
        # More than one is left by a crash, or by another runtime version; the new one is in force
        # already.
        for fd in previous[1:]:
            result = lib.ocirun_bpf_detach_device(cgroup, fd)
            if result < 0 and result != -ENOENT:
                raise KernelError(-result, "bpf", "detach device filter")
    finally:
        for fd in previous:
            os.close(fd)


def _own_programs(cgroup: int) -> list[int]:
    """Return owned descriptors of the filters that ocirun attached to this cgroup."""
    ids = ffi.new("unsigned int[]", lib.OCIRUN_BPF_MAX_ATTACHED)
    count = lib.ocirun_bpf_query_device(cgroup, ids)
    if count < 0:
        raise KernelError(-count, "bpf", "query device filters")
    found = []
    for index in range(count):
        fd = lib.ocirun_bpf_open_own(ids[index])
        if fd >= 0:
            found.append(int(fd))
        elif fd != -ENOENT:
            for other in found:
                os.close(other)
            raise KernelError(-fd, "bpf", "open device filter")
    return found
