# SPDX-License-Identifier: Apache-2.0
"""What this host can do of what ocirun can use, and why not: `features --probe`.

The features document says what is built in, whatever the host is; this is the other half.  Nothing is changed: files
are read, system calls are made that cannot succeed, what is made (a user namespace, a mount that is nowhere) is gone
before the answer is there.  Whatever cannot be found out is an answer as well, never an exception.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EINVAL, ENOSYS, EPERM, errorcode

from ocirun import _native
from ocirun.cgroups.hierarchies import unescape
from ocirun.cgroups.hints import (
    DELEGATED_CONTROLLERS,
    DROP_IN,
    DROP_IN_TEXT,
    delegated_controllers,
    delegation_hint,
)
from ocirun.criu.service import check_criu, find_criu, words_of
from ocirun.errors import OcirunError
from ocirun.host import NAMESPACE_FILES, HostFacts
from ocirun.idmap import make_user_namespace, try_user_namespace
from ocirun.plan.process import CAPABILITY_BITS
from ocirun.plan.seccomp_compile import ACTIONS, ARCHITECTURES, FLAGS, kernel_has_flag
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.model import IdMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    #: {"available": true}, or false with a "reason".
    Answer = dict[str, object]

_SCRATCH = "/tmp"  # for ocirun-init, where memfds are refused
_NOT_BUILT_IN = "the kernel has it not"
_PIDFD_EXIT_STATUS = (6, 15)
# File systems that may not answer while their server does not.
_REMOTE = ("9p", "afs", "autofs", "ceph", "cifs", "fuse", "nfs", "smb")
_SWITCHES = (
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "user/max_user_namespaces",
    "vm/memfd_noexec",
)


def probe_document(facts: HostFacts | None = None) -> dict[str, Any]:
    """Return what the host can do for the caller, as it is now.  Works without root, which is a reason then."""
    facts = HostFacts() if facts is None else facts
    return {
        "kernel": {"release": os.uname().release, "machine": os.uname().machine},
        "caller": {
            "euid": facts.euid,
            "userNamespace": "own" if facts.in_user_namespace else "first",
            "capabilities": [name for name, bit in CAPABILITY_BITS.items() if facts.effective_capabilities & bit],
        },
        "systemCalls": _system_calls(),
        "namespaces": {each: _answer(each in facts.namespaces, _NOT_BUILT_IN) for each in sorted(NAMESPACE_FILES)},
        "userNamespaces": _user_namespaces(facts),
        "idMappings": _id_mappings(facts),
        "sysctls": {each.replace("/", "."): value for each in _SWITCHES if (value := _read(f"/proc/sys/{each}"))},
        "pidfd": {"exitStatus": _answer(facts.kernel >= _PIDFD_EXIT_STATUS, "since Linux 6.15 only")},
        "cgroup": _cgroup(facts),
        "idmap": _id_mapped_mounts(),
        "seccomp": _seccomp(facts),
        "lsm": _security_modules(facts),
        "intelRdt": _resctrl(facts),
        "criu": _criu(),
    }


def _answer(available: bool, reason: str) -> Answer:
    return {"available": True} if available else {"available": False, "reason": reason}


def _refusal(number: int) -> str:
    if number == ENOSYS:
        return "ENOSYS: the kernel has it not"
    if number in (EPERM, EACCES):
        return f"{errorcode[number]}: a privilege is missing, or a filter forbids it"
    return errorcode.get(number, str(number))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20).strip()
    except OSError:
        return ""


def _system_calls() -> dict[str, Answer]:
    from ocirun._native import questions

    result = {}
    for call in questions.SYSTEM_CALLS:
        number = questions.ask(call)
        result[call] = _answer(number not in (ENOSYS, EPERM, EACCES), _refusal(number))
    return result


def _open_init() -> int:
    return _native.open_init(_SCRATCH)[0]


def _user_namespaces(facts: HostFacts) -> Answer:
    if "user" not in facts.namespaces:
        return _answer(False, _NOT_BUILT_IN)
    if not facts.user_namespace_limit:
        return _answer(False, "the host allows none, see sysctls")
    try:
        try_user_namespace(_open_init, _SCRATCH)
    except (OcirunError, OSError) as error:
        return _answer(False, str(error))
    return {"available": True, "limit": facts.user_namespace_limit}


def _id_mappings(facts: HostFacts) -> dict[str, object]:
    """Say what the caller may map in a user namespace, and by what."""
    unknown = ["known to a name service"]
    result: dict[str, object] = {"uid": facts.euid, "gid": facts.egid}
    for key, ranges in (
        ("subordinateUids", facts.subordinate_uids),
        ("subordinateGids", facts.subordinate_gids),
    ):
        result[key] = unknown if ranges is None else [f"{first}:{size}" for first, size in ranges]
    result["newuidmap"] = _privileged_program(facts.newuidmap)
    result["newgidmap"] = _privileged_program(facts.newgidmap)
    result["setgroups"] = _answer(facts.may_set_groups, "denied in the user namespace of the runtime")
    return result


def _privileged_program(path: str) -> Answer:
    if not path:
        return _answer(False, "not installed (package uidmap)")
    try:
        status = os.stat(path)
        has_power = status.st_uid == 0 and bool(status.st_mode & stat.S_ISUID)
        has_power = has_power or "security.capability" in os.listxattr(path)
    except OSError as error:
        return _answer(False, f"{path}: {error.strerror}")
    if not has_power:
        return _answer(False, f"{path} is neither set-user-ID root nor has it a capability")
    return {"available": True, "path": path}


def _cgroup(facts: HostFacts) -> dict[str, object]:
    layout = facts.cgroup_layout
    unified = {"unified": "/sys/fs/cgroup", "hybrid": "/sys/fs/cgroup/unified"}.get(layout)
    controllers: dict[str, str] = {}
    own = "/sys/fs/cgroup"
    for line in _read("/proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if number != "0":
            controllers |= {each: "v1" for each in names.split(",") if each and "=" not in each}
            if names == "memory" and unified is None:
                own = f"/sys/fs/cgroup/memory{path}"
        elif unified is not None:
            controllers |= dict.fromkeys(_read(f"{unified}/cgroup.controllers").split(), "v2")
            own = unified + path
    return {
        "layout": layout,
        "controllers": dict(sorted(controllers.items())),
        "systemd": _answer(os.path.isdir("/run/systemd/system"), "systemd is not running"),
        "delegated": _answer(os.access(own, os.W_OK), f"{own} is not the caller's"),
        **(_delegation(facts, own) if facts.rootless else {}),
    }


def _delegation(facts: HostFacts, own: str) -> dict[str, object]:
    """Say which controllers the caller can give to containers, and what root has to do for the others."""
    top = f"/sys/fs/cgroup/user.slice/user-{facts.euid}.slice/user@{facts.euid}.service"
    delegated = delegated_controllers(top if os.path.isdir(top) else own)
    result: dict[str, object] = {"delegatedControllers": delegated}
    missing = [each for each in DELEGATED_CONTROLLERS if each not in delegated]
    hint = delegation_hint(facts)
    if missing and hint is not None:
        result["missingControllers"] = missing
        result["remedy"] = hint
        if facts.systemd and facts.cgroup_layout == "unified":
            result["dropIn"] = {"path": DROP_IN, "content": DROP_IN_TEXT}
    return result


def _id_mapped_mounts() -> dict[str, Answer]:
    """Try one mount of each type that is mounted here."""
    from ocirun._native import questions

    everybody = [IdMapping({"containerID": 0, "hostID": 100000, "size": 65536})]
    places: dict[str, str] = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if not kind.startswith(_REMOTE):
            places.setdefault(kind, unescape(before.split()[4]))
    try:
        namespace = make_user_namespace(IdMaps(everybody, everybody, ""), _open_init, _SCRATCH)
    except (OcirunError, OSError) as error:
        return {kind: _answer(False, str(error).lstrip("/: ")) for kind in sorted(places)}
    try:
        result = {}
        for kind, path in sorted(places.items()):
            number = questions.try_id_mapped_clone(path, namespace)
            reason = "this file system has no id-mapped mounts" if number == EINVAL else _refusal(number)
            result[kind] = _answer(number == 0, reason)
        return result
    finally:
        os.close(namespace)


def _seccomp(facts: HostFacts) -> dict[str, object]:
    from ocirun._native.libseccomp import Library

    words = {"kill": "kill_thread", "notify": "user_notif"}
    actions: dict[str, Answer] = {}
    for name in sorted(ACTIONS):
        word = name.removeprefix("SCMP_ACT_").lower()
        known = words.get(word, word) in facts.seccomp_actions
        actions[name] = _answer(known, "the kernel has it not, see /proc/sys/kernel/seccomp/actions_avail")
    try:
        library = Library()
        flags = {name: _answer(kernel_has_flag(library, flag), _NOT_BUILT_IN) for name, flag in sorted(FLAGS.items())}
    except OSError as error:
        return {"libseccomp": _answer(False, str(error)), "actions": actions}
    unknown = f"libseccomp {library.version} does not know it"
    return {
        "libseccomp": {"available": True, "version": library.version},
        "actions": actions,
        "flags": flags,
        "archs": {
            f"SCMP_ARCH_{name.upper()}": _answer(bool(library.architecture(name)), unknown)
            for name in sorted(ARCHITECTURES)
        },
    }


def _security_modules(facts: HostFacts) -> dict[str, object]:
    return {
        "active": sorted(facts.lsms),
        "apparmor": _answer("apparmor" in facts.lsms, "it is not on"),
        "selinux": _answer("selinux" in facts.lsms, "it is not on"),
    }


def _resctrl(facts: HostFacts) -> dict[str, object]:
    resources = _list(f"{facts.resctrl}/info") if facts.resctrl else []
    if not resources:
        words = "the resctrl file system is not mounted"
        has = "resctrl" in _read("/proc/filesystems").split()
        return {**_answer(False, words if has else "the kernel or the processor has it not")}
    return {"available": True, "resources": resources, "monitoring": "L3_MON" in resources}


def _criu() -> Answer:
    try:
        path = find_criu(None)
        version = check_criu(path, (), _open_init, _SCRATCH)
    except (OcirunError, OSError) as error:
        return _answer(False, str(error))
    return {"available": True, "path": path, "version": words_of(version)}


def _list(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def render(document: dict[str, Any], prefix: str = "") -> str:
    """Return a document of features or of a host as text for people: one line a fact."""
    lines = []
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and isinstance(value.get("available"), bool):
            rest = {k: v for k, v in value.items() if k not in ("available", "reason")}
            more = "".join(f", {k} {_word(v)}" for k, v in rest.items())
            lines.append(f"{name}: {'yes' if value['available'] else 'no: ' + str(value['reason'])}{more}\n")
        elif isinstance(value, dict):
            lines.append(render(value, f"{name}."))
        else:
            lines.append(f"{name}: {_word(value)}\n")
    return "".join(lines)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)
