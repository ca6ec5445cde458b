# SPDX-License-Identifier: Apache-2.0
"""Every field of linux.resources: what the kernel says of it, and what it does where that can be seen.

Version 1 is tested where it is mounted, its rarer controllers in a mount namespace of the tests; version 2 by
`tests/run --vm`.  A lower bound on time is no timed assertion: a limit on a rate cannot be beaten by a fast machine.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import PURE, directory, disk, flat, legacy_hierarchy, until, words
from support.command import RuntimeCommand

pytestmark = [pytest.mark.root, pytest.mark.vm]
MkBundle = Callable[..., Bundle]
MIB = 1 << 20
only_legacy = pytest.mark.skipif(PURE, reason="machine: no cgroup v1")
HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")


def limited(bundle: Bundle, **resources: Any) -> Bundle:
    """Set linux.resources."""
    return bundle.linux(resources=resources)


# ---- cpu -----------------------------------------------------------------------------------------


def test_cpu_quota_throttles(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A program that wants more than its share of each period has to wait."""
    # So small a share that a busy machine gives more.
    limited(bundle, cpu={"quota": 2000, "period": 100000}).seq("ready", ["burn", 20])
    container = runtime.create(bundle)
    stat = directory(container.pid, "cpu") / "cpu.stat"
    container.start().wait()
    assert int(flat(stat)["nr_throttled"]) > 0


@pytest.mark.peer_fails(crun="1.8 knows no burst")
def test_cpu_burst_is_used(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What was left over in idle periods may be used on top of the quota."""
    # What it wants it gets within one period of a busy machine as well; the kernel gives it out by 5 ms.
    cpu = {"quota": 5000, "period": 100000, "burst": 5000}
    container = runtime.create(limited(bundle, cpu=cpu).args("burn", "8", "150", "1000")).start()
    assert words(container.pid, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == ["5000"]
    stat = directory(container.pid, "cpu") / "cpu.stat"
    until(lambda: int(flat(stat)["nr_bursts"]) > 0, "a burst")


@pytest.mark.peer_fails(crun="1.8 knows no idle")
def test_idle_group_has_no_weight(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """cpu.idle takes the group out of the competition: its weight is none, and cannot be set."""
    pid = runtime.create(limited(bundle, cpu={"idle": 1})).pid
    path = directory(pid, "cpu")
    assert words(pid, "cpu", "cpu.idle", "cpu.idle") == ["1"]
    if PURE:
        assert words(pid, "cpu", "", "cpu.weight") in (["0"], ["1"])  # as it is rounded
    with pytest.raises(OSError, match="Invalid argument"):
        (path / ("cpu.weight" if PURE else "cpu.shares")).write_text("100")


@pytest.mark.ocirun_only("shares and idle together are an error or lost")
def test_idle_beside_shares(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """Both given: the shares are there once the group is not idle any more."""
    pid = runtime.create(limited(mkbundle(), cpu={"idle": 1, "shares": 2048})).pid
    assert words(pid, "cpu", "cpu.idle", "cpu.idle") == ["1"]
    pid = runtime.create(limited(mkbundle(), cpu={"idle": 0, "shares": 2048})).pid
    assert words(pid, "cpu", "cpu.idle", "cpu.idle") == ["0"]
    assert words(pid, "cpu", "cpu.shares", "cpu.weight") == (["174"] if PURE else ["2048"])


def test_cpus_and_memory_nodes(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The program may run on these processors and take memory of these nodes only."""
    last = os.cpu_count() or 1
    limited(bundle, cpu={"cpus": str(last - 1), "mems": "0"}).args("read", "/proc/self/status")
    status = runtime.run(bundle).ok().reads["/proc/self/status"]
    lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (lines["Cpus_allowed_list"], lines["Mems_allowed_list"]) == (str(last - 1), "0")


@only_legacy
@pytest.mark.peer_fails(runc="1.1.5 sets the period after the runtime")
def test_realtime_runtime_permits_realtime(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """Without a realtime runtime a process of the group cannot be scheduled in real time."""
    scheduler = {"policy": "SCHED_FIFO", "priority": 5}
    bundle = limited(mkbundle(), cpu={"realtimeRuntime": 5000, "realtimePeriod": 500000})
    bundle.capabilities("CAP_SYS_NICE").process(scheduler=scheduler)
    bundle.seq(["syscall", "145", "0"])  # sched_getscheduler
    container = runtime.create(bundle)
    assert words(container.pid, "cpu", "cpu.rt_runtime_us", "") == ["5000"]
    assert words(container.pid, "cpu", "cpu.rt_period_us", "") == ["500000"]
    assert container.finish().ok().one("syscall")["ret"] == 1
    bundle = mkbundle().capabilities("CAP_SYS_NICE").process(scheduler=scheduler)
    runtime.run(bundle).refused("scheduler", "EPERM")


# ---- memory --------------------------------------------------------------------------------------


@only_legacy
def test_memory_files_of_version_1(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Those whose effect needs swap or a TCP server under load are there."""
    limits = {"limit": 64 * MIB, "swap": 80 * MIB, "kernelTCP": 8 * MIB, "swappiness": 7}
    pid = runtime.create(limited(bundle, memory=limits)).pid
    assert words(pid, "memory", "memory.memsw.limit_in_bytes", "") == [str(80 * MIB)]
    assert words(pid, "memory", "memory.swappiness", "") == ["7"]
    if runtime.name != "runc":
        assert words(pid, "memory", "memory.kmem.tcp.limit_in_bytes", "") == [str(8 * MIB)]


@only_legacy
def test_without_the_oom_killer_the_program_waits(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """At its limit the program is stopped instead of killed, and goes on when there is more."""
    limits = {"limit": 8 * MIB, "swap": 8 * MIB, "disableOOMKiller": True}
    container = runtime.create(limited(bundle, memory=limits).args("touch-memory", "16")).start()
    path = directory(container.pid, "memory")
    until(lambda: flat(path / "memory.oom_control")["under_oom"] == "1", "under_oom")
    for file in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes"):
        (path / file).write_text(str(64 * MIB))
    assert container.wait() == 0


@only_legacy
@pytest.mark.ocirun_only("the peers write it and say nothing")
def test_kernel_memory_is_refused(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """This kernel takes the limit and does nothing."""
    runtime.run(limited(bundle, memory={"kernel": 8 * MIB})).refused("/linux/resources/memory/kernel")


@pytest.mark.unified
def test_swap_is_limited_by_itself(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """With swap beyond memory a program of more than its memory lives; with a sum that is memory it is killed."""
    subprocess.run(["mkswap", "--quiet", "/dev/ubdb"], check=True)
    subprocess.run(["swapon", "/dev/ubdb"], check=True)
    try:
        lives = limited(mkbundle(), memory={"limit": 32 * MIB, "swap": 128 * MIB})
        container = runtime.create(lives.seq(["touch-memory", "64"], "ready", "sleep")).start()
        container.line()
        used = int(words(container.pid, "memory", "", "memory.swap.current")[0])
        assert used > 16 * MIB
        dies = limited(mkbundle(), memory={"limit": 32 * MIB, "swap": 32 * MIB})
        assert runtime.run(dies.args("touch-memory", "64")).rc == 137
        container.delete("--force").ok()
    finally:
        subprocess.run(["swapoff", "/dev/ubdb"], check=True)


# ---- block I/O -----------------------------------------------------------------------------------


@pytest.fixture
def block_device(private_host: None) -> Iterator[tuple[str, int, int]]:
    """A disk that nobody else uses."""
    with disk() as device:
        yield device


@pytest.mark.parametrize(
    ("name", "rate", "load", "file", "key"),
    [
        ("throttleReadBpsDevice", MIB, ("read", 1 << 18, 8), "read_bps_device", "rbps"),
        ("throttleWriteBpsDevice", MIB, ("write", 1 << 18, 8), "write_bps_device", "wbps"),
        ("throttleReadIOPSDevice", 20, ("read", 4096, 40), "read_iops_device", "riops"),
        ("throttleWriteIOPSDevice", 20, ("write", 4096, 40), "write_iops_device", "wiops"),
    ],
)
def test_throttles_slow_down(
    block_device: tuple[str, int, int], runtime: RuntimeCommand, bundle: Bundle,
    name: str, rate: int, load: tuple[str, int, int], file: str, key: str,
) -> None:  # fmt: skip
    """What a limited rate would do in two seconds takes one at least, and the limit is in its file."""
    _, major, minor = block_device
    device = {"major": major, "minor": minor}
    bundle.linux(
        devices=[{"path": "/dev/disk", "type": "b", **device}],
        resources={
            "blockIO": {name: [{**device, "rate": rate}]},
            "devices": [{"allow": True, "type": "b", **device, "access": "rw"}],
        },
    )
    container = runtime.create(bundle.args("disk", load[0], "/dev/disk", str(load[1]), str(load[2])))
    found = words(container.pid, "blkio", f"blkio.throttle.{file}", "io.max")
    assert found[0] == f"{major}:{minor}"
    assert (f"{key}={rate}" if PURE else str(rate)) in found
    done = container.finish().ok().one("disk")
    assert (done.get("errno"), done["done"]) == (None, load[1] * load[2])
    assert done["elapsed_ms"] >= 1000


def test_weights_of_block_io(block_device: tuple[str, int, int], runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The weight of all devices, and that of one with the scheduler that has weights."""
    path, major, minor = block_device
    Path(f"/sys/block/{Path(path).name}/queue/scheduler").write_text("bfq")
    weights = {"weight": 200, "weightDevice": [{"major": major, "minor": minor, "weight": 300}]}
    pid = runtime.create(limited(bundle, blockIO=weights)).pid
    if PURE:
        found = (directory(pid, "io") / "io.bfq.weight").read_text().splitlines()
        assert found == ["default 200", f"{major}:{minor} 300"]
    else:
        assert words(pid, "blkio", "blkio.bfq.weight", "") == ["200"]
        assert words(pid, "blkio", "blkio.bfq.weight_device", "")[-2:] == [f"{major}:{minor}", "300"]


@pytest.mark.ocirun_only("ignored where the device has no weights")
def test_weight_of_a_device_without_weights_is_refused(
    block_device: tuple[str, int, int], runtime: RuntimeCommand, bundle: Bundle
) -> None:
    """A scheduler without weights cannot keep to one: the error names the place and the reason."""
    _, major, minor = block_device
    weights = {"weightDevice": [{"major": major, "minor": minor, "weight": 300}]}
    runtime.run(limited(bundle, blockIO=weights)).refused(
        "/linux/resources/blockIO/weightDevice/0/weight", "bfq", "operation not supported", "scheduler"
    )


@pytest.mark.unified
def test_weight_of_a_device_with_another_scheduler(
    block_device: tuple[str, int, int], runtime: RuntimeCommand, bundle: Bundle
) -> None:
    """Without BFQ the device's weight is that of the cost model, once that is on (and it stays on: last of these tests)."""
    _, major, minor = block_device
    qos = Path("/sys/fs/cgroup/io.cost.qos")
    qos.write_text(f"{major}:{minor} enable=1")
    try:
        weights = {"weightDevice": [{"major": major, "minor": minor, "weight": 1000}]}
        pid = runtime.create(limited(bundle, blockIO=weights)).pid
        assert f"{major}:{minor} 10000" in (directory(pid, "io") / "io.weight").read_text().splitlines()
    finally:
        qos.write_text(f"{major}:{minor} enable=0")


@pytest.mark.parametrize("where", ["leafWeight", "weightDevice/0/leafWeight"])
@pytest.mark.ocirun_only("runc leaves them out")
def test_leaf_weights_are_refused(runtime: RuntimeCommand, bundle: Bundle, where: str) -> None:
    """No kernel that is supported has them, in either version."""
    device = {"major": 7, "minor": 0, "leafWeight": 100}
    weights = {"leafWeight": 100} if where == "leafWeight" else {"weightDevice": [device]}
    runtime.run(limited(bundle, blockIO=weights)).refused(f"/linux/resources/blockIO/{where}")


def test_throttle_of_no_device_is_refused(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A number that is no disk of this machine."""
    throttle = [{"major": 4000, "minor": 0, "rate": 1}]
    runtime.run(limited(bundle, blockIO={"throttleReadBpsDevice": throttle})).refused()


# ---- huge pages ----------------------------------------------------------------------------------


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Four huge pages of 2 MiB."""
    if not HUGE_PAGES.exists():
        pytest.skip("machine: no huge pages")
    before = int(HUGE_PAGES.read_text())

    def are_there() -> bool:
        HUGE_PAGES.write_text(str(before + 4))
        if int(HUGE_PAGES.read_text()) == before + 4:
            return True
        Path("/proc/sys/vm/compact_memory").write_text("1")  # the memory of a busy machine is in pieces
        return False

    try:
        until(are_there, "four huge pages")
        yield
    finally:
        HUGE_PAGES.write_text(str(before))


@pytest.fixture(params=["version 1", "version 2"])
def hugetlb(request: pytest.FixtureRequest, private_host: None, huge_pages: None) -> Iterator[str]:
    """The controller in a hierarchy of version 1 and in the tree of version 2: the name of its limit."""
    if request.param == "version 2":
        if "hugetlb" not in (Path("/sys/fs/cgroup") / ("" if PURE else "unified") / "cgroup.controllers").read_text():
            pytest.skip("machine: no hugetlb in cgroup v2")
        yield "max"
        return
    with legacy_hierarchy("hugetlb"):
        yield "limit_in_bytes"


def test_huge_pages_are_limited_when_they_are_reserved(
    hugetlb: str, runtime: RuntimeCommand, mkbundle: MkBundle
) -> None:
    """mmap of more than the limit fails, instead of a signal when the pages are touched."""
    resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 2 * MIB}]}
    protection, flags = "3", hex(0x40022)  # read and write; private, anonymous, huge
    bundle = mkbundle().linux(resources=resources)
    bundle.seq(
        ["syscall", "9", "0", str(2 * MIB), protection, flags, "-1", "0"],
        ["syscall", "9", "0", str(4 * MIB), protection, flags, "-1", "0"],
    )
    container = runtime.create(bundle)
    path = directory(container.pid, "hugetlb")
    assert (path / f"hugetlb.2MB.rsvd.{hugetlb}").read_text().strip() == str(2 * MIB)
    found = container.finish().ok().all("syscall")
    assert [line.get("errno") for line in found] == [None, "ENOMEM"]


def test_huge_pages_of_a_size_that_is_not_there(hugetlb: str, runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A limit that the kernel has no file for is refused."""
    limits = [{"pageSize": "3MB", "limit": 0}]
    runtime.run(limited(bundle, hugepageLimits=limits)).refused("hugepageLimits")


# ---- network -------------------------------------------------------------------------------------


@pytest.fixture
def net_cls(private_host: None) -> Iterator[None]:
    if PURE:
        pytest.skip("machine: no cgroup v1")
    with legacy_hierarchy("net_cls"):
        yield


@pytest.fixture
def net_prio(private_host: None) -> Iterator[None]:
    if PURE:
        pytest.skip("machine: no cgroup v1")
    with legacy_hierarchy("net_prio"):
        yield


def test_network_class(net_cls: None, runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The class is in its file."""
    pid = runtime.create(limited(bundle, network={"classID": 0x100001})).pid
    assert words(pid, "net_cls", "net_cls.classid", "") == [str(0x100001)]


def test_network_priorities(net_prio: None, runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Each interface's priority is in the map."""
    pid = runtime.create(limited(bundle, network={"priorities": [{"name": "lo", "priority": 5}]})).pid
    found = words(pid, "net_prio", "net_prio.ifpriomap", "")
    assert found[found.index("lo") + 1] == "5"


@pytest.mark.ocirun_only("the peers leave it out, or fail otherwise")
def test_network_without_its_controllers(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Neither is dropped silently."""
    network = {"classID": 1, "priorities": [{"name": "lo", "priority": 5}]}
    runtime.run(limited(bundle, network=network)).refused(
        "/linux/resources/network/classID", "/linux/resources/network/priorities/0"
    )


# ---- rdma, unified -------------------------------------------------------------------------------


@pytest.mark.ocirun_only("crun and youki know no rdma; runc's words differ")
def test_rdma_is_never_dropped(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Without the controller, and with the controller but without the device, the place is named."""
    result = runtime.run(limited(bundle, rdma={"mlx5_1": {"hcaHandles": 3, "hcaObjects": 100}}))
    result.refused("/linux/resources/rdma/mlx5_1", "ENODEV" if PURE else "rdma controller")


@pytest.mark.unified
def test_unified_settings_are_written(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Any file of a controller that is there, also those that no other field reaches, and of the core."""
    unified = {"memory.high": "50331648", "cpu.weight.nice": "5", "cgroup.max.depth": "3"}
    pid = runtime.create(limited(bundle, unified=unified)).pid
    found = {file: (directory(pid, "memory") / file).read_text().strip() for file in unified}
    assert found == unified


@pytest.mark.unified
def test_unified_has_the_last_word(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """It is written after the fields that say otherwise."""
    resources = {"pids": {"limit": 50}, "unified": {"pids.max": "60"}}
    pid = runtime.create(limited(bundle, **resources)).pid
    assert words(pid, "pids", "", "pids.max") == ["60"]


@pytest.mark.unified
@pytest.mark.parametrize(
    ("file", "named"),
    [("nosuch.max", "nosuch controller"), ("memory.nosuch", "memory.nosuch"), ("hugetlb.2MB.max", "hugetlb controller")],
)
def test_unified_file_that_is_not_there(runtime: RuntimeCommand, bundle: Bundle, file: str, named: str) -> None:
    """The error names the controller that is missing, or the file that the present one lacks."""
    result = runtime.run(limited(bundle, unified={file: "1"})).refused(named)
    if runtime.name == "ocirun":
        result.refused(f"/linux/resources/unified/{file}")
