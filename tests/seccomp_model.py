# SPDX-License-Identifier: Apache-2.0
"""What a seccomp profile says, read the slow and plain way: the reference for compiled filters.

Only the names of system calls come from libseccomp.
"""

from __future__ import annotations

import errno
import sys

import bpf

from ocirun._native.libseccomp import Library

AUDIT = {
    "x86_64": 0xC000003E,
    "x32": 0xC000003E,
    "x86": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
    "riscv64": 0xC00000F3,
    "mipsel": 0x40000008,
    "mipsel64": 0xC0000008,
    "ppc64le": 0xC0000015,
    "mips": 0x00000008,
    "mips64": 0x80000008,
    "mips64n32": 0xA0000008,
    "mipsel64n32": 0xE0000008,
    "ppc": 0x00000014,
    "ppc64": 0x80000015,
    "s390": 0x00000016,
    "s390x": 0x80000016,
    "parisc": 0x0000000F,
    "parisc64": 0x8000000F,
}
X32_BIT = 0x40000000
NARROW = {"x86", "x32", "arm", "mips", "mipsel", "mips64n32", "mipsel64n32", "ppc", "s390", "parisc"}
NATIVE = "x86_64"

ACTIONS = {
    "SCMP_ACT_KILL": bpf.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": bpf.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": bpf.KILL_PROCESS,
    "SCMP_ACT_TRAP": bpf.TRAP,
    "SCMP_ACT_ERRNO": bpf.ERRNO,
    "SCMP_ACT_NOTIFY": bpf.NOTIFY,
    "SCMP_ACT_TRACE": bpf.TRACE,
    "SCMP_ACT_LOG": bpf.LOG,
    "SCMP_ACT_ALLOW": bpf.ALLOW,
}
DENYING = {bpf.KILL_THREAD, bpf.KILL_PROCESS, bpf.TRAP, bpf.ERRNO}

# Sub-calls of socketcall(2) and ipc(2), linux/net.h and linux/ipc.h.
SOCKETCALL = {"socket": 1, "bind": 2, "connect": 3, "sendmsg": 16, "accept4": 18}
IPC = {"semop": 1, "semget": 2, "msgget": 13, "shmat": 21}

_library = Library()


def number(arch: str, name: str) -> int:
    """Return a number by name; negative if the architecture does not have the call by itself."""
    return _library.number(_library.architecture(arch), name)


def table(arch: str) -> dict[int, str]:
    """Return all calls that libseccomp knows of an architecture, by number."""
    if arch not in _tables:
        token = _library.architecture(arch)
        starts = {"x32": [X32_BIT], "arm": [0, 0xF0000]}
        starts |= {name: [4000] for name in ("mips", "mipsel")}
        starts |= {name: [5000] for name in ("mips64", "mipsel64")}
        starts |= {name: [6000] for name in ("mips64n32", "mipsel64n32")}
        _tables[arch] = {
            n: name
            for start in starts.get(arch, [0])
            for n in range(start, start + 600)
            if (name := _library.name(token, n)) is not None
        }
    return _tables[arch]


_tables: dict[str, dict[int, str]] = {}


def action(name: str, data: int | None) -> int:
    """Return the value that a filter returns for an action."""
    value = ACTIONS[name]
    return value | (1 if data is None else data) if value in {bpf.ERRNO, bpf.TRACE} else value


def compare(op: str, argument: int, value: int, second: int) -> bool:
    """Apply one comparator."""
    return {
        "SCMP_CMP_NE": argument != value,
        "SCMP_CMP_LT": argument < value,
        "SCMP_CMP_LE": argument <= value,
        "SCMP_CMP_EQ": argument == value,
        "SCMP_CMP_GE": argument >= value,
        "SCMP_CMP_GT": argument > value,
        "SCMP_CMP_MASKED_EQ": argument & value == second & value,
    }[op]


def answer(profile: dict, audit: int, nr: int, args: tuple[int, ...]) -> int:
    """Return what a filter for *profile* has to answer to a call."""
    listed = {NATIVE} | {text.removeprefix("SCMP_ARCH_").lower() for text in profile.get("architectures") or ()}
    arch = next((name for name in AUDIT if AUDIT[name] == audit and name != "x32"), None)
    if arch == "x86_64" and nr & X32_BIT and nr != 0xFFFFFFFF:
        arch = "x32"
    if arch not in listed:
        return bpf.KILL_THREAD
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    if is_newer(profile, default, arch, nr):
        return bpf.ERRNO | errno.ENOSYS
    if arch in NARROW:
        args = tuple(a & 0xFFFFFFFF for a in args)
    plain: list[int] = []
    conditional: list[int] = []
    for rule in profile.get("syscalls") or ():
        value = action(rule["action"], rule.get("errnoRet"))
        if value == default:
            continue
        for name in rule["names"]:
            for alternative in conditions(arch, name, nr, rule.get("args") or []):
                if always(alternative, arch):
                    plain.append(value)
                elif all(compare(a["op"], args[a["index"]], a["value"], a.get("valueTwo") or 0) for a in alternative):
                    conditional.append(value)
    return [*plain, *conditional, default][0]


def conditions(arch: str, name: str, nr: int, args: list[dict]) -> list[list[dict]]:
    """Return the alternatives under which a rule of *name* applies to *nr*; none if it does not."""
    by_number = table(arch).get(nr)
    indexes = [arg["index"] for arg in args]
    repeated = len(set(indexes)) < len(indexes)
    alternatives = [[arg] for arg in args] if repeated else [args]
    if by_number == name:
        return alternatives
    for multiplexer, calls in (("socketcall", SOCKETCALL), ("ipc", IPC)):
        if by_number == multiplexer and name in calls and number(arch, name) < 0:
            first = {"index": 0, "op": "SCMP_CMP_EQ", "value": calls[name]}
            # Argument 0 is the sub-call; the true ones are behind a pointer.
            return [
                [first, *(arg for arg in each if arg["index"] != 0)]
                for each in alternatives
                if all(not never(arg, arch) for arg in each)
            ]
    return []


def always(alternative: list[dict], arch: str) -> bool:
    """Say whether comparators match whatever the arguments are."""
    largest = 0xFFFFFFFF if arch in NARROW else 0xFFFFFFFFFFFFFFFF
    return all(
        {
            "SCMP_CMP_NE": arg["value"] > largest,
            "SCMP_CMP_LT": arg["value"] > largest,
            "SCMP_CMP_LE": arg["value"] >= largest,
            "SCMP_CMP_EQ": False,
            "SCMP_CMP_GE": arg["value"] == 0,
            "SCMP_CMP_GT": False,
            "SCMP_CMP_MASKED_EQ": arg["value"] & largest == 0 and arg["value"] & (arg.get("valueTwo") or 0) == 0,
        }[arg["op"]]
        for arg in alternative
    )


def never(arg: dict, arch: str) -> bool:
    """Say whether a comparator cannot match."""
    largest = 0xFFFFFFFF if arch in NARROW else 0xFFFFFFFFFFFFFFFF
    return {
        "SCMP_CMP_NE": False,
        "SCMP_CMP_LT": arg["value"] == 0,
        "SCMP_CMP_LE": False,
        "SCMP_CMP_EQ": arg["value"] > largest,
        "SCMP_CMP_GE": arg["value"] > largest,
        "SCMP_CMP_GT": arg["value"] >= largest,
        "SCMP_CMP_MASKED_EQ": arg["value"] & (arg.get("valueTwo") or 0) > largest,
    }[arg["op"]]


def is_newer(profile: dict, default: int, arch: str, nr: int) -> bool:
    """Say whether the ENOSYS rule applies to a number."""
    if default & 0xFFFF0000 not in DENYING or default == bpf.ERRNO | errno.ENOSYS:
        return False
    names = {name for rule in profile.get("syscalls") or () for name in rule["names"]}
    numbers = named(arch, names)
    if not numbers:
        return False
    if arch in ("s390", "s390x") and nr == 0 and min(numbers) != 0:
        return True  # what the kernel shows of a number above 255 that it does not know
    same_series = [n for n in numbers if series(arch, n) == series(arch, nr)]
    if same_series:
        return nr > max(same_series)
    return nr > min(numbers)


def named(arch: str, names: set[str]) -> set[int]:
    """Return all numbers that names have, the multiplexers among them."""
    found = {n for n, name in table(arch).items() if name in names}
    for multiplexer, calls in (("socketcall", SOCKETCALL), ("ipc", IPC)):
        if any(name in names and number(arch, name) < 0 for name in calls):
            found |= {n for n, name in table(arch).items() if name == multiplexer}
    return found


def series(arch: str, nr: int) -> int:
    """Return which of an architecture's series of numbers a number belongs to."""
    if arch == "x32":
        return int(nr - X32_BIT >= 512)
    if arch == "arm":
        return int(nr >= 0xF0000)
    if arch == "x86_64":
        return int(nr >= X32_BIT)
    return 0


if sys.byteorder != "little" or _library.native != AUDIT[NATIVE]:
    raise RuntimeError("the model is written for x86_64")
