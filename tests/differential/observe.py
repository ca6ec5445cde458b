# SPDX-License-Identifier: Apache-2.0
"""Run one scenario through one runtime and write down everything that can be seen, in comparable form.

An observation has groups ("report", "mount /dev/shm#0", "cgroup pids", …) of values by name.  What differs from run to run (numbers of processes, inodes, times) is replaced by what is meant by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from support.bundle import TAG, Bundle
from support.cgroup import until
from support.command import ENVIRONMENT, TIMEOUT, RuntimeCommand, end, reap, wait_for
from support.holder import Holder
from support.oracle import HostSnapshot, descendants, remove_leftovers
from support.report import Json, mounts, parse_lines
from support.terminal import ConsoleSocket, read_terminal, window_size

NAME = f"{TAG}-same"
CGROUPS = Path("/sys/fs/cgroup")
# Files that count, or that only act when written to.
COUNTING = re.compile(
    r".*(usage|stat|failcnt|pressure|events|_time|serviced|merged|queued|sectors|io_service|io_wait|reset|tasks|procs"
    r"|controllers|hugetlb.*|threads|peak|event_control|slabinfo|freezing|current|oom_control).*"
)
READY = re.compile(rb'"verb":"ready".*\n')  # the whole line: a terminal gives half of one, too
MS_BIND, MS_REC, MS_PRIVATE, MS_UNBINDABLE = 0x1000, 0x4000, 1 << 18, 1 << 17
FLAG_BITS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024}
LOOKED_AT_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "core")
Observation = dict[str, dict[str, Any]]


# ---- what the probe is asked to look at ----------------------------------------------------------


def _upwards(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def verbs(spec: Json) -> list[list[str]]:
    """Return the verbs that look at everything that the configuration mentions."""
    linux = spec["linux"]
    destinations = [entry["destination"] for entry in spec.get("mounts", ())]
    guarded = [*linux.get("maskedPaths", ()), *linux.get("readonlyPaths", ())]
    devices = [entry["path"] for entry in linux.get("devices", ())]
    named = [path for place in (*destinations, *guarded, *devices) for path in _upwards(place)]
    named.append(spec["process"]["cwd"])
    standard = [f"/dev/{name}" for name in LOOKED_AT_DEVICES]
    looks: list[list[str]] = [["report"], ["walk-up"], ["netif"], ["ls", "/dev"], ["ls", "/"]]
    looks.append(["lstat", "/", "/tmp", *dict.fromkeys(named + standard)])
    for path in dict.fromkeys(destinations + guarded):
        looks += [["mount-flags", path], ["ls", path], ["read", path, "2000"]]
        if not path.startswith(("/proc", "/sys", "/dev/mqueue")):
            looks += [["create", f"{path}/by-probe", "x"], ["open", path, "wronly,append,nonblock"]]
    looks += [["open", path, "rdwr,nonblock,noctty"] for path in dict.fromkeys([*devices, "/dev/null", "/dev/zero"])]
    looks += [["create", "/by-probe", "x"], ["open", "/proc/sys/kernel/domainname", "wronly"]]
    looks += [["read", "/proc/sys/" + _sysctl(name)] for name in linux.get("sysctl", ())]
    if "resources" in linux:
        for number, (kind, major, minor) in enumerate([("c", 1, 3), ("c", 1, 11), ("c", 10, 229), ("b", 7, 0), ("c", 5, 1)]):
            node = f"/tmp/node{number}"
            looks += [["mknod", node, kind, str(major), str(minor)]]
            looks += [["open", node, f"{way},nonblock,noctty"] for way in ("rdonly", "wronly")]
    if "seccomp" in linux:
        for arguments in (["0"], ["1"], ["4", "1"], ["4294967296"], ["18446744073709551615", "0"]):
            looks += [["syscall", name, *arguments] for name in ("getsid", "sched_yield", "munlockall", "getppid")]
        looks += [["syscall", "uname", "buf"], ["syscall", "sysinfo", "buf"], ["syscall32", "20"], ["syscall32", "39", "0"]]
    return looks


def _sysctl(name: str) -> str:
    return name if name.find("/") >= 0 else name.replace(".", "/")


def _ending(end: Sequence[Any], foreground: bool) -> list[list[str]]:
    how, number = end
    if how == "exit" or foreground:
        return [["exit", str(number)]]
    if how == "signal":
        return [["on-signal", str(number), "44"], ["ready"], ["sleep"]]
    return [["ready"], ["sleep"]]


# ---- the bundle ----------------------------------------------------------------------------------


class Place:
    """Where the bundle of every scenario is made: the same for both runtimes."""

    def __init__(self, workdir: Path, probe: Path) -> None:
        self.path = workdir / "bundle"
        self.probe = probe
        self._libc = ctypes.CDLL(None, use_errno=True)
        # Kept by descriptors of ours: that nobody can kill, unlike a process.
        with Holder(probe, "--net", "--ipc", "--uts") as holder:
            self._namespaces = {kind: os.open(holder.ns(kind), os.O_RDONLY) for kind in ("net", "ipc", "uts")}
        self.joined = {kind: os.fstat(fd).st_ino for kind, fd in self._namespaces.items()}

    def close(self) -> None:
        """Let go of the namespaces that are joined."""
        for fd in self._namespaces.values():
            os.close(fd)

    def _mount(self, source: str, target: Path, kind: str | None, flags: int) -> None:
        if self._libc.mount(source.encode(), os.fsencode(target), kind and kind.encode(), flags, None) < 0:
            raise OSError(ctypes.get_errno(), f"cannot mount {target}")

    def substitute(self, value: Any) -> Any:
        """Put real paths in the place of the scenario's words for them."""
        text = json.dumps(value)
        for word, real in (
            ("@bundle@", str(self.path)),
            ("@id@", NAME),
            *((f"@{kind}@", f"/proc/{os.getpid()}/fd/{fd}") for kind, fd in self._namespaces.items()),
        ):
            text = text.replace(word, real)
        return json.loads(text)

    @contextlib.contextmanager
    def bundle(self, scenario: Json) -> Iterator[Bundle]:
        """Make the bundle; afterwards it is gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        bundle = Bundle(self.path, self.probe)
        bundle.id = NAME
        for item in scenario["tree"]:
            _make(bundle, item)
        if scenario["owner"] == "mapped":
            first = min(entry["hostID"] for entry in scenario["spec"]["linux"]["uidMappings"])
            for top, directories, files in os.walk(bundle.rootfs):
                for name in [top, *(os.path.join(top, name) for name in (*directories, *files))]:
                    st = os.lstat(name)
                    os.lchown(name, first + st.st_uid, first + st.st_gid)
                    if stat.S_ISREG(st.st_mode):
                        os.chmod(name, stat.S_IMODE(st.st_mode))
        source = self.path / "src"
        for directory in (source / "inner/deep", source / "mounted", self.path / "upper", self.path / "work"):
            directory.mkdir(parents=True)
        (source / "file").write_text("from the host\n")
        (source / "inner/file").write_text("inner\n")
        (source / "link").symlink_to("inner")
        mounted: list[Path] = []
        try:
            for name, how in scenario["host_mounts"]:
                mounted += self._mount_host(source / name, how)
            bundle.spec = self.substitute(scenario["spec"])
            looks = [*verbs(bundle.spec), ["echo", *scenario["words"]]]
            bundle.seq(*looks, *_ending(scenario["end"], scenario["mode"] == "run"))
            bundle.write()
            yield bundle
        finally:
            for path in reversed(mounted):
                self._libc.umount2(os.fsencode(path), 2)
            # What a container does in a mount that it shares with the host comes back, and would be here the next time.
            for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
                if line.split()[4].startswith(f"{self.path}/"):
                    self._libc.umount2(os.fsencode(line.split()[4]), 2)
            shutil.rmtree(self.path)

    def _mount_host(self, target: Path, how: str) -> list[Path]:
        target.mkdir(parents=True, exist_ok=True)
        words = how.split(",")
        flags = sum(FLAG_BITS.get(word, 0) for word in words)
        self._mount("host", target, "tmpfs", 0)
        (target / "in-mount").write_text("in mount\n")
        for name in ("a", "deep"):
            (target / name).mkdir()
        if flags:
            self._mount("host", target, None, 32 | flags)
        if "private" in words or "unbindable" in words:
            self._mount("none", target, None, MS_PRIVATE if "private" in words else MS_UNBINDABLE)
        return [target]


def _make(bundle: Bundle, item: list[Any]) -> None:
    kind, path, *rest = item
    target = bundle.inside(path)
    if kind == "dir":
        bundle.dir(path, rest[0])
        os.chown(target, rest[1], rest[2])
        target.chmod(rest[0])
    elif kind == "file":
        bundle.file(path, rest[0])
        os.chown(target, rest[2], rest[3])
        target.chmod(rest[1])
    elif kind == "link":
        bundle.remove(path).symlink(path, rest[0])
    elif kind == "node":
        bundle.device(path, *rest)
    elif kind == "fifo":
        bundle.fifo(path)


# ---- running -------------------------------------------------------------------------------------


class Run:
    """One scenario through one runtime."""

    def __init__(self, runtime: RuntimeCommand, place: Place, scenario: Json) -> None:
        self.runtime = runtime
        self.place = place
        self.scenario = scenario
        self.seen: Observation = {}
        self.errors: list[str] = []
        self.host = {name: os.stat(f"/proc/self/ns/{name}").st_ino for name in os.listdir("/proc/self/ns")}

    def observe(self) -> Observation:
        """Return what was seen."""
        with self.place.bundle(self.scenario) as bundle:
            before = HostSnapshot(self.runtime.root)
            extra = [os.open("/dev/null", os.O_RDONLY) for _ in range(self.scenario["preserve_fds"])]
            try:
                self._drive(bundle, extra)
            finally:
                for fd in extra:
                    os.close(fd)
            if self.seen["life"]["create"] == "ok":
                self._hooks(bundle)
            self._left(bundle, before)
        return self.seen

    def _call(self, *words: str, **keywords: Any) -> int:
        result = self.runtime.call(*words, **keywords)
        if result.rc != 0 and words[0] != "run":
            self.errors.append(f"{words[0]}: {result.stderr.strip()[-500:]}")
        return result.rc

    def _drive(self, bundle: Bundle, extra: list[int]) -> None:
        words = ["--bundle", str(bundle.path)]
        if extra:
            words += ["--preserve-fds", str(len(extra))]
        self.runtime.remember(bundle.id)
        if self.scenario["mode"] == "run":
            result = self.runtime.call("run", *words, bundle.id, **_for_call(extra))
            ran = any(line.get("verb") == "report" for line in result.lines)
            self._note("life", "create", "ok" if ran else "refused")
            if ran:
                self._note("life", "exit", result.rc)
                self._output(result.stdout)
            else:
                self.errors.append(result.stderr.strip()[-700:])
            return
        if bundle.spec["process"].get("terminal"):
            self._terminal(bundle, words, extra)
        else:
            self._steps(bundle, words, extra)

    def _terminal(self, bundle: Bundle, words: list[str], extra: list[int]) -> None:
        with ConsoleSocket(self.place.path.parent / "console") as console:
            words += ["--console-socket", str(console.path)]
            rc = self._call("create", *words, bundle.id, **_for_call(extra))
            self._note("life", "create", "ok" if rc == 0 else "refused")
            if rc != 0:
                return
            main = console.receive()
            self._note("terminal", "size", window_size(main))
            pid = self._state("created")
            self._cgroups(pid)
            pidfd = os.pidfd_open(pid)
            self._note("life", "start", self._call("start", bundle.id))
            data = b""
            if self.seen["life"]["start"] == 0:
                data = _terminal_output(main, self.scenario["end"][0] == "exit")
            self._end(bundle, pidfd)
            self._output(data)

    def _steps(self, bundle: Bundle, words: list[str], extra: list[int]) -> None:
        reader, writer = os.pipe()
        errors = self.place.path.parent / "stderr"
        try:
            with errors.open("wb") as err:
                process = subprocess.Popen(
                    self.runtime.command("create", *words, bundle.id),
                    stdin=subprocess.DEVNULL, stdout=writer, stderr=err, env=ENVIRONMENT, start_new_session=True,
                    **_inherit(extra),
                )  # fmt: skip
            os.close(writer)
            writer = -1
            try:
                rc = wait_for(process, TIMEOUT)
            except BaseException:
                end(process)
                raise
            self._note("life", "create", "ok" if rc == 0 else "refused")
            if rc != 0:
                self.errors.append(errors.read_text(errors="replace")[-700:])
                return
            pid = self._state("created")
            self._cgroups(pid)
            pidfd = os.pidfd_open(pid)
            self._note("life", "start", self._call("start", bundle.id))
            data = b""
            if self.seen["life"]["start"] == 0:
                data = _pipe_output(reader, self.scenario["end"][0] == "exit")
                if self.scenario["end"][0] != "exit":
                    self._state("running")
                if self.scenario["pause"] and self.scenario["end"][0] != "exit":
                    self._note("life", "pause", self._call("pause", bundle.id))
                    self._state("paused")
                    self._note("life", "resume", self._call("resume", bundle.id))
            self._end(bundle, pidfd)
            self._output(data)
        finally:
            for fd in (reader, writer):
                if fd >= 0:
                    os.close(fd)

    def _end(self, bundle: Bundle, pidfd: int) -> None:
        how, number = self.scenario["end"]
        if self.seen["life"]["start"] != 0:
            self._note("life", "delete", self._call("delete", "--force", bundle.id))
            os.close(pidfd)
            return
        if how != "exit":
            self._note("life", "kill", self._call("kill", bundle.id, str(number)))
            if (how, number) == ("kill", 15) and _pid_namespace(bundle.spec):
                # init of a pid namespace has no default actions
                self._note("life", "kill", self._call("kill", bundle.id, "KILL"))
        info = _wait(pidfd)
        os.close(pidfd)
        self._note("life", "exit", info)
        self._state("stopped")
        self._note("life", "delete", self._call("delete", bundle.id))
        self._note("life", "state after delete", self._call("state", bundle.id) != 0)
        self.errors.pop()

    # -- what is seen ----------------------------------------------------------------------------

    def _note(self, group: str, name: str, value: Any) -> None:
        self.seen.setdefault(group, {})[name] = value

    def _note_all(self, group: str, values: Json, prefix: str = "") -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                self._note_all(group, value, f"{prefix}{key}/")
            else:
                self._note(group, prefix + key, value)

    def _state(self, when: str) -> int:
        result = self.runtime.call("state", NAME)
        if result.rc != 0:
            self._note(f"state {when}", "status", "failed")
            return 0
        document = json.loads(result.stdout)
        self._note_all(f"state {when}", _state_document(document))
        return int(document["pid"])

    def _cgroups(self, pid: int) -> None:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            name = controllers.removeprefix("name=") or "unified"
            directory = CGROUPS / name / path.lstrip("/")
            # Others on the machine may mount hierarchies meanwhile; who has no cgroup of its own there shows nothing.
            if NAME not in path or not directory.is_dir():
                continue
            self._note(f"cgroup {name}", "path", path)
            for file in sorted(directory.iterdir()):
                if file.is_file() and not COUNTING.fullmatch(file.name):
                    try:
                        text = file.read_text().strip()
                        if file.name == "devices.list":
                            text = "\n".join(sorted(text.splitlines()))
                        self._note(f"cgroup {name}", file.name, text)
                    except OSError:
                        continue

    def _output(self, data: bytes) -> None:
        plain = [line for line in data.replace(b"\r\n", b"\n").splitlines() if not line.startswith(b"{")]
        self._note("said", "plain", b"\n".join(plain).decode(errors="replace"))
        for line in parse_lines(data):
            verb = line.pop("verb", "?")
            if verb == "report":
                self._report(line)
            elif verb == "lstat":
                for entry in line["files"]:
                    self._note_all(f"file {entry.pop('path')}", _file(entry))
            elif verb == "ls":
                self._note("ls", line["path"], sorted(n for n in line["names"] if not n.isdigit()) if "names" in line else line["errno"])
            elif verb == "mount-flags":
                self._note_all(f"flags {line['path']}", {"flags": line.get("flags", line.get("errno")), "root": line.get("mount_root")})
            elif verb == "netif":
                self._note_all("netif", line["interfaces"])
            elif verb in ("read", "create", "open", "mknod", "syscall", "syscall32", "walk-up"):
                word = line.get("path") or line.get("call") or ""
                number = sum(name.startswith(f"{word}#") for name in self.seen.get(verb, ()))
                got = {k: v for k, v in line.items() if k not in ("path", "call")}
                if line.get("call") in ("getsid", "getppid", "32:20", "20") and got.get("ret", -1) > 0:
                    got["ret"] = "pid"
                if verb == "read" and word.startswith("/proc/"):
                    got = {k: v if len(str(v)) < 200 else "long" for k, v in got.items()}
                self._note(verb, f"{word}#{number}", got)
            else:
                self._note("said", verb, True)

    def _report(self, report: Json) -> None:
        table = report.pop("mountinfo")
        kept = {
            "pid": report["pid"] if report["pid"] == 1 else "some",
            "fds": self._descriptors(report["fds"]),
            "namespaces": {name: self._namespace(name, inode) for name, inode in report["namespaces"].items()},
            "cgroup": sorted(line.partition(":")[2] for line in (report["cgroup"] or "").splitlines() if NAME in line),
            "keyring": report["keyring"].get("errno") or re.sub(r"[0-9a-f]{16,}", "ID", report["keyring"].get("description", "")),
            "root": {key: report["root"][key] for key in ("type", "mode", "uid", "gid")},
            "tty_nr": report.get("tty_nr", 0) != 0,
            "sid": "pid" if report["sid"] == report["pid"] else "other",
            "pgid": "pid" if report["pgid"] == report["pid"] else "other",
        }
        for key, value in report.items():
            if key not in kept and key not in ("clocks", "ppid"):
                kept[key] = value
        self._note_all("report", kept)
        self._mounts(table)

    def _descriptors(self, listed: list[Json]) -> Any:
        if self.scenario["mode"] == "run":
            # runc's "run" puts pipes of its own in between.
            return [entry["fd"] for entry in listed]
        return {str(entry["fd"]): _descriptor(entry) for entry in listed}

    def _namespace(self, name: str, inode: int) -> str:
        if inode == self.host[name]:
            return "host"
        return "joined" if inode == self.place.joined.get(name) else "new"

    def _mounts(self, table: str | None) -> None:
        if table is None:
            self._note("report", "mountinfo", None)
            return
        listed = mounts(table)
        targets = {mount.id: mount.target for mount in listed}
        counts: dict[str, int] = {}
        for mount in listed:
            number = counts[mount.target] = counts.get(mount.target, -1) + 1
            data = sorted(word for word in mount.data if not word.startswith(("lowerdir", "upperdir", "workdir")))
            self._note_all(
                f"mount {mount.target}#{number}",
                {
                    "type": mount.type,
                    "source": mount.source,
                    "root": mount.root,
                    "options": sorted(mount.options),
                    "propagation": mount.propagation,
                    "data": data,
                    "parent": targets.get(mount.parent),
                },
            )

    def _hooks(self, bundle: Bundle) -> None:
        order = []
        for path in (bundle.path / "hooks.log", bundle.inside("/tmp/hooks.log")):
            if not path.exists():
                continue
            for record in parse_lines(path.read_bytes()):
                tag = record["tag"]
                order.append(tag)
                try:
                    self._note_all(f"hook {tag}", _state_document(json.loads(record["stdin"])), "stdin/")
                except ValueError:
                    self._note(f"hook {tag}", "stdin", record["stdin"])
                short = {
                    key: record[key]
                    for key in ("argv", "environ", "raw_cwd", "uids", "gids", "groups", "caps", "umask", "no_new_privs",
                                "signals", "hostname", "oom_score_adj", "rlimits", "personality", "pdeathsig")
                }  # fmt: skip
                short["namespaces"] = {k: self._namespace(k, v) for k, v in record["namespaces"].items()}
                short["fds"] = [entry["fd"] for entry in record["fds"]]
                short["seccomp"] = record["seccomp"]
                short["sid"] = record["sid"] == record["pid"]
                self._note_all(f"hook {tag}", short)
        self._note("order", "hooks", order)

    def _left(self, bundle: Bundle, before: HostSnapshot) -> None:
        if (self.runtime.root / NAME).exists():
            self._call("delete", "--force", NAME)
            if self.seen["life"]["create"] == "ok":
                self._note("left", "container", True)
        reap()
        with contextlib.suppress(AssertionError):
            # Who was killed may take its time; all else is gone when the command that removes it has ended.
            until(lambda: descendants().keys() <= before.before["processes"].keys(), "processes end", 20)
        try:
            before.assert_clean(1.0)
        except AssertionError:
            found = before.differences()
            for key, value in found.items():
                if value:
                    self._note("left", key, re.sub(r"\d{3,}", "N", str(value)))
            remove_leftovers()
        if self.seen["life"]["create"] != "ok":
            return
        for top, directories, files in os.walk(bundle.rootfs):
            for name in (*directories, *files):
                path = os.path.join(top, name)
                st = os.lstat(path)
                shown = f"{stat.filemode(st.st_mode)} {st.st_uid}:{st.st_gid}"
                self._note("rootfs", "/" + os.path.relpath(path, bundle.rootfs), shown)


def _inherit(extra: list[int]) -> dict[str, Any]:
    """Return how to give descriptors 3, 4, … to the runtime."""
    if not extra:
        return {}

    def place() -> None:
        copies = [os.dup(fd) for fd in extra]
        high = [os.dup2(fd, 100 + number) for number, fd in enumerate(copies)]
        for number, fd in enumerate(high):
            os.dup2(fd, 3 + number, inheritable=True)

    return {"close_fds": False, "preexec_fn": place}


def _for_call(extra: list[int]) -> dict[str, Any]:
    found = _inherit(extra)
    if found:
        found["before_exec"] = found.pop("preexec_fn")
    return found


def _pid_namespace(spec: Json) -> bool:
    return any(entry["type"] == "pid" for entry in spec["linux"]["namespaces"])


def _wait(pidfd: int) -> int | str:
    import select

    if not select.select([pidfd], [], [], TIMEOUT)[0]:
        return "does not end"
    try:
        info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return "unknown"
    if info is None:
        return "unknown"
    return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status


def _pipe_output(reader: int, whole: bool) -> bytes:
    import select

    data = b""
    while whole or not READY.search(data):
        if not select.select([reader], [], [], TIMEOUT)[0]:
            return data + b"\noutput does not end\n"
        chunk = os.read(reader, 65536)
        if not chunk:
            break
        data += chunk
    return data


def _terminal_output(main: int, whole: bool) -> bytes:
    if whole:
        return read_terminal(main)
    import select

    data = b""
    while not READY.search(data) and select.select([main], [], [], TIMEOUT)[0]:
        try:
            data += os.read(main, 65536)
        except OSError:
            break
    return data.replace(b"\r\n", b"\n")


def _state_document(document: Json) -> Json:
    """Return the document with what differs from run to run replaced."""
    found = dict(document)
    if "pid" in found:
        found["pid"] = found["pid"] if found["pid"] in (0, 1) else "some"
    if "created" in found:
        found["created"] = bool(found["created"])
    found["annotations"] = document.get("annotations") or {}
    return found


def _file(entry: Json) -> Json:
    if "errno" in entry:
        return {"errno": entry["errno"]}
    found = {key: entry[key] for key in ("type", "mode", "uid", "gid", "rdev", "target", "fs", "fs_flags", "mount_root") if key in entry}
    if entry["type"] == "file":
        found["size"] = entry["size"]
    return found


def _descriptor(entry: Json) -> Json:
    link = re.sub(r"\[\d+\]", "[]", entry["link"] or "")
    link = re.sub(r"^/tmp/#\d+ \(deleted\)$|^/tmp/\w+ \(deleted\)$|^/#\d+ \(deleted\)$", "file", link)
    return {
        "link": re.sub(r"/pts/\d+", "/pts/N", link),
        "type": entry["type"],
        "mode": entry["mode"],
        "uid": entry["uid"],
        "gid": entry["gid"],
        "cloexec": entry["cloexec"],
        "flags": entry["flags"] & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_PATH),
    }


