# SPDX-License-Identifier: Apache-2.0
"""Bad input and bad circumstances: a clear error within its deadline, and nothing left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import ENVIRONMENT, RuntimeCommand
from support.oracle import HostSnapshot
from support.upstream import REPOSITORY

pytestmark = pytest.mark.root
NOT_FOUND = "container does not exist"
INVALID = REPOSITORY / "bundles/invalid"
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
# Three of each gate; the unit tests have them all.
_BY_GATE: dict[str, list[str]] = {}
for _line in (INVALID / "expected.txt").read_text().splitlines():
    if not _line.startswith("#"):
        _BY_GATE.setdefault(_line.split()[1], []).append(_line.split()[0])
SAMPLE = [name for names in _BY_GATE.values() for name in names[:3]]


@pytest.mark.parametrize("is_there", [True, False])
def test_state_root_on_a_read_only_file_system(runtime: RuntimeCommand, bundle: Bundle, is_there: bool) -> None:
    """The errno is the file system's, as with runc, and not of what else could be wrong with the directory."""
    place = runtime.root if is_there else runtime.root.parent / "mounted"
    place.mkdir(exist_ok=True)
    script = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
    wrapped = runtime.under("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(place))
    wrapped.root = place if is_there else place / "state"
    wrapped.try_create(bundle).refused("EROFS", str(wrapped.root))


# ---- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE)
def test_invalid_configs(runtime: RuntimeCommand, bundle: Bundle, name: str, oracle: HostSnapshot) -> None:
    """create and run refuse what validate refuses: status 1, the same lines, each with its pointer, nothing made."""
    if name == "host-apparmor-off.json" and APPARMOR.exists() and APPARMOR.read_text().strip() == "Y":
        pytest.skip("machine: has AppArmor")
    if name == "host-selinux-off.json" and Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("machine: has SELinux")
    bundle.raw = (INVALID / name).read_bytes()
    bundle.write()
    expected = runtime.call("validate", str(bundle.path)).stdout.decode().splitlines()
    assert expected
    pid_file = bundle.path / "pid"
    for verb in ("create", "run"):
        result = runtime.call(verb, "-b", str(bundle.path), "--pid-file", str(pid_file), bundle.id)
        assert result.rc == 1
        lines = result.stderr.splitlines()
        assert all(line.startswith("/") for line in lines), lines
        assert lines == expected
        assert not pid_file.exists()
    oracle.assert_clean()
    assert not runtime.root.exists() or os.listdir(runtime.root) == []


def test_problems_in_the_log(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """Engines get one line with all problems, and the first pointer as a member of its own."""
    bundle.process(args="sh", cwd=1)
    log = workdir / "log"
    runtime.try_create(bundle, options=["--log", str(log), "--log-format", "json"]).refused()
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert record["code"] == "invalid_config"
    assert {"/process/args", "/process/cwd"} <= {part.split(":")[0] for part in record["msg"].split("; ")}
    assert record["json_pointer"] in ("/process/args", "/process/cwd")


@pytest.mark.parametrize(
    ("verb", "options"),
    [("state", []), ("start", []), ("kill", ["9"]), ("kill", ["KILL"]), ("delete", [])],
)
def test_unknown_container(ocirun: RuntimeCommand, verb: str, options: list[str]) -> None:
    """runc's words, by which engines know that there is nothing to do any more."""
    result = ocirun.call(verb, "nosuch", *options)
    result.refused(NOT_FOUND)
    assert result.rc == 1
    assert result.stderr.count("\n") == 1


def test_unknown_container_with_force(ocirun: RuntimeCommand) -> None:
    """delete --force of a container that is gone is no error: engines call it all the time."""
    for words in (["--force", "nosuch"], ["-f", "nosuch"], ["nosuch", "--force"]):
        result = ocirun.call("delete", *words).ok()
        assert (result.stdout, result.stderr) == (b"", "")


@pytest.mark.parametrize("rootfs", ["missing", "file", "not-a-bundle"])
def test_bundle_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, rootfs: str, oracle: HostSnapshot
) -> None:
    """A root filesystem or bundle that is not there is named, and nothing is made."""
    shutil.rmtree(bundle.rootfs)
    if rootfs == "file":
        bundle.rootfs.write_text("")
    if rootfs == "not-a-bundle":
        result = runtime.call("create", "--bundle", str(bundle.path / "nosuch"), bundle.id)
        result.refused("config.json", "no such file")
    else:
        runtime.try_create(bundle).refused("/root/path")
    oracle.assert_clean()


# ---- disk and state root -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(runtime: RuntimeCommand) -> Iterator[Callable[..., None]]:
    """Mount a small file system, as the state root or elsewhere."""
    mounted = []

    def mount(options: str, path: Path = runtime.root) -> None:
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", str(path)], check=True)
        mounted.append(path)

    yield mount
    runtime.cleanup()
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


def _fill(root: Path) -> None:
    fd = os.open(root / "@filler", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError:
        os.close(fd)


def _clean_but_for_the_mount(oracle: HostSnapshot, root: Path) -> None:
    oracle.before["mountinfo"] = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line
    ] + [line for line in oracle.before["mountinfo"] if str(root) not in line]
    now = oracle.differences()
    now.pop("mountinfo: new", None)
    now.pop("mountinfo: gone", None)
    assert not now


@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=3", "size=4k", "ro"])
def test_full_disk(
    runtime: RuntimeCommand,
    bundle: Bundle,
    oracle: HostSnapshot,
    small_disk: Callable[..., None],
    options: str,
) -> None:
    """R-08: create on a state root without room fails with the reason, and leaves no container."""
    small_disk(options)
    if options.startswith("size=64k"):
        _fill(runtime.root)
    pid_file = bundle.path / "pid"
    result = runtime.try_create(bundle, "--pid-file", str(pid_file))
    result.refused("EROFS" if options == "ro" else "ENOSPC", str(runtime.root))
    assert result.rc == 1
    assert not pid_file.exists()
    assert [name for name in os.listdir(runtime.root) if name != "@filler"] == []
    runtime.call("state", bundle.id).refused(NOT_FOUND)
    _clean_but_for_the_mount(oracle, runtime.root)


def test_pid_file_on_a_full_disk(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, small_disk: Callable[..., None]
) -> None:
    """S-63: a pid file that cannot be written whole is an error, and neither it nor the container is left."""
    small = workdir / "small"
    small_disk("size=4k", small)
    _fill(small)
    runtime.try_create(bundle, "--pid-file", str(small / "pid")).refused(f"{small}/pid: ENOSPC")
    assert os.listdir(small) == ["@filler"]
    runtime.call("state", bundle.id).refused(NOT_FOUND)


def test_existing_containers_on_a_full_disk(
    runtime: RuntimeCommand, sleeper: Bundle, small_disk: Callable[..., None]
) -> None:
    """R-08: state, start, kill and delete of a container need no room."""
    small_disk("size=64k")
    container = runtime.create(sleeper)
    _fill(runtime.root)
    assert container.status() == "created"
    container.start().line()
    assert container.status() == "running"
    container.kill("KILL").ok()
    container.wait()
    container.delete().ok()
    assert os.listdir(runtime.root) == ["@filler"]


@pytest.mark.parametrize("kind", ["file", "below-a-file", "proc", "nobody"])
def test_state_root_that_cannot_be(
    runtime: RuntimeCommand,
    bundle: Bundle,
    workdir: Path,
    oracle: HostSnapshot,
    as_nobody: Callable[[], None],
    kind: str,
) -> None:
    """A state root that cannot be made or written is named, and no container comes of it."""
    runtime.root = {"file": workdir / "f", "below-a-file": workdir / "f/root", "proc": Path("/proc/root")}.get(
        kind, workdir / "nobodys"
    )
    (workdir / "f").write_text("")
    before = as_nobody if kind == "nobody" else None
    result = runtime.try_create(bundle, before_exec=before)
    result.refused()
    assert result.rc == 1
    oracle.assert_clean()


# ---- others that fail ----------------------------------------------------------------------------------


def test_console_socket_that_closes(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, oracle: HostSnapshot
) -> None:
    """S-31: whoever accepts the connection and hangs up is an error, or gets what nobody reads; nothing hangs."""
    import socket

    path = workdir / "console"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        result = runtime.try_create(bundle.process(terminal=True), "--console-socket", str(path))
        thread.join()
    if result.rc:
        result.refused("EPIPE")
    runtime.call("delete", "--force", bundle.id).ok()
    oracle.assert_clean()


def test_init_killed_while_it_is_created(
    runtime: RuntimeCommand, bundle: Bundle, probe: Path, oracle: HostSnapshot
) -> None:
    """An init that somebody kills during create is an error that says so, and everything is undone."""
    started = bundle.path / "started"
    hook = {"path": str(probe), "args": ["probe", "seq", "create", str(started), "x", "--", "sleep"]}
    bundle.patch({"hooks": {"createContainer": [hook]}}).write()
    runtime.remember(bundle.id)
    process = subprocess.Popen(
        runtime.command("create", "--bundle", str(bundle.path), bundle.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    (init,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(init), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"ocirun-init died by signal 9" in errors
    assert errors.count(b"\n") <= 2
    oracle.assert_clean()


def test_init_killed_before_start(runtime: RuntimeCommand, sleeper: Bundle, oracle: HostSnapshot) -> None:
    """start of a container whose init is gone is an error at once, and delete removes it."""
    container = runtime.create(sleeper)
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    runtime.call("start", sleeper.id).refused("stopped")
    container.delete().ok()
    oracle.assert_clean()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_hanging_hook(
    runtime: RuntimeCommand, bundle: Bundle, probe: Path, oracle: HostSnapshot, kind: str
) -> None:
    """A hook that hangs is killed at its timeout, named with its pointer, and everything is undone."""
    bundle.patch({"hooks": {kind: [{"path": str(probe), "args": ["probe", "sleep"], "timeout": 1}]}})
    pid_file = bundle.path / "pid"
    before = time.monotonic()
    result = runtime.try_create(bundle, "--pid-file", str(pid_file))
    assert time.monotonic() - before > 0.9
    result.refused(f"/hooks/{kind}/0", "timed out")
    assert result.rc == 1
    assert not pid_file.exists()
    oracle.assert_clean()


@pytest.mark.parametrize("kind", ["startContainer", "poststart"])
def test_hanging_hook_of_start(
    runtime: RuntimeCommand, bundle: Bundle, probe: Path, oracle: HostSnapshot, kind: str
) -> None:
    """The same for the hooks of start: the container is stopped and removed."""
    path = "/probe" if kind == "startContainer" else str(probe)
    bundle.patch({"hooks": {kind: [{"path": path, "args": ["probe", "sleep"], "timeout": 1}]}})
    runtime.create(bundle.seq("ready", "sleep"))
    result = runtime.call("start", bundle.id)
    result.refused(f"/hooks/{kind}/0", "timed out")
    runtime.call("state", bundle.id).refused(NOT_FOUND)
    oracle.assert_clean()


@pytest.mark.parametrize(
    "change",
    [
        {"linux": {"sysctl": {"net.ipv4.nosuch": "1"}}},
        {"mounts": [{"destination": "/x", "type": "nosuchfs", "source": "x"}]},
        {"mounts": [{"destination": "/x", "type": "bind", "source": "/nosuch", "options": ["bind"]}]},
        {"process": {"apparmorProfile": "nosuch"}},
        {"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/nosuch"}]}},
        {"process": {"user": {"uid": 0, "gid": 0}, "cwd": "/etc/passwd"}},
    ],
    ids=lambda change: next(iter(next(iter(change.values())))) if isinstance(change, dict) else "",
)
def test_failed_create_leaves_nothing(
    runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot, change: Any
) -> None:
    """Whatever fails on the way: no directory, cgroup, mount, process or pid file, and a message with the place."""
    bundle.patch(change, {"linux": {"cgroupsPath": f"/{bundle.id}/deep"}})
    pid_file = bundle.path / "pid"
    result = runtime.try_create(bundle, "--pid-file", str(pid_file))
    result.refused("/")
    assert result.rc == 1
    assert "internal error" not in result.stderr
    assert not pid_file.exists()
    runtime.call("state", bundle.id).refused(NOT_FOUND)
    oracle.assert_clean()


def test_id_that_is_taken(runtime: RuntimeCommand, sleeper: Bundle, workdir: Path) -> None:
    """The second create and run of an ID are refused, with the pid file and container of the first untouched."""
    pid_file = workdir / "pid"
    container = runtime.create(sleeper, "--pid-file", str(pid_file))
    for verb in ("create", "run"):
        result = runtime.call(verb, "--bundle", str(sleeper.path), "--pid-file", str(pid_file), sleeper.id)
        result.refused("container with given ID already exists")
        assert result.rc == 1
    assert container.status() == "created"
    assert pid_file.read_text() == str(container.pid)


def test_gc(runtime: RuntimeCommand, bundle: Bundle, probe: Path, sleeper: Bundle, oracle: HostSnapshot) -> None:
    """gc removes what a killed create left, names it, and touches nothing else."""
    started = bundle.path / "started"
    hook = {"path": str(probe), "args": ["probe", "seq", "create", str(started), "x", "--", "sleep"]}
    abandoned = bundle.patch({"hooks": {"createRuntime": [hook]}}).write()
    process = subprocess.Popen(
        runtime.command("create", "--bundle", str(abandoned.path), abandoned.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    (*_, hook_pid) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    os.kill(int(hook_pid), signal.SIGKILL)  # hooks are not ours to find again
    assert runtime.call("gc").ok().stdout.decode().split() == [abandoned.id]
    assert runtime.call("gc").ok().stdout == b""
    oracle.assert_clean()
