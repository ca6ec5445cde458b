# SPDX-License-Identifier: Apache-2.0
"""A FAILED message of ocirun-init as an error with words.

The words for a missing or unusable program are runc's, because engines look for them (design D9).
"""

from __future__ import annotations

import os
from errno import (
    EACCES,
    EBUSY,
    EDQUOT,
    EINVAL,
    ELOOP,
    EMFILE,
    ENODEV,
    ENOENT,
    ENOEXEC,
    ENOSPC,
    ENOSYS,
    EPERM,
    ETIMEDOUT,
)  # fmt: skip

from ocirun._native import lib, site_name
from ocirun.errors import HookError, InitError, OcirunError, errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun._native import Message

#: What a verification that failed means; the errno would say little.
_VERIFIED = {
    lib.OCIRUN_SITE_VERIFY_PROC: "not the procfs that it should be",
    lib.OCIRUN_SITE_VERIFY_DEVICE: "a node of another type or number, or a file of another kind, is there",
    lib.OCIRUN_SITE_VERIFY_HOST_DEVICE: "the host's node has another type, number, mode or owner than asked for",
    lib.OCIRUN_SITE_VERIFY_CONSOLE: "the terminal of the container is not what it should be",
    lib.OCIRUN_SITE_VERIFY_CWD: "the directory is outside the container's root",
    lib.OCIRUN_SITE_VERIFY_IDS: "the kernel did not take the user and groups asked for",
    lib.OCIRUN_SITE_VERIFY_CAPABILITIES: "the kernel did not take the capabilities asked for",
    lib.OCIRUN_SITE_VERIFY_NAMESPACE: "the file is not a namespace of this type",
}

#: Sites that are one use of a system call.
_CALLS = {lib.OCIRUN_SITE_IDMAP: "mount_setattr"}

#: Of what an operation does, that which belongs to a field of its own.
_POINTERS = {(lib.OCIRUN_SITE_SENDMSG, "/linux/seccomp"): "/linux/seccomp/listenerPath"}

_HOOK_SITES = (
    lib.OCIRUN_SITE_HOOK_EXIT,
    lib.OCIRUN_SITE_HOOK_SIGNAL,
    lib.OCIRUN_SITE_HOOK_EXEC,
    lib.OCIRUN_SITE_HOOK_TIMEOUT,
    lib.OCIRUN_SITE_HOOK_CONFINE,
)

_FEW_DESCRIPTORS = "it takes a RLIMIT_NOFILE of at least 7, and one more for each descriptor that is preserved"
_HINTS = {
    # Also of who waits for more of them than there may be: poll(2), F_DUPFD of fcntl(2).
    (lib.OCIRUN_SITE_SIGNALFD4, EMFILE): _FEW_DESCRIPTORS,
    (lib.OCIRUN_SITE_ACCEPT4, EMFILE): _FEW_DESCRIPTORS,
    (lib.OCIRUN_SITE_POLL, EINVAL): _FEW_DESCRIPTORS,
    (lib.OCIRUN_SITE_FCNTL, EINVAL): _FEW_DESCRIPTORS,
    (lib.OCIRUN_SITE_OPEN_TREE, EINVAL): "what is mounted below it is locked by the user namespace, and only rbind is "
    "possible, or it is unbindable",
    (lib.OCIRUN_SITE_IDMAP, EINVAL): "this file system, or one mounted below it, cannot be id-mapped on this kernel",
    (lib.OCIRUN_SITE_IDMAP, ENOSYS): "id-mapped mounts take mount_setattr(2), Linux 5.12",
    (lib.OCIRUN_SITE_IDMAP, EPERM): "an id-mapped mount takes CAP_SYS_ADMIN over the file system, and its source must "
    "not be id-mapped already",
    (lib.OCIRUN_SITE_VERIFY_HOST_DEVICE, ENODEV): "without power over the host nodes cannot be made, only bound",
    (lib.OCIRUN_SITE_MOUNT_SETATTR, EPERM): "a flag of this mount may be locked by the user namespace, or the call is "
    "forbidden here; a tree of mounts can be changed by it alone (Linux 5.12)",
    (lib.OCIRUN_SITE_MOUNT_SETATTR, ENOSYS): "a tree of mounts can be changed by this call alone (Linux 5.12)",
    (lib.OCIRUN_SITE_MOUNT_SETATTR, EINVAL): "the file system or the kernel does not support this attribute",
    (lib.OCIRUN_SITE_FSCONFIG, EPERM): "this file system cannot be mounted in a user namespace, "
    "or not without a network or pid namespace that belongs to it",
    (lib.OCIRUN_SITE_FSCONFIG, EINVAL): "ids in options must be mapped in the user namespace",
    (lib.OCIRUN_SITE_MOUNT, EPERM): "not in this user namespace; proc and sysfs only where nothing covers parts of the "
    "runtime's own, as masks of an outer container do (podman: --security-opt unmask=ALL)",
    (lib.OCIRUN_SITE_UNSHARE, EPERM): "user namespaces may be forbidden here: kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns, a seccomp filter, or a chroot; see `ocirun features --probe`",
    (lib.OCIRUN_SITE_UNSHARE, ENOSPC): "a limit is reached, see /proc/sys/user; user namespaces nest 32 deep",
    (lib.OCIRUN_SITE_SETGROUPS, EPERM): "setgroups is denied in the user namespace, see /proc/self/setgroups",
    (lib.OCIRUN_SITE_PIVOT_ROOT, EINVAL): "on an initramfs pivot_root is impossible: use --no-pivot",
    (lib.OCIRUN_SITE_KEYCTL, EDQUOT): "the quota of keys is used up: kernel.keys.maxkeys, or --no-new-keyring",
    (lib.OCIRUN_SITE_OPENAT2, ELOOP): "a symbolic link is on the way where none may be",
    (lib.OCIRUN_SITE_PRLIMIT64, EPERM): "the hard limit is above the runtime's own, and CAP_SYS_RESOURCE is missing",
    (lib.OCIRUN_SITE_SCHED_SETATTR, EPERM): "it takes CAP_SYS_NICE over the host, so a new user namespace has it not; "
    "SCHED_FIFO and SCHED_RR may also need resources.cpu.realtimeRuntime, SCHED_DEADLINE all CPUs of the host",
    (lib.OCIRUN_SITE_SCHED_SETATTR, EBUSY): "the host has not so much time left for SCHED_DEADLINE",
    (lib.OCIRUN_SITE_IOPRIO_SET, EPERM): "the real-time class takes CAP_SYS_NICE over the host",
    (lib.OCIRUN_SITE_SECCOMP, EACCES): "a filter without noNewPrivileges takes CAP_SYS_ADMIN",
    (lib.OCIRUN_SITE_SENDMSG, ETIMEDOUT): "the seccomp agent did not read the state that came with the listener",
}  # fmt: skip

#: What an errno means for the file that a field is written to.
_FIELD_HINTS = {
    ("/process/oomScoreAdj", EACCES): "it can only be raised without CAP_SYS_RESOURCE over the host",
    ("/process/apparmorProfile", ENOENT): "no AppArmor profile of this name is loaded in this namespace",
    ("/process/apparmorProfile", EACCES): "the profile that the runtime itself runs with does not allow the change",
    ("/process/selinuxLabel", EINVAL): "the SELinux policy has no such label",
    ("/process/selinuxLabel", EACCES): "the SELinux policy does not allow the runtime to choose this label",
}  # fmt: skip


def describe_failure(message: Message, container_id: str) -> OcirunError:
    """Return the error that a FAILED message stands for."""
    site, errno = message.site, message.error
    if site in _HOOK_SITES:
        return _hook_failure(message, container_id)
    text = _program_failure(site, errno, message.detail)
    if text is None and site in _VERIFIED:
        text = f"{message.detail}: {_VERIFIED[site]}" if message.detail else _VERIFIED[site]
    if text is None and site == lib.OCIRUN_SITE_VERIFY_DESTINATION:
        text = _destination_failure(errno, message.detail)
    error = InitError(
        errno,
        _CALLS.get(site) or site_name(site),
        message.detail,
        container_id=container_id,
        json_pointer=_POINTERS.get((site, message.origin)) or message.origin or None,
        hint=_HINTS.get((site, errno)) or _field_hint(message.origin, errno),
    )
    if text is not None:
        error.message = f"{message.origin}: {text}" if message.origin else text
    return error


def _field_hint(pointer: str, errno: int) -> str | None:
    if pointer.startswith("/linux/sysctl/") and errno in (EACCES, EPERM):
        return "it is root's of the host, or of a namespace that belongs to another user namespace"
    return _FIELD_HINTS.get((pointer, errno))


def _program_failure(site: int, errno: int, program: str) -> str | None:
    if site not in (lib.OCIRUN_SITE_FIND_EXECUTABLE, lib.OCIRUN_SITE_EXECVE):
        return None
    if not program and site == lib.OCIRUN_SITE_FIND_EXECUTABLE:
        return "config.json has no process to start"
    if errno == ENOENT and "/" not in program:
        return f'exec: "{program}": executable file not found in $PATH'
    if errno == ENOENT and site == lib.OCIRUN_SITE_FIND_EXECUTABLE:
        return f'exec: "{program}": stat {program}: no such file or directory'
    if errno == ENOENT:
        # It was there when it was looked up: its interpreter is what is missing.
        return f"exec {program}: no such file or directory (its interpreter or loader is missing)"
    if errno == EACCES:
        return f'exec: "{program}": permission denied'
    if errno == ENOEXEC:
        return f"exec {program}: exec format error"
    return f'exec: "{program}": {os.strerror(errno).lower()} ({errno_text(errno)})'


def _destination_failure(errno: int, path: str) -> str:
    if errno == EPERM:
        return f"{path}: lies on procfs, where nothing may be mounted"
    if errno == EBUSY:
        return f"{path}: leads to the root itself"
    return f"{path}: the destination has the wrong type: {errno_text(errno)}"


def _hook_failure(message: Message, container_id: str) -> HookError:
    _, _, kind, index = message.origin.split("/")
    what = {
        lib.OCIRUN_SITE_HOOK_EXIT: f"exit status {message.error}",
        lib.OCIRUN_SITE_HOOK_SIGNAL: f"killed by signal {message.error}",
        lib.OCIRUN_SITE_HOOK_TIMEOUT: "timed out and was killed",
        lib.OCIRUN_SITE_HOOK_CONFINE: f"could not be confined: {errno_text(message.error)}",
    }.get(message.site)
    if what is None:
        what = f"could not be executed: {errno_text(message.error)}"
    return HookError(
        f"{message.origin}: {kind} hook {message.detail}: {what}",
        kind=kind,
        index=int(index),
        container_id=container_id,
    )
