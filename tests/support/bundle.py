# SPDX-License-Identifier: Apache-2.0
"""Bundles for tests: a realistic default configuration, patched by each test, and its rootfs."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

DEFAULT_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
NAMESPACES = ("pid", "mount", "ipc", "uts", "network", "cgroup")

# One tag per test process, part of every container ID: leaks are recognised by it even while other
# programs make containers on the same machine.
TAG = f"ocirunt{os.getpid()}t"  # the last letter: no tag is the beginning of another
_numbers = itertools.count(1)


def unique(word: str = "c") -> str:
    """Return a name that no other test of this or another test process uses."""
    return f"{TAG}-{word}{next(_numbers)}"


def default_spec() -> dict[str, Any]:
    """Return the configuration that tests start from: an ordinary container that runs `report`."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "test",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "env": ["PATH=/bin:/", "TEST=1"],
            "args": ["/probe", "report"],
            "capabilities": {name: list(DEFAULT_CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        },
        "mounts": [
            {
                "destination": "/proc",
                "type": "proc",
                "source": "proc",
                "options": ["nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=1m"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def merge(base: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merge `patch` into `base`: objects are merged, None removes a key, all else replaces."""
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


class Bundle:
    """A bundle on disk.  The methods return the bundle, so that a test reads as one sentence."""

    def __init__(self, path: Path, probe: Path, *patches: dict[str, Any]) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        self.id = unique()
        self.spec = default_spec()
        self.raw: bytes | None = None
        self.rootfs.mkdir(parents=True)
        # The probe's users may be any uid of any user namespace.
        path.chmod(0o755)
        self.rootfs.chmod(0o755)
        for name in ("proc", "sys", "dev", "tmp", "run", "etc"):
            (self.rootfs / name).mkdir(mode=0o755)
        (self.rootfs / "tmp").chmod(0o1777)
        shutil.copy2(probe, self.rootfs / "probe")
        self.file("/etc/passwd", "root:x:0:0:root:/root:/probe\n")
        self.file("/etc/group", "root:x:0:\n")
        self.patch(*patches)

    def __fspath__(self) -> str:
        return str(self.path)

    def again(self) -> Bundle:
        """Take a new ID, to run the bundle once more in the same test."""
        self.id = unique()
        return self

    # -- config.json -----------------------------------------------------------------------------

    def patch(self, *patches: dict[str, Any]) -> Bundle:
        """Merge each patch into the configuration (see `merge`)."""
        for patch in patches:
            merge(self.spec, patch)
        return self

    def process(self, **members: Any) -> Bundle:
        """Patch `process`."""
        return self.patch({"process": members})

    def linux(self, **members: Any) -> Bundle:
        """Patch `linux`."""
        return self.patch({"linux": members})

    def args(self, *words: str) -> Bundle:
        """Run the probe with these words."""
        self.spec["process"]["args"] = ["/probe", *words]
        return self

    def seq(self, *verbs: Any) -> Bundle:
        """Run several verbs of the probe; each is a list of words, or one string without arguments."""
        words = ["seq"]
        for verb in verbs:
            if len(words) > 1:
                words.append("--")
            words += [verb] if isinstance(verb, str) else [str(word) for word in verb]
        return self.args(*words)

    def mount(self, destination: str, kind: str | None = None, source: Any = None, *options: str) -> Bundle:
        """Append a mount."""
        entry: dict[str, Any] = {"destination": destination}
        if kind is not None:
            entry["type"] = kind
        if source is not None:
            entry["source"] = os.fspath(source)
        if options:
            entry["options"] = list(options)
        self.spec.setdefault("mounts", []).append(entry)
        return self

    def without_mount(self, destination: str) -> Bundle:
        """Remove the mounts at and below `destination`."""
        self.spec["mounts"] = [
            entry for entry in self.spec["mounts"] if not (entry["destination"] + "/").startswith(destination + "/")
        ]
        return self

    def namespaces(self, *kinds: Any, without: tuple[str, ...] = ()) -> Bundle:
        """Add namespaces ("time", or {"type": …, "path": …}) and take others away."""
        added = [{"type": kind} if isinstance(kind, str) else kind for kind in kinds]
        gone = {entry["type"] for entry in added} | set(without)
        kept = [entry for entry in self.spec["linux"]["namespaces"] if entry["type"] not in gone]
        self.spec["linux"]["namespaces"] = kept + added
        return self

    def userns(self, first: int = 100000, size: int = 65536) -> Bundle:
        """Put the container into a user namespace whose root is the host's uid `first`."""
        mapping = [{"containerID": 0, "hostID": first, "size": size}]
        self.namespaces("user")
        return self.linux(uidMappings=mapping, gidMappings=mapping)

    def capabilities(self, *names: str, **sets: list[str]) -> Bundle:
        """Set bounding, effective and permitted to `names`, or each set by keyword; others empty."""
        if not sets:
            sets = {key: list(names) for key in ("bounding", "effective", "permitted")}
        self.spec["process"]["capabilities"] = sets
        return self

    def write(self) -> Bundle:
        """Write config.json; the runtime fixture does so before every use."""
        data = self.raw if self.raw is not None else json.dumps(self.spec).encode()
        (self.path / "config.json").write_bytes(data)
        return self

    # -- rootfs ----------------------------------------------------------------------------------

    def inside(self, path: str) -> Path:
        """Return the host's path of a container path, lexically."""
        return self.rootfs / path.lstrip("/")

    def file(self, path: str, data: str | bytes = "", mode: int = 0o644) -> Bundle:
        """Make a file, with its parent directories."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
        target.chmod(mode)
        return self

    def dir(self, path: str, mode: int = 0o755) -> Bundle:
        """Make a directory, with its parents."""
        target = self.inside(path)
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(mode)
        return self

    def symlink(self, path: str, target: str) -> Bundle:
        """Make a symbolic link."""
        link = self.inside(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        return self

    def device(self, path: str, kind: str, major: int, minor: int, mode: int = 0o666) -> Bundle:
        """Make a device node ("c" or "b")."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        bits = stat.S_IFCHR if kind == "c" else stat.S_IFBLK
        os.mknod(target, bits | mode, os.makedev(major, minor))
        target.chmod(mode)
        return self

    def fifo(self, path: str) -> Bundle:
        """Make a named pipe."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(target, 0o666)
        target.chmod(0o666)
        return self

    def remove(self, path: str) -> Bundle:
        """Remove a file, link or tree of the rootfs."""
        target = self.inside(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        return self
