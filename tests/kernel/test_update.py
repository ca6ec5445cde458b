# SPDX-License-Identifier: Apache-2.0
"""update: the limits of a container that is there, seen in their files and by what the kernel does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle, unique
from support.cgroup import PURE, directory, flat, words
from support.command import Container, Result, RuntimeCommand

from ocirun.cli.parser import UsageError
from ocirun.cli.update import parse_bytes

pytestmark = [pytest.mark.root, pytest.mark.vm]
MkBundle = Callable[..., Bundle]
MIB = 1 << 20
BOTH_CPUS = (os.cpu_count() or 1) > 1
#: What engines send: docker 20.10 and podman 4.3 as recorded, the kubelet's as containerd's CRI service builds it.
ENGINES: dict[str, dict[str, Any]] = {
    "docker": {
        "memory": {"limit": 64 * MIB, "reservation": 0, "swap": 128 * MIB, "kernel": 0},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
        "pids": {"limit": 50},
        "blockIO": {"weight": 0},
    },
    "docker, without memory": {
        "memory": {"limit": 0, "reservation": 0, "kernel": 0},
        "cpu": {"shares": 0, "quota": 30000, "period": 100000},
        "pids": {"limit": -1},
        "blockIO": {"weight": 0},
    },
    "docker, one thing": {
        "memory": {"limit": 0, "reservation": 0, "kernel": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "0"},
        "blockIO": {"weight": 0},
    },
    "podman": {
        "memory": {"limit": 48 * MIB, "swap": 96 * MIB},
        "pids": {"limit": 2048},
        "cpu": {"quota": 20000, "period": 100000, "cpus": "0", "mems": "0"},
    },
    "kubelet": {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
        "cpu": {"shares": 256, "quota": -1, "period": 100000},
        "hugepageLimits": [],
    },
}


@pytest.fixture
def waiting(bundle: Bundle) -> Bundle:
    """A bundle with limits of common kinds, whose program waits for a signal."""
    resources = {
        "memory": {"limit": 32 * MIB, "swap": 32 * MIB},
        "cpu": {"quota": 20000, "period": 50000, "shares": 512},
        "pids": {"limit": 20},
    }
    return bundle.linux(resources=resources).seq("wait-signal", ["fork", "50"])


def started(runtime: RuntimeCommand, bundle: Bundle) -> Container:
    """Return a container whose program waits for a signal."""
    container = runtime.create(bundle).start()
    container.line()
    return container


def go_on(container: Container) -> None:
    """Let the program do what follows."""
    container.kill(signal.SIGUSR1).ok()
    container.line()


def update(runtime: RuntimeCommand, container: Container, resources: Any, *words: str) -> Result:
    """`update` with a document on standard input."""
    return runtime.call("update", *words, "--resources", "-", container.id, stdin=json.dumps(resources).encode())


# ---- limits hold ---------------------------------------------------------------------------------


def test_pids_limit_holds_after_update(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """The next fork beyond the new limit is refused."""
    container = started(runtime, waiting)
    events = directory(container.pid, "pids") / "pids.events"
    runtime.call("update", "--pids-limit", "5", container.id).ok()
    go_on(container)
    line = container.line()
    assert (line["made"], line["errno"]) == (4, "EAGAIN")
    assert int(flat(events)["max"]) > 0


def test_memory_limit_holds_after_update(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """A program within the old limit and beyond the new one is killed; and the other way round it lives."""
    small, large = {"limit": 16 * MIB, "swap": 16 * MIB}, {"limit": 96 * MIB, "swap": 96 * MIB}
    for before, after, code in ((large, small, 137), (small, large, 0)):
        bundle = mkbundle().linux(resources={"memory": before}).seq("wait-signal", ["touch-memory", "48"])
        container = started(runtime, bundle)
        path = directory(container.pid, "memory")
        update(runtime, container, {"memory": after}).ok()
        kills = path / ("memory.events" if PURE else "memory.oom_control")
        container.kill(signal.SIGUSR1).ok()
        assert container.wait() == code
        assert (int(flat(kills)["oom_kill"]) > 0) == (code == 137)


def test_cpu_quota_holds_after_update(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A program that was not throttled is, with the new quota."""
    container = started(runtime, bundle.seq("wait-signal", ["burn", 20]))
    stat = directory(container.pid, "cpu") / "cpu.stat"
    assert flat(stat).get("nr_throttled", "0") == "0"
    # So small a share that a busy machine gives more.
    runtime.call("update", "--cpu-quota", "2000", "--cpu-period", "100000", container.id).ok()
    go_on(container)
    container.wait()
    assert int(flat(stat)["nr_throttled"]) > 0


@pytest.mark.skipif(not BOTH_CPUS, reason="machine: kernel older than it has CPUs")
def test_cpus_change_under_the_program(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The program that runs is moved to the CPUs that it may use now."""
    container = started(runtime, bundle.seq("wait-signal", ["read", "/proc/self/status"]))
    runtime.call("update", "--cpuset-cpus", "1", container.id).ok()
    go_on(container)
    status = container.line()["data"]
    assert "Cpus_allowed_list:\t1\n" in status


# ---- status --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    ["created", "running", "paused", pytest.param("stopped", marks=pytest.mark.peer_fails(crun="succeeds"))],
)
def test_update_in_status(runtime: RuntimeCommand, bundle: Bundle, status: str) -> None:
    """Whatever has processes can be updated; a paused container stays paused."""
    container = runtime.create(bundle.seq("ready", "sleep"))
    if status != "created":
        container.start().line()
    if status == "paused":
        runtime.call("pause", container.id).ok()
    if status == "stopped":
        container.kill().ok()
        container.wait()
    result = runtime.call("update", "--pids-limit", "33", container.id)
    if status == "stopped":
        result.refused("not running")
    else:
        result.ok()
        assert words(container.pid, "pids", "pids.max", "pids.max") == ["33"]
    assert container.status() == status


def test_update_of_no_container(runtime: RuntimeCommand) -> None:
    """In the words that engines look for."""
    runtime.call("update", "--pids-limit", "5", "nosuch").refused("does not exist")


# ---- what is named changes, and nothing else -----------------------------------------------------


@pytest.mark.peer_fails(crun="1.8 has no --cpu-idle, and a quota of -1 alone is not written")
def test_half_of_a_pair(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """A quota keeps the period, a period the quota; -1 lifts the quota."""
    container = runtime.create(waiting)

    def now() -> list[str]:
        if PURE:
            return words(container.pid, "cpu", "", "cpu.max")
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        return [words(container.pid, "cpu", file, "")[0] for file in files]

    for option, expected in (
        (("--cpu-quota", "10000"), ["10000", "50000"]),
        (("--cpu-period", "100000"), ["10000", "100000"]),
        (("--cpu-quota", "-1"), ["max" if PURE else "-1", "100000"]),
        (("--cpu-period", "20000"), ["max" if PURE else "-1", "20000"]),
    ):
        runtime.call("update", *option, container.id).ok()
        assert now() == expected


def swap_and_memory(container: Container) -> tuple[int, int]:
    """Return the limits of memory and of swap alone."""
    if PURE:
        [memory], [swap] = (words(container.pid, "memory", "", f"memory.{name}") for name in ("max", "swap.max"))
        return int(memory), int(swap)
    names = ("limit_in_bytes", "memsw.limit_in_bytes")
    [memory], [both] = (words(container.pid, "memory", f"memory.{name}", "") for name in names)
    return int(memory), int(both) - int(memory)


@pytest.mark.ocirun_only("a sum without the memory limit is refused in version 2")
def test_memory_and_swap_one_by_one(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """The sum alone counts from the memory limit in force; memory alone leaves what version it is limits beside it."""
    container = runtime.create(waiting)
    runtime.call("update", "--memory-swap", "48m", container.id).ok()
    assert swap_and_memory(container) == (32 * MIB, 16 * MIB)
    runtime.call("update", "--memory", "16m", container.id).ok()
    assert swap_and_memory(container) == (16 * MIB, (16 if PURE else 32) * MIB)
    runtime.call("update", "--memory", "64m", "--memory-swap", "96m", container.id).ok()
    assert swap_and_memory(container) == (64 * MIB, 32 * MIB)
    runtime.call("update", "--memory", "8m", "--memory-swap", "8m", container.id).ok()
    assert swap_and_memory(container) == (8 * MIB, 0)
    refused = runtime.call("update", "--memory-swap", "4m", container.id).refused("--memory-swap")
    if PURE:
        refused.refused("below that of memory")
    assert swap_and_memory(container) == (8 * MIB, 0)


@pytest.mark.peer_fails(crun="takes zero bytes for a limit")
def test_zeros_are_not_set(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """docker sends them for whatever its user did not name: they change nothing, least of all to a limit of no memory."""
    waiting.spec["linux"]["resources"]["memory"]["reservation"] = 16 * MIB
    container = started(runtime, waiting)
    before = limits_of(container)
    nothing = {
        "memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0},
    }
    update(runtime, container, nothing).ok()
    runtime.call("update", "--memory", "0", "--cpu-share", "0", container.id).ok()
    assert limits_of(container) == before
    assert container.status() == "running"


@pytest.mark.ocirun_only("a zero means not set, and 1 where it is written")
def test_no_process_is_a_limit(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """W7, for update: 0 arrives as 0."""
    container = started(runtime, waiting)
    update(runtime, container, {"pids": {"limit": 0}}).ok()
    assert words(container.pid, "pids", "pids.max", "pids.max") == ["0"]


# ---- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "engine",
    [
        "docker",
        "podman",
        pytest.param("docker, without memory", marks=pytest.mark.peer_fails(crun="takes zero bytes for a limit")),
        pytest.param("docker, one thing", marks=pytest.mark.peer_fails(crun="takes zero bytes for a limit")),
        pytest.param("kubelet", marks=pytest.mark.peer_fails(crun="1.8 cannot lift a quota")),
    ],
)
def test_documents_of_engines(runtime: RuntimeCommand, waiting: Bundle, engine: str) -> None:
    """What engines send, as they send it: on standard input, the ID last."""
    container = started(runtime, waiting)
    resources = ENGINES[engine]
    log = runtime.workdir / "log.json"
    options = ("--log", str(log), "--log-format", "json")
    document = json.dumps(resources).encode() + b"\n"
    result = runtime.call("update", "--resources", "-", container.id, options=options, stdin=document).ok()
    assert (result.stdout, result.stderr) == (b"", "")
    limits = resources["memory"]
    if limits["limit"]:
        assert swap_and_memory(container) == (limits["limit"], limits["swap"] - limits["limit"])
    else:
        assert swap_and_memory(container) == (32 * MIB, 0)
    if "pids" in resources:
        expected = str(resources["pids"]["limit"]).replace("-1", "max")
        assert words(container.pid, "pids", "pids.max", "pids.max") == [expected]
    quota = resources["cpu"].get("quota")
    if quota:
        shown = words(container.pid, "cpu", "cpu.cfs_quota_us", "cpu.max")[0]
        assert shown == ("max" if PURE and quota < 0 else str(quota))


#: Files that say how much is used, or are no limits.
NO_LIMITS = ("usage", "stat", "current", "events", "procs", "tasks", "peak", "pressure", "failcnt", "numa", "cgroup.", "acct")


def limits_of(container: Container) -> dict[str, str]:
    """Return every limit of the container's cgroups."""
    found = {}
    for controller in ("cpu", "cpuset", "memory", "pids", "blkio"):
        for each in directory(container.pid, controller).iterdir():
            if each.is_file() and not any(word in each.name for word in NO_LIMITS) and each.stat().st_mode & 0o200:
                try:
                    found[each.name] = each.read_text()
                except OSError:
                    continue  # for writing alone
    return found


@pytest.mark.peers
@pytest.mark.parametrize("engine", ENGINES)
def test_limits_are_those_of_runc(runtime: RuntimeCommand, mkbundle: MkBundle, engine: str) -> None:
    """The same document to the same container leaves the same in every file, with the one runtime and the other."""
    if runtime.name != "ocirun":
        pytest.skip("peer: compared with itself")
    runc = RuntimeCommand("runc", ("runc",), runtime.workdir / "runc")
    runc.workdir.mkdir()
    found = []
    try:
        for each in (runtime, runc):
            bundle = mkbundle().linux(
                cgroupsPath=f"/{unique(each.name)}",  # tells whose it is, should one be left
                resources={"memory": {"limit": 32 * MIB, "swap": 32 * MIB}, "cpu": {"quota": 20000, "period": 50000}},
            )
            container = each.create(bundle.seq("sleep"))
            before = limits_of(container)
            update(each, container, ENGINES[engine]).ok()
            found.append(limits_of(container))
            assert found[-1] != before
    finally:
        runc.cleanup()
    for name in ("cpu.weight", "cpu.weight.nice"):  # runc 1.1 converts shares by an older formula
        assert (found[0].pop(name, "") != "") == (found[1].pop(name, "") != "") == PURE
    assert found[0] == found[1]


SIZES = (
    "64m", "64M", "64mb", "64MiB", "0.5g", "65536k", "67108864b", "64 m", "0.0625gb", "64000kB", "64  m", "64mm", "64bm",
    "1e8", "0x4000000", ".5g", "64.g", "64.5.1m", "+64m", "64m ", " 64m", "-64m", "-2", "inf", "64_000_000",
)  # fmt: skip


@pytest.mark.peers
def test_sizes_are_those_of_runc(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What runc takes for a size is taken, and means the same; what it does not take is refused."""
    if runtime.name != "ocirun":
        pytest.skip("peer: compared with itself")
    runc = RuntimeCommand("runc", ("runc",), runtime.workdir / "runc")
    runc.workdir.mkdir()
    found: dict[str, int | None] = {}
    try:
        container = runc.create(bundle.linux(cgroupsPath=f"/{unique('update')}").seq("sleep"))
        for text in SIZES:
            done = runc.call("update", f"--memory={text}", container.id).rc == 0
            shown = words(container.pid, "memory", "memory.limit_in_bytes", "memory.max")
            found[text] = int(shown[0]) if done else None
    finally:
        runc.cleanup()
    ours: dict[str, int | None] = {}
    for text in SIZES:
        try:
            ours[text] = parse_bytes("memory", text)
        except UsageError:
            ours[text] = None
    assert ours == found


def test_document_in_a_file(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """As podman passes it."""
    container = runtime.create(waiting)
    path = runtime.workdir / "resources"
    path.write_text('{"pids": {"limit": 44}}')
    runtime.call("update", f"--resources={path}", container.id).ok()
    assert words(container.pid, "pids", "pids.max", "pids.max") == ["44"]
    runtime.call("update", "-r", f"{path}.missing", container.id).refused("no such file")


WRONG_DOCUMENTS = [
    ('{"pids": {"limit": "many"}}', ["/pids/limit: ", "whole number"]),
    ('{"pids": {"limit": 5, "limit": 6}}', ["/pids/limit: ", "more than once"]),
    ('{"pids": {"limit": 5}', ["json"]),
    ("", ["json"]),
    ("[]", ["object"]),
    ('{"memory": {"limit": 10000000, "swap": 5000000}, "unified": {"a/b": "1"}}', ["/unified/a~1b: "]),
    ('{"pids": {"limit": 5}, "memory": {"limit": 10000000, "swap": 5000000}}', ["/memory/swap: "]),
    ('{"Pids": {"limit": 5}}', ["/Pids", "pids"]),
    ('{"pids": {"limit": 5}, "network": {"classID": 5}}', ["/network/classID: "]),
]


@pytest.mark.ocirun_only("what is wrong is passed over")
def test_wrong_documents(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """The four gates of create, with places in this document; nothing of it is applied."""
    container = runtime.create(waiting)
    for document, named in WRONG_DOCUMENTS:
        result = runtime.call("update", "-r", "-", container.id, stdin=document.encode())
        result.refused(*named)
        assert "/linux" not in result.stderr, document
        assert words(container.pid, "pids", "pids.max", "pids.max") == ["20"], document


@pytest.mark.ocirun_only("the options are passed over")
def test_options_beside_a_document(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """Which of both counts is nobody's guess."""
    container = runtime.create(waiting)
    result = runtime.call("update", "-r", "-", "--memory", "64m", container.id, stdin=b"{}")
    result.refused("--memory", "--resources")


def test_kernel_memory_is_ignored(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """Old scripts give it; nobody has such a limit any more."""
    if runtime.name == "crun":
        pytest.skip("peer: writes it where the file is")
    container = runtime.create(waiting)
    result = runtime.call("update", "--kernel-memory", "64m", "--pids-limit", "9", container.id).ok()
    assert "kernel-memory" in result.stderr.lower().replace(" ", "-")
    assert words(container.pid, "pids", "pids.max", "pids.max") == ["9"]


# ---- all or nothing ------------------------------------------------------------------------------


@pytest.mark.ocirun_only("what came first stays")
def test_refused_by_the_kernel(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """One limit that the kernel will not have: everything is as before, and the error says so."""
    container = started(runtime, waiting)
    places = {
        "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us") if not PURE else ("cpu.weight", "cpu.max"),
        "memory": ("memory.max", "memory.swap.max") if PURE else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        "pids": ("pids.max",),
    }

    def now() -> list[str]:
        return [(directory(container.pid, controller) / file).read_text() for controller, files in places.items()
                for file in files]  # fmt: skip

    before = now()
    good = {
        "cpu": {"shares": 2048, "quota": 10000, "period": 100000},
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
        "pids": {"limit": 5},
    }
    nowhere = {"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 1}]}
    result = update(runtime, container, {**good, "blockIO": nowhere})
    result.refused("/blockIO/throttleReadBpsDevice/0: ", "ENODEV", "the limits are as before")
    assert now() == before
    result = runtime.call("update", "--pids-limit", "5", "--memory", "8m", "--cpuset-cpus", "777", container.id)
    result.refused("--cpuset-cpus: write cpuset.cpus = '777': ", "the limits are as before")
    assert now() == before
    update(runtime, container, good).ok()
    assert now() != before


@pytest.mark.ocirun_only("another error")
def test_check_before_update(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A limit below the use is refused where that is asked for, before anything else is written."""
    bundle.linux(resources={"memory": {"limit": 64 * MIB}, "pids": {"limit": 20}})
    container = runtime.create(bundle.seq(["touch-memory", "32"], "ready", "sleep")).start()
    while container.line()["verb"] != "ready":
        pass
    memory = {"limit": 16 * MIB, "checkBeforeUpdate": True}
    result = update(runtime, container, {"pids": {"limit": 10}, "memory": memory})
    result.refused("/memory/limit: ", "more than the limit", "checkBeforeUpdate")
    assert container.status() == "running"
    assert words(container.pid, "pids", "pids.max", "pids.max") == ["20"]
    update(runtime, container, {"memory": {**memory, "limit": 48 * MIB}}).ok()


# ---- devices -------------------------------------------------------------------------------------

DEVICE = ("c", 120, 0)  # for local use: an open that is let pass ends with ENXIO


def opens(container: Container) -> list[str]:
    """Let the program open its devices once more."""
    go_on(container)
    return [container.line().get("errno", "ok") for _ in range(2)]


@pytest.mark.ocirun_only("update does not change them, or 1.8 reads no standard input")
@pytest.mark.parametrize("nested", [False, True])
def test_devices_are_replaced(runtime: RuntimeCommand, bundle: Bundle, nested: bool) -> None:
    """Rules that are given replace those before, also where the container has cgroups of its own; others leave them."""
    kind, major, minor = DEVICE
    rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": "rw"}
    bundle.device("/own", *DEVICE).file("/x")
    look = ["wait-signal", ["open", "/own", "rdonly", "nonblock"], ["open", "/dev/null", "wronly"]]
    container = started(runtime, bundle.linux(resources={"devices": [{"allow": False}]}).seq(*look * 5))
    place = directory(container.pid, "devices")
    if nested:
        (place / "nested").mkdir()
    try:
        assert opens(container) == ["EPERM", "ok"]
        container.line()
        update(runtime, container, {"devices": [{"allow": False}, rule]}).ok()
        assert opens(container) == ["ENXIO", "ok"]
        container.line()
        update(runtime, container, {"pids": {"limit": 50}}).ok()
        assert opens(container) == ["ENXIO", "ok"]
        container.line()
        update(runtime, container, {"devices": [{"allow": False}, {**rule, "access": "w"}]}).ok()
        assert opens(container) == ["EPERM", "ok"]
        container.line()
        if not nested or PURE:
            update(runtime, container, {"devices": [{"allow": True, "access": "rwm"}]}).ok()
            assert opens(container) == ["ENXIO", "ok"]
    finally:
        if nested:
            (place / "nested").rmdir()


@pytest.mark.skipif(PURE, reason="machine: no cgroup v1")
@pytest.mark.ocirun_only("update does not change them")
def test_device_rules_that_version_1_cannot_have(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """Refused before anything is written."""
    container = runtime.create(waiting)
    rules = [
        {"allow": True, "type": "c", "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"},
    ]
    result = update(runtime, container, {"pids": {"limit": 5}, "devices": rules})
    result.refused("/devices/1: ")
    assert words(container.pid, "pids", "pids.max", "pids.max") == ["20"]
    listed = (directory(container.pid, "devices") / "devices.list").read_text()
    assert "c 1:3 rwm" in listed


# ---- other managers ------------------------------------------------------------------------------


@pytest.mark.ocirun_only("crun's option")
def test_update_without_cgroups(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What has no cgroup has no limits."""
    container = runtime.create(bundle, options=("--cgroup-manager", "disabled"))
    runtime.call("update", "--pids-limit", "5", container.id).refused("--pids-limit: ", "no cgroup")


SYSTEMD = ("--cgroup-manager", "systemd")
PROPERTIES = ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "AllowedCPUs")


def scope(container: Container, *names: str) -> str:
    """Return what systemd says of the container's scope."""
    options = [word for name in names for word in ("-p", name)]
    return subprocess.check_output(["systemctl", "show", *options, f"ocirun-{container.id}.scope"], text=True)


@pytest.mark.systemd
@pytest.mark.unified
@pytest.mark.ocirun_only("the manager is chosen by another option")
def test_systemd_does_not_undo_an_update(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """Its own idea of the limits, which it writes when it reads its units again or another property is set, is ours."""
    container = runtime.create(waiting, options=SYSTEMD)
    update(runtime, container, {"cpu": {"idle": 1}}).ok()
    resources = {
        "memory": {"limit": 16 * MIB, "swap": 24 * MIB},
        "pids": {"limit": 7},
        "cpu": {"shares": 2048, "quota": 10000, "idle": 0, "cpus": "0"},
    }
    update(runtime, container, resources).ok()
    place = directory(container.pid, "pids")
    files = ("memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cpu.idle", "cpu.max", "cpuset.cpus")

    def now() -> list[str]:
        return [(place / file).read_text().strip() for file in files]

    expected = [str(16 * MIB), str(8 * MIB), "7", "174", "0", "10000 50000", "0"]
    assert now() == expected
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert now() == expected
    name = f"ocirun-{container.id}.scope"
    for other in ("CPUWeight=174", "MemoryHigh=15M", "TasksMax=7"):
        subprocess.run(["systemctl", "set-property", "--runtime", name, other], check=True)
    assert now() == expected


@pytest.mark.systemd
@pytest.mark.unified
@pytest.mark.ocirun_only("what came first stays")
def test_refused_by_the_kernel_under_systemd(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """Files and properties are as before."""
    container = runtime.create(waiting, options=SYSTEMD)
    place = directory(container.pid, "pids")
    names = [each.name for each in place.iterdir() if each.name.endswith((".max", ".weight", ".low", ".cpus", ".idle"))]
    before = {name: (place / name).read_text() for name in names}
    told = scope(container, *PROPERTIES)
    resources = {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": MIB},
        "pids": {"limit": 7},
        "cpu": {"shares": 2048, "quota": 10000, "period": 20000, "idle": 1, "cpus": "0"},
        "blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 1}]},
    }
    result = update(runtime, container, resources)
    result.refused("/blockIO/throttleReadBpsDevice/0: ", "the limits are as before")
    assert {name: (place / name).read_text() for name in names} == before
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert {name: (place / name).read_text() for name in names} == before
    assert scope(container, *PROPERTIES) == told


@pytest.mark.systemd
@pytest.mark.unified
@pytest.mark.ocirun_only("the manager is chosen by another option")
def test_devices_are_replaced_under_systemd(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Both filters, systemd's and ours, let pass what the new rules allow."""
    kind, major, minor = DEVICE
    rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": "rw"}
    bundle.device("/own", *DEVICE)
    look = ["wait-signal", ["open", "/own", "rdonly", "nonblock"], ["open", "/dev/null", "wronly"]]
    bundle.linux(resources={"devices": [{"allow": False}]}).seq(*look * 3)
    container = runtime.create(bundle, options=SYSTEMD).start()
    container.line()
    assert opens(container) == ["EPERM", "ok"]
    container.line()
    update(runtime, container, {"devices": [{"allow": False}, rule]}).ok()
    assert opens(container) == ["ENXIO", "ok"]
    container.line()
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert opens(container) == ["ENXIO", "ok"]


@pytest.mark.ocirun_only("the peers make one")
def test_class_of_service_without_one(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """A container that was not created with linux.intelRdt is not moved into a class; the limits stay."""
    container = runtime.create(waiting)
    result = runtime.call("update", "--pids-limit", "5", "--mem-bw-schema", "MB:0=20", container.id)
    result.refused("--mem-bw-schema: ", "class of service")
    result = runtime.call("update", "--mem-bw-schema", "L3:0=20", container.id)
    result.refused("--mem-bw-schema: ", "form")
    assert words(container.pid, "pids", "pids.max", "pids.max") == ["20"]


def test_record_is_left_alone(runtime: RuntimeCommand, waiting: Bundle) -> None:
    """An update is in the kernel, and nowhere else."""
    if runtime.name != "ocirun":
        pytest.skip("peer: keeps the configuration in its record")
    container = runtime.create(waiting)
    entry = Path(runtime.root) / container.id
    before = {name: (entry / name).read_bytes() for name in ("state.json", "config.json")}
    runtime.call("update", "--pids-limit", "5", container.id).ok()
    assert {name: (entry / name).read_bytes() for name in before} == before
