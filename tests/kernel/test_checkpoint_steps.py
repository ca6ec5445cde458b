# SPDX-License-Identifier: Apache-2.0
"""What checkpoint and restore say to CRIU, and what is left when it, or we, fail at any step.

CRIU is a program that does as the test tells it; what the real one makes of it is in test_checkpoint.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import directory, mounted
from support.command import Container, RuntimeCommand, started
from support.criu import Checkpoints
from support.fake_criu import DUMP, FEATURE_CHECK, NOTIFY, PRE_DUMP, RESTORE, VERSION, FakeCriu
from support.oracle import cgroups

from ocirun import Runtime
from ocirun.errors import CriuError, UnsupportedFeature

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("the messages are asked for here")]


@pytest.fixture
def criu(workdir: Path) -> FakeCriu:
    """A CRIU that does as it is told."""
    return FakeCriu(workdir / "criu")


@pytest.fixture
def checkpoints(runtime: RuntimeCommand, criu: FakeCriu, workdir: Path) -> Checkpoints:
    """checkpoint and restore with it."""
    return Checkpoints(runtime, str(criu.path), workdir)


@pytest.fixture
def running(runtime: RuntimeCommand, bundle: Bundle) -> Container:
    """A container that waits."""
    container = runtime.create(bundle.seq("ready", "sleep")).start()
    container.line()
    return container


@pytest.fixture
def saved(checkpoints: Checkpoints, bundle: Bundle) -> Bundle:
    """A bundle, and images to restore it from."""
    checkpoints.images.mkdir()
    (checkpoints.images / "descriptors.json").write_text('["/dev/null", "pipe:[7]", "/dev/null"]')
    return bundle.seq("ready", "sleep")


def nothing_is_left(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """No entry, no cgroup, no process."""
    assert not (runtime.root / bundle.id).exists()
    assert not cgroups(bundle.id)


# -- what is asked ---------------------------------------------------------------------------------------------------


def test_first_whether_it_works(running: Container, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """Version and features are asked of a CRIU of its own, then another saves; each has its socket and nothing else."""
    checkpoints.save(running).ok()
    messages = criu.messages()
    assert [each["type"] for each in messages] == [VERSION, FEATURE_CHECK, DUMP, NOTIFY, NOTIFY, NOTIFY]
    assert len({each["pid"] for each in messages}) == 2
    assert sorted(messages[2]["descriptors"]) == ["0", "1", "2", "3", "4"]  # 4 lists the others
    assert messages[2]["descriptors"]["0"] == "/dev/null"


def test_what_a_dump_is_told(running: Container, bundle: Bundle, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """The process, the root, the freezer and the defaults."""
    pid = running.pid
    frozen = directory(pid, "")
    checkpoints.save(running).ok()
    options = criu.request(DUMP)["opts"]
    assert (options["pid"], options["root"]) == (pid, str(bundle.rootfs))
    assert Path(options["freeze_cgroup"]) == frozen
    assert (options["log_file"], options["log_level"], options["manage_cgroups_mode"]) == ("dump.log", 4, 3)
    assert options["notify_scripts"] is options["orphan_pts_master"] is options["manage_cgroups"] is True
    for name in (
        "leave_running",
        "tcp_established",
        "ext_unix_sk",
        "shell_job",
        "file_locks",
        "lazy_pages",
        "auto_dedup",
    ):
        assert options[name] is False, name
    assert "parent_img" not in options
    assert "track_mem" not in options


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--leave-running"], "leave_running", True),
        (["-leave-running"], "leave_running", True),
        (["--tcp-established"], "tcp_established", True),
        (["--tcp-skip-in-flight"], "tcp_skip_in_flight", True),
        (["--ext-unix-sk"], "ext_unix_sk", True),
        (["--shell-job"], "shell_job", True),
        (["--file-locks"], "file_locks", True),
        (["--link-remap"], "link_remap", True),
        (["--auto-dedup"], "auto_dedup", True),
        (["--lazy-pages"], "lazy_pages", True),
        (["--empty-ns", "network"], "empty_ns", 0x40000000),
        (["--manage-cgroups-mode", "full"], "manage_cgroups_mode", 4),
        (["--manage-cgroups-mode", "strict"], "manage_cgroups_mode", 5),
        (["--manage-cgroups-mode=ignore"], "manage_cgroups_mode", 0),
        (["--network-lock", "nftables"], "network_lock", 2),
        (["--page-server", "[::1]:27"], "ps", {"address": "::1", "port": 27}),
    ],
)
def test_options_of_a_dump(
    running: Container, checkpoints: Checkpoints, criu: FakeCriu, words: list[str], name: str, value: object
) -> None:
    """Each option is the field that CRIU has for it."""
    checkpoints.save(running, *words).ok()
    assert criu.request(DUMP)["opts"][name] == value


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--tcp-established"], "tcp_established", True),
        (["--tcp-close"], "tcp_close", True),
        (["--ext-unix-sk"], "ext_unix_sk", True),
        (["--shell-job"], "shell_job", True),
        (["--file-locks"], "file_locks", True),
        (["--auto-dedup"], "auto_dedup", True),
        (["--lazy-pages"], "lazy_pages", True),
        (["--empty-ns", "network"], "empty_ns", 0x40000000),
        (["--manage-cgroups-mode", "full"], "manage_cgroups_mode", 4),
        (["--network-lock", "skip"], "network_lock", 3),
        (["--lsm-profile", "selinux:a_u:b_r:c_t"], "lsm_profile", "selinux:a_u:b_r:c_t"),
        (["--lsm-mount-context", "a_u:b_r:c_t"], "lsm_mount_context", "a_u:b_r:c_t"),
        ([], "rst_sibling", True),
        ([], "evasive_devices", True),
        ([], "log_file", "restore.log"),
    ],
)
def test_options_of_a_restore(
    checkpoints: Checkpoints, saved: Bundle, criu: FakeCriu, words: list[str], name: str, value: object
) -> None:
    """Each option is the field that CRIU has for it."""
    checkpoints.try_restore(saved, "--detach", "--no-pivot", "-no-subreaper", *words).ok()
    assert criu.request(RESTORE)["opts"][name] == value


def test_what_a_restore_is_told(
    runtime: RuntimeCommand, checkpoints: Checkpoints, saved: Bundle, criu: FakeCriu, workdir: Path
) -> None:
    """The root is in the container's entry, the cgroups are its own, the pipe of standard output is ours."""
    (workdir / "data").mkdir()
    saved.mount("/data", "bind", str(workdir / "data"), "bind")
    restored = checkpoints.restore(saved)
    request = criu.request(RESTORE)
    options = request["opts"]
    assert options["root"] == str(runtime.root / saved.id / "criu-root")
    assert f"mnt[/data]:{workdir}/data" in options["external"]
    assert "mnt[/dev/null]:/dev/null" in options["external"]
    assert options["inherit_fd"] == [{"key": "pipe:[7]", "fd": 1}]
    assert request["descriptors"]["1"].startswith("pipe:")
    told = {each["ctrl"]: each["path"] for each in options["cg_root"]}
    for name in mounted(Path(f"/proc/{restored.pid}/cgroup").read_text()):
        assert told[name].endswith(f"/{saved.id}"), (name, told)


@pytest.mark.parametrize(("kind", "word"), [("network", "net"), ("pid", "pid")])
def test_namespaces_of_others(
    runtime: RuntimeCommand,
    mkbundle: Callable[..., Bundle],
    checkpoints: Checkpoints,
    criu: FakeCriu,
    kind: str,
    word: str,
) -> None:
    """A joined network or pid namespace is given a name at the checkpoint, and by that name a descriptor at the restore."""
    first = runtime.create(mkbundle().seq("ready", "sleep")).start()
    path = f"/proc/{first.pid}/ns/{word}"
    bundle = mkbundle().seq("ready", "sleep")
    bundle.namespaces(without=(kind,))
    bundle.spec["linux"]["namespaces"].append({"type": kind, "path": path})
    second = runtime.create(bundle).start()
    second.line()
    checkpoints.save(second).ok()
    key = {"network": "extRootNetNS", "pid": "extRootPidNS"}[kind]
    assert f"{word}[{os.stat(path).st_ino}]:{key}" in criu.request(DUMP)["opts"]["external"]
    checkpoints.restore(bundle.again())
    request = criu.request(RESTORE)
    (inherited,) = [each for each in request["opts"]["inherit_fd"] if each["key"] == key]
    assert request["descriptors"][str(inherited["fd"])] == os.readlink(path)


def test_other_namespaces_are_joined(
    runtime: RuntimeCommand, mkbundle: Callable[..., Bundle], checkpoints: Checkpoints, saved: Bundle, criu: FakeCriu
) -> None:
    """CRIU enters those of ipc and uts by their paths."""
    other = runtime.create(mkbundle().seq("ready", "sleep")).start()
    saved.namespaces(without=("ipc", "uts"))
    paths = [{"type": kind, "path": f"/proc/{other.pid}/ns/{kind}"} for kind in ("ipc", "uts")]
    saved.spec["linux"]["namespaces"] += paths
    saved.patch({"hostname": None})
    checkpoints.restore(saved)
    wanted = [{"ns": each["type"], "ns_file": each["path"]} for each in paths]
    assert criu.request(RESTORE)["opts"]["join_ns"] == wanted


def test_devices_of_the_engine(running: Container, bundle: Bundle, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """A network namespace that somebody has put devices into is saved empty, and restored so for him; others are not."""
    checkpoints.save(running, "--leave-running").ok()
    assert criu.request(DUMP)["opts"]["empty_ns"] == 0
    (criu.directory / "log").unlink()
    link = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]
    subprocess.run(["nsenter", "--net", "--target", str(running.pid), *link], check=True)
    checkpoints.save(running).ok()
    assert criu.request(DUMP)["opts"]["empty_ns"] == 0x40000000
    checkpoints.restore(bundle)
    assert criu.request(RESTORE)["opts"]["empty_ns"] == 0x40000000
    (checkpoints.images / "netns-1.img").touch()
    (criu.directory / "log").unlink()
    checkpoints.restore(bundle.again())
    assert criu.request(RESTORE)["opts"]["empty_ns"] == 0


def test_pre_dumps_are_a_chain(running: Container, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """--pre-dump asks whether memory is tracked, has no descriptors.json, and the container goes on."""
    checkpoints.save(running, "--pre-dump").ok()
    assert criu.request(PRE_DUMP)["opts"]["track_mem"] is True
    assert not (checkpoints.images / "descriptors.json").exists()
    assert running.status() == "running"
    first, checkpoints.images = checkpoints.images, checkpoints.images.with_name("second")
    checkpoints.save(running, "--pre-dump", "--parent-path", "../nowhere").refused("../nowhere")
    checkpoints.save(running, "--parent-path", str(first)).refused("not relative")
    assert not checkpoints.images.exists()
    checkpoints.save(running, "--parent-path", f"../{first.name}").ok()
    options = criu.request(DUMP)["opts"]
    assert (options["parent_img"], options["track_mem"]) == (f"../{first.name}", True)
    assert json.loads((checkpoints.images / "descriptors.json").read_text())[1].startswith("pipe:[")


def test_status_fd(running: Container, checkpoints: Checkpoints) -> None:
    """A descriptor that is not open is refused before anything else, as is what is no number and no address."""
    checkpoints.save(running, "--lazy-pages", "--status-fd", "77").refused("77", "not open")
    checkpoints.save(running, "--status-fd", "x").refused("x")
    checkpoints.save(running, "--page-server", "nowhere").refused("nowhere")
    assert running.status() == "running"


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"version": [3, 15]}, ["3.15", "3.16 is needed"]),
        ({"features": None}, ["does not work on this kernel", "this kernel is strange"]),
        ({"features": {"mem_track": True, "lazy_pages": False}}, ["userfaultfd"]),
    ],
)
def test_a_criu_that_will_not_do(
    running: Container,
    checkpoints: Checkpoints,
    criu: FakeCriu,
    bundle: Bundle,
    verb: str,
    plan: dict[str, Any],
    words: list[str],
) -> None:
    """It is said in one line, in words of its own where it has some, and nothing has been changed."""
    criu.plan(**plan)
    checkpoints.images.with_name("images").mkdir()
    if verb == "checkpoint":
        checkpoints.images = checkpoints.images.with_name("new")
        result = checkpoints.save(running, "--lazy-pages")
        assert not checkpoints.images.exists()
    else:
        running.delete("--force").ok()
        result = checkpoints.try_restore(bundle, "--lazy-pages")
        nothing_is_left(checkpoints.runtime, bundle)
    assert len(result.refused(*words).stderr.splitlines()) == 1
    assert not checkpoints.work.exists()


@pytest.mark.parametrize("program", ["/nowhere/criu", "criu-that-nobody-has", "/bin/true"])
def test_no_criu(running: Container, checkpoints: Checkpoints, program: str) -> None:
    """A program that is missing, or is none of the kind."""
    checkpoints.options = ("--criu", program)
    result = checkpoints.save(running)
    result.refused(program)
    assert running.status() == "running"
    assert not checkpoints.images.exists()


def test_status(runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """Only what runs, or is paused, has processes to save."""
    checkpoints.save(bundle.id).refused("container does not exist")
    container = runtime.create(bundle.seq("ready", "sleep"))
    checkpoints.save(container).refused("cannot checkpoint a container that is created")
    container.start()
    container.line()
    container.kill("KILL").ok()
    container.wait()
    checkpoints.save(container).refused("container not running")
    assert criu.messages() == []
    runtime.call("checkpoint", "--help").ok()
    runtime.call("restore", "--help").ok()


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_what_criu_would_lose(
    runtime: RuntimeCommand, bundle: Bundle, checkpoints: Checkpoints, criu: FakeCriu, verb: str, workdir: Path
) -> None:
    """Fields that could not be restored are named, all of them, before CRIU is asked to do anything."""
    maps = [{"containerID": 0, "hostID": 1000, "size": 1}]
    bundle.mount("/data", "bind", str(workdir), "bind")
    bundle.spec["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}
    pointer = f"/mounts/{len(bundle.spec['mounts']) - 1}"
    bundle.namespaces(without=("cgroup",))
    bundle.spec["linux"]["namespaces"].append({"type": "cgroup", "path": "/proc/self/ns/cgroup"})
    index = len(bundle.spec["linux"]["namespaces"]) - 1
    words = (pointer, f"/linux/namespaces/{index}/path")
    bundle.seq("ready", "sleep")
    if verb == "checkpoint":
        container = runtime.create(bundle).start()
        checkpoints.save(container).refused(*words)
        assert container.status() == "running"
    else:
        checkpoints.images.mkdir()
        checkpoints.try_restore(bundle).refused(*words)
        nothing_is_left(runtime, bundle)
    assert {each["type"] for each in criu.messages()} == {VERSION, FEATURE_CHECK}


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_dump_that_fails(running: Container, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """The container goes on; the message has the log's first reason, its place, and the others as notes."""
    criu.plan(
        success=False,
        log="(00.1) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self: x\n"
        "(00.2)      1: Error (criu/files.c:2): what is the matter\n(00.3) Error (criu/dump.c:3): and then\n"
        "(00.4) Error (criu/dump.c:4): Dumping FAILED.\n",
    )
    result = checkpoints.save(running).refused("criu cannot save the container: what is the matter")
    assert f"hint: see {checkpoints.work}/dump.log" in result.stderr
    assert "note: and then" in result.stderr
    assert "RLIMIT" not in result.stderr
    assert "FAILED" not in result.stderr
    assert running.status() == "running"
    criu.plan(success=False)
    checkpoints.save(running).refused("the first thing that went wrong")


def test_a_dump_that_dies(running: Container, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """CRIU is gone in the middle: an error, and the container is what it was."""
    criu.plan(die="network-lock")
    checkpoints.save(running).refused("criu ended with exit status 9")
    assert running.status() == "running"


def test_killed_during_a_dump(running: Container, checkpoints: Checkpoints, criu: FakeCriu) -> None:
    """Nobody answers CRIU any more: it lets the container go on, and the next checkpoint works."""
    criu.plan(hang="network-lock")
    words = ("--image-path", str(checkpoints.images), "--work-path", str(checkpoints.work), running.id)
    argv = checkpoints.runtime.command("checkpoint", *words, options=checkpoints.options)
    with started(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        criu.wait_for("network-lock", process.poll)
        process.kill()
        process.wait()
    assert running.status() == "running"
    criu.plan()
    checkpoints.save(running).ok()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_during_a_dump(
    running: Container, checkpoints: Checkpoints, criu: FakeCriu, number: signal.Signals
) -> None:
    """A signal ends the command with 128 + N, when CRIU has let go of the container."""
    criu.plan(hang="network-lock")
    words = ("--image-path", str(checkpoints.images), "--work-path", str(checkpoints.work), running.id)
    argv = checkpoints.runtime.command("checkpoint", *words, options=checkpoints.options)
    with started(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        criu.wait_for("network-lock", process.poll)
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert running.status() == "running"


@pytest.mark.parametrize(
    "plan", [{"success": False}, {"die": "setup-namespaces"}, {"die": "post-restore"}, {"die": "pre-resume"}]
)
def test_a_restore_that_fails(
    runtime: RuntimeCommand,
    checkpoints: Checkpoints,
    saved: Bundle,
    criu: FakeCriu,
    plan: dict[str, Any],
    workdir: Path,
) -> None:
    """Wherever CRIU fails or dies, nothing is left of the container: not even what CRIU did not end itself."""
    criu.plan(**plan)
    checkpoints.try_restore(saved, "--detach", "--pid-file", str(workdir / "pid")).refused("criu")
    nothing_is_left(runtime, saved)
    assert not (workdir / "pid").exists()


def test_a_hook_that_fails(
    runtime: RuntimeCommand, checkpoints: Checkpoints, saved: Bundle, criu: FakeCriu, workdir: Path
) -> None:
    """CRIU is told no, and has undone its work before the hook's error is reported; poststop hooks run."""
    saved.patch(
        {
            "hooks": {
                "createRuntime": [{"path": "/bin/false"}],
                "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo over >{workdir}/poststop"]}],
            }
        }
    )
    checkpoints.try_restore(saved, "--detach").refused("/hooks/createRuntime/0")
    answers = [each for each in criu.messages() if each["type"] == NOTIFY]
    assert [each["notify_success"] for each in answers] == [False]
    assert (workdir / "poststop").read_text() == "over\n"
    nothing_is_left(runtime, saved)


@pytest.mark.parametrize("way", ["gc", "delete --force"])
@pytest.mark.parametrize("notification", ["setup-namespaces", "post-restore", "pre-resume"])
def test_killed_during_a_restore(
    runtime: RuntimeCommand, checkpoints: Checkpoints, saved: Bundle, criu: FakeCriu, notification: str, way: str
) -> None:
    """The record was there before CRIU was: whatever it says, it is enough to clean up by."""
    criu.plan(hang=notification)
    saved.write()
    runtime.remember(saved.id)
    words = ("--bundle", str(saved.path), "--image-path", str(checkpoints.images), "--detach", saved.id)
    argv = runtime.command("restore", *words, options=checkpoints.options)
    with started(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        criu.wait_for(notification, process.poll)
        record = json.loads((runtime.root / saved.id / "state.json").read_text())
        assert record["cgroup"]
        assert (record["init"] is not None) == (notification == "pre-resume")
        process.kill()
        process.wait()
    if way == "gc" and notification != "pre-resume":
        assert runtime.call("gc").ok().stdout.decode().split() == [saved.id]
    else:
        runtime.call("delete", "--force", saved.id).ok()
    nothing_is_left(runtime, saved)


def test_interrupted_during_a_restore(
    runtime: RuntimeCommand, checkpoints: Checkpoints, saved: Bundle, criu: FakeCriu
) -> None:
    """A signal that asks to end undoes the restore."""
    criu.plan(hang="post-restore")
    saved.write()
    runtime.remember(saved.id)
    words = ("--bundle", str(saved.path), "--image-path", str(checkpoints.images), saved.id)
    argv = runtime.command("restore", *words, options=checkpoints.options)
    with started(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        criu.wait_for("post-restore", process.poll)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    nothing_is_left(runtime, saved)


# -- the library -----------------------------------------------------------------------------------------------------


def test_the_library(runtime: RuntimeCommand, bundle: Bundle, criu: FakeCriu, workdir: Path) -> None:
    """The same, in a process that goes on: the restored process is its child, and errors are typed."""
    bundle.seq("ready", "sleep").write()
    runtime.remember(bundle.id)
    images, before = str(workdir / "images"), len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    with Runtime(str(runtime.root)) as library:
        with library.create(bundle.id, str(bundle.path), stdout=writer) as container:
            container.start()
            with pytest.raises(UnsupportedFeature, match="CRIU is not there"):
                container.checkpoint(images, criu="/nowhere")
            criu.plan(success=False)
            with pytest.raises(CriuError, match="cannot save") as caught:
                container.checkpoint(images, criu=str(criu.path))
            assert caught.value.log == f"{images}/dump.log"
            assert container.state().status == "running"
            criu.plan()
            container.checkpoint(images, criu=str(criu.path))
            assert container.wait() == 128 + signal.SIGKILL
        criu.plan(die="post-restore")
        with pytest.raises(CriuError, match="exit status 9"):
            library.restore(bundle.id, str(bundle.path), images, criu=str(criu.path))
        criu.plan()
        with library.restore(bundle.id, str(bundle.path), images, criu=str(criu.path)) as restored:
            assert restored.state().status == "running"
            restored.kill(signal.SIGKILL)
            assert restored.wait() == 128 + signal.SIGKILL
            restored.delete()
    os.close(reader)
    os.close(writer)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
