# SPDX-License-Identifier: Apache-2.0
"""Names of kernel parameters: which file one means, and which namespace it belongs to.

Kernel: proc(5), namespaces(7); names as in sysctl(8)
"""

from __future__ import annotations

_SWAP = str.maketrans("./", "/.")

_IPC_PARAMETERS = frozenset(
    (
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    )
)


def sysctl_path(name: str) -> str:
    """Return the path below /proc/sys of the parameter *name*, such as "net/ipv4/ip_forward".

    The first separator decides, as in sysctl(8): in "net.ipv4.conf.eth0/100.forwarding" dots
    separate and the slash stands for a dot of the interface's name; "net/ipv4/..." is a path.

    Errors: ValueError for a name that is no path of at least two components, or leads elsewhere.
    """
    slash, dot = name.find("/"), name.find(".")
    path = name if slash >= 0 and (dot < 0 or slash < dot) else name.translate(_SWAP)
    components = path.split("/")
    if len(components) < 2:
        raise ValueError("must have at least two parts, such as net.ipv4.ip_forward")
    if not {"", ".", ".."}.isdisjoint(components):
        raise ValueError("must not have empty parts, or parts that lead elsewhere")
    if not name.isprintable():
        raise ValueError("must not have control characters")
    return path


def sysctl_namespace(path: str) -> str | None:
    """Return the kind of namespace that has the parameter at *path* for itself, None if none has.

    kernel/hostname is left out: config.json has `hostname` for it.
    """
    top, _, rest = path.partition("/")
    if top == "net":
        return "network"
    if top == "user":
        return "user"
    if top == "kernel" and rest in _IPC_PARAMETERS:
        return "ipc"
    if path.startswith("fs/mqueue/"):
        return "ipc"
    if path == "kernel/domainname":
        return "uts"
    return None
