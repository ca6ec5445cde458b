# SPDX-License-Identifier: Apache-2.0
"""V-02: which descriptors and which working directory a container gets; stdio of all kinds."""

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.canary import Canary
from support.command import RuntimeCommand
from support.native import MASKS, compat
from support.report import Json
from support.terminal import ConsoleSocket, read_terminal

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


def noise(first: int) -> Callable[[], None]:
    """Return what fills the child's table with inheritable descriptors of all kinds from `first` on."""

    def fill() -> None:
        sources = [
            os.open("/", os.O_RDONLY),
            os.open("/sys/fs/cgroup", os.O_RDONLY),
            os.open("/proc", os.O_RDONLY),
            os.open("/dev/zero", os.O_RDWR),
            os.memfd_create("noise"),
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
            *os.pipe(),
        ]
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for number in [*range(first, first + 300), 1000, limit - 1]:
            os.dup2(sources[number % len(sources)], number, inheritable=True)

    return fill


def numbers(report: Json) -> list[int]:
    """Return the numbers of the report's descriptors."""
    return sorted(entry["fd"] for entry in report["fds"])


MODES = [
    (None, ""),
    *((mask, error) for mask in ("close_range", "openat2", "all") for error in ("ENOSYS", "EPERM")),
]


@pytest.mark.parametrize(("mask", "error"), MODES)
def test_no_descriptor_of_the_caller_arrives(
    runtime: RuntimeCommand, bundle: Bundle, mask: str | None, error: str
) -> None:
    """S-05: of three hundred inheritable descriptors the program sees 0, 1 and 2."""
    if mask:
        if runtime.name != "ocirun":
            pytest.skip("peer: not made for missing system calls")
        assert mask in MASKS
        runtime = runtime.under(*compat(mask, error))
    report = runtime.report(bundle, before_exec=noise(3), close_fds=False)
    assert numbers(report) == [0, 1, 2]
    assert report["raw_cwd"] == "/"


def test_preserved_descriptors(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-05: --preserve-fds 2 hands on 3 and 4 as they are, and nothing else."""
    (workdir / "file").write_text("preserved")
    pipe = os.pipe()

    def fill() -> None:
        opened = os.open(workdir / "file", os.O_RDONLY)
        os.dup2(opened, 500)
        os.dup2(pipe[0], 501)
        noise(5)()
        os.dup2(500, 3, inheritable=True)
        os.dup2(501, 4, inheritable=True)

    report = runtime.report(bundle, "--preserve-fds", "2", before_exec=fill, close_fds=False)
    want = (os.stat(workdir / "file").st_ino, os.fstat(pipe[0]).st_ino)
    for fd in pipe:
        os.close(fd)
    assert numbers(report) == [0, 1, 2, 3, 4]
    by_number = {entry["fd"]: entry for entry in report["fds"]}
    assert (by_number[3]["ino"], by_number[4]["ino"]) == want
    assert not by_number[3]["cloexec"]


@pytest.mark.ocirun_only("runc takes its own descriptors for them, crun does not look")
def test_preserved_descriptor_that_is_not_open(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """--preserve-fds beyond what is open is refused."""
    runtime.run(bundle, "--preserve-fds", "4").refused()


def test_socket_activation(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """LISTEN_FDS hands descriptors on, with LISTEN_PID of the container."""

    def fill() -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(b"\0" + bundle.id.encode())
        listener.listen()
        os.dup2(listener.fileno(), 500)
        noise(4)()
        os.dup2(500, 3, inheritable=True)
        listener.detach()

    # as sd_listen_fds(3) wants it: LISTEN_PID is the pid of the runtime
    activated = runtime.under("sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh")
    report = activated.report(bundle, before_exec=fill, close_fds=False)
    assert numbers(report) == [0, 1, 2, 3]
    assert {"LISTEN_FDS=1", "LISTEN_PID=1"} <= set(report["environ"])


def test_descriptors_of_the_waiting_init(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-06: between create and start init holds no directory and nothing of the host's cgroups."""
    container = runtime.create(bundle, before_exec=noise(3), close_fds=False)
    held = {}
    for name in os.listdir(f"/proc/{container.pid}/fd"):
        path = f"/proc/{container.pid}/fd/{name}"
        with suppress(FileNotFoundError):  # init may be just about to begin its wait
            held[int(name)] = (os.readlink(path), os.stat(path).st_mode)
    assert {0, 1, 2} <= set(held)
    if runtime.name == "ocirun":
        assert not any(stat.S_ISDIR(mode) for _, mode in held.values()), held
        assert not any(link.startswith(("/sys", "/proc")) for link, _ in held.values()), held
        assert len(held) <= 6, held
    assert numbers(container.finish().report) == [0, 1, 2]


def test_all_kinds_of_sockets_of_the_runtime(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-09: log, console socket, pid file and notify socket in use: the program sees none of them."""
    bundle.process(terminal=True).seq("report")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(workdir / "notify"))
    with notify, ConsoleSocket(workdir / "console") as console:
        runtime.try_create(
            bundle,
            "--console-socket",
            str(console.path),
            "--pid-file",
            str(workdir / "pid"),
            options=("--log", str(workdir / "log"), "--log-format", "json"),
            env={"NOTIFY_SOCKET": str(workdir / "notify")} if runtime.name == "ocirun" else None,
        ).ok()
        master = console.receive()
        runtime.call("start", bundle.id).ok()
        from support.report import parse_lines

        (report,) = parse_lines(read_terminal(master))
    assert numbers(report) == [0, 1, 2]
    assert all(entry["link"].startswith("/dev/") for entry in report["fds"])


# ---- S-07: working directory and program through descriptors -----------------------------------------


def check_inside(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Run walk-up; fail unless it was refused, or its directory is inside the root."""
    result = runtime.run(bundle, before_exec=noise(3), close_fds=False)
    if result.rc == 0:
        walk = result.one("walk-up")
        assert walk["raw_cwd"].startswith("/"), walk
        assert walk["at_root"], walk
        assert not walk["found"], walk
    else:
        result.refused()


@pytest.mark.parametrize("link", [False, True])
def test_cwd_through_a_descriptor(runtime: RuntimeCommand, mkbundle: MkBundle, canary: Canary, link: bool) -> None:
    """S-07, CVE-2024-21626: no descriptor of the runtime is a way out for the working directory."""
    for number in range(26):
        bundle = mkbundle().args("walk-up", canary.path.parent.name)
        target = f"/proc/self/fd/{number}"
        if link:
            bundle.symlink("/w", target)
        check_inside(runtime, bundle.process(cwd="/w" if link else target))


@pytest.mark.parametrize(
    "cwd",
    [
        "/proc/1/cwd",
        "/proc/self/cwd/../..",
        "/proc/1/root",
        "/proc/self/root/tmp",
        "/proc/thread-self/fd/7/",
        "/proc/thread-self/fd/8/../..",
        "/proc/self/fd/9/../../../..",
    ],
)
def test_cwd_through_proc(runtime: RuntimeCommand, bundle: Bundle, canary: Canary, cwd: str) -> None:
    """S-07: other links of /proc lead nowhere outside either."""
    check_inside(runtime, bundle.process(cwd=cwd).args("walk-up", canary.path.parent.name))


def test_program_through_a_descriptor(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """S-07: a program of the host cannot be reached through a descriptor."""
    for number in range(3, 16):
        bundle = mkbundle({"process": {"args": [f"/proc/self/fd/{number}/bin/true"]}})
        runtime.run(bundle, before_exec=noise(3), close_fds=False).refused()


# ---- S-33: stdio ---------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
@pytest.mark.ocirun_only("descriptors of the runtime get the free numbers")
def test_closed_stdio(runtime: RuntimeCommand, bundle: Bundle, closed: tuple[int, ...]) -> None:
    """S-33: what the caller closed is /dev/null inside, never something of the runtime's."""
    bundle.args("hook", "/tmp/report", "--no-stdin")

    def close() -> None:
        for fd in closed:
            os.close(fd)

    result = runtime.run(bundle, before_exec=close)
    assert result.rc == 0, result
    from support.report import parse_lines

    (report,) = parse_lines(bundle.inside("/tmp/report").read_bytes())
    by_number = {entry["fd"]: entry for entry in report["fds"]}
    for fd in closed:
        assert by_number[fd].get("rdev") == [1, 3], by_number[fd]


@pytest.mark.parametrize("userns", [False, True])
def test_dev_null_is_never_given_away(runtime: RuntimeCommand, bundle: Bundle, userns: bool) -> None:
    """S-33: with /dev/null as stdio its owner stays root, whoever the container's user is."""
    if userns:
        bundle.userns()
    bundle.process(user={"uid": 1000, "gid": 1000}).args("exit", "0")
    bundle.write()
    runtime.remember(bundle.id)
    command = runtime.command("run", "--bundle", str(bundle.path), bundle.id)
    null = subprocess.DEVNULL
    done = subprocess.run(command, stdin=null, stdout=null, stderr=null, check=False, timeout=60)
    assert done.returncode == 0
    owner = os.stat("/dev/null")
    os.chown("/dev/null", 0, 0)
    assert (owner.st_uid, owner.st_gid, stat.S_IMODE(owner.st_mode)) == (0, 0, 0o666)


def test_owner_of_stdio(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-33: the container's user may open its stdio again; only the uid of a pipe or file changes."""
    user = {"uid": 1000, "gid": 1000}
    bundle.process(user=user).seq(["open", "/proc/self/fd/0", "rdonly"], "report").write()
    runtime.remember(bundle.id)
    out = workdir / "out"
    pipe = os.pipe()
    with out.open("wb") as stdout:
        os.fchown(stdout.fileno(), 500, 600)
        subprocess.run(
            runtime.command("run", "--bundle", str(bundle.path), bundle.id),
            stdin=pipe[0],
            stdout=stdout,
            stderr=stdout,
            check=True,
            timeout=60,
        )
    owner = os.fstat(pipe[0])
    for fd in pipe:
        os.close(fd)
    assert owner.st_uid in (0, 1000)
    assert out.stat().st_uid in (500, 1000)
    assert out.stat().st_gid == 600


@pytest.mark.parametrize("kind", ["read-only-file", "socket", "full-pipe"])
def test_stdio_that_cannot_be_given_away(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, kind: str) -> None:
    """S-33: stdio on which a change of owner fails is no error."""
    bundle.process(user={"uid": 1000, "gid": 1000}).args("exit", "0").write()
    runtime.remember(bundle.id)
    pair = socket.socketpair()
    with pair[0], pair[1], open("/proc/self/status", "rb") as read_only:
        stdin = {"socket": pair[0], "read-only-file": read_only}.get(kind, subprocess.DEVNULL)
        done = subprocess.run(
            runtime.command("run", "--bundle", str(bundle.path), bundle.id),
            stdin=stdin,
            stdout=pair[0] if kind == "socket" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done
