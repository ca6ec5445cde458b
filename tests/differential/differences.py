# SPDX-License-Identifier: Apache-2.0
"""Where ocirun and Debian's runc 1.1.5 are known to do different things, and why.

An entry explains a place of two observations only where its condition holds too: an entry that excused a whole
kind of place would hide the next mistake there.  docs/differences.md says the same to people.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

ABSENT = "(nothing)"
LINKS = (("/file-link", "/file"), ("/link", "/real"), ("/abs", "/real"), ("/out", ""), ("/dangling", "/nowhere/at/all"))
DEFAULT_NODES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console")
MOUNT_PLACE = r"(mount|file|flags) (?P<path>[^:#]+?)(#\d+)?(: .*)?"


def resolved(path: str) -> str:
    """Return where a path of a scenario leads, by the links that every scenario's tree has."""
    path = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    for link, target in LINKS:
        if path == link or path.startswith(link + "/"):
            path = target + path[len(link) :]
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts[-1:] = []
        elif part:
            parts.append(part)
    return "/" + "/".join(parts)


class Case(NamedTuple):
    """One place of two observations that is not the same."""

    scenario: dict[str, Any]
    key: str
    ours: Any
    theirs: Any
    errors: tuple[str, str]

    @property
    def spec(self) -> dict[str, Any]:
        """The configuration."""
        spec: dict[str, Any] = self.scenario["spec"]
        return spec

    @property
    def linux(self) -> dict[str, Any]:
        """Its part `linux`."""
        part: dict[str, Any] = self.spec["linux"]
        return part

    @property
    def path(self) -> str:
        """The path that the place is about, without links."""
        found = re.fullmatch(MOUNT_PLACE, self.key)
        return resolved(found["path"]) if found else ""

    @property
    def user_namespace(self) -> bool:
        """Whether the container has one."""
        return any(entry["type"] == "user" for entry in self.linux["namespaces"])

    def among(self, paths: Any) -> bool:
        """Tell whether the place's path is one of these."""
        return self.path in {resolved(path) for path in paths}

    def options_there(self) -> set[str]:
        """Return the options of all mounts at the path, or above it."""
        return {
            option
            for entry in self.spec["mounts"]
            for option in entry.get("options", ())
            if (self.path + "/").startswith(resolved(entry["destination"]).rstrip("/") + "/")
        }

    def resource(self, part: str, name: str) -> Any:
        """Return one of `linux.resources`."""
        return self.linux.get("resources", {}).get(part, {}).get(name)


class Difference(NamedTuple):
    """A difference that is meant to be: where it shows, when, and why."""

    name: str
    where: str  # regular expression of the whole key
    when: Callable[[Case], bool]
    why: str


def _always(case: Case) -> bool:
    return True


def _environment(case: Case) -> bool:
    """The last of each name, with HOME filled in, is what runc gives."""
    last = {item.partition("=")[0]: item for item in case.ours}
    if last.get("HOME") == "HOME=":
        last.pop("HOME")
    theirs = {item.partition("=")[0]: item for item in case.theirs}
    return {k: v for k, v in theirs.items() if k != "HOME"} == {k: v for k, v in last.items() if k != "HOME"}


def _copied_root(case: Case) -> bool:
    """The place is in a tmpfs that is filled with what it covers, and whose own mode or owner is asked for."""
    place = case.path or resolved(case.key.partition(": ")[2].partition("#")[0])
    return any(
        (place + "/").startswith(resolved(entry["destination"]).rstrip("/") + "/")
        and "tmpcopyup" in entry.get("options", ())
        and any(option.startswith(("mode=", "uid=", "gid=")) for option in entry["options"])
        for entry in case.spec["mounts"]
    )


def _masked(case: Case) -> bool:
    return case.among(case.linux.get("maskedPaths", ()))


def _restricted(case: Case) -> bool:
    return case.among([*case.linux.get("maskedPaths", ()), *case.linux.get("readonlyPaths", ())])


def _wildcard_rules(case: Case) -> bool:
    rules = case.linux.get("resources", {}).get("devices", ())
    return any(rule.get("type", "a") == "a" for rule in rules)


def _unholdable_capabilities(case: Case) -> bool:
    sets = {name: set(names) for name, names in case.spec["process"].get("capabilities", {}).items()}
    beyond = sets.get("effective", set()) - sets.get("permitted", set())
    return bool(beyond or sets.get("inheritable", set()) - sets.get("bounding", set()))


def _contested_access_times(case: Case) -> bool:
    options = case.options_there()
    return bool(options & {"norelatime", "nostrictatime"}) or {"strictatime", "relatime"} <= options


def _refused(side: int, words: str) -> Callable[[Case], bool]:
    """Only this side refuses, with these words."""
    return lambda case: (
        (case.ours, case.theirs)[side] == "refused" and re.search(words, case.errors[side]) is not None
    )


CREATE = "life: create"
HOOK = r"hook (?P<kind>\w+)-\d"

DIFFERENCES: tuple[Difference, ...] = (
    # ---- documents -------------------------------------------------------------------------------
    Difference("version", rf"(state .*|{HOOK}): (stdin/)?ociVersion", _always, "each says what it implements"),
    Difference(
        "owner", rf"(state .*|{HOOK}): (stdin/)?owner", lambda case: case.ours == "root" and case.theirs == "",
        "no part of the specification; runc's is empty for root",
    ),
    Difference(
        "pid of the stopped", r"hook poststop-\d: stdin/pid", lambda case: case.ours == 0,
        "runtime.md#state: the pid may be left out once the container is stopped; with it decoders have it easier",
    ),
    # ---- hooks -----------------------------------------------------------------------------------
    Difference("hooks: session", rf"{HOOK}: sid", lambda case: case.ours is True, "a hook cannot reach the caller's terminal"),
    Difference(
        "hooks: directory", r"hook poststop-\d: raw_cwd", _always,
        "unspecified; poststop hooks are in the bundle, with runc where the caller is",
    ),
    Difference(
        "hooks: no environment", rf"{HOOK}: environ", lambda case: case.ours == [],
        "config.md#posix-platform-hooks: env has the semantics of environ, so none is none; runc passes on its own",
    ),
    Difference(
        "hooks: descriptors", rf"{HOOK}: fds", lambda case: set(case.ours) < set(case.theirs),
        "runc's own descriptors reach container hooks",
    ),
    Difference(
        "hooks: early name", r"hook createContainer-\d: hostname", _always, "ocirun sets the host name first, runc later",
    ),
    Difference(
        "hooks: poststart", r"hook poststart-\d(: stdin/status)?|order: hooks",
        lambda case: case.key != "order: hooks" or sorted(set(case.ours) ^ set(case.theirs)) == [
            tag for tag in sorted(set(case.theirs)) if tag.startswith("poststart") and tag not in case.ours
        ],
        "runc 1.1 runs them in create: before the program, and with the status created",
    ),
    # ---- the process -----------------------------------------------------------------------------
    Difference(
        "environment", r"report: environ", _environment,
        "config.md#process: environ is passed as it is; runc drops earlier ones of a name and fills in an empty HOME",
    ),
    Difference(
        "groups", r"report: groups", lambda case: set(case.ours) == set(case.theirs), "runc drops what is listed twice",
    ),
    Difference(
        "open files", r"report: rlimits/RLIMIT_NOFILE",
        lambda case: case.ours[1:] == case.theirs[1:] == case.theirs[:1]
        and "RLIMIT_NOFILE" not in [each["type"] for each in case.spec["process"].get("rlimits", ())],
        "the caller's limit is kept; Go raises the soft one of runc to the hard one, and the container gets that",
    ),
    Difference(
        "keyring", r"report: keyring|read: /proc/keys#\d+", _always,
        "ocirun withholds the permission to link from processes of the same user that do not possess the keyring; in a "
        "user namespace runc sets the wrong one",
    ),
    Difference(
        "owner of stdio", r"report: fds/\d+/(uid|gid)", lambda case: case.user_namespace,
        "/dev/null of the container belongs to the container's root, runc's is the host's",
    ),
    # ---- devices ---------------------------------------------------------------------------------
    Difference(
        "rules of all types", r"cgroup devices: devices\.list|(open|mknod): \S+#\d+", _wildcard_rules,
        "runc takes a rule of type a for one about every device and access, whatever it says",
    ),
    Difference(
        "nodes in a user namespace", MOUNT_PLACE,
        lambda case: case.user_namespace
        and case.among([*DEFAULT_NODES, *(entry["path"] for entry in case.linux.get("devices", ()))]),
        "ocirun makes nodes of its own with the asked owner and mode, runc binds the host's as they are",
    ),
    Difference(
        "nodes the host has not", CREATE,
        lambda case: case.user_namespace and _refused(1, "creating device nodes|lchown")(case), "the same",
    ),
    # ---- capabilities ----------------------------------------------------------------------------
    Difference(
        "capabilities left out", CREATE,
        lambda case: _unholdable_capabilities(case) and _refused(1, "unable to apply caps")(case),
        "config.md#linux-process: what cannot be had is warned of; runc gives up",
    ),
    # ---- mounts ----------------------------------------------------------------------------------
    Difference(
        "root mount", r"mount /#0: propagation",
        lambda case: "rootfsPropagation" not in case.linux and (case.ours, case.theirs) == ("private", "slave"),
        "unspecified where nothing is asked for; ocirun's is private, so that nothing of the host appears later",
    ),
    Difference(
        "propagation of what is covered", r"mount .*: propagation", _restricted,
        "masks and read-only paths are clones of what is there, and of the host's /dev/null",
    ),
    Difference(
        "shared root", r"mount .*: propagation",
        lambda case: case.linux.get("rootfsPropagation") in ("shared", "rshared") and case.theirs in ("private", "slave"),
        "runc 1.1 leaves the root and all that is mounted in it private",
    ),
    Difference(
        "submounts of read-only paths", MOUNT_PLACE + r"|(create|open): .*",
        lambda case: any(
            (case.path or resolved(case.key.partition(": ")[2].partition("#")[0])).startswith(resolved(path) + "/")
            for path in case.linux.get("readonlyPaths", ())
        ),
        "readonlyPaths reach the mounts below, with runc only the mount itself",
    ),
    Difference(
        "masks", MOUNT_PLACE, _masked,
        "a masked directory is a tmpfs without room, a masked file the host's /dev/null; runc: an ordinary read-only "
        "tmpfs, the image's /dev/null (CVE-2025-31133)",
    ),
    Difference(
        "root of a filled tmpfs", MOUNT_PLACE + r"|(ls|read|create|open|mknod): .*", _copied_root,
        "what the options say of its mode and owner is so; runc gives it the mode of the directory that it covers",
    ),
    Difference(
        "access times", MOUNT_PLACE, _contested_access_times,
        "config.md#mounts: norelatime is no relatime, and the last word counts; runc's mount(2) turns to relatime again, and to "
        "strictatime wherever it stands",
    ),
    Difference(
        "modes of made files", r"rootfs: .*", lambda case: case.ours[:4] == "-rw-" and case.theirs[:4] == "-rwx",
        "a file that is made to be mounted on is 0644, with runc executable",
    ),
    # ---- resources -------------------------------------------------------------------------------
    Difference(
        "idle", r"cgroup cpu: cpu\.(idle|shares)", lambda case: case.resource("cpu", "idle") is not None,
        "runc 1.1 does not know cpu.idle",
    ),
    Difference(
        "kernelTCP", r"cgroup memory: memory\.kmem\.tcp\.limit_in_bytes",
        lambda case: case.ours == str(case.resource("memory", "kernelTCP")),
        "ocirun sets the limit, which version 1 of cgroups has; runc ignores it since 1.0 (rc94), with a warning",
    ),
    Difference(
        "cgroups left", r"left(: cgroups: new)?",
        lambda case: case.ours == ABSENT and case.linux.get("cgroupsPath", "").strip("/").count("/") > 0,
        "runc leaves the parents that it made",
    ),
    Difference(
        "failed startContainer hook", r"life: (start|exit|kill|delete|state after delete)|said: plain|state (running|stopped)",
        lambda case: re.search(r"start: .*/hooks/startContainer/", case.errors[0]) is not None,
        "ocirun's start fails and deletes the container, as runtime.md#lifecycle says; runc's start has succeeded by then",
    ),
    # ---- what one of them refuses ----------------------------------------------------------------
    Difference("runc: unbindable", CREATE, _refused(1, r"mount .*rootfs, flags: 0x5000: invalid argument"),
               "runc makes the root unbindable and then binds it"),
    Difference("runc: crash", CREATE, _refused(1, r"runtime error|goroutine|libcontainer"),
               "runc 1.1 ends with a Go panic"),
    Difference("runc: procfs", CREATE, _refused(1, r"open /proc/(self|sys|thread-self)/|closing exec fds"),
               "runc needs the container's own /proc, ocirun uses a private one"),
    Difference("runc: dangling links", CREATE, _refused(1, r"mkdir \S*: file exists"),
               "ocirun makes the directory that a link below the root leads to, runc gives up"),
    Difference("runc: null", CREATE, _refused(1, r"reopening /dev/null inside container"),
               "runc opens the container's /dev/null when its device rules hold already, ocirun before"),
    Difference("ocirun: seccomp names", CREATE, _refused(0, r"knows no system call"),
               "a rule that denies and cannot be applied is an error, not passed over"),
    Difference("ocirun: procfs on procfs", CREATE, _refused(0, r"lies on procfs, where nothing may be mounted"),
               "CVE-2019-16884: nothing covers procfs but the files that lxcfs provides; runc takes a second one at /proc"),
    Difference("ocirun: cgroupsPath", CREATE, _refused(0, r"/linux/cgroupsPath: must not have"), "runc cleans it as text"),
    Difference("ocirun: data of a bind", CREATE, _refused(0, r"a bind mount takes no data"),
               "the kernel would ignore it; runc refuses it as well from 1.3 on"),
    Difference("ocirun: version 2", CREATE, _refused(0, r"/linux/resources/memory/\w+: .* cannot be expressed in cgroup version 2"),
               "a limit that version 2 of cgroups does not have is an error, not passed over"),
)  # fmt: skip


def explanation(case: Case) -> Difference | None:
    """Return the entry of the table that explains the case."""
    for difference in DIFFERENCES:
        if re.fullmatch(difference.where, case.key, re.DOTALL) and difference.when(case):
            return difference
    return None


def compare(scenario: Any, ours: Any, theirs: Any, errors: tuple[str, str]) -> list[Case]:
    """Return where two observations differ: "group: name", or the group that only one of them has."""

    def case(key: str, one: Any, other: Any) -> Case:
        return Case(scenario, key, one, other, errors)

    if ours["life"]["create"] != theirs["life"]["create"]:
        return [case(CREATE, ours["life"]["create"], theirs["life"]["create"])]
    found = []
    for group in sorted(ours.keys() | theirs.keys()):
        if group not in ours or group not in theirs:
            found.append(case(group, ours.get(group, ABSENT), theirs.get(group, ABSENT)))
            continue
        one, other = ours[group], theirs[group]
        found += [
            case(f"{group}: {name}", one.get(name, ABSENT), other.get(name, ABSENT))
            for name in sorted(one.keys() | other.keys())
            if one.get(name, ABSENT) != other.get(name, ABSENT)
        ]
    return found
