# SPDX-License-Identifier: Apache-2.0
"""Statistics from files with the contents of real ones, of both versions of cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirun.cgroups.hierarchies import Hierarchy
from ocirun.cgroups.keyed import UNLIMITED, bound, flat, integer, nested, numbers, pressure
from ocirun.cgroups.legacy_stats import parse_blkio
from ocirun.cgroups.oom import UnifiedWatch, watch_oom
from ocirun.cgroups.stats import read_stats
from ocirun.errors import CgroupError
from ocirun.rdt_stats import read_groups
from ocirun.usage import parse_interfaces

PRESSURE = (
    "some avg10=1.53 avg60=0.87 avg300=0.21 total=1234567\n"
    "full avg10=0.50 avg60=0.10 avg300=0.00 total=654321\n"
)
PSI = {
    "some": {"avg10": 1.53, "avg60": 0.87, "avg300": 0.21, "total": 1234567},
    "full": {"avg10": 0.5, "avg60": 0.1, "avg300": 0.0, "total": 654321},
}
UNIFIED = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
    "cpu.stat": (
        "usage_usec 2500123\nuser_usec 2000100\nsystem_usec 500023\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
        "nr_periods 40\nnr_throttled 7\nthrottled_usec 81234\nnr_bursts 2\nburst_usec 15\n"
    ),
    "cpu.pressure": PRESSURE,
    "cpuset.cpus": "\n",
    "cpuset.cpus.effective": "0-2,5\n",
    "cpuset.mems.effective": "0\n",
    "memory.current": "50331648\n",
    "memory.max": "67108864\n",
    "memory.peak": "67108864\n",
    "memory.swap.current": "4096\n",
    "memory.swap.max": "max\n",
    "memory.swap.peak": "8192\n",
    "memory.swap.events": "high 0\nmax 3\nfail 1\n",
    "memory.stat": "anon 40960000\nfile 8192000\nkernel 1048576\nsock 2048\npgfault 12345\n",
    "memory.events": "low 0\nhigh 0\nmax 19\noom 2\noom_kill 1\noom_group_kill 0\n",
    "memory.pressure": PRESSURE,
    "pids.current": "3\n",
    "pids.max": "100\n",
    "pids.peak": "12\n",
    "pids.events": "max 4\n",
    "io.stat": (
        "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n"
        "8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021 cost.usage=10\n"
    ),
    "io.pressure": PRESSURE,
    "hugetlb.2MB.current": "4194304\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 5\n",
    "hugetlb.2MB.events.local": "max 5\n",
    "hugetlb.2MB.rsvd.current": "6291456\n",
    "hugetlb.2MB.rsvd.max": "8388608\n",
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=2000\n",
    "rdma.max": "mlx4_0 hca_handle=3 hca_object=max\n",
}
UNIFIED_STATS = {
    "cpu": {
        "usage": {"total": 2500123000, "kernel": 500023000, "user": 2000100000},
        "throttling": {"periods": 40, "throttledPeriods": 7, "throttledTime": 81234000},
        "burst": {"periods": 2, "time": 15000},
        "psi": PSI,
    },
    "cpuset": {"cpus": [0, 1, 2, 5], "mems": [0]},
    "memory": {
        "cache": 8192000,
        "usage": {"limit": 67108864, "usage": 50331648, "max": 67108864, "failcnt": 19},
        "swap": {"limit": UNLIMITED, "usage": 50331648 + 4096},
        "swapOnly": {"limit": UNLIMITED, "usage": 4096, "max": 8192, "failcnt": 3},
        "kernel": {"usage": 1048576},
        "kernelTCP": {"usage": 2048},
        "raw": {"anon": 40960000, "file": 8192000, "kernel": 1048576, "sock": 2048, "pgfault": 12345},
        "event_count": {"low": 0, "high": 0, "max": 19, "oom": 2, "oom_kill": 1, "oom_group_kill": 0},
        "psi": PSI,
    },
    "pids": {"current": 3, "limit": 100, "peak": 12, "event_count": {"max": 4}},
    "blkio": {
        "ioServiceBytesRecursive": [
            {"major": 8, "minor": 16, "op": "Read", "value": 1459200},
            {"major": 8, "minor": 16, "op": "Write", "value": 314773504},
            {"major": 8, "minor": 16, "op": "Discard", "value": 0},
            {"major": 8, "minor": 0, "op": "Read", "value": 90430464},
            {"major": 8, "minor": 0, "op": "Write", "value": 299008000},
            {"major": 8, "minor": 0, "op": "Discard", "value": 50331648},
        ],
        "ioServicedRecursive": [
            {"major": 8, "minor": 16, "op": "Read", "value": 192},
            {"major": 8, "minor": 16, "op": "Write", "value": 353},
            {"major": 8, "minor": 16, "op": "Discard", "value": 0},
            {"major": 8, "minor": 0, "op": "Read", "value": 8950},
            {"major": 8, "minor": 0, "op": "Write", "value": 1252},
            {"major": 8, "minor": 0, "op": "Discard", "value": 3021},
        ],
        "raw": {
            "8:16": {"rbytes": 1459200, "wbytes": 314773504, "rios": 192, "wios": 353, "dbytes": 0, "dios": 0},
            "8:0": {
                "rbytes": 90430464, "wbytes": 299008000, "rios": 8950, "wios": 1252, "dbytes": 50331648,
                "dios": 3021, "cost.usage": 10,
            },
        },
        "psi": PSI,
    },
    "hugetlb": {
        "2MB": {
            "usage": 4194304, "limit": UNLIMITED, "failcnt": 5, "reserved": {"usage": 6291456, "limit": 8388608},
        },
    },
    "rdma": {
        "current": {"mlx4_0": {"hca_handle": 2, "hca_object": 2000}},
        "limit": {"mlx4_0": {"hca_handle": 3}},
    },
}  # fmt: skip
LEGACY: dict[str, dict[str, str]] = {
    "cpu,cpuacct": {
        "cpuacct.usage": "13093271\n",
        "cpuacct.usage_percpu": "5395581 7697690 \n",
        "cpuacct.usage_all": "cpu user system\n0 1000000 2000000\n1 3000000 4000000\n",
        "cpuacct.stat": "user 12\nsystem 3\n",
        "cpu.stat": "nr_periods 10\nnr_throttled 4\nthrottled_time 123456789\nnr_bursts 1\nburst_time 99\n",
    },
    "cpuset": {
        "cpuset.cpus": "0-1\n",
        "cpuset.mems": "0\n",
        **{f"cpuset.{name}": "0\n" for name in (
            "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
            "memory_spread_slab", "memory_pressure",
        )},
        "cpuset.sched_load_balance": "1\n",
        "cpuset.sched_relax_domain_level": "-1\n",
    },
    "memory": {
        "memory.limit_in_bytes": "67108864\n",
        "memory.usage_in_bytes": "704512\n",
        "memory.max_usage_in_bytes": "2244608\n",
        "memory.failcnt": "1\n",
        "memory.memsw.limit_in_bytes": "9223372036854771712\n",
        "memory.memsw.usage_in_bytes": "704513\n",
        "memory.memsw.max_usage_in_bytes": "2244609\n",
        "memory.memsw.failcnt": "2\n",
        "memory.kmem.tcp.limit_in_bytes": "9223372036854771712\n",
        "memory.kmem.tcp.usage_in_bytes": "0\n",
        "memory.kmem.tcp.max_usage_in_bytes": "0\n",
        "memory.kmem.tcp.failcnt": "0\n",
        "memory.stat": "cache 4096\nrss 65536\ntotal_cache 4096\ntotal_swap 8192\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n",
    },
    "pids": {"pids.current": "2\n", "pids.max": "max\n", "pids.events": "max 0\n"},
    "blkio": {
        "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
        "blkio.throttle.io_service_bytes_recursive": (
            "8:0 Read 4096\n8:0 Write 0\n8:0 Sync 4096\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 4096\nTotal 4096\n"
        ),
        "blkio.throttle.io_serviced": "8:0 Read 1\n8:0 Total 1\nTotal 1\n",
        "blkio.time_recursive": "8:0 42\n",
    },
    "hugetlb": {
        f"hugetlb.2MB.{middle}{name}": f"{value}\n"
        for middle, values in (("", (2097152, 4194304, 3, 8388608)), ("rsvd.", (1, 2, 3, 4)))
        for name, value in zip(
            ("usage_in_bytes", "max_usage_in_bytes", "failcnt", "limit_in_bytes"), values, strict=True
        )
    },
    "freezer": {"freezer.state": "THAWED\n"},
}  # fmt: skip
LEGACY_STATS = {
    "cpu": {
        "usage": {
            "total": 13093271, "percpu": [5395581, 7697690], "percpu_kernel": [2000000, 4000000],
            "percpu_user": [1000000, 3000000], "kernel": 30_000_000, "user": 120_000_000,
        },
        "throttling": {"periods": 10, "throttledPeriods": 4, "throttledTime": 123456789},
        "burst": {"periods": 1, "time": 99},
    },
    "cpuset": {
        "cpus": [0, 1], "mems": [0], "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
        "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 1,
        "sched_relax_domain_level": -1,
    },
    "memory": {
        "cache": 4096,
        "usage": {"limit": 67108864, "usage": 704512, "max": 2244608, "failcnt": 1},
        "swap": {"limit": 9223372036854771712, "usage": 704513, "max": 2244609, "failcnt": 2},
        "swapOnly": {"usage": 8192},
        "kernelTCP": {"limit": 9223372036854771712, "usage": 0, "max": 0, "failcnt": 0},
        "raw": {"cache": 4096, "rss": 65536, "total_cache": 4096, "total_swap": 8192},
        "event_count": {"oom_kill": 6},
    },
    "pids": {"current": 2, "event_count": {"max": 0}},
    "blkio": {
        "ioServiceBytesRecursive": [
            {"major": 8, "minor": 0, "op": op, "value": value}
            for op, value in (("Read", 4096), ("Write", 0), ("Sync", 4096), ("Async", 0), ("Discard", 0),
                              ("Total", 4096))
        ],
        "ioServicedRecursive": [
            {"major": 8, "minor": 0, "op": "Read", "value": 1}, {"major": 8, "minor": 0, "op": "Total", "value": 1},
        ],
        "ioTimeRecursive": [{"major": 8, "minor": 0, "value": 42}],
    },
    "hugetlb": {
        "2MB": {
            "usage": 2097152, "max": 4194304, "failcnt": 3, "limit": 8388608,
            "reserved": {"usage": 1, "max": 2, "failcnt": 3, "limit": 4},
        },
    },
}  # fmt: skip


def hierarchy(tmp_path: Path, version: int, controllers: str, files: dict[str, str]) -> Hierarchy:
    """Make the directory of a container's cgroup."""
    place = tmp_path / f"v{version}" / (controllers or "unified") / "c1"
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_text(content)
    names = controllers.split(",") if controllers else []
    return Hierarchy(version=version, mount_point=str(place.parent), root="/", controllers=names, path="c1")


def test_version_2(tmp_path: Path) -> None:
    """Every file of version 2 gives its keys, in runc's units: nanoseconds and bytes."""
    assert read_stats([hierarchy(tmp_path, 2, "", UNIFIED)]) == UNIFIED_STATS


def test_version_1(tmp_path: Path) -> None:
    """Every file of version 1 gives its keys; hierarchies may be mounted together."""
    places = [hierarchy(tmp_path, 1, controllers, files) for controllers, files in LEGACY.items()]
    assert read_stats(places) == LEGACY_STATS


def test_hybrid(tmp_path: Path) -> None:
    """Resources are those of version 1; what only version 2 has, pressure, is added."""
    pressures = dict.fromkeys(("cpu.pressure", "memory.pressure", "io.pressure"), PRESSURE)
    unified = {"cgroup.controllers": "\n", "cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n", **pressures}
    places = [hierarchy(tmp_path, 2, "", unified)]
    places += [hierarchy(tmp_path, 1, controllers, files) for controllers, files in LEGACY.items()]
    expected: dict[str, Any] = {key: dict(value) for key, value in LEGACY_STATS.items()}
    for key in ("cpu", "memory", "blkio"):
        expected[key]["psi"] = PSI
    assert read_stats(places) == expected


@settings(max_examples=25, deadline=None)
@given(kept=st.sets(st.sampled_from(sorted(UNIFIED))))
def test_any_file_may_be_missing(tmp_path_factory: pytest.TempPathFactory, kept: set[str]) -> None:
    """What is there is as it would be with all; what is not gives no key, and no error."""
    place = hierarchy(tmp_path_factory.mktemp("cgroup"), 2, "", {name: UNIFIED[name] for name in kept})
    found: dict[str, Any] = dict(read_stats([place]))
    assert found.keys() <= UNIFIED_STATS.keys()
    assert ("pids" in found) == any(name.startswith("pids.") for name in kept)
    for key, value in found.items():
        assert value
        assert value.keys() <= UNIFIED_STATS[key].keys()  # type: ignore[attr-defined]
    if {"memory.max", "memory.current"} <= kept:
        assert found["memory"]["usage"].items() >= {("limit", 67108864), ("usage", 50331648)}


@pytest.mark.parametrize("controllers", list(LEGACY))
def test_hierarchy_of_version_1_without_files(tmp_path: Path, controllers: str) -> None:
    """The same of every controller of version 1."""
    assert read_stats([hierarchy(tmp_path, 1, controllers, {})]) == {}


def test_no_cgroup(tmp_path: Path) -> None:
    """A cgroup that is nowhere is an error: zeros would be a lie."""
    gone = Hierarchy(version=2, mount_point=str(tmp_path), root="/", controllers=[], path="gone")
    with pytest.raises(CgroupError, match="gone"):
        read_stats([gone])
    assert read_stats([gone, hierarchy(tmp_path, 1, "pids", LEGACY["pids"])]) == {"pids": LEGACY_STATS["pids"]}


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._"), min_size=1)
COUNTS = st.dictionaries(WORDS, st.integers(-(1 << 63), (1 << 64) - 1))


@given(COUNTS)
def test_flat_keyed(values: dict[str, int]) -> None:
    """Whatever the kernel counts is kept; words that are no numbers are left out."""
    text = "".join(f"{key} {value}\n" for key, value in values.items())
    assert flat(f"{text}.new max\n.other 1.5\n") == values
    assert flat(None) == {}


@given(st.dictionaries(st.from_regex(r"[0-9]{1,3}:[0-9]{1,3}", fullmatch=True), COUNTS))
def test_nested_keyed(values: dict[str, dict[str, int]]) -> None:
    """The same for lines with several numbers."""
    lines = [" ".join([key, *(f"{k}={v}" for k, v in pairs.items()), "d=max"]) for key, pairs in values.items()]
    assert nested("\n".join(lines)) == dict(values.items())
    assert nested("7:7 7:6 8:0 rbytes=1\n") == {"8:0": {"rbytes": 1}}


@given(st.sets(st.integers(0, 8191)))
def test_lists_of_cpus(members: set[int]) -> None:
    """Lists are written out."""
    assert numbers(",".join(map(str, sorted(members)))) == sorted(members)
    assert numbers("0-3,7\n") == [0, 1, 2, 3, 7]
    assert numbers(None) is None


def test_single_numbers() -> None:
    """"max" is a limit and no number; a file that is empty is neither."""
    assert (integer("12\n"), bound("12\n"), bound("max\n")) == (12, 12, (1 << 64) - 1)
    assert (integer("max\n"), integer(""), integer(None), bound(None)) == (None, None, None, None)


def test_pressure() -> None:
    """Kernels before 5.13 have no "full" for the processor; without PSI there is nothing."""
    assert pressure(PRESSURE) == PSI
    assert pressure(PRESSURE.splitlines()[0]) == {"some": PSI["some"]}
    assert pressure(None) is None
    assert pressure("") is None


def test_blkio_of_no_disk() -> None:
    """A cgroup that used no disk has the total alone."""
    assert parse_blkio("Total 0\n") == []
    assert parse_blkio(None) == []


def test_interfaces() -> None:
    """/proc/PID/net/dev, names with colons too; the loopback is left out."""
    text = (
        "Inter-|   Receive                                                |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier\n"
        "    lo:    9631      88    0    0    0     0          0         0     9631      88    0    0    0     0  0  0\n"
        "  eth0:     100       1    2    3    4     5          6         7      800       9   10   11   12    13 14 15\n"
        "eth0:1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
    )
    names = ("RxBytes", "RxPackets", "RxErrors", "RxDropped", "TxBytes", "TxPackets", "TxErrors", "TxDropped")
    assert parse_interfaces(text) == [
        {"Name": "eth0", **dict(zip(names, (100, 1, 2, 3, 800, 9, 10, 11), strict=True))},
        {"Name": "eth0:1", **dict(zip(names, (1, 2, 3, 4, 9, 10, 11, 12), strict=True))},
    ]


def test_resctrl(tmp_path: Path) -> None:
    """The class and monitoring group that the process is in, on a made-up tree: no processor here has it."""
    files = {
        "schemata": "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n",
        "c1/schemata": "    L3:0=f;1=f\n    MB:0= 20;1= 20\n",
        "info/L3/cbm_mask": "7ff\n",
        "info/L3/min_cbm_bits": "2\n",
        "info/L3/num_closids": "16\n",
        "info/MB/bandwidth_gran": "10\n",
        "info/MB/delay_linear": "1\n",
        "info/MB/min_bandwidth": "10\n",
        "info/MB/num_closids": "8\n",
        "c1/mon_groups/c1/mon_data/mon_L3_00/llc_occupancy": "81920\n",
        "c1/mon_groups/c1/mon_data/mon_L3_00/mbm_total_bytes": "4000\n",
        "c1/mon_groups/c1/mon_data/mon_L3_00/mbm_local_bytes": "3000\n",
        "c1/mon_groups/c1/mon_data/mon_L3_01/llc_occupancy": "Unavailable\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert read_groups(str(tmp_path), "res:c1\nmon:c1\n") == {
        "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 2, "num_closids": 16},
        "l3_cache_schema_root": "L3:0=7ff;1=7ff",
        "l3_cache_schema": "L3:0=f;1=f",
        "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
        "mem_bw_schema_root": "MB:0=100;1=100",
        "mem_bw_schema": "MB:0= 20;1= 20",
        "mbm_stats": [{"mbm_total_bytes": 4000, "mbm_local_bytes": 3000}, {}],
        "cmt_stats": [{"llc_occupancy": 81920}, {}],
    }
    assert read_groups(str(tmp_path / "c1/mon_groups"), "res:/\nmon:/\n") == {}


def test_kills_are_counted_from_the_watch_on(tmp_path: Path) -> None:
    """Version 2: what was killed before is not new; kills between two looks are one answer, with their number."""
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n")
    watch = UnifiedWatch(str(tmp_path))
    try:
        assert watch.take() == {}
        events.write_text("low 0\nhigh 9\nmax 9\noom 3\noom_kill 5\noom_group_kill 0\n")
        assert watch.take() == {"oom_kill": 3}
        assert watch.take() == {}
    finally:
        watch.close()
    place = Hierarchy(version=2, mount_point=str(tmp_path), root="/", controllers=[], path="off")
    (tmp_path / "off").mkdir()
    with pytest.raises(CgroupError, match="ENOENT") as caught:
        watch_oom([place])
    assert caught.value.hint is not None
    assert "memory controller is off" in caught.value.hint
