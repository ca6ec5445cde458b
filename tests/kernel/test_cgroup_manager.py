# SPDX-License-Identifier: Apache-2.0
"""The cgroup manager on the real tree of this machine, whatever its layout.

Run it on a machine with pure version 2 as well: tests/vm.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.bundle import TAG, unique
from support.cgroup import until
from support.command import started

from ocirun.cgroups import CgroupManager, hierarchies, killing, legacy, open_manager
from ocirun.cgroups.devices import Rule, device_program, effective_rules
from ocirun.errors import CgroupError, InvalidConfig
from ocirun.host import HostFacts
from ocirun.spec.resources import DeviceRule, Resources

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.ocirun_only("the cgroup manager as a library")]

HOST_LAYOUT = HostFacts().cgroup_layout
# A hybrid machine can play a legacy one: its version 2 tree is left alone then.
LAYOUTS = ["hybrid", "legacy"] if HOST_LAYOUT == "hybrid" else [HOST_LAYOUT]
LAYOUT = HOST_LAYOUT
CLONE_INTO_CGROUP = 0x2_0000_0000
SYS_CLONE3 = 435
# Joins by writing "0" to each descriptor in argv[1], says so, then does what argv[2] says.
JOINER = """
import os, sys
for fd in map(int, filter(None, sys.argv[1].split(","))):
    os.write(fd, b"0")
    os.close(fd)
print(flush=True)
sys.stdin.readline()  # it is placed
exec(sys.argv[2])
"""
WAIT = "sys.stdin.read()"

only_unified = pytest.mark.unified


@pytest.fixture(autouse=True, params=LAYOUTS)
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run every test in each layout that this machine can show."""
    monkeypatch.setattr(sys.modules[__name__], "LAYOUT", request.param)
    return str(request.param)


@pytest.fixture
def version_2(layout: str) -> None:
    """For tests of what only version 2 has."""
    if layout == "legacy":
        pytest.skip("machine: no pure cgroup v2, nor a hybrid one")


def open_new(path: str | None = None, **options: Any) -> CgroupManager:
    """Return the manager of a container that does not exist yet, by default at a place of its own."""
    name = unique("cgroup")
    return open_manager("cgroupfs", LAYOUT, name, f"/{name}" if path is None else path, **options)


def reopen(manager: CgroupManager) -> CgroupManager:
    """Return what another process would get from the record."""
    return open_manager("cgroupfs", "none", "", None, recorded=manager.record())


@pytest.fixture
def manager() -> Iterator[CgroupManager]:
    """A manager whose cgroup exists; it is removed afterwards, and then the tree must be as before."""
    before = tree()
    manager = open_new()
    manager.create()
    yield manager
    manager.remove()
    manager.close()
    assert tree() == before


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start members: `spawn(manager, code)` runs Python code inside; all are dead afterwards."""
    members: list[tuple[CgroupManager, subprocess.Popen[str]]] = []

    def start(manager: CgroupManager, code: str = WAIT) -> subprocess.Popen[str]:
        fds = [os.open(path, os.O_WRONLY) for path in manager.join_paths()]
        argv = [sys.executable, "-I", "-S", "-c", JOINER, ",".join(map(str, fds)), code]
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds, text=True
        )
        for fd in fds:
            os.close(fd)
        members.append((manager, process))
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "\n"
        manager.place(process.pid, joined=True)
        process.stdin.write("\n")
        process.stdin.flush()
        return process

    yield start
    for manager, process in members:
        with suppress(CgroupError):  # a test that failed may leave it frozen, and then version 1 lets nobody die
            manager.kill_all(signal.SIGKILL)
        process.kill()
        process.communicate()


def tree() -> set[str]:
    """Return the directories at the top of every hierarchy that are this test run's."""
    found = set()
    for mount in hierarchies.parse_mountinfo(Path("/proc/self/mountinfo").read_text()):
        for top in os.scandir(mount.mount_point):
            if top.name.startswith(TAG):
                found.add(top.path)
    return found


def cgroups_of(pid: int | str, manager: CgroupManager) -> set[str]:
    """Return the paths of a process in all hierarchies that the manager manages."""
    own = hierarchies.parse_own_cgroups(Path(f"/proc/{pid}/cgroup").read_text())
    return {own[each.controllers] for each in manager.paths()}


def expected_path(manager: CgroupManager) -> str:
    """Return the absolute path that `open_new` asked for."""
    return f"/{manager.paths()[0].path}"


def value(manager: CgroupManager, *files: str) -> str:
    """Return the content of the first of these files that some hierarchy has."""
    for hierarchy in manager.paths():
        for file in files:
            if os.path.exists(f"{hierarchy.directory}/{file}"):
                return Path(f"{hierarchy.directory}/{file}").read_text().strip()
    raise FileNotFoundError(files)


def answer(process: subprocess.Popen[str]) -> str:
    """Let a member go on, and return what it prints."""
    return process.communicate("\n")[0].strip()


def test_remove_leaves_the_tree_as_it_was() -> None:
    """Also the parents that were made for it, and again for the second call."""
    before = tree()
    name = unique("parent")
    manager = open_new(f"/{name}/middle/leaf")
    manager.create()
    assert all(os.path.isdir(each.directory) for each in manager.paths())
    manager.remove()
    assert tree() == before
    manager.remove()


def test_parent_in_use_by_another_stays() -> None:
    """Two containers share parents; the last one takes them away."""
    before = tree()
    name = unique("parent")
    one, other = open_new(f"/{name}/one"), open_new(f"/{name}/other")
    one.record()
    other.record()
    one.create()
    other.create()
    one.remove()
    assert all(os.path.isdir(each.directory) for each in other.paths())
    other.remove()
    assert tree() == before


def test_last_to_leave_takes_the_parents_that_another_made() -> None:
    """They were there when the last one came: twenty containers of an engine at once leave nothing all the same."""
    before = tree()
    name = unique("parent")
    one, other = open_new(f"/{name}/middle/one"), open_new(f"/{name}/middle/other")
    one.create()
    other.create()
    one.remove()
    other.remove()
    assert tree() == before


def test_parents_of_somebody_else_stay() -> None:
    """Those that were there before any container, also where a container's parents are below them."""
    name = unique("parent")
    keeper = open_new(f"/{name}/keeper")
    places = [os.path.dirname(each.directory) for each in keeper.paths()]
    try:
        for place in places:
            os.mkdir(place)
        one, other = open_new(f"/{name}/middle/one"), open_new(f"/{name}/middle/other")
        one.create()
        other.create()
        one.remove()
        other.remove()
        assert [os.path.isdir(place) for place in places] == [True] * len(places)
        assert not any(os.path.exists(f"{place}/middle") for place in places)
    finally:
        for place in places:
            os.rmdir(place)


def test_place_moves_into_every_hierarchy(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """A process moved by another, then one that moved itself."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        manager.place(process.pid)
        assert cgroups_of(process.pid, manager) == {expected_path(manager)}
        assert manager.pids() == [process.pid]
        process.communicate()
    member = spawn(manager)
    assert cgroups_of(member.pid, manager) == {expected_path(manager)}


def test_clone_into_is_a_place_to_be_born(version_2: None, manager: CgroupManager) -> None:
    """The descriptor serves clone3(2)."""
    fd = manager.clone_into()
    assert fd is not None
    assert not os.get_inheritable(fd)
    arguments = struct.pack("=11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, fd)
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(SYS_CLONE3, arguments, len(arguments))
    if pid == 0:
        inside = open("/proc/self/cgroup").read().splitlines()
        os._exit(f"0::{expected_path(manager)}" not in inside)
    assert pid > 0, os.strerror(ctypes.get_errno())
    os.close(fd)
    assert os.waitpid(pid, 0)[1] == 0


def test_no_clone_into_without_version_2(manager: CgroupManager) -> None:
    """join_paths and clone_into together cover every hierarchy."""
    joined = manager.join_paths()
    fd = manager.clone_into()
    assert (fd is None) == (LAYOUT == "legacy")
    assert len(joined) + (fd is not None) == len(manager.paths())
    if fd is not None:
        os.close(fd)


def test_used_cgroup_is_refused_and_left_alone(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """A second container with the same cgroupsPath gets an error, and its clean-up harms nobody."""
    member = spawn(manager)
    second = open_new(expected_path(manager))
    with pytest.raises(CgroupError, match="not empty") as info:
        second.record()
    assert info.value.json_pointer == "/linux/cgroupsPath"
    second.remove(deadline_s=0.1)
    assert member.poll() is None
    assert manager.pids() == [member.pid]


def test_cgroup_taken_after_the_record_is_refused_and_left_alone(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    """Both recorded the same free place; the slower one fails, and neither it nor gc kills the other."""
    fast = open_new()
    slow = open_new(expected_path(fast))
    fast.record()
    record = slow.record()
    fast.create()
    member = spawn(fast)
    with pytest.raises(CgroupError):
        slow.create()
    slow.remove(deadline_s=0.1)
    open_manager("cgroupfs", "none", "", None, recorded=record).remove(deadline_s=0.1)
    assert member.poll() is None
    assert fast.pids() == [member.pid]
    fast.remove()


@pytest.mark.parametrize("record_first", [False, True])
def test_place_taken_by_another_tool_is_left_alone(
    spawn: Callable[..., subprocess.Popen[str]], record_first: bool
) -> None:
    """Directories without our mark, in one hierarchy only, made between our record and our mkdir."""
    before = tree()
    manager = open_new()
    other = reopen(manager) if record_first else manager
    manager.record()
    last = manager.paths()[-1].directory
    os.makedirs(f"{last}/inner")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        if "cpuset" not in manager.paths()[-1].controllers:
            Path(f"{last}/inner/cgroup.procs").write_text(str(stranger.pid))
        if not record_first:
            with pytest.raises(CgroupError):
                manager.create()
        other.remove(deadline_s=0.05)
        assert stranger.poll() is None
        assert os.path.isdir(f"{last}/inner")
        stranger.communicate()
    os.rmdir(f"{last}/inner")
    os.rmdir(last)
    assert tree() == before


def test_frozen_cgroup_is_refused(manager: CgroupManager) -> None:
    """A process that entered it would stop there."""
    manager.freeze()
    second = open_new(expected_path(manager))
    with pytest.raises(CgroupError, match="frozen"):
        second.record()


def test_existing_empty_cgroup_is_used(spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """Roll-back keeps what was there before, delete removes it, as in other runtimes."""
    first = open_new()
    first.create()
    second = open_new(expected_path(first))
    second.create()
    spawn(second)
    second.kill_all(signal.SIGKILL)
    until(lambda: not second.pids(), "the members are gone")
    second.remove(keep_existing=True)
    assert all(os.path.isdir(each.directory) for each in second.paths())
    # The first does not own the place any more.
    member = spawn(second)
    reopen(first).remove()
    first.remove()
    assert member.poll() is None
    second.remove()
    assert not any(os.path.exists(each.directory) for each in second.paths())


def test_place_made_again_by_another_tool_is_left_alone(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    """The same path, another directory: somebody removed ours and went on using the name."""
    manager = open_new()
    manager.create()
    manager.close()
    directories = [each.directory for each in manager.paths()]
    for directory in directories:
        os.rmdir(directory)
        os.makedirs(f"{directory}/inner")
    manager.remove()
    for directory in directories:
        os.rmdir(f"{directory}/inner")
        os.rmdir(directory)


def test_crash_after_the_record_leaves_nothing_to_do() -> None:
    """Named but not made."""
    manager = open_new()
    reopen(manager).remove()
    assert reopen(manager).is_frozen() is False


def test_crash_after_create_is_cleaned_from_the_first_record(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    """Made, but its identity not recorded: the mark tells that it is ours."""
    before = tree()
    manager = open_new()
    early = manager.record()
    assert early["identity"] is None
    manager.create()
    member = spawn(manager)
    manager.close()
    open_manager("cgroupfs", "none", "", None, recorded=early).remove()
    assert member.wait() == -signal.SIGKILL
    assert tree() == before


def test_record_is_enough_for_everything(
    manager: CgroupManager,
    spawn: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`state`, `kill` and `delete` look neither at mountinfo nor at their own cgroup."""
    member = spawn(manager)

    def forbidden(*_: object) -> None:
        raise AssertionError("discovery in a later command")

    with monkeypatch.context() as patch:
        patch.setattr(hierarchies, "discover", forbidden)
        patch.setattr(hierarchies, "parse_mountinfo", forbidden)
        later = reopen(manager)
        assert later.pids() == [member.pid]
        assert not later.is_frozen()
        later.kill_all(signal.SIGKILL)
    assert member.wait() == -signal.SIGKILL
    later.close()


def test_limits_are_in_the_files(manager: CgroupManager) -> None:
    """Each number is read back as the kernel has it."""
    resources = Resources(
        {
            "pids": {"limit": 17},
            "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "mems": "0"},
            "memory": {"limit": 64 << 20, "reservation": 32 << 20},
        }
    )
    manager.apply(resources, False)
    assert value(manager, "pids.max") == "17"
    assert value(manager, "memory.max", "memory.limit_in_bytes") == str(64 << 20)
    assert value(manager, "memory.low", "memory.soft_limit_in_bytes") == str(32 << 20)
    assert value(manager, "cpuset.cpus") == "0"
    assert value(manager, "cpu.weight", "cpu.shares") == ("59" if LAYOUT == "unified" else "512")
    assert value(manager, "cpu.max", "cpu.cfs_quota_us").split()[0] == "20000"
    manager.apply(Resources({"cpu": {"period": 100000}}), False, update=True)
    assert value(manager, "cpu.max", "cpu.cfs_quota_us").split()[0] == "20000"
    manager.apply(Resources({"cpu": {"quota": -1}}), False, update=True)
    assert value(manager, "cpu.max", "cpu.cfs_quota_us").split()[0] in ("max", "-1")


def test_memory_and_swap_grow_and_shrink(manager: CgroupManager) -> None:
    """In version 1 the order of the two writes depends on the present values."""
    if not any(
        os.path.exists(f"{each.directory}/{file}")
        for each in manager.paths()
        for file in ("memory.swap.max", "memory.memsw.limit_in_bytes")
    ):
        pytest.skip("machine: no swap accounting")
    for limit in (32 << 20, 256 << 20, 16 << 20):
        memory = {"limit": limit, "swap": 2 * limit}
        manager.apply(Resources({"memory": memory}), False, update=True)
        assert value(manager, "memory.max", "memory.limit_in_bytes") == str(limit)
        swap = value(manager, "memory.swap.max", "memory.memsw.limit_in_bytes")
        assert swap == str(limit if LAYOUT == "unified" else 2 * limit)


def test_check_before_update_refuses_a_limit_below_usage(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """The container is not killed by a limit that it is over already."""
    member = spawn(manager, "x = b'x' * (8 << 20); print(flush=True); " + WAIT)
    assert member.stdout is not None
    member.stdout.readline()
    memory = {"limit": 4 << 20, "checkBeforeUpdate": True}
    with pytest.raises(CgroupError) as info:
        manager.apply(Resources({"memory": memory}), False, update=True)
    assert info.value.json_pointer == "/memory/limit"
    assert member.poll() is None


def test_pids_limit_holds(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """With a limit of 0, which is a legal one, nothing can fork."""
    code = "sys.stdin.readline()\ntry: os.fork() or os._exit(0); print('forked')\nexcept OSError as e: print(e.errno)"
    member = spawn(manager, code)
    manager.apply(Resources({"pids": {"limit": 0}}), False)
    assert answer(member) == "11"


def test_refused_write_names_the_setting(manager: CgroupManager) -> None:
    """The kernel's errno, the file and the place in config.json."""
    with pytest.raises(CgroupError, match=r"cpuset\.cpus") as info:
        manager.apply(Resources({"cpu": {"cpus": "4000"}}), False)
    assert info.value.json_pointer == "/linux/resources/cpu/cpus"
    assert isinstance(info.value.__cause__, OSError)


def test_missing_controller_names_the_setting(manager: CgroupManager) -> None:
    """A limit that nothing can enforce is an error."""
    with pytest.raises((CgroupError, InvalidConfig)) as info:
        manager.apply(
            Resources({"rdma": {"none": {"hcaHandles": 1}}, "unified": {"none.max": "1"}}), False
        )
    assert (info.value.json_pointer or "").startswith("/linux/resources/")


OPEN_DEVICE = """
import errno
for line in sys.stdin:
    mode, path = line.split()
    try:
        os.close(os.open(path, {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[mode]))
        print("yes", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
"""


def test_device_rules_hold(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """Default deny; the defaults; rules; an update of something else; an update of the rules."""
    os.mknod(tmp_path / "kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11))
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    member = spawn(manager, OPEN_DEVICE)

    def ask(mode: str, name: str) -> str:
        assert member.stdin is not None
        assert member.stdout is not None
        member.stdin.write(f"{mode} {tmp_path / name}\n")
        member.stdin.flush()
        return member.stdout.readline().strip()

    assert ask("r", "kmsg") == "yes"
    manager.apply(None, False)
    assert ask("r", "kmsg") == "EPERM"
    assert ask("rw", "null") == "yes"
    manager.apply(Resources({"pids": {"limit": 20}}), False, update=True)
    assert ask("r", "kmsg") == "EPERM"
    rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}
    manager.apply(Resources({"devices": [{"allow": False}, rule]}), False, update=True)
    assert ask("r", "kmsg") == "yes"
    assert ask("w", "kmsg") == "EPERM"
    assert ask("rw", "kmsg") == "EPERM"
    reopen(manager).apply(Resources({"devices": [{"allow": False}]}), False, update=True)
    assert ask("r", "kmsg") == "EPERM"
    manager.apply(Resources({"devices": [{"allow": True, "access": "rwm"}]}), False, update=True)
    assert ask("r", "kmsg") == "yes"


def test_verifier_takes_programs_of_any_shape(version_2: None, manager: CgroupManager) -> None:
    """What the interpreter of the tests accepts, the kernel accepts; and an update leaves one program."""
    from ocirun._native import attach_device_program, load_device_program
    from ocirun._native._bpf_face import _own_programs

    lists = [
        [Rule(True, None, None, None, 7)],
        [
            Rule(False, "b", None, None, 7),
            Rule(True, "c", None, 3, 2),
            Rule(False, None, 8, None, 5),
        ],
        [Rule(True, "b", 8, minor, 1 + minor % 7) for minor in range(500)],
        [Rule(minor % 2 == 0, None, None, minor, 6) for minor in range(50)],
        effective_rules([DeviceRule({"allow": True, "type": "c", "access": "rwm"})])[0],
    ]
    cgroup = manager.clone_into()
    assert cgroup is not None
    for rules in lists:
        program = load_device_program(device_program(rules))
        attach_device_program(cgroup, program)
        os.close(program)
        own = _own_programs(cgroup)
        assert len(own) == 1
        os.close(own[0])
    os.close(cgroup)


def test_freeze_and_thaw(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """Frozen is frozen when `freeze` returns; both are idempotent."""
    member = spawn(manager, "for line in sys.stdin: print('got', flush=True)")
    assert not manager.is_frozen()
    manager.freeze()
    manager.freeze()
    assert manager.is_frozen()
    assert reopen(manager).is_frozen()
    assert member.stdin is not None
    assert member.stdout is not None
    member.stdin.write("x\n")
    member.stdin.flush()
    assert select.select([member.stdout], [], [], 0) == ([], [], [])
    manager.thaw()
    manager.thaw()
    assert not manager.is_frozen()
    assert member.stdout.readline() == "got\n"


def test_signal_reaches_every_member_and_nobody_else(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """Also members of nested cgroups; a frozen container stays frozen and gets it later."""
    members = [spawn(manager) for _ in range(3)]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
        manager.kill_all(signal.SIGTERM)
        assert [member.wait() for member in members] == [-signal.SIGTERM] * 3
        frozen = spawn(manager)
        manager.freeze()
        manager.kill_all(signal.SIGTERM)
        assert manager.is_frozen()
        manager.thaw()
        assert frozen.wait() == -signal.SIGTERM
        assert stranger.poll() is None
        stranger.communicate()


def test_sigkill_ends_what_is_frozen(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """Frozen itself, and frozen in a cgroup that the container nested and froze."""
    member = spawn(manager)
    manager.freeze()
    manager.kill_all(signal.SIGKILL)
    assert member.wait() == -signal.SIGKILL
    assert not manager.is_frozen()
    nested = spawn(manager)
    freezer = next(
        each for each in manager.paths() if each.version == 2 or "freezer" in each.controllers
    )
    os.mkdir(f"{freezer.directory}/nested")
    Path(f"{freezer.directory}/nested/cgroup.procs").write_text(str(nested.pid))
    file, word = ("cgroup.freeze", "1") if freezer.version == 2 else ("freezer.state", "FROZEN")
    Path(f"{freezer.directory}/nested/{file}").write_text(word)
    manager.kill_all(signal.SIGKILL)
    assert nested.wait() == -signal.SIGKILL


def test_remove_kills_what_froze_itself_in_version_1(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """In the hybrid layout processes are killed in version 2, where nothing says that they are frozen."""
    freezer = [each for each in manager.paths() if "freezer" in each.controllers]
    if not freezer:
        pytest.skip("machine: no cgroup v1")
    member = spawn(manager)
    os.mkdir(f"{freezer[0].directory}/nested")
    Path(f"{freezer[0].directory}/nested/cgroup.procs").write_text(str(member.pid))
    Path(f"{freezer[0].directory}/nested/freezer.state").write_text("FROZEN")
    reopen(manager).remove()
    assert member.wait() == -signal.SIGKILL


def test_kill_spares_the_caller(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """An engine may run in the cgroup that it kills; then neither cgroup.kill nor freezing will do."""
    victim = spawn(manager)
    root = str(Path(__file__).resolve().parents[2])
    code = f"""
sys.path[:0] = {sys.path!r} + [{root!r}]
from ocirun.cgroups import open_manager
sys.stdin.readline()
manager = open_manager("cgroupfs", "none", "", None, recorded={manager.record()!r})
manager.kill_all(9)
print("alive", manager.pids() and os.getpid() in manager.pids())
"""
    caller = spawn(manager, code)
    assert answer(caller) == "alive True"
    assert victim.wait() == -signal.SIGKILL


def test_remove_kills_forking_processes(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """A process that forks as fast as it can, ignoring signals, in nested cgroups."""
    code = """
import signal
for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)
signal.signal(17, signal.SIG_IGN)
while True:
    try:
        if os.fork() == 0:
            for _ in range(3): os.fork()
            os._exit(0)
    except OSError: pass
"""
    member = spawn(manager, code)
    manager.apply(Resources({"pids": {"limit": 50}}), False)
    for each in manager.paths():
        os.makedirs(f"{each.directory}/a/b/c")
    manager.remove()
    assert member.wait() == -signal.SIGKILL


def test_cgroups_that_vanish_while_they_are_killed(manager: CgroupManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd takes the cgroup of a scope away when it is empty: also between our look at it and our kill."""
    opened = killing.open_directory

    def vanish(path: str) -> int:
        fd = opened(path)
        os.rmdir(path)
        return fd

    monkeypatch.setattr(killing, "open_directory", vanish)
    killing.kill_remaining(manager.paths())
    assert not any(os.path.exists(each.directory) for each in manager.paths())
    for number in (signal.SIGTERM, signal.SIGKILL):
        manager.kill_all(number)


def test_remove_copes_with_deep_nesting(version_2: None, manager: CgroupManager) -> None:
    """Deeper than Python recurses, with a path longer than the kernel takes."""
    fd = manager.clone_into()
    assert fd is not None
    for _ in range(1010):
        os.mkdir("nested-cgroup", dir_fd=fd)
        child = os.open("nested-cgroup", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)
    assert manager.pids() == []
    manager.remove()


def test_remove_does_not_enter_mounts(private_host: None, manager: CgroupManager) -> None:
    """What is mounted over a nested cgroup is not ours; the error says what is left, and a retry works."""
    nested = f"{manager.paths()[0].directory}/nested"
    os.mkdir(nested)
    subprocess.run(["mount", "-t", "tmpfs", "none", nested], check=True)
    os.makedirs(f"{nested}/precious/data")
    try:
        with pytest.raises(CgroupError) as info:
            manager.remove(deadline_s=0.05)
        assert info.value.hint
        assert os.path.isdir(f"{nested}/precious/data")
    finally:
        subprocess.run(["umount", nested], check=True)
    manager.remove()


def test_umask_of_the_caller_does_not_matter() -> None:
    """The caller's umask stays as it is, and the directories are 0755 all the same."""
    old = os.umask(0o077)
    try:
        manager = open_new(f"/{unique('parent')}/leaf")
        manager.create()
    finally:
        assert os.umask(old) == 0o077
    for each in manager.paths():
        for directory in (each.directory, os.path.dirname(each.directory)):
            assert stat.S_IMODE(os.stat(directory).st_mode) == 0o755
    manager.remove()


def test_failed_create_leaves_nothing() -> None:
    """A place that cannot be made, after parents that could, in the last hierarchy only."""
    before = tree()
    manager = open_new(f"/{unique('parent')}/leaf")
    last = manager.paths()[-1]
    last.path = last.path.replace("/leaf", "/cgroup.procs/leaf")
    with pytest.raises(CgroupError):
        manager.create()
    assert tree() == before


def test_failure_beside_an_inhabited_birthplace_leaves_nothing(
    version_2: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a version 1 cgroup cannot be made, init is in its birthplace: `remove` ends it and takes that away."""
    if LAYOUT == "unified":
        pytest.skip("machine: no pure cgroup v2 has a cgroup beside the birthplace")
    before = tree()
    manager = open_new()
    manager.create_birthplace()
    birthplace = manager.clone_into()
    assert birthplace is not None

    def refuse(mount_point: str, path: str) -> None:
        raise PermissionError(errno.EACCES, "refused")

    with started(["sleep", "1000"]) as inhabitant:
        Path(f"/proc/self/fd/{birthplace}/cgroup.procs").write_text(str(inhabitant.pid))
        os.close(birthplace)
        monkeypatch.setattr(legacy, "seed_cpuset", refuse)
        with pytest.raises(CgroupError, match="EACCES"):
            manager.create()
        manager.remove(keep_existing=True)
        assert inhabitant.wait(60) == -signal.SIGKILL
    assert tree() == before


def test_nothing_stays_open(manager: CgroupManager) -> None:
    """Every descriptor is closed by `close` and by `remove`."""
    before = os.listdir("/proc/self/fd")
    other = open_new()
    other.create()
    other.apply(None, False)
    other.pids()
    other.freeze()
    other.kill_all(signal.SIGKILL)
    other.close()
    assert os.listdir("/proc/self/fd") == before
    other.pids()
    other.remove()
    assert os.listdir("/proc/self/fd") == before


def test_subgroup_is_below_the_container(
    manager: CgroupManager, spawn: Callable[..., subprocess.Popen[str]]
) -> None:
    """exec into a nested cgroup, and finding out where init went."""
    for each in manager.paths():
        os.mkdir(f"{each.directory}/inner")
    for each in manager.paths():
        if "cpuset" in each.controllers:
            for file in ("cpuset.cpus", "cpuset.mems"):
                Path(f"{each.directory}/inner/{file}").write_text(
                    Path(f"{each.directory}/{file}").read_text()
                )
    member = spawn(manager)
    assert manager.init_subgroup(member.pid) == ""
    manager.place(member.pid, subgroup="inner")
    assert cgroups_of(member.pid, manager) == {expected_path(manager) + "/inner"}
    assert manager.init_subgroup(member.pid) == "inner"
    with pytest.raises(CgroupError):
        manager.init_subgroup(os.getpid())
    with pytest.raises(CgroupError):
        manager.place(member.pid, subgroup="../..")
    with pytest.raises(CgroupError):
        manager.join_paths("nowhere") if LAYOUT == "legacy" else manager.clone_into("nowhere")


@only_unified
def test_controllers_are_enabled_down_to_the_container() -> None:
    """Those that statistics need, also below parents that were made just now; others with a limit."""
    manager = open_new(f"/{unique('parent')}/middle/leaf")
    manager.create()
    root = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    leaf = set(Path(f"{manager.paths()[0].directory}/cgroup.controllers").read_text().split())
    assert leaf >= root & {"cpu", "cpuset", "io", "memory", "pids"}
    assert "misc" not in leaf
    manager.apply(Resources({"unified": {"misc.max": ""}}), False)
    assert "misc" in Path(f"{manager.paths()[0].directory}/cgroup.controllers").read_text().split()
    manager.remove()


@only_unified
def test_place_beside_children_with_controllers_says_why(manager: CgroupManager) -> None:
    """The no-internal-process rule of version 2: EBUSY, with a hint."""
    directory = manager.paths()[0].directory
    os.mkdir(f"{directory}/inner")
    Path(f"{directory}/cgroup.subtree_control").write_text("+memory")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        with pytest.raises(CgroupError) as info:
            manager.place(process.pid)
        assert info.value.hint
        process.communicate()


@only_unified
def test_unified_settings_are_written(manager: CgroupManager) -> None:
    """Files of any controller that is there; one that is not is named in the error."""
    manager.apply(Resources({"unified": {"memory.high": "1048576", "pids.max": "9"}}), False)
    assert value(manager, "memory.high") == "1048576"
    with pytest.raises(CgroupError, match="hugetlb") as info:
        manager.apply(Resources({"unified": {"hugetlb.7MB.max": "1"}}), False)
    assert info.value.json_pointer == "/linux/resources/unified/hugetlb.7MB.max"
