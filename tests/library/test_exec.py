# SPDX-License-Identifier: Apache-2.0
"""Container.exec and ExecProcess: a program that executes processes in containers, and what may happen meanwhile."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from library.attributes import descriptors, of_this_process
from support.bundle import Bundle, unique
from support.report import parse_lines

from ocirun import (
    CgroupError,
    Container,
    ContainerNotFound,
    ContainerNotRunning,
    DeadlineExceeded,
    ExecProcess,
    InitError,
    InvalidConfig,
    InvalidStatus,
    KernelError,
    OcirunError,
    Runtime,
    procfs,
)
from ocirun.execution import Execution
from ocirun.init.process import InitProcess
from ocirun.target import Target

pytestmark = pytest.mark.root


@pytest.fixture
def container(library: Runtime, sleeping: str) -> Iterator[Container]:
    """A container that runs until it is killed."""
    with library.create(unique(), sleeping, stdout=2) as made:
        made.start()
        yield made


def output_of(container: Container, *args: str, **keywords: Any) -> bytes:
    """Execute a program to its end; returns what it printed."""
    reader, writer = os.pipe()
    try:
        with container.exec(args, stdout=writer, **keywords) as process:
            os.close(writer)
            writer = -1
            data = b""
            while chunk := os.read(reader, 65536):
                data += chunk
            assert process.wait(60) == 0
        return data
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def test_life_of_a_process(container: Container) -> None:
    """pid, pidfd, kill, wait: as of any child; wait tells the same twice."""
    with container.exec(["/probe", "sleep"]) as process:
        assert isinstance(process, ExecProcess)
        assert Path(f"/proc/{process.pid}/ns/pid").stat().st_ino == Path(f"/proc/{container.pid}/ns/pid").stat().st_ino
        assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{process.pid}/status").read_text()
        fd = process.pidfd()
        assert f"Pid:\t{process.pid}\n" in Path(f"/proc/self/fdinfo/{fd}").read_text()
        os.close(fd)
        with pytest.raises(TimeoutError):
            process.wait(0)
        process.kill(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.wait() == 128 + signal.SIGTERM
        with pytest.raises(KernelError) as caught:
            process.kill(signal.SIGTERM)
        assert caught.value.errno == 3
    assert container.state().status == "running"


def test_document_as_text_and_as_values(container: Container) -> None:
    """process: JSON text or its values, completed and validated alike."""
    document = {"cwd": "/tmp", "args": ["/probe", "report"], "env": ["PATH=/"], "user": {"uid": 5, "gid": 6}}
    for process in (document, json.dumps(document).encode()):
        (report,) = parse_lines(output_of(container, process=process, env=["B=2"]))
        assert (report["uids"], report["gids"], report["raw_cwd"]) == ([5] * 4, [6] * 4, "/tmp")
        assert report["environ"][:2] == ["PATH=/", "B=2"]
    assert document["env"] == ["PATH=/"]


def test_changes(container: Container) -> None:
    """The keywords that change the process."""
    (report,) = parse_lines(output_of(
        container, "/probe", "report", cwd="/tmp", env=["B=2"], user=(7, 8), additional_gids=[9], no_new_privileges=True,
        capabilities=["CAP_SYS_PTRACE"],
    ))  # fmt: skip
    assert (report["uids"], report["gids"], report["groups"]) == ([7] * 4, [8] * 4, [9])
    assert (report["raw_cwd"], report["no_new_privs"]) == ("/tmp", 1)
    assert report["caps"]["bounding"] >> 19 & 1


def test_errors(library: Runtime, container: Container, tmp_path: Path) -> None:
    """Each has its type, and says where; nothing is left after any of them."""
    before = descriptors()
    cases: list[tuple[type[OcirunError], str | None, dict[str, Any]]] = [
        (InitError, "/process/args/0", {"args": ["nosuch"]}),
        (InitError, "/process/cwd", {"args": ["/probe"], "cwd": "/nosuch"}),
        (InvalidConfig, "/process/args", {}),
        (InvalidConfig, "/process/cwd", {"args": ["/probe"], "cwd": "x"}),
        (InvalidConfig, "/cwd", {"process": {"args": ["/probe"]}}),
        (InvalidConfig, "", {"process": b"["}),
        (InvalidConfig, "/process/env", {"args": ["/probe"], "env": ["A=\0"]}),
        (OcirunError, None, {"args": ["/probe"], "pass_fds": [987]}),
        (OcirunError, "/process/terminal", {"args": ["/probe"], "terminal": True}),
        (KernelError, None, {"args": ["/probe"], "terminal": True, "console_socket": str(tmp_path / "nosuch")}),
        (CgroupError, None, {"args": ["/probe"], "cgroups": [".."]}),
        (CgroupError, None, {"args": ["/probe"], "cgroups": ["nosuch"]}),
    ]
    for kind, pointer, keywords in cases:
        with pytest.raises(kind) as caught:
            container.exec(**keywords)
        assert caught.value.json_pointer == pointer, (keywords, caught.value)
    with pytest.raises(FileNotFoundError):
        container.exec(["/probe", "sleep"], pid_file=str(tmp_path / "nosuch" / "pid"))
    assert descriptors() == before
    assert not library.unreaped
    pids = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text()
    assert pids == ""


def test_descriptors_that_are_not_open(library: Runtime, container: Container, sleeping: str) -> None:
    """What the library opens meanwhile gets the lowest numbers, and is never the container's in place of the caller's."""
    for number in sorted({*range(3, 100)} - {int(each) for each in os.listdir("/proc/self/fd")})[:12]:
        with pytest.raises(OcirunError, match=f"descriptor {number} is to be preserved but is not open"):
            container.exec(["/probe", "sleep"], pass_fds=[number])
        with pytest.raises(OcirunError, match=f"descriptor {number} is to be preserved but is not open"):
            library.create(unique(), sleeping, pass_fds=[number])


def test_status(library: Runtime, container: Container) -> None:
    """Paused and stopped containers refuse; one that is gone is not found."""
    container.pause()
    with pytest.raises(InvalidStatus) as caught:
        container.exec(["/probe"])
    assert (caught.value.status, caught.value.hint) == ("paused", "resume it, or pass --ignore-paused")
    container.resume()
    container.kill(signal.SIGKILL)
    container.wait(60)
    with pytest.raises(ContainerNotRunning, match="container not running"):
        container.exec(["/probe"])
    container.delete()
    with pytest.raises(ContainerNotFound):
        container.exec(["/probe"])


def test_paused_for_too_long(container: Container) -> None:
    """With a deadline an exec that cannot get on is an error, and leaves nothing."""
    started = threading.Event()

    def pause(execution: Execution) -> int:
        container.pause()
        started.set()
        execution.timeout = 0.2  # from now on: however slow this machine is, it came as far as this
        return original(execution)

    original = Execution._at_ready
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Execution, "_at_ready", pause)
        with pytest.raises(DeadlineExceeded) as caught:
            container.exec(["/probe", "sleep"], timeout=60)
    # Version 1 delivers no signal to what is frozen, so it is killed when it is thawed.
    container.resume()
    assert started.is_set()
    assert "within 0.2 s" in str(caught.value)


def test_whoever_resumes_has_no_deadline(container: Container) -> None:
    """In a paused container nothing goes on for as long as it is: the deadline is for what does not get on by itself."""
    deadlines: list[float | None] = []
    original = InitProcess.drive

    def drive(init: InitProcess, handlers: Any, timeout_s: float | None) -> None:
        deadlines.append(timeout_s)
        if container.state().status == "paused":
            container.resume()
        original(init, handlers, timeout_s)

    container.pause()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InitProcess, "drive", drive)
        with container.exec(["/probe", "exit", "3"], ignore_paused=True, timeout=60) as process:
            assert process.wait(60) == 3
        with container.exec(["/probe", "exit", "4"], ignore_paused=True, timeout=60) as process:
            assert process.wait(60) == 4
    assert deadlines == [None, 60]


def test_attributes_of_this_process(container: Container) -> None:
    """D6: exec changes nothing of the caller's process."""
    output_of(container, "/probe", "echo", "x")
    before = of_this_process(), descriptors()
    for _ in range(3):
        output_of(container, "/probe", "echo", "x")
        with pytest.raises(InitError):
            container.exec(["nosuch"])
    assert (of_this_process(), descriptors()) == before


def test_container_ends_with_what_was_executed(library: Runtime, container: Container) -> None:
    """A pid namespace ends when all in it are reaped: wait and delete do that for what nobody has waited for."""
    first, second = container.exec(["/probe", "sleep"]), container.exec(["/probe", "exit", "3"])
    fd = second.pidfd()
    assert select.select([fd], [], [], 60)[0]
    os.close(fd)
    container.kill(signal.SIGKILL)
    assert container.wait(60) == 137
    assert (first.wait(60), second.wait(60)) == (137, 3)
    other = library.create(unique(), container.bundle)
    third = other.exec(["/probe", "sleep"])
    other.delete(force=True)
    assert third.wait(60) == 137
    for process in (first, second, third):
        process.close()
    assert not library.unreaped


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (Target, "__init__"),
        (Target, "open_namespaces"),
        *((Execution, step) for step in ("_open_birthplace", "_build_plan", "_spawn", "_at_cgroup", "_at_ready")),
    ],
)
@pytest.mark.parametrize("deleted", [False, True])
def test_container_that_stops_meanwhile(
    library: Runtime, sleeping: str, workdir: Path, owner: type, step: str, deleted: bool
) -> None:
    """S-75: at whatever step the container dies, exec says so, and no process is anywhere."""
    container = library.create(unique(), sleeping, stdout=2)
    container.start()
    marker = str(workdir / "ran")
    original = getattr(owner, step)

    def die(execution: Any, *arguments: Any) -> Any:
        container.kill(signal.SIGKILL)
        if step == "_at_ready":
            # Its pid namespace ends when our own process is reaped, which is for exec to do.
            while not procfs.is_ending(Path(f"/proc/{container.pid}/stat").read_bytes()):
                time.sleep(0.005)
            return original(execution, *arguments)
        container.wait(60)
        if deleted:
            container.delete()
        return original(execution, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, die)
        with pytest.raises(ContainerNotRunning):
            container.exec(["/probe", "create", "/ran", marker])
    assert not library.unreaped
    assert not [entry for entry in processes() if "ocirun:[INIT]" in entry[1] or marker in entry[1]]
    if not deleted or step == "_at_ready":
        container.wait(60)
        container.delete()
    container.close()


def test_no_process_without_its_container(library: Runtime, mkbundle: Callable[..., Bundle]) -> None:
    """S-75: where no pid namespace takes along what has joined, exec executes nothing when the container's process is gone."""
    bundle = mkbundle().namespaces(without=("pid",)).seq("ready", "sleep").write()
    container = library.create(unique(), str(bundle.path), stdout=2)
    container.start()
    original = Execution._at_ready

    def die(execution: Execution) -> int:
        os.kill(container.pid, signal.SIGKILL)
        container.wait(60)
        return original(execution)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Execution, "_at_ready", die)
        with pytest.raises(ContainerNotRunning):
            container.exec(["/probe", "create", "/ran", "x"])
    assert not bundle.inside("/ran").exists()
    assert not library.unreaped
    container.delete()
    container.close()


def processes() -> list[tuple[int, str]]:
    """Return (pid, name and command line) of our children."""
    found = []
    for name in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        try:
            text = Path(f"/proc/{name}/comm").read_text() + Path(f"/proc/{name}/cmdline").read_text()
        except OSError:
            continue
        found.append((int(name), text))
    return found


def test_pid_of_somebody_else(library: Runtime, container: Container) -> None:
    """S-71: a pid that was used again does not lead exec into the namespaces of whoever has it now."""
    entry = library.store.open(container.id)
    record = entry.read_record()
    # The kernel counts start times in ticks: a process of the container's own tick could not be told from it.
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            for change in ({"pid": other.pid}, {"startTime": record["init"]["startTime"] + 1}):
                entry.write_record({**record, "init": {**record["init"], **change}})
                with pytest.raises(ContainerNotRunning):
                    container.exec(["/probe", "sleep"])
            entry.write_record({**record, "bootId": "another"})
            with pytest.raises(ContainerNotRunning):
                container.exec(["/probe", "sleep"])
        finally:
            entry.write_record(record)
            entry.close()
            other.kill()


def test_many_at_once_while_it_ends(library: Runtime, sleeping: str) -> None:
    """S-77: execs beside kill and delete all come back, and nothing is left."""
    container = library.create(unique(), sleeping, stdout=2)
    container.start()
    begun, deleted = threading.Semaphore(0), threading.Event()

    def execute(number: int) -> str:
        begun.release()
        if number >= 36:
            deleted.wait(60)  # however late that is
        try:
            with container.exec(["/probe", "exit", "0"]) as process:
                return str(process.wait(60))
        except ContainerNotRunning:
            return "not running"
        except ContainerNotFound:
            return "not found"

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(execute, number) for number in range(40)]
        for _ in range(20):
            begun.acquire()
        container.kill(signal.SIGKILL)
        container.delete(force=True)
        deleted.set()
        outcomes = {result.result(60) for result in results}
    assert outcomes <= {"0", "137", "not running", "not found"}
    assert "not found" in outcomes or "not running" in outcomes
    container.close()


def test_parallel(container: Container) -> None:
    """From several threads at once, each gets its own."""
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda number: output_of(container, "/probe", "echo", str(number)), range(18)))
    assert texts == [f"{number}\n".encode() for number in range(18)]


def test_executed_process_is_never_dumpable(
    library: Runtime, mkbundle: Callable[..., Bundle], workdir: Path
) -> None:
    """S-10, S-11, S-12, CVE-2016-9962: until execve nothing inside may look at the process that joins, nor at its secrets."""
    bundle = mkbundle().userns()
    bundle.seq("ready", "sleep").write()
    container = library.create(unique(), str(bundle.path), stdout=2)
    container.start()
    seen: list[tuple[int, str, list[str]]] = []
    original = Execution._at_ready

    def look(execution: Execution) -> int:
        pid = execution._init.pid
        status = Path(f"/proc/{pid}/status").read_text()
        (name,) = [line.split("\t")[1] for line in status.splitlines() if line.startswith("Name:")]
        owner = os.stat(f"/proc/{pid}/fd").st_uid
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
        seen.append((owner, name, links))
        return original(execution)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", "canary")
        patch.setattr(Execution, "_at_ready", look)
        with container.exec(["/probe", "exit", "0"]) as process:
            assert process.wait(60) == 0
    [(owner, name, links)] = seen
    # Root of the first user namespace owns /proc/PID of what is not dumpable; the container's root is another.
    assert (owner, name) == (0, "ocirun:[INIT]")
    assert not [link for link in links if "cgroup" in link or str(library.store.root) in link]
    container.delete(force=True)
    container.close()


def test_no_work_for_the_garbage_collector(container: Container) -> None:
    """R-25: exec leaves no cycle of objects."""
    import gc

    def lives() -> None:
        with container.exec(["/probe", "exit", "0"]) as process:
            process.wait(60)
        with pytest.raises(InitError):
            container.exec(["nosuch"])

    lives()
    gc.collect()
    gc.disable()
    try:
        with container.exec(["/probe", "exit", "0"]) as process:
            process.wait(60)
        assert gc.collect() == 0
    finally:
        gc.enable()
