# SPDX-License-Identifier: Apache-2.0
"""A plan as text for people, and as JSON for programs."""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.namespaces import CLONE_FLAGS
from ocirun.plan.process import CAPABILITY_BITS, RLIMITS
from ocirun.spec.mount_options import ATIME_MASK, ATTRIBUTES, PROPAGATION, SUPERBLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirun.plan.ops import Op
    from ocirun.plan.plan import Plan

_BARRIERS = {
    ops.BARRIER_CGROUP: "the parent has made the cgroup",
    ops.BARRIER_LIMITS: "the parent has set the limits",
    ops.BARRIER_NETWORK: "the parent has moved network devices here",
    ops.BARRIER_CREATE_RUNTIME: "the parent has run the prestart and createRuntime hooks",
    ops.BARRIER_CREATED: "the parent has saved the state",
    ops.BARRIER_READY: "the parent has made the process known",
    ops.BARRIER_MOUNT: "the parent has had a look at the mount",
}


def explain(plan: Plan) -> str:
    """Return one line for each operation: what is done, and where in config.json that comes from."""
    lines = [f"spawn ocirun-init{_join_words(' with new namespaces: ', _clone_names(plan.clone_flags))}"]
    for number, maps in enumerate(plan.maps):
        slot = plan.inputs.index(f"idmap{number}")
        lines.append(f"new user namespace for mounts as #{slot} ({maps})")
    of_hook = 0
    for op in plan.ops:
        text = "    " + describe(op) if of_hook else describe(op)
        lines.append(f"{text:<72}  {op.origin}".rstrip() if op.origin else text)
        of_hook = op.numbers[5] if op.name == "HOOK" else max(0, of_hook - 1)
    lines.extend(f"warning: {warning}" for warning in plan.warnings)
    return "\n".join(lines) + "\n"


def to_json(plan: Plan) -> dict[str, object]:
    """Return the plan as JSON values; the operands are those of `ocirun.plan.ops`."""
    return {
        "cloneFlags": _clone_names(plan.clone_flags),
        "inputs": list(plan.inputs),
        "idMaps": [str(maps) for maps in plan.maps],
        "warnings": list(plan.warnings),
        "operations": [
            {
                "op": op.name.lower(),
                "origin": op.origin,
                "description": describe(op),
                "texts": [_json_text(text) for text in op.texts],
                "numbers": list(op.numbers),
                "flags": op.flags,
            }
            for op in plan.ops
        ],
    }


def describe(op: Op) -> str:
    """Return an operation in words."""
    return _DESCRIPTIONS[op.name](op)


def _json_text(text: object) -> object:
    if isinstance(text, bytes):
        return {"bytes": len(text)}
    return list(text) if isinstance(text, tuple) else text


def _join_words(prefix: str, words: list[str]) -> str:
    return prefix + " ".join(words) if words else ""


def _clone_names(flags: int) -> list[str]:
    return sorted(kind for kind, bit in CLONE_FLAGS.items() if flags & bit)


def _attribute_names(bits: int, cleared: int = 0) -> list[str]:
    names = []
    for name, (set_bits, clear_bits) in ATTRIBUTES.items():
        single = set_bits and not clear_bits & ATIME_MASK
        if (single and bits & set_bits) or (
            clear_bits & ATIME_MASK and set_bits and bits & ATIME_MASK == set_bits
            and name in ("noatime", "strictatime")
        ) or (clear_bits and not set_bits and not clear_bits & ATIME_MASK and cleared & clear_bits):
            names.append(name)
    return names


def _propagation_name(bits: int) -> list[str]:
    return [name for name, value in PROPAGATION.items() if value == bits]


def _superblock_names(bits: int, cleared: int = 0) -> list[str]:
    return [name for name, (bit, is_set) in SUPERBLOCK.items() if (bits if is_set else cleared) & bit]


def _parenthesis(words: list[str]) -> str:
    return f" ({','.join(words)})" if words else ""


def _text(op: Op, index: int) -> str:
    text = op.texts[index]
    return text if isinstance(text, str) else ""


def _list(op: Op, index: int) -> list[str]:
    value = op.texts[index] if index < len(op.texts) else None
    return list(value) if isinstance(value, tuple) else []


def _number(op: Op, index: int) -> int:
    return op.numbers[index] if index < len(op.numbers) else 0


def _mount(op: Op) -> str:
    words = _attribute_names(_number(op, 0), _number(op, 1)) + _propagation_name(_number(op, 2))
    words += _superblock_names(_number(op, 4)) + _list(op, 2)
    words += ["tmpcopyup"] if op.flags & ops.COPY_UP else []
    kept = f" as #{op.slots[0]}" if op.slots[0] >= 0 else ""
    verb = "make a mount of" if op.flags & ops.DETACHED else "mount"
    where = "for" if op.flags & ops.DETACHED else "on"
    return f"{verb} {_text(op, 0)} {where} {_text(op, 3)}{_parenthesis(words)}{kept}"


def _bind(op: Op) -> str:
    words = _attribute_names(_number(op, 0), _number(op, 1)) + _propagation_name(_number(op, 2))
    words += ["r" + name for name in _attribute_names(_number(op, 4), _number(op, 5))]
    kept = f" as #{op.slots[1]}" if op.slots[1] >= 0 else ""
    return f"bind #{op.slots[0]} on {_text(op, 3)}{_parenthesis(words)}{kept}"


def _remount(op: Op) -> str:
    words = _attribute_names(_number(op, 0), _number(op, 1)) + _propagation_name(_number(op, 2))
    words += _superblock_names(_number(op, 4), _number(op, 5))
    return f"change {_text(op, 3)}{_parenthesis(words + _list(op, 2))}"


def _idmap(op: Op) -> str:
    below = " and its submounts" if op.flags & ops.RECURSIVE else ""
    return f"map the ids of #{op.slots[0]}{below} as user namespace #{op.slots[1]} does"


def _node_number(op: Op) -> str:
    number = op.numbers[1]
    return f"{number >> 8 & 0xFFF}:{number & 0xFF | number >> 12 & ~0xFF}"


def _device(op: Op) -> str:
    where = f" in #{op.slots[0]}" if op.slots[0] >= 0 else ""
    owner = f"{op.numbers[2]}:{op.numbers[3]}"
    return f"node {_text(op, 0)}{where} mode {op.numbers[0] & 0o7777:04o} owner {owner} number {_node_number(op)}"


def _bind_device(op: Op) -> str:
    if _text(op, 1):
        return f"bind node {_text(op, 1)} of #{op.slots[0]} on {_text(op, 0)}"
    return f"bind #{op.slots[0]}, if it is number {_node_number(op)}, on {_text(op, 0)}"


def _capability_names(mask: int) -> str:
    names = [name for name, bit in CAPABILITY_BITS.items() if mask & bit]
    if len(names) == len(CAPABILITY_BITS):
        return "all"
    return ",".join(names) or "none"


def _capabilities(op: Op) -> str:
    if op.flags & ops.FINAL:
        return "drop the capability held for the filter"
    sets = zip(("effective", "permitted", "inheritable", "ambient"), op.numbers, strict=True)
    return "capabilities " + " ".join(f"{name}={_capability_names(mask)}" for name, mask in sets)


def _ids(op: Op) -> str:
    groups = op.texts[0]
    if not isinstance(groups, bytes):
        return f"become {op.numbers[0]}:{op.numbers[1]}, groups unchanged"
    from sys import byteorder

    gids = [
        str(int.from_bytes(groups[at : at + 4], byteorder)) for at in range(0, len(groups), 4)
    ]
    return f"become {op.numbers[0]}:{op.numbers[1]} groups [{' '.join(gids)}]"


def _rlimit(op: Op) -> str:
    name = next(name for name, number in RLIMITS.items() if number == op.numbers[0])
    verb = "raise hard limit" if op.flags & ops.RAISE else "limit"
    return f"{verb} {name} to {op.numbers[1]}:{op.numbers[2]}"


def _cpu_names(op: Op) -> str:
    from sys import byteorder

    mask = op.texts[0]
    assert isinstance(mask, bytes)
    words = [int.from_bytes(mask[at : at + 8], byteorder) for at in range(0, len(mask), 8)]
    return ",".join(str(64 * index + bit) for index, word in enumerate(words) for bit in range(64) if word >> bit & 1)


def _below(op: Op) -> str:
    return f" below mount #{op.slots[0]}" if op.slots[0] >= 0 else ""


def _root_attributes(op: Op) -> str:
    words = _attribute_names(_number(op, 0)) + _propagation_name(_number(op, 2))
    return f"make the root mount {' '.join(words)}"


def _who(op: Op) -> str:
    uid, gid = _number(op, 0), _number(op, 1)
    return "root" if (uid, gid) == (0, 0) else f"uid {uid} gid {gid}"


_DESCRIPTIONS: dict[str, Callable[[Op], str]] = {
    "OPEN_NAMESPACE": lambda op: (
        f"open namespace {_text(op, 0)} ({_clone_names(op.numbers[0])[0]}) as #{op.slots[0]}"
    ),
    "AFFINITY": lambda op: f"run on CPUs {_cpu_names(op)}",
    "JOIN_CGROUP": lambda op: f"join the cgroup of {_text(op, 0)}",
    "JOIN": lambda op: f"join {_clone_names(op.numbers[0])[0]} namespace #{op.slots[0]}",
    "UNSHARE": lambda op: f"new namespaces: {' '.join(_clone_names(op.numbers[0]))}",
    "ID_MAPS": lambda _: "wait for the parent to write the id maps",
    "BECOME": lambda op: f"be {_who(op)} of the user namespace",
    "FORK": lambda op: (
        "continue in a child" + _join_words(" with a new namespace: ", _clone_names(op.numbers[0]))
    ),
    "BARRIER": lambda op: f"wait until {_BARRIERS[op.numbers[0]]}",
    "OPEN_PROC": lambda _: "open a private procfs",
    "ENTER_ROOT": lambda op: (
        f"enter the root #{op.slots[0]}" if op.slots[0] >= 0 else "enter the root of the mount namespace"
    ),
    "WRITE_PROC": lambda op: f"write {_text(op, 1)!r} to /proc/{_text(op, 0)}",
    "SYSCTL": lambda op: f"sysctl {_text(op, 0)} = {_text(op, 1)!r}",
    "HOSTNAME": lambda op: f"hostname {_text(op, 0)}",
    "DOMAINNAME": lambda op: f"domainname {_text(op, 0)}",
    "LOOPBACK": lambda _: "bring the loopback interface up",
    "OPEN_NETLINK": lambda op: f"open a netlink socket as #{op.slots[0]}",
    "KEYRING": lambda op: f"new session keyring {_text(op, 0)}",
    "PROPAGATION": lambda op: f"make / {_propagation_name(op.numbers[0])[0]}",
    "OPEN_TREE": lambda op: (
        f"clone {_text(op, 0)} as #{op.slots[0]}" + (" with submounts" if op.flags & ops.RECURSIVE else "")
        + _parenthesis(_propagation_name(_number(op, 0)))
    ),
    "IDMAP": _idmap,
    "ROOTFS": lambda op: (
        f"attach #{op.slots[0]} as the root" + (f", over #{op.slots[1]}" if op.slots[1] >= 0 else "")
    ),
    "MOUNT": _mount,
    "BIND": _bind,
    "REMOUNT": _remount,
    "RESOLVE": lambda op: f"look up {_text(op, 0)} as #{op.slots[0]}",
    "UNMOUNT": lambda op: f"unmount #{op.slots[0]} from {_text(op, 0)}",
    "MASK": lambda op: f"mask {_text(op, 0)}{_below(op)}",
    "READONLY": lambda op: f"make {_text(op, 0)} read-only{_below(op)}",
    "PIVOT": lambda op: "chroot into the root" if op.flags & ops.NO_PIVOT else "pivot into the root",
    "ROOT_ATTRIBUTES": _root_attributes,
    "DIRECTORY": lambda op: f"directory {_text(op, 0)}",
    "DEVICE": _device,
    "BIND_DEVICE": _bind_device,
    "SYMLINK": lambda op: (
        f"link {_text(op, 0)} -> {_text(op, 1)}" + (", if that is there" if op.flags & ops.IF_THERE else "")
    ),
    "CONSOLE": lambda op: f"terminal {op.numbers[0]}x{op.numbers[1]}, main side to the console socket",
    "STDIO": lambda op: f"stdio belongs to uid {op.numbers[0]}",
    "SETSID": lambda _: "new session",
    "CHDIR": lambda op: (
        f"change directory to {_text(op, 0)}" + (", if root was refused" if op.flags & ops.RETRY else "")
    ),
    "RLIMIT": _rlimit,
    "PERSONALITY": lambda op: f"personality {op.numbers[0]:#x}",
    "SCHEDULER": lambda op: f"scheduler policy {op.numbers[0]} nice {op.numbers[2]} priority {op.numbers[3]}",
    "IO_PRIORITY": lambda op: f"io priority class {op.numbers[0] >> 13} level {op.numbers[0] & 0x1FFF}",
    "MEMORY_POLICY": lambda op: f"memory policy {op.numbers[0]:#x}",
    "BOUNDING": lambda op: f"bounding set {_capability_names(op.numbers[0])}",
    "IDS": _ids,
    "CAPABILITIES": _capabilities,
    "NO_NEW_PRIVILEGES": lambda _: "no new privileges",
    "FIND_HOME": lambda op: f"HOME of uid {op.numbers[0]} from the container's passwd",
    "FIND_EXECUTABLE": lambda op: f"find {_text(op, 0)}",
    "WAIT_START": lambda _: "created: wait for start",
    "HOOK": lambda op: f"hook {_text(op, 0)}",
    "SECCOMP": lambda op: (
        f"seccomp filter of {len(op.texts[0] or b'') // 8} instructions, flags {op.numbers[0]:#x}"
    ),
    "ANNOUNCE": lambda _: "close all other descriptors, tell start",
    "END": lambda _: "end",
    "EXEC": lambda op: f"execute {' '.join(_list(op, 0))}".rstrip(),
}
