# SPDX-License-Identifier: Apache-2.0
"""What this host can do, as far as decisions depend on it.

`HostFacts()` looks at the host, each fact when it is first asked for and then never again: `create`
pays only for what its config.json makes it ask.  `HostFacts.of(...)` describes a host that need not
exist, so that everything that decides by facts is tested without one.

Nothing here starts a program or changes anything.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    from ocirun.subids import Range

    T = TypeVar("T")

# The specification's names of namespaces, and the kernel's.
NAMESPACE_FILES = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "time": "time",
    "user": "user",
    "uts": "uts",
}

_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
_ALL_CAPABILITIES = (1 << 41) - 1
#: The map of the first user namespace: inside, outside, size.
_ALL_IDS = ((0, 0, 4294967295),)
_LEGACY_CONTROLLERS = frozenset(
    (
        "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio",
        "perf_event", "pids", "rdma",
    )
)  # fmt: skip
_UNIFIED_CONTROLLERS = frozenset(("cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"))
_ALL_SECCOMP_ACTIONS = frozenset(
    ("kill_process", "kill_thread", "trap", "errno", "user_notif", "trace", "log", "allow")
)


class HostFacts:
    """A frozen view of the host, as the calling thread sees it.

    Files below /proc and /sys that cannot be read make a fact false or empty, never an exception.
    """

    __slots__ = ("_known",)
    _known: dict[str, object]

    def __init__(self) -> None:
        object.__setattr__(self, "_known", {})

    @classmethod
    def of(
        cls,
        *,
        kernel: tuple[int, ...] = (6, 12),
        euid: int = 0,
        effective_capabilities: int = _ALL_CAPABILITIES,
        cap_last_cap: int = 40,
        in_user_namespace: bool = False,
        namespaces: frozenset[str] = frozenset(NAMESPACE_FILES),
        namespace_ids: dict[str, tuple[int, int]] | None = None,
        cgroup_layout: str = "unified",
        legacy_controllers: frozenset[str] | None = None,
        unified_controllers: frozenset[str] | None = None,
        lsms: frozenset[str] = frozenset(),
        resctrl: str = "",
        seccomp_actions: frozenset[str] = _ALL_SECCOMP_ACTIONS,
        systemd: bool = True,
        user_namespace_limit: int = 1 << 16,
        egid: int = 0,
        uid_map: tuple[tuple[int, int, int], ...] = _ALL_IDS,
        gid_map: tuple[tuple[int, int, int], ...] = _ALL_IDS,
        may_set_groups: bool = True,
        may_clone_mounts: bool | None = None,
        newuidmap: str = "/usr/bin/newuidmap",
        newgidmap: str = "/usr/bin/newgidmap",
        subordinate_uids: tuple[Range, ...] | None = (),
        subordinate_gids: tuple[Range, ...] | None = (),
    ) -> HostFacts:
        """Return facts about an imagined host, by default a recent one seen by root."""
        self = cls()
        if legacy_controllers is None:
            has_them = cgroup_layout in ("legacy", "hybrid")
            legacy_controllers = _LEGACY_CONTROLLERS if has_them else frozenset()
        if unified_controllers is None:
            unified_controllers = _UNIFIED_CONTROLLERS if cgroup_layout == "unified" else frozenset()
        self._known.update(
            kernel=kernel, cgroup_layout=cgroup_layout, lsms=lsms, resctrl=resctrl, seccomp_actions=seccomp_actions,
            legacy_controllers=legacy_controllers, unified_controllers=unified_controllers, systemd=systemd,
            euid=euid, egid=egid, effective_capabilities=effective_capabilities, cap_last_cap=cap_last_cap,
            namespaces=namespaces, namespace_ids=namespace_ids or {}, user_namespace_limit=user_namespace_limit,
            in_user_namespace=in_user_namespace, uid_map=uid_map, gid_map=gid_map, may_set_groups=may_set_groups,
            may_clone_mounts=bool(effective_capabilities & 1 << 21) if may_clone_mounts is None else may_clone_mounts,
            newuidmap=newuidmap, newgidmap=newgidmap,
            subordinate_uids=subordinate_uids, subordinate_gids=subordinate_gids,
        )  # fmt: skip
        return self

    def as_root(self) -> HostFacts:
        """Return what root of the same host would find."""
        other = HostFacts()
        other._known.update(
            {
                **self._known,
                "euid": 0,
                "egid": 0,
                "effective_capabilities": _ALL_CAPABILITIES,
                "in_user_namespace": False,
                "uid_map": _ALL_IDS,
                "gid_map": _ALL_IDS,
                "may_set_groups": True,
                "may_clone_mounts": True,
            }
        )
        return other

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"HostFacts are frozen: {name}")

    def __repr__(self) -> str:
        return f"HostFacts({', '.join(f'{k}={v!r}' for k, v in sorted(self._known.items()))})"

    @property
    def kernel(self) -> tuple[int, ...]:
        """Major and minor version of the kernel, for comparison: `facts.kernel >= (5, 12)`."""
        return self._fact("kernel", _read_kernel)

    @property
    def euid(self) -> int:
        """Effective user id in the caller's user namespace."""
        return self._fact("euid", os.geteuid)

    @property
    def effective_capabilities(self) -> int:
        """The calling thread's effective capabilities as a bit mask."""
        return self._fact("effective_capabilities", _read_effective_capabilities)

    @property
    def cap_last_cap(self) -> int:
        """The highest capability number that the kernel knows."""
        return self._fact("cap_last_cap", _read_cap_last_cap)

    @property
    def in_user_namespace(self) -> bool:
        """True unless the caller is in the host's first user namespace."""
        # Without the file there are no user namespaces at all.
        return self._fact("in_user_namespace", lambda: self.uid_map not in ((), _ALL_IDS))

    @property
    def rootless(self) -> bool:
        """True without root's power over the host: another user, or the root of a user namespace."""
        return self.euid != 0 or self.in_user_namespace

    @property
    def egid(self) -> int:
        """Effective group id in the caller's user namespace."""
        return self._fact("egid", os.getegid)

    @property
    def uid_map(self) -> tuple[tuple[int, int, int], ...]:
        """The lines of /proc/self/uid_map: the first id inside, the first outside, how many."""
        return self._fact("uid_map", lambda: _read_map("uid_map"))

    @property
    def gid_map(self) -> tuple[tuple[int, int, int], ...]:
        """The lines of /proc/self/gid_map."""
        return self._fact("gid_map", lambda: _read_map("gid_map"))

    @property
    def may_set_groups(self) -> bool:
        """False in a user namespace in which setgroups(2) is denied, and with it in all that are made there."""
        # In the first one nobody can deny it.
        return self._fact(
            "may_set_groups", lambda: not self.in_user_namespace or _read("/proc/self/setgroups") != "deny"
        )

    @property
    def newuidmap(self) -> str:
        """The program that writes a uid_map for users; "" where it is not installed."""
        return self._fact("newuidmap", lambda: _find_program("newuidmap"))

    @property
    def newgidmap(self) -> str:
        """The program that writes a gid_map for users; "" where it is not installed."""
        return self._fact("newgidmap", lambda: _find_program("newgidmap"))

    @property
    def subordinate_uids(self) -> tuple[Range, ...] | None:
        """The ranges of user ids that /etc/subuid gives to the caller; None where it is a name service that knows."""
        return self._fact("subordinate_uids", lambda: _read_ranges("subuid"))

    @property
    def subordinate_gids(self) -> tuple[Range, ...] | None:
        """The ranges of group ids that /etc/subgid gives to the caller; None as above."""
        return self._fact("subordinate_gids", lambda: _read_ranges("subgid"))

    @property
    def namespaces(self) -> frozenset[str]:
        """The kinds of namespaces that the kernel has, in the specification's words."""
        return self._fact("namespaces", _read_namespaces)

    @property
    def namespace_ids(self) -> dict[str, tuple[int, int]]:
        """The caller's own namespaces: kind -> (device, inode) of /proc/thread-self/ns/*."""
        return self._fact("namespace_ids", _read_namespace_ids)

    @property
    def cgroup_layout(self) -> str:
        """What is mounted at /sys/fs/cgroup: "unified", "hybrid", "legacy" or "none".

        In the hybrid layout the controllers are those of version 1, beside an empty version 2 tree.
        """
        return self._fact("cgroup_layout", _read_cgroup_layout)

    @property
    def own_cgroups(self) -> str:
        """The text of /proc/self/cgroup."""
        return self._fact("own_cgroups", lambda: _read("/proc/self/cgroup"))

    @property
    def mountinfo(self) -> str:
        """The text of /proc/self/mountinfo."""
        return self._fact("mountinfo", lambda: _read("/proc/self/mountinfo"))

    @property
    def legacy_controllers(self) -> frozenset[str]:
        """The cgroup controllers that mounted version 1 hierarchies have, by the kernel's names."""
        return self._fact("legacy_controllers", self._read_legacy_controllers)

    @property
    def unified_controllers(self) -> frozenset[str]:
        """The controllers of the version 2 tree's root: those below it can have no others."""
        return self._fact("unified_controllers", self._read_unified_controllers)

    @property
    def lsms(self) -> frozenset[str]:
        """The security modules that are on: "apparmor", "selinux" and others."""
        return self._fact("lsms", _read_lsms)

    @property
    def resctrl(self) -> str:
        """Where the resctrl file system is mounted, "" where it is not."""
        return self._fact("resctrl", _read_resctrl)

    @property
    def seccomp_actions(self) -> frozenset[str]:
        """The seccomp actions that the kernel knows, in its own words; empty without seccomp."""
        return self._fact("seccomp_actions", _read_seccomp_actions)

    @property
    def seccomp(self) -> bool:
        """True if the kernel can load seccomp filters."""
        return bool(self.seccomp_actions)

    @property
    def systemd(self) -> bool:
        """True if systemd is the init of this host, as sd_booted(3) tells."""
        return self._fact("systemd", _read_systemd)

    @property
    def user_namespace_limit(self) -> int:
        """How many user namespaces the caller may make; 0 means that it cannot make any."""
        return self._fact("user_namespace_limit", self._read_user_namespace_limit)

    @property
    def may_clone_mounts(self) -> bool:
        """True with CAP_SYS_ADMIN over the mount namespace that the caller is in."""
        return self._fact("may_clone_mounts", self._read_may_clone_mounts)

    def has_capability(self, number: int) -> bool:
        """Tell whether the calling thread has capability *number* in effect."""
        return bool(self.effective_capabilities >> number & 1)

    def available_capabilities(self, *, in_user_namespace: bool) -> int:
        """Return what the caller can give a process, as a bit mask: in a user namespace all that the kernel knows."""
        known = (1 << (self.cap_last_cap + 1)) - 1
        return known if in_user_namespace else known & self.effective_capabilities

    def _fact(self, name: str, read: Callable[[], T]) -> T:
        # Two threads may both read a fact the first time: they find the same.
        known = self._known
        if name not in known:
            known[name] = read()
        return known[name]  # type: ignore[return-value]  # stored under its name by the line above

    def _read_legacy_controllers(self) -> frozenset[str]:
        if self.cgroup_layout == "unified":
            return frozenset()  # without a look at mountinfo, which may be long
        own: set[str] = set()
        for line in self.own_cgroups.splitlines():
            own.update(line.split(":", 2)[1].split(","))
        found: set[str] = set()
        for line in self.mountinfo.split("\n"):
            # Of version 1 alone: the type of the others is "cgroup2".
            _, is_cgroup, source_and_options = line.partition(" - cgroup ")
            if is_cgroup:
                found.update(source_and_options.rsplit(" ", 1)[-1].split(","))
        return frozenset([name for name in own & found if "=" not in name])

    def _read_unified_controllers(self) -> frozenset[str]:
        tree = {"unified": "", "hybrid": "/unified"}.get(self.cgroup_layout)
        if tree is None:
            return frozenset()
        return frozenset(_read(f"/sys/fs/cgroup{tree}/cgroup.controllers").split())

    def _read_may_clone_mounts(self) -> bool:
        if not self.has_capability(21) or not self.in_user_namespace:
            return self.has_capability(21)
        # The root of a user namespace may be in a mount namespace that does not belong to it: unshare without -m.
        import fcntl

        try:
            with open("/proc/self/ns/mnt", "rb") as namespace:
                owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
        except OSError:
            return False  # EPERM: it belongs to a namespace above ours
        try:
            status = os.fstat(owner)
        finally:
            os.close(owner)
        return (status.st_dev, status.st_ino) == self.namespace_ids.get("user")

    def _read_user_namespace_limit(self) -> int:
        # A switch that Debian's and Arch's kernels have, for everybody without CAP_SYS_ADMIN (21).
        switch = _read("/proc/sys/kernel/unprivileged_userns_clone")
        if switch == "0" and not self.has_capability(21):
            return 0
        limit = _read("/proc/sys/user/max_user_namespaces")
        return int(limit) if limit.isdigit() else 0


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        # More than once: of long files such as mountinfo the kernel gives a page at a time.
        data = chunk = os.read(fd, 1 << 16)
        while chunk:
            chunk = os.read(fd, 1 << 16)
            data += chunk
        return data.decode("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
    finally:
        os.close(fd)


def _read_kernel() -> tuple[int, ...]:
    major, minor = os.uname().release.split(".")[:2]
    digits = minor[: next((i for i, c in enumerate(minor) if not c.isdigit()), len(minor))]
    return (int(major), int(digits))


def _read_effective_capabilities() -> int:
    for line in _read("/proc/thread-self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line[len("CapEff:") :], 16)
    return 0


def _read_cap_last_cap() -> int:
    number = _read("/proc/sys/kernel/cap_last_cap")
    return int(number) if number.isdigit() else 40


def _read_map(file: str) -> tuple[tuple[int, int, int], ...]:
    lines = []
    for line in _read(f"/proc/self/{file}").splitlines():
        inside, outside, size = line.split()
        lines.append((int(inside), int(outside), int(size)))
    return tuple(lines)


def _find_program(name: str) -> str:
    from ocirun.subids import find_program  # only users without root need it

    return find_program(name)


def _read_ranges(file: str) -> tuple[Range, ...] | None:
    from ocirun.subids import read_ranges, user_name

    # The real one: it is who newuidmap is asked by.
    uid = os.getuid()
    return read_ranges(file, uid, user_name(uid))


def _read_namespaces() -> frozenset[str]:
    try:
        files = os.listdir("/proc/self/ns")
    except OSError:
        files = []
    return frozenset([kind for kind, file in NAMESPACE_FILES.items() if file in files])


def _read_namespace_ids() -> dict[str, tuple[int, int]]:
    ids = {}
    for kind, file in NAMESPACE_FILES.items():
        try:
            status = os.stat(f"/proc/thread-self/ns/{file}")
        except OSError:
            continue
        ids[kind] = (status.st_dev, status.st_ino)
    return ids


def _read_cgroup_layout() -> str:
    root = "/sys/fs/cgroup"
    # Only a version 2 tree has this file, at every level.
    if os.path.exists(f"{root}/cgroup.controllers"):
        return "unified"
    if os.path.exists(f"{root}/unified/cgroup.controllers"):
        return "hybrid"
    try:
        trees = os.listdir(root)
    except OSError:
        return "none"
    # Of several trees in a tmpfs, one that is mounted is enough to tell.
    mounted = any(os.path.exists(f"{root}/{tree}/cgroup.procs") for tree in trees)
    return "legacy" if mounted else "none"


def _read_lsms() -> frozenset[str]:
    listed = _read("/sys/kernel/security/lsm")
    if listed:
        return frozenset(listed.split(","))
    # Without securityfs (in a container, say), the modules themselves tell.
    found = []
    if _read("/sys/module/apparmor/parameters/enabled") == "Y":
        found.append("apparmor")
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return frozenset(found)


def _read_resctrl() -> str:
    # Only read where a configuration asks: on a large host this file has thousands of lines.
    try:
        with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return find_resctrl(file.read())
    except OSError:
        return ""


def find_resctrl(mountinfo: str) -> str:
    """Return where the text of a mountinfo file has a resctrl file system, "" where it has none."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] == "resctrl":
            place = before.split(" ")[4]
            for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                place = place.replace(octal, character)
            return place
    return ""


def _read_systemd() -> bool:
    return os.path.isdir("/run/systemd/system")


def _read_seccomp_actions() -> frozenset[str]:
    return frozenset(_read("/proc/sys/kernel/seccomp/actions_avail").split())
