# SPDX-License-Identifier: Apache-2.0
"""Asking the kernel what it has, by system calls that cannot succeed or whose effect ends with a descriptor.

A call that is there gets as far as looking at its arguments; one that is not answers ENOSYS, and one that a filter
around us forbids EPERM.  Only for `features --probe`: everything else just tries.
"""

from __future__ import annotations

import os
from errno import ENOSYS

from ocirun._native._libseccomp import ffi

# Since 5.1 all architectures have one number for a new call.
_NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "faccessat2": 439,
    "mount_setattr": 442,
}
_OLDER = {
    "x86_64": {
        "bpf": 321,
        "execveat": 322,
        "keyctl": 250,
        "memfd_create": 319,
        "sched_setattr": 314,
        "seccomp": 317,
        "set_mempolicy": 238,
        "statx": 332,
    },
    "aarch64": {
        "bpf": 280,
        "execveat": 281,
        "keyctl": 219,
        "memfd_create": 279,
        "sched_setattr": 274,
        "seccomp": 277,
        "set_mempolicy": 237,
        "statx": 291,
    },
}
# Arguments with which the call fails, or does nothing: no pointer, no descriptor, no size.
_HARMLESS = {
    "bpf": (-1, 0, 0),
    "clone3": (0, 0),
    "close_range": (1, 0, 0),
    "execveat": (-1, 0, 0, 0, 0),
    "faccessat2": (-1, 0, 0, 0),
    "fsconfig": (-1, 0, 0, 0, 0),
    "fsmount": (-1, 0, 0),
    "fsopen": (0, 0),
    "fspick": (-1, 0, 0),
    "keyctl": (-1, 0, 0, 0, 0),
    "memfd_create": (0, 0),
    "mount_setattr": (-1, 0, 0, 0, 0),
    "move_mount": (-1, 0, -1, 0, 0),
    "open_tree": (-1, 0, 0),
    "openat2": (-1, 0, 0, 0),
    "pidfd_open": (-1, 0),
    "pidfd_send_signal": (-1, 0, 0, 0),
    "sched_setattr": (0, 0, 0),
    "seccomp": (-1, 0, 0),
    "set_mempolicy": (-1, 0, 0),
    "statx": (-1, 0, 0, 0, 0),
}
SYSTEM_CALLS = tuple(_HARMLESS)

_OPEN_TREE_CLONE, _CLOEXEC = 1, 0o2000000
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_MOUNT_ATTR_IDMAP = 0x0010_0000


def ask(call: str) -> int:
    """Return the errno with which a call of `SYSTEM_CALLS` refuses to do nothing; 0 if it did nothing."""
    return max(0, -_call(call, *_HARMLESS[call]))


def try_id_mapped_clone(path: str, user_namespace: int) -> int:
    """Return the errno of an id-mapped mount of *path* that is gone before anybody saw it, 0 if it can be made."""
    name = ffi.new("char[]", os.fsencode(path))
    tree = _call("open_tree", _AT_FDCWD, name, _OPEN_TREE_CLONE | _CLOEXEC)
    if tree < 0:
        return -tree
    try:
        # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
        attributes = ffi.new("uint64_t[4]", [_MOUNT_ATTR_IDMAP, 0, 0, user_namespace])
        return -_call("mount_setattr", tree, ffi.new("char[]", b""), _AT_EMPTY_PATH, attributes, 32)
    finally:
        os.close(tree)


def _call(name: str, *arguments: object) -> int:
    """Return what a system call returns: negative an errno."""
    machine = os.uname().machine
    number = _NUMBERS.get(name) or _OLDER.get(machine, {}).get(name)
    if number is None:
        return -ENOSYS
    words = [ffi.cast("long", each) if isinstance(each, int) else ffi.cast("void *", each) for each in arguments]
    result = int(_libc.syscall(ffi.cast("long", number), *words))
    return -int(ffi.errno) if result < 0 else result


_libc = ffi.dlopen(None)
