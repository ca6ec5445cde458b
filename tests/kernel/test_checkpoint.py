# SPDX-License-Identifier: Apache-2.0
"""checkpoint and restore with a real CRIU: what went on before goes on afterwards, where and with what it did.

What is said to CRIU, and what happens when it or we fail, is in test_checkpoint_steps.py, which needs none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.cgroup import directory, until
from support.command import Container, RuntimeCommand, started
from support.criu import Checkpoints, find_working_criu
from support.holder import Holder
from support.terminal import ConsoleSocket, read_terminal

pytestmark = [
    pytest.mark.root,
    pytest.mark.ocirun_only("standard error is a file here, of which runc makes no external file"),
]
USR1 = signal.SIGUSR1
#: A program whose place in a sequence is what a checkpoint must not lose.
STEPS = (["wait-signal"], ["echo", '{"verb": "echo", "step": 1}'], ["wait-signal"], "report", ["exit", "7"])


@pytest.fixture(scope="session")
def criu() -> str:
    """A CRIU that works here."""
    found = find_working_criu()
    if found is None:
        pytest.skip("machine: no CRIU that works on this kernel")
    return found


@pytest.fixture
def checkpoints(runtime: RuntimeCommand, criu: str, workdir: Path) -> Checkpoints:
    """checkpoint and restore."""
    return Checkpoints(runtime, criu, workdir)


def start(runtime: RuntimeCommand, bundle: Bundle, *words: str) -> Container:
    """Start the program and have it come to its first wait."""
    container = runtime.create(bundle.seq(*STEPS), *words).start()
    assert container.line()["ready"]
    return container


def go_on(container: Container) -> None:
    """The program is in its first wait, and does from there what it would have done."""
    container.kill(USR1).ok()
    assert container.line()["signal"] == USR1
    assert container.line() == {"verb": "echo", "step": 1}
    assert container.line()["ready"]
    container.kill(USR1).ok()
    assert container.line()["signal"] == USR1
    container.line()
    assert container.wait() == 7


def test_a_process_goes_on(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, oracle: object) -> None:
    """Between checkpoint and restore there is no container; after it the program goes on, with a new standard output."""
    container = start(runtime, bundle)
    checkpoints.save(container).ok()
    assert container.wait() == 128 + signal.SIGKILL
    assert not (runtime.root / container.id).exists()
    assert container.rest() == b""
    restored = checkpoints.restore(bundle)
    assert restored.status() == "running"
    assert restored.pid != container.pid
    go_on(restored)
    restored.delete().ok()


def test_the_pid_file_and_the_state_tell_the_process(
    runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, workdir: Path
) -> None:
    """The pid file has the number that `state` has, and the process is in the container's cgroup and namespaces."""
    checkpoints.save(start(runtime, bundle)).ok()
    restored = checkpoints.restore(bundle, "--pid-file", str(workdir / "pid"))
    assert int((workdir / "pid").read_text()) == restored.pid
    assert directory(restored.pid, "pids" if Path("/sys/fs/cgroup/pids").exists() else "").name == bundle.id
    for kind in ("pid", "mnt", "net", "uts", "ipc"):
        assert os.readlink(f"/proc/{restored.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    assert Path(f"/proc/{restored.pid}/exe").resolve().name == "probe"


def test_leave_running(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """With --leave-running the same process goes on, and a second container comes from its images."""
    container = start(runtime, bundle)
    checkpoints.save(container, "--leave-running").ok()
    assert container.status() == "running"
    go_on(container)
    container.delete().ok()
    go_on(checkpoints.restore(bundle))


def test_a_paused_container(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """As engines do it: pause, checkpoint, resume.  It stays paused; what is restored from it is not."""
    container = start(runtime, bundle)
    runtime.call("pause", container.id).ok()
    checkpoints.save(container, "--leave-running").ok()
    assert container.status() == "paused"
    checkpoints.save(container).ok()
    restored = checkpoints.restore(bundle)
    assert restored.status() == "running"
    go_on(restored)


def test_exec_and_verbs_afterwards(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """A restored container is one: exec joins its namespaces, pause, resume and a second checkpoint work."""
    checkpoints.save(start(runtime, bundle)).ok()
    restored = checkpoints.restore(bundle)
    report = runtime.call("exec", restored.id, "/probe", "report").ok().report
    ids = {kind: os.stat(f"/proc/{restored.pid}/ns/{kind}").st_ino for kind in ("mnt", "uts", "ipc", "net")}
    assert {kind: report["namespaces"][kind] for kind in ids} == ids
    runtime.call("pause", restored.id).ok()
    assert restored.status() == "paused"
    runtime.call("resume", restored.id).ok()
    checkpoints.save(restored).ok()
    go_on(checkpoints.restore(bundle))


def test_limits_are_those_of_the_configuration(
    runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints
) -> None:
    """The cgroup is made again with the limits of config.json, tight as they are: CRIU is not in their way."""
    bundle.linux(resources={"pids": {"limit": 1}, "memory": {"limit": 64 << 20}})
    checkpoints.save(start(runtime, bundle)).ok()
    restored = checkpoints.restore(bundle)
    assert (directory(restored.pid, "pids") / "pids.max").read_text().strip() == "1"
    memory = directory(restored.pid, "memory")
    file = memory / "memory.limit_in_bytes" if (memory / "memory.limit_in_bytes").exists() else memory / "memory.max"
    assert int(file.read_text()) == 64 << 20
    go_on(restored)


def test_mounts_of_the_host(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, workdir: Path) -> None:
    """Binds lead to what config.json names now, masks and read-only paths are there, tmpfs has its files."""
    old, new = workdir / unique("old"), workdir / unique("new")
    for place in (old, new):
        place.mkdir()
        (place / "name").write_text(place.name)
        (place / "file").write_text(f"file of {place.name}")
    masked = workdir / unique("masked")
    masked.write_text("hidden")
    (bundle.rootfs / "secret").write_text("secret")
    os.symlink("/run", bundle.rootfs / "var-run")
    bundle.linux(maskedPaths=["/secret", "/proc/timer_list", "/sys/firmware"], readonlyPaths=["/proc/sys"])
    bundle.mount("/data", "bind", str(old), "rbind", "ro")
    bundle.mount("/var-run/file", "bind", str(old / "file"), "bind")
    bundle.mount("/scratch", "tmpfs", "tmpfs", "size=64k")
    reads = [["read", path] for path in ("/data/name", "/run/file", "/secret", "/scratch/kept")]
    verbs = (["create", "/scratch/kept", "kept"], ["wait-signal"], *reads, ["create", "/data/new", "x"])
    container = runtime.create(bundle.seq(*verbs)).start()
    assert "errno" not in container.line()
    assert container.line()["ready"]
    checkpoints.save(container).ok()
    for mount in bundle.spec["mounts"]:
        if mount.get("source") == str(old):
            mount["source"] = str(new)
        if mount.get("source") == str(old / "file"):
            mount["source"] = str(new / "file")
    restored = checkpoints.restore(bundle)
    restored.kill(USR1).ok()
    lines = [json.loads(line) for line in restored.rest().splitlines()]
    found = {line["path"]: line.get("data", line.get("errno")) for line in lines if line["verb"] == "read"}
    assert found == {
        "/data/name": new.name, "/run/file": f"file of {new.name}", "/secret": "", "/scratch/kept": "kept",
    }  # fmt: skip
    assert [line["errno"] for line in lines if line["verb"] == "create"] == ["EROFS"]


def test_a_fresh_root(
    runtime: RuntimeCommand, mkbundle: Callable[..., Bundle], checkpoints: Checkpoints, workdir: Path
) -> None:
    """Another root file system with the same program has no mount points yet: they are made, and none is left mounted."""
    source = workdir / unique("source")
    source.mkdir()
    first, second = mkbundle(), mkbundle()
    for each in (first, second):
        each.mount("/mnt/deep", "bind", str(source), "bind")
    checkpoints.save(start(runtime, first)).ok()
    second.spec["process"] = first.spec["process"]
    assert not (second.rootfs / "mnt").exists()
    go_on(checkpoints.restore(second))
    assert (second.rootfs / "mnt/deep").is_dir()
    assert str(second.rootfs) not in Path("/proc/self/mountinfo").read_text()


def test_a_terminal(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, workdir: Path) -> None:
    """The main side of the terminal is sent to the console socket again."""
    bundle.process(terminal=True).seq(["wait-signal"], ["echo", "after"], ["exit", "3"])
    with ConsoleSocket(workdir / "first") as console:
        container = runtime.create(bundle, "--console-socket", str(console.path))
        main = console.receive()
        container.start()
        said = b""
        while b"ready" not in said:
            said += os.read(main, 4096)
        checkpoints.save(container).ok()
    with ConsoleSocket(workdir / "second") as console:
        restored = checkpoints.restore(bundle, "--console-socket", str(console.path))
        main = console.receive()
        assert console.payload.startswith(b"/dev/pts/")
        restored.kill(USR1).ok()
        assert b"after" in read_terminal(main)
        assert restored.wait() == 3


def test_foreground(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, workdir: Path) -> None:
    """Without --detach restore stays, forwards signals, ends as the process does, and deletes the container."""
    checkpoints.save(start(runtime, bundle)).ok()
    bundle.write()
    runtime.remember(bundle.id)
    argv = runtime.command(
        "restore", "--bundle", str(bundle.path), "--image-path", str(checkpoints.images), bundle.id,
        options=checkpoints.options,
    )  # fmt: skip
    errors = workdir / "errors"
    with (
        errors.open("wb") as file,
        started(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file) as process,
    ):
        assert process.stdout is not None
        # Until the process runs a signal undoes the restore; from then on it is for the process.
        while b'"running"' not in runtime.call("state", bundle.id).stdout:
            assert process.poll() is None, errors.read_text()
        process.send_signal(USR1)
        assert b'"signal"' in process.stdout.readline()
        for _ in range(2):
            process.stdout.readline()
        process.send_signal(USR1)
        process.stdout.read()
        assert process.wait(60) == 7
    assert not (runtime.root / bundle.id).exists()


def test_output_to_a_file(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, workdir: Path) -> None:
    """A file of the host that is standard output at the checkpoint is the one that is so at the restore."""
    bundle.seq(["wait-signal"], ["echo", "after"]).write()
    runtime.remember(bundle.id)
    first, second = workdir / "first", workdir / "second"

    def call(*words: str, output: Path) -> None:
        with output.open("ab") as file:
            argv = runtime.command(*words, options=checkpoints.options)
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=True, timeout=60)

    call("create", "--bundle", str(bundle.path), bundle.id, output=first)
    runtime.call("start", bundle.id).ok()
    until(lambda: "ready" in first.read_text(), "the program waits")
    checkpoints.save(bundle.id).ok()
    paths = ("--image-path", str(checkpoints.images), "--work-path", str(checkpoints.work))
    call("restore", "--detach", "--bundle", str(bundle.path), *paths, bundle.id, output=second)
    restored = os.pidfd_open(runtime.state(bundle.id)["pid"])
    runtime.call("kill", bundle.id, "USR1").ok()
    os.waitid(os.P_PIDFD, restored, os.WEXITED | os.WNOWAIT)
    os.close(restored)
    assert "after" in second.read_text()
    assert "after" not in first.read_text()


def test_a_joined_network_namespace(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """A namespace that was joined by its path is not saved, and joined again, wherever config.json finds it then."""
    probe = bundle.inside("/probe")
    with Holder(probe, "--net") as one, Holder(probe, "--net") as other:
        kinds = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "cgroup")]
        bundle.linux(namespaces=[*kinds, {"type": "network", "path": one.ns("net")}])
        checkpoints.save(start(runtime, bundle)).ok()
        bundle.linux(namespaces=[*kinds, {"type": "network", "path": other.ns("net")}])
        restored = checkpoints.restore(bundle)
        assert os.readlink(f"/proc/{restored.pid}/ns/net") == os.readlink(other.ns("net"))
        go_on(restored)


def test_without_a_cgroup_namespace(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """The container's cgroups of the host are mounted in it, and are the new ones afterwards."""
    bundle.linux(namespaces=[{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")])
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    checkpoints.save(start(runtime, bundle)).ok()
    go_on(checkpoints.restore(bundle.again()))


def test_tcp_established(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """A TCP connection is refused without --tcp-established, and goes on with it."""
    bundle.seq(["tcp", "open"], ["wait-signal"], ["tcp", "say", "over"])
    container = runtime.create(bundle).start()
    assert container.line() == {"verb": "tcp", "data": ""}
    container.line()
    # The connection is in the namespace that is frozen: nobody needs to be kept out.
    checkpoints.save(container, "--network-lock", "skip").refused("connected TCP socket")
    assert container.status() == "running"
    checkpoints.save(container, "--tcp-established", "--network-lock", "skip").ok()
    restored = checkpoints.restore(bundle, "--tcp-established", "--network-lock", "skip")
    restored.kill(USR1).ok()
    restored.line()
    assert restored.line() == {"verb": "tcp", "data": "over"}


def test_hooks(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, workdir: Path) -> None:
    """createRuntime hooks see the new process and its namespaces before it runs; poststop hooks run at each end."""
    log = workdir / "hooks"
    script = f'read state; echo "$0 $state" >>{log}'
    kinds = ("prestart", "createRuntime", "poststart", "poststop")
    bundle.patch({"hooks": {kind: [{"path": "/bin/bash", "args": [kind, "-c", script, kind]}] for kind in kinds}})
    checkpoints.save(start(runtime, bundle)).ok()
    restored = checkpoints.restore(bundle)
    restored.kill("KILL").ok()
    restored.wait()
    restored.delete().ok()
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    created = ["prestart", "createRuntime"]
    assert [kind for kind, _ in lines] == [*created, "poststart", "poststop", *created, "poststop"]
    for _, text in lines[4:6]:
        state = json.loads(text)
        assert (state["status"], state["pid"], state["id"]) == ("creating", restored.pid, bundle.id)


def test_it_says_why_criu_fails(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """An image that is broken: one line with CRIU's own reason and its log's name, and nothing is left."""
    checkpoints.save(start(runtime, bundle)).ok()
    (checkpoints.images / "pstree.img").write_bytes(b"nonsense")
    result = checkpoints.try_restore(bundle, "--detach")
    result.refused("criu cannot restore the container", "restore.log")
    assert len(result.stderr.splitlines()[0]) > len(f"ocirun: restore {bundle.id}: criu cannot restore the container: ")
    assert not (runtime.root / bundle.id).exists()


def test_pre_dump_needs_the_kernel(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints) -> None:
    """--pre-dump goes on from image to image where the kernel tells changed memory; elsewhere it is refused at once."""
    container = start(runtime, bundle)
    result = checkpoints.save(container, "--pre-dump")
    if result.rc != 0:
        result.refused("CONFIG_MEM_SOFT_DIRTY")
        assert not checkpoints.images.exists()
        go_on(container)
        return
    assert container.status() == "running"
    first, checkpoints.images = checkpoints.images, checkpoints.images.with_name("second")
    checkpoints.save(container, "--parent-path", f"../{first.name}").ok()
    go_on(checkpoints.restore(bundle))
