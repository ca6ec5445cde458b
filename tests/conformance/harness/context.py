# SPDX-License-Identifier: Apache-2.0
"""What a case is given: a bundle to change, a runtime to run it with, and ways to say what was expected."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from . import machine
from .case import SUITE, Failed, NotApplicable
from .runtime import TIMEOUT, Container, Done, Json, Output, Runtime

TAG = f"conf{os.getpid()}t"  # the last letter: no tag is the beginning of another
_numbers = itertools.count(1)
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
NAMESPACES = ("pid", "mount", "ipc", "uts", "network")
PROC = {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}
DEV = {
    "destination": "/dev",
    "type": "tmpfs",
    "source": "tmpfs",
    "options": ["nosuid", "strictatime", "mode=755", "size=1m"],
}
PTS = {
    "destination": "/dev/pts",
    "type": "devpts",
    "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}


def unique(word: str = "c") -> str:
    """Return a name that nothing else on this machine has."""
    return f"{TAG}{word}{next(_numbers)}z"  # the z: no name is the beginning of another


def default_config() -> Json:
    """Return an ordinary configuration of specification 1.0, which every runtime should be able to run."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "hostname": "conformance",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "cwd": "/",
            "env": ["PATH=/bin:/", "CONFORMANCE=1"],
            "args": ["/probe", "report"],
            "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
        },
        "mounts": [copy.deepcopy(entry) for entry in (PROC, DEV, PTS)],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def merge(base: Json, patch: Json) -> None:
    """Merge objects; None takes a key away, all else replaces."""
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


def build_probe() -> Path:
    """Return the static program that runs inside: tests/payload, built with gcc where it is not current."""
    spec = importlib.util.spec_from_file_location("payload_build", SUITE.parent / "payload/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path: Path = module.build()
    return path


class Context:
    """A bundle, a runtime, and the words to judge with.  `close` removes all that a case made."""

    def __init__(self, runtime: Runtime, probe: Path) -> None:
        self.runtime = runtime
        self.probe_path = probe
        self.place = Path(tempfile.mkdtemp(prefix=TAG))
        self.place.chmod(0o755)
        self.id = unique()
        self.config = default_config()
        self.bundle = self.place / "bundle"
        self.rootfs = self.bundle / "rootfs"
        self.raw: bytes | None = None
        self._containers: list[Container] = []
        self._ids: dict[str, bool] = {}
        self._known: set[int] = set()
        self._at_the_end: list[Any] = []
        self.rootfs.mkdir(parents=True)
        for name in ("proc", "sys", "dev", "tmp", "etc", "bin"):
            (self.rootfs / name).mkdir()
        (self.rootfs / "tmp").chmod(0o1777)
        shutil.copy2(probe, self.rootfs / "probe")
        self.file("/etc/passwd", "root:x:0:0:root:/:/probe\n")
        self.file("/etc/group", "root:x:0:\n")
        self.write()

    # -- the bundle ----------------------------------------------------------------------------------------------------

    def file(self, path: str, text: str | bytes = "", mode: int = 0o644) -> Path:
        """Make a file in the root file system; directories as needed."""
        place = self.rootfs / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        place.chmod(mode)
        return place

    def write(self) -> None:
        """Write config.json."""
        data = json.dumps(self.config, indent=1).encode() if self.raw is None else self.raw
        (self.bundle / "config.json").write_bytes(data)

    def set(self, patch: Json) -> Context:
        """Merge a patch into the configuration (see merge)."""
        merge(self.config, patch)
        return self

    def process(self, **members: Any) -> Context:
        """Merge into `process`."""
        return self.set({"process": members})

    def linux(self, **members: Any) -> Context:
        """Merge into `linux`."""
        return self.set({"linux": members})

    def mount(self, destination: str, kind: str | None, source: str | None, *options: str) -> Context:
        """Append a mount."""
        entry: Json = {"destination": destination}
        if kind is not None:
            entry["type"] = kind
        if source is not None:
            entry["source"] = source
        if options:
            entry["options"] = list(options)
        self.config["mounts"].append(entry)
        return self

    def namespace(self, kind: str, path: str | None = None) -> Context:
        """Put one namespace in, or replace it."""
        self.without_namespace(kind)
        self.config["linux"]["namespaces"].append({"type": kind} | ({"path": path} if path else {}))
        return self

    def without_namespace(self, *kinds: str) -> Context:
        """Leave namespaces out."""
        entries = self.config["linux"]["namespaces"]
        entries[:] = [entry for entry in entries if entry["type"] not in kinds]
        return self

    def userns(self, size: int = 65536, host: int = 100000) -> Context:
        """A user namespace with one range each, and a root file system that its root owns."""
        self.namespace("user")
        mapping = [{"containerID": 0, "hostID": host, "size": size}]
        self.linux(uidMappings=mapping, gidMappings=mapping)
        for top, directories, names in os.walk(self.rootfs):
            for path in [top, *(f"{top}/{name}" for name in directories + names)]:
                mode = os.lstat(path).st_mode
                os.chown(path, host, host, follow_symlinks=False)
                if not stat.S_ISLNK(mode):
                    os.chmod(path, stat.S_IMODE(mode))
        return self

    def probe(self, *verbs: Any) -> Context:
        """Let the container run verbs of the probe, one after the other; each a word or a list of words."""
        words = ["/probe"]
        if len(verbs) > 1:
            words.append("seq")
        for number, verb in enumerate(verbs):
            if number:
                words.append("--")
            words += [verb] if isinstance(verb, str) else [str(word) for word in verb]
        self.config["process"]["args"] = words
        return self

    def allow_devices(self) -> Context:
        """Let the container use every device, so that only what the case is about decides."""
        return self.linux(resources={"devices": [{"allow": True, "access": "rwm"}]})

    # -- the runtime ---------------------------------------------------------------------------------------------------

    def try_create(self, *words: str, container_id: str | None = None, **keywords: Any) -> Done:
        """`create`; the result is not judged.  What the container writes is not kept."""
        self.write()
        container_id = container_id or self.id
        self._ids[container_id] = True
        return self.runtime.call("create", "--bundle", str(self.bundle), *words, container_id, **keywords)

    def create(self, *words: str, container_id: str | None = None, **keywords: Any) -> Container:
        """`create`, which must succeed."""
        container_id = container_id or self.id
        pid_file = self.place / f"{container_id}.pid"
        reader, writer = os.pipe()
        try:
            done = self.try_create(
                "--pid-file", str(pid_file), *words, container_id=container_id, stdout=writer, **keywords
            )
        finally:
            os.close(writer)
        if not done.ok:
            os.close(reader)
            raise Failed("create succeeds", "exit status 0", str(done))
        container = Container(self.runtime, container_id, int(pid_file.read_text()), reader)
        self._containers.append(container)
        return container

    def running(self, *verbs: Any) -> Container:
        """A container that runs until it is killed; first it does the verbs."""
        self.probe(*verbs, "ready", "sleep")
        container = self.create().start()
        while (line := container.line())["verb"] != "ready":
            self.said = line
        return container

    def run(self, *verbs: Any, **keywords: Any) -> Output:
        """Create, start, wait, delete; each must succeed.  Without verbs: what the configuration says."""
        if verbs:
            self.probe(*verbs)
        container = self.create(**keywords).start()
        output = container.finish()
        self._ids[container.id] = False
        return output

    def report(self) -> Json:
        """Run the probe's report."""
        return self.run("report").report

    def refused(self, *, why: str, late: bool = False, words: tuple[str, ...] = ()) -> Done:
        """Expect an error of create that leaves nothing; with `late` an error of start will do as well."""
        before = set(machine.own_mounts())
        self._known |= set(machine.children())
        done = self.try_create(*words)
        if done.ok and late:
            done = self.runtime.call("start", self.id)
            if not done.ok:
                return done
        if done.ok:
            raise Failed(why, "an error of create" + (" or of start" if late else ""), "no error")
        self.nothing_left(before)
        return done

    def nothing_left(self, mounts_before: AbstractSet[str]) -> None:
        """Expect no trace of the container."""
        machine.reap()
        left: Json = {}
        if self.runtime.exists(self.id):
            left["container"] = self.id
        else:
            self._ids[self.id] = False
        if found := sorted(set(machine.own_mounts()) - mounts_before):
            left["mounts"] = found
        if directories := [str(path) for path in machine.cgroups_named(self.id)]:
            left["cgroups"] = directories
        known = self._known | {container.pid for container in self._containers}
        end = time.monotonic() + TIMEOUT
        while processes := [pid for pid in machine.children() if pid not in known]:
            if time.monotonic() > end:  # what was killed needs a moment to be gone
                left["processes"] = processes
                break
            time.sleep(0.01)
        if left:
            raise Failed("a failed operation leaves all as it was", "nothing left behind", left)

    # -- judging -------------------------------------------------------------------------------------------------------

    def equal(self, what: str, seen: Any, expected: Any) -> None:
        """Expect a value."""
        if seen != expected:
            raise Failed(what, expected, seen)

    def within(self, what: str, seen: Any, expected: Any) -> None:
        """Expect one of some values."""
        if seen not in expected:
            raise Failed(what, f"one of {expected!r}", seen)

    def true(self, what: str, condition: object, seen: Any = None) -> None:
        """Expect a condition."""
        if not condition:
            raise Failed(what, "that it is so", "it is not so" if seen is None else seen)

    def error(self, what: str, done: Done) -> None:
        """Expect that an operation failed."""
        if done.ok:
            raise Failed(what, "an error", "no error")

    def ok(self, what: str, done: Done) -> None:
        """Expect that an operation succeeded."""
        if not done.ok:
            raise Failed(what, "no error", str(done))

    def need(self, condition: object, reason: str) -> None:
        """Say that the case cannot be shown here, unless the condition holds."""
        if not condition:
            raise NotApplicable(reason)

    def need_controller(self, name: str) -> None:
        """Say so where there is no such cgroup controller."""
        self.need(machine.has_controller(name), f"no cgroup controller {name}")

    def may_be_refused(self) -> None:
        """Say so where create refuses what no runtime has to support (config.md#valid-values)."""
        container_id = f"{self.id}may"
        done = self.try_create(container_id=container_id)
        if not done.ok:
            raise NotApplicable(f"the runtime refuses it, as it may: {done.err.strip()[-200:]}")
        self.remove(container_id)

    def at_the_end(self, action: Any) -> None:
        """Do this when the case is over, whatever comes."""
        self._at_the_end.append(action)

    def remove(self, container_id: str) -> None:
        """Remove a container by force, whatever it is; the one thing here that the specification does not have."""
        self.runtime.call("delete", "--force", container_id, orphans=True)
        self._ids[container_id] = False

    def close(self) -> None:
        """Remove everything."""
        for container_id, perhaps in list(self._ids.items()):
            if perhaps:
                self.remove(container_id)
        for container in self._containers:
            container.close()
        for action in reversed(self._at_the_end):
            try:
                action()
            except OSError:
                pass
        while children := list(machine.children()):
            for pid in children:
                os.kill(pid, 9)
            os.waitpid(-1, 0)  # whichever: the init of a pid namespace does not end before the others in it were reaped
        machine.reap()
        # Everything with our tag, also what a runtime left above the path that it was given; the deepest first.
        for path in sorted(machine.cgroups_named(TAG), key=lambda path: -len(path.parts)):
            try:
                path.rmdir()
            except OSError:
                pass
        inside = [target for target in machine.own_mounts() if target.startswith(f"{self.place}/")]
        for target in reversed(inside):
            try:
                machine.umount(target)
            except OSError:
                pass
        if not [target for target in machine.own_mounts() if target.startswith(f"{self.place}/")]:
            shutil.rmtree(self.place, ignore_errors=True)


__all__ = ["DEV", "PROC", "PTS", "TIMEOUT", "Context", "build_probe", "unique"]
