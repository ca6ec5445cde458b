# SPDX-License-Identifier: Apache-2.0
"""The systemd cgroup manager on a real systemd: the scope, its properties, its limits, and that nothing stays.

Run by `tests/run --vm`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bundle import TAG, Bundle
from support.cgroup import ROOT, disk, flat, until
from support.command import Container, CreateFailed, RuntimeCommand
from support.systemd import show, systemctl, units

from kernel.test_crashes import sweep
from ocirun import Runtime

pytestmark = [pytest.mark.root, pytest.mark.systemd]
MkBundle = Callable[..., Bundle]
MIB = 1 << 20
ocirun_only = pytest.mark.ocirun_only("the names, properties and errors of ocirun")


@pytest.fixture
def scoped(runtime: RuntimeCommand) -> Iterator[RuntimeCommand]:
    """The runtime with the systemd manager.  Leaves no unit, not even a failed one."""
    runtime.argv = (*runtime.argv, "--systemd-cgroup")
    yield runtime
    runtime.cleanup()
    until(lambda: not units(), f"units end: {units()}")


def scope_of(container: Container) -> str:
    """Return the scope that the container's process is in."""
    line = Path(f"/proc/{container.pid}/cgroup").read_text()
    return line.strip().rpartition("/")[2]


def directory(container: Container) -> Path:
    """Return the container's cgroup."""
    return ROOT / Path(f"/proc/{container.pid}/cgroup").read_text().strip().partition("::/")[2]


def contents(path: Path, *names: str) -> dict[str, str]:
    """Return what files of a cgroup hold."""
    return {name: (path / name).read_text().strip() for name in names}


# ---- the scope -----------------------------------------------------------------------------------


@ocirun_only
def test_scope(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A delegated scope of system.slice that carries the ID, with init in it; delete takes it away."""
    container = scoped.create(bundle.seq("ready", "sleep"))
    scope = f"ocirun-{bundle.id}.scope"
    assert Path(f"/proc/{container.pid}/cgroup").read_text() == f"0::/system.slice/{scope}\n"
    shown = show(scope)
    assert shown["Description"].startswith(f"ocirun container {bundle.id} (")
    expected = {
        "ActiveState": "active", "Transient": "yes", "Slice": "system.slice", "Delegate": "yes", "CPUAccounting": "yes",
        "MemoryAccounting": "yes", "TasksAccounting": "yes", "IOAccounting": "yes", "DefaultDependencies": "no",
        "ControlGroup": f"/system.slice/{scope}",
    }  # fmt: skip
    assert {name: shown[name] for name in expected} == expected
    container.start().line()
    assert container.status() == "running"
    path = directory(container)
    container.delete("--force").ok()
    assert units() == set()
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "cgroup"),
    [
        ("system.slice:pre:{}", "system.slice/pre-{}.scope"),
        ("{0}a-b.slice:pre:{0}", "{0}a.slice/{0}a-b.slice/pre-{0}.scope"),
        ("-.slice:pre:{}", "pre-{}.scope"),
        ("::{}", "system.slice/-{}.scope"),
        (":pre:{}", "system.slice/pre-{}.scope"),
    ],
)
def test_given_names(scoped: RuntimeCommand, bundle: Bundle, path: str, cgroup: str) -> None:
    """SLICE:PREFIX:NAME, and what is empty in it: the same as with runc."""
    word = TAG + "n"
    bundle.linux(cgroupsPath=path.format(word))
    container = scoped.create(bundle)
    assert directory(container).relative_to(ROOT) == Path(cgroup.format(word))
    container.delete("--force").ok()
    for left in sorted(ROOT.glob(f"{word}*"), reverse=True):
        systemctl("stop", left.name)  # systemd keeps slices


@pytest.mark.parametrize("path", ["plain", "/plain/path", "a.slice:b", "noslice:p:n", "a--b.slice:p:n", "a.slice:p:n.slice"])
@ocirun_only
def test_other_forms_are_refused(scoped: RuntimeCommand, bundle: Bundle, path: str) -> None:
    """Before anything is made, and by validate and plan as well."""
    bundle.linux(cgroupsPath=path)
    scoped.try_create(bundle).refused("/linux/cgroupsPath")
    for command in ("validate", "plan"):
        result = scoped.call(command, str(bundle.path))
        assert result.rc == 1
        assert "/linux/cgroupsPath" in result.stdout.decode() + result.stderr


def test_plus_in_the_id(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """An ID may have a letter that no unit's name may have."""
    if scoped.name != "ocirun":
        pytest.skip("peer: runc asks for a unit of this name")
    bundle.id = f"{bundle.id}+x"
    container = scoped.create(bundle)
    assert scope_of(container) == f"ocirun-{bundle.id}.scope".replace("+", "\\x2b")
    container.delete("--force").ok()


def test_namespace_and_mount(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """The scope is the root of the container's cgroup namespace, and what its cgroup mount shows."""
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev")
    bundle.seq(["read", "/proc/self/cgroup"], ["read", "/sys/fs/cgroup/cgroup.procs"])
    if scoped.name == "crun":
        pytest.skip("peer: a leaf below the scope")
    result = scoped.run(bundle).ok()
    assert result.reads["/proc/self/cgroup"] == "0::/\n"
    assert result.reads["/sys/fs/cgroup/cgroup.procs"] == "1\n"


@ocirun_only
def test_delegation_to_a_user_of_the_container(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """config-linux.md#cgroup-ownership: the scope and its files of cgroup.delegate are the container's root's."""
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    bundle.userns().mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev")
    container = scoped.create(bundle.seq("ready", "sleep"))
    path = directory(container)
    assert path.stat().st_uid == 100000
    assert (path / "cgroup.procs").stat().st_uid == 100000
    assert (path / "memory.max").stat().st_uid == 0
    container.start().line()
    subprocess.run(["setpriv", "--reuid=100000", "--regid=100000", "--clear-groups", "mkdir", path / "mine"], check=True)
    systemctl("daemon-reload")
    assert path.stat().st_uid == 100000
    assert (path / "mine").is_dir()
    container.delete("--force").ok()
    assert not path.exists()


@ocirun_only
def test_two_steps(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """With a user namespace the first process is put into the scope, and init is born there; no limit stands in its way."""
    bundle.patch({"ociVersion": "1.3.0"}).userns().namespaces("time").linux(resources={"pids": {"limit": 0}})
    container = scoped.create(bundle)
    assert scope_of(container) == f"ocirun-{bundle.id}.scope"
    assert contents(directory(container), "cgroup.procs", "pids.max") == {"cgroup.procs": str(container.pid), "pids.max": "0"}
    container.delete("--force").ok()


def test_without_a_bus(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Where there is no system bus, systemd's own socket does."""
    if scoped.name != "ocirun":
        pytest.skip("peer: needs the bus")
    hidden = scoped.under("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run/dbus && exec "$@"', "sh")
    bundle.write()
    scoped.remember(bundle.id)
    hidden.call("create", "--bundle", str(bundle.path), bundle.id).ok()
    assert units() == {f"ocirun-{bundle.id}.scope"}
    hidden.call("delete", "--force", bundle.id).ok()
    assert units() == set()


@ocirun_only
def test_no_systemd_to_be_reached(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """An error that says where it was looked for, and nothing is left."""
    hide = 'mount -t tmpfs none /run/dbus && mount -t tmpfs none /run/systemd && mkdir /run/systemd/system && exec "$@"'
    hidden = scoped.under("unshare", "-m", "sh", "-c", hide, "sh")
    hidden.try_create(bundle).refused("no connection to systemd", "/run/dbus/system_bus_socket", "/run/systemd/private")
    assert not (scoped.root / bundle.id).exists()


@ocirun_only
def test_another_pid_namespace(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Its numbers mean other processes to systemd, which would move those."""
    there = scoped.under("unshare", "--pid", "--fork", "--mount-proc")
    there.try_create(bundle).refused("in another pid namespace")
    no_bus = "umount -l /run/dbus 2>/dev/null; mount -t tmpfs none /run/dbus && exec \"$@\""
    there = scoped.under("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", no_bus, "sh")
    there.try_create(bundle.again()).refused("in another pid namespace")


# ---- properties and files ------------------------------------------------------------------------

LIMITS = {
    "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "1", "mems": "0"},
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "pids": {"limit": 77},
    "blockIO": {"weight": 300},
    "unified": {"memory.high": "60M", "memory.min": "4096", "memory.oom.group": "1"},
}
PROPERTIES = {
    "CPUWeight": "59", "CPUQuotaPerSecUSec": "500ms", "CPUQuotaPeriodUSec": "50ms", "AllowedCPUs": "1",
    "AllowedMemoryNodes": "0", "MemoryMax": str(64 * MIB), "MemoryLow": str(32 * MIB), "MemorySwapMax": str(32 * MIB),
    "TasksMax": "77", "MemoryHigh": str(60 * MIB), "MemoryMin": "4096", "OOMPolicy": "kill",
}  # fmt: skip
FILES = {
    "cpu.weight": "59", "cpu.max": "25000 50000", "cpuset.cpus": "1", "cpuset.mems": "0", "memory.max": str(64 * MIB),
    "memory.low": str(32 * MIB), "memory.swap.max": str(32 * MIB), "pids.max": "77", "memory.high": str(60 * MIB),
    "memory.min": "4096", "memory.oom.group": "1",
}  # fmt: skip


@ocirun_only
def test_properties_and_files_agree(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """`systemctl show` has what was asked for, the kernel's files have it, and a daemon-reload changes nothing of it."""
    container = scoped.create(bundle.linux(resources=LIMITS))
    shown = show(scope_of(container))
    assert {name: shown[name] for name in PROPERTIES} == PROPERTIES
    path = directory(container)
    weight = next((name for name in ("io.bfq.weight", "io.weight") if (path / name).exists()), None)
    expected = FILES | ({weight: "default 300" if weight == "io.bfq.weight" else "default 2930"} if weight else {})
    assert contents(path, *expected) == expected
    systemctl("daemon-reload")
    assert contents(path, *expected) == expected
    container.delete("--force").ok()


@ocirun_only
@pytest.mark.parametrize("quota", [1000, 12345, 99999, 150001])
def test_quota_after_a_reload(scoped: RuntimeCommand, bundle: Bundle, quota: int) -> None:
    """systemd keeps whole percentages: the quota is exact at first, and never less than asked for, at most 1 % more."""
    container = scoped.create(bundle.linux(resources={"cpu": {"quota": quota, "period": 100000}}))
    path = directory(container)
    assert contents(path, "cpu.max") == {"cpu.max": f"{quota} 100000"}
    systemctl("daemon-reload")
    now, period = (path / "cpu.max").read_text().split()
    assert period == "100000"
    assert quota <= int(now) < quota + 1000
    container.delete("--force").ok()


@ocirun_only
def test_what_systemd_does_not_know(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Files alone: burst, I/O of a device, hugetlb where it is; they outlive a daemon-reload."""
    with disk() as (_, major, minor):
        bundle.linux(
            resources={
                "cpu": {"quota": 50000, "burst": 10000},
                "blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 4096}]},
                "unified": {"cgroup.max.depth": "7"},
            }
        )
        container = scoped.create(bundle)
        expected = {
            "cpu.max.burst": "10000",
            "io.max": f"{major}:{minor} rbps=4096 wbps=max riops=max wiops=max",
            "cgroup.max.depth": "7",
        }
        assert contents(directory(container), *expected) == expected
        systemctl("daemon-reload")
        assert contents(directory(container), *expected) == expected
        container.delete("--force").ok()


@ocirun_only
def test_idle(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """cpu.idle is a weight of systemd's."""
    container = scoped.create(bundle.linux(resources={"cpu": {"idle": 1}}))
    assert contents(directory(container), "cpu.idle") == {"cpu.idle": "1"}
    systemctl("daemon-reload")
    assert contents(directory(container), "cpu.idle") == {"cpu.idle": "1"}
    container.delete("--force").ok()


@ocirun_only
def test_refused_values_name_their_place(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Whether systemd or the kernel refuses it."""
    for file, value in (("cpu.weight", "99999"), ("memory.high", "lots"), ("pids.max", "-7")):
        bundle.again().linux(resources={"unified": {file: value}})
        scoped.try_create(bundle).refused(f"/linux/resources/unified/{file}")
        bundle.spec["linux"].pop("resources")
    assert units() == set()


@ocirun_only
@pytest.mark.parametrize(
    ("rules", "policy"),
    [
        ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}], "strict"),
        ([{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "r"}], "auto"),
    ],
)
def test_devices(scoped: RuntimeCommand, bundle: Bundle, rules: list[dict[str, Any]], policy: str) -> None:
    """The rules hold, also after a daemon-reload; systemd knows them as far as it can."""
    nodes = {"kmsg": 11, "zero": 5, "full": 7, "port": 4}
    for name, minor in nodes.items():
        bundle.device(f"/tmp/{name}", "c", 1, minor)
    bundle.linux(resources={"devices": rules})
    opens = [["open", f"/tmp/{name}", "rdonly"] for name in nodes]
    bundle.seq(*opens, "ready", "stdin", *opens)
    reader, writer = os.pipe()
    container = scoped.create(bundle, stdin=reader)
    os.close(reader)
    assert show(scope_of(container), "DevicePolicy") == {"DevicePolicy": policy}
    container.start()
    before = [container.line() for _ in nodes]
    container.line()
    systemctl("daemon-reload")
    os.close(writer)
    container.line()
    assert [container.line() for _ in nodes] == before
    got = {line["path"].rpartition("/")[2]: line.get("errno", "ok") for line in before}
    if policy == "strict":
        assert got == {"kmsg": "ok", "zero": "ok", "full": "ok", "port": "EPERM"}
    else:
        assert got == {"kmsg": "EPERM", "zero": "ok", "full": "ok", "port": got["port"]}
        assert got["port"] != "EPERM"
    container.wait()
    container.delete().ok()


# ---- limits hold, by the kernel's counters -------------------------------------------------------


@pytest.mark.peer_fails(crun="the counters are those of a leaf")
def test_memory(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Whoever takes too much is killed, which memory.events counts; the others of the container go on."""
    bundle.linux(resources={"memory": {"limit": 32 * MIB, "swap": 32 * MIB}})
    bundle.seq("ready", ["run", "/probe", "touch-memory", "128"], "ready", "sleep")
    container = scoped.create(bundle)
    path = directory(container)
    container.start().line()
    while container.line()["verb"] != "ready":
        pass
    assert int(flat(path / "memory.events")["oom_kill"]) == 1
    assert container.status() == "running"
    container.delete("--force").ok()


@ocirun_only
def test_out_of_memory_and_gone(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """init itself is killed: the scope fails or ends, and delete forgets it."""
    bundle.linux(resources={"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "unified": {"memory.oom.group": "1"}})
    container = scoped.create(bundle.args("touch-memory", "128")).start()
    assert container.wait() == 137
    container.delete().ok()
    assert units() == set()


def test_pids(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """fork(2) is refused, which pids.events counts."""
    bundle.linux(resources={"pids": {"limit": 10}}).seq(["fork", 50], "ready", "sleep")
    container = scoped.create(bundle)
    path = directory(container)
    container.start()
    fork = container.line()
    assert fork["errno"] == "EAGAIN"
    if scoped.name == "ocirun":
        assert fork["made"] == 9
    assert int(flat(path / "pids.events")["max"]) > 0
    container.delete("--force").ok()


def test_cpu(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A program that wants more than its quota waits, which cpu.stat counts."""
    # So small a share that a busy machine gives more.
    bundle.linux(resources={"cpu": {"quota": 2000, "period": 100000}}).seq("ready", ["burn", 40], "ready", "sleep")
    container = scoped.create(bundle)
    path = directory(container)
    container.start().line()
    until(lambda: int(flat(path / "cpu.stat")["nr_throttled"]) > 0, "throttled")
    container.delete("--force").ok()


def test_pause_and_the_end(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A frozen scope is deleted all the same, and systemd is not left with a frozen one."""
    container = scoped.create(bundle.seq("ready", "sleep")).start()
    container.line()
    path = directory(container)
    scoped.call("pause", bundle.id).ok()
    assert container.status() == "paused"
    assert flat(path / "cgroup.events")["frozen"] == "1"
    systemctl("daemon-reload")
    assert flat(path / "cgroup.events")["frozen"] == "1"
    scoped.call("resume", bundle.id).ok()
    assert container.status() == "running"
    scoped.call("pause", bundle.id).ok()
    container.delete("--force").ok()
    assert units() == set()


# ---- annotations ---------------------------------------------------------------------------------


def test_annotations(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Properties of the scope, in GVariant text; seconds become microseconds."""
    bundle.patch(
        {
            "annotations": {
                "org.systemd.property.TimeoutStopSec": "uint64 7",
                "org.systemd.property.CollectMode": "'inactive-or-failed'",
                "org.systemd.property.After": "['nosuch-a.service', 'nosuch-b.service']",
            }
        }
    )
    container = scoped.create(bundle)
    shown = show(scope_of(container), "TimeoutStopUSec", "CollectMode", "After")
    assert (shown["TimeoutStopUSec"], shown["CollectMode"]) == ("7s", "inactive-or-failed")
    assert {"nosuch-a.service", "nosuch-b.service"} <= set(shown["After"].split())
    container.delete("--force").ok()


@ocirun_only
@pytest.mark.parametrize(
    ("name", "text"),
    [("TimeoutStopSec", "'x'"), ("Abc", "junk"), ("NoSuchProperty", "true"), ("CollectMode", "true"), ("Slice", "'a.slice'")],
)
def test_bad_annotations(scoped: RuntimeCommand, bundle: Bundle, name: str, text: str) -> None:
    """Whether we refuse it or systemd, the annotation is named and nothing stays."""
    bundle.patch({"annotations": {f"org.systemd.property.{name}": text}})
    scoped.try_create(bundle).refused(f"/annotations/org.systemd.property.{name}")
    assert not (scoped.root / bundle.id).exists()
    assert units() == set()


# ---- whose unit, and crashes ---------------------------------------------------------------------


@contextmanager
def transient(unit: str, *properties: str) -> Iterator[None]:
    """A scope that is not ours, with a process that sleeps."""
    command = ["systemd-run", "--scope", f"--unit={unit}", *(f"--property={each}" for each in properties), "sleep", "1000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: unit in units(), f"{unit} starts")
            yield
        finally:
            process.kill()


@ocirun_only
def test_unit_of_somebody_else(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A unit of the same name that is active is left alone, whatever is tried, and the container is not made."""
    unit = f"ocirun-{bundle.id}.scope"
    with transient(unit):
        scoped.try_create(bundle).refused("/linux/cgroupsPath")
        scoped.call("delete", "--force", bundle.id).ok()
        assert show(unit, "ActiveState") == {"ActiveState": "active"}


@ocirun_only
def test_failed_unit_in_the_way(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A unit that has failed is only remembered: its name is free to be used."""
    unit = f"ocirun-{bundle.id}.scope"
    with transient(unit, "RuntimeMaxSec=1"):
        until(lambda: show(unit, "ActiveState") == {"ActiveState": "failed"}, "the unit fails")
    container = scoped.create(bundle)
    assert show(unit, "ActiveState", "Result") == {"ActiveState": "active", "Result": "success"}
    container.delete("--force").ok()


@ocirun_only
def test_unit_that_took_the_place(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A record whose unit is another's by now: delete takes the container's things, not the unit."""
    container = scoped.create(bundle)
    unit = scope_of(container)
    container.kill(signal.SIGKILL)
    container.wait()
    until(lambda: unit not in units(), "the scope ends")
    with transient(unit):
        container.delete("--force").ok()
        assert show(unit, "ActiveState") == {"ActiveState": "active"}
        assert not (scoped.root / bundle.id).exists()


@ocirun_only
def test_processes_beside_init(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """Without a pid namespace others outlive init: the scope stays with them, and delete ends them."""
    bundle.namespaces(without=("pid",)).seq(["fork", 3], "ready", "sleep")
    container = scoped.create(bundle).start()
    path = directory(container)
    container.line()
    container.line()
    os.kill(container.pid, signal.SIGKILL)
    container.wait()
    assert container.status() == "stopped"
    container.delete("--force").ok()
    assert not path.exists()
    assert units() == set()


@ocirun_only
@pytest.mark.parametrize("victim", ["parent", "init", "both"])
def test_kill_everywhere(scoped: RuntimeCommand, bundle: Bundle, workdir: Path, victim: str) -> None:
    """After SIGKILL at any call of create, delete --force leaves no unit and no cgroup, and the ID is free."""
    sweep(scoped, bundle.linux(resources={"pids": {"limit": 50}}), workdir, "create", victim)
    assert units() == set()


@ocirun_only
@pytest.mark.parametrize("verb", ["delete", "delete --force"])
def test_kill_everywhere_in_delete(scoped: RuntimeCommand, bundle: Bundle, workdir: Path, verb: str) -> None:
    """The same for delete."""
    sweep(scoped, bundle, workdir, verb, "parent")
    assert units() == set()


@ocirun_only
def test_failure_after_the_scope(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """A create that fails late takes its scope along."""
    bundle.patch({"hooks": {"createRuntime": [{"path": "/bin/false"}]}})
    with pytest.raises(CreateFailed):
        scoped.create(bundle)
    assert units() == set()


@ocirun_only
def test_library(scoped: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """Runtime(cgroup_manager="systemd"), and any other Runtime for what exists."""
    bundle.write()
    null = os.open("/dev/null", os.O_RDWR)
    with Runtime(str(workdir / "state"), cgroup_manager="systemd") as runtime:
        container = runtime.create(bundle.id, str(bundle.path), stdin=null, stdout=null, stderr=null)
        assert units() == {f"ocirun-{bundle.id}.scope"}
        container.start()
        assert container.wait(60) == 0
        container.close()
    with Runtime(str(workdir / "state")) as runtime:
        runtime.delete(bundle.id)
    os.close(null)
    assert units() == set()


@ocirun_only
def test_a_process_that_joins_later(scoped: RuntimeCommand, bundle: Bundle) -> None:
    """By the record alone another process is put into the scope, and a cgroup below it."""
    from ocirun.cgroups import open_manager
    from ocirun.store import Store

    container = scoped.create(bundle.seq("ready", "sleep")).start()
    container.line()
    path = directory(container)
    (path / "below").mkdir()
    entry = Store(str(scoped.root)).open(bundle.id)
    try:
        manager = open_manager("", "", bundle.id, None, entry.read_record()["cgroup"])
    finally:
        entry.close()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        manager.place(other.pid, subgroup="below")
        assert contents(path / "below", "cgroup.procs") == {"cgroup.procs": str(other.pid)}
        assert manager.pids() == sorted([container.pid, other.pid])
        fd = manager.clone_into("below")
        assert fd is not None
        assert os.path.samestat(os.fstat(fd), (path / "below").stat())
        os.close(fd)
        other.communicate(b"\n")
    manager.close()
    container.delete("--force").ok()

