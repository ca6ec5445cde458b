# SPDX-License-Identifier: Apache-2.0
"""`update`: what its options mean, and how files are given back what they held."""

from __future__ import annotations

from typing import Any

import pytest

from ocirun.cgroups.devices import legacy_changes, listed_lines
from ocirun.cgroups.restoring import restoring
from ocirun.cli.parser import Invocation, UsageError, parse
from ocirun.cli.table import find_command
from ocirun.cli.update import OPTIONS, document, parse_bytes


def made_of(*words: str) -> dict[str, Any]:
    """Return the document that options make."""
    invocation = Invocation()
    parse(["update", *words, "c1"], invocation)
    return document(invocation)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("32", 32),
        ("32b", 32),
        ("32B", 32),
        ("32k", 32 << 10),
        ("32K", 32 << 10),
        ("32kb", 32 << 10),
        ("32Kb", 32 << 10),
        ("32KiB", 32 << 10),
        ("32m", 32 << 20),
        ("32MB", 32 << 20),
        ("32Gb", 32 << 30),
        ("32GiB", 32 << 30),
        ("32T", 32 << 40),
        ("32Pb", 32 << 50),
        ("32.5kB", 33280),
        ("32.5 kB", 33280),
        ("0.3k", 307),
        ("1.5", 1),
        ("8 m", 8 << 20),
        ("-1", -1),
    ],
)
def test_sizes_are_those_of_runc(text: str, size: int) -> None:
    """Each unit counts 1024, whatever its case and whether "b" or "ib" follows; parts of a byte are cut off."""
    assert parse_bytes("memory", text) == size


@pytest.mark.parametrize(
    "text",
    ["hello", "-2", "-32k", ".3kB", "32.", "32 mm", "32kk", "32ibb", "32bb", "32bib", "32ib", "1e3", "0x10", "1,5k", "m",
     " 1", "1  k", "٣k", "1" * 30, "1.5.2"],
)  # fmt: skip
def test_what_is_no_size(text: str) -> None:
    """The message names the option and what was given."""
    with pytest.raises(UsageError, match="--memory") as caught:
        parse_bytes("memory", text)
    assert repr(text) in str(caught.value)


def test_every_option_has_its_place() -> None:
    """All at once, with values of every kind."""
    words = []
    for option in OPTIONS:
        words += [f"--{option}", "0-1" if option.startswith("cpuset") else "-1"]
    assert made_of(*words) == {
        "blockIO": {"weight": -1},
        "cpu": {
            "period": -1, "quota": -1, "burst": -1, "shares": -1, "realtimePeriod": -1, "realtimeRuntime": -1,
            "idle": -1, "cpus": "0-1", "mems": "0-1",
        },
        "memory": {"limit": -1, "reservation": -1, "swap": -1},
        "pids": {"limit": -1},
    }  # fmt: skip
    command = find_command("update")
    assert command is not None
    others = {"resources", "l3-cache-schema", "mem-bw-schema", "kernel-memory", "kernel-memory-tcp"}
    assert {option.name for option in command.options} == set(OPTIONS) | others


def test_empty_values_are_none() -> None:
    """Go programs pass empty values for what they do not want."""
    assert made_of("--memory", "", "--pids-limit=", "--cpu-quota", "5000") == {"cpu": {"quota": 5000}}


@pytest.mark.parametrize("words", [("--cpu-quota", "many"), ("--pids-limit", "1.5"), ("--cpu-share", "0x10")])
def test_numbers_are_whole(words: tuple[str, str]) -> None:
    """What is no number is refused, with the option's name."""
    with pytest.raises(UsageError, match=words[0]):
        made_of(*words)


# ---- giving back ---------------------------------------------------------------------------------

BFQ = "default 100\n8:0 200"


@pytest.mark.parametrize(
    ("file", "written", "before", "expected"),
    [
        ("pids.max", "5", "max", "max"),
        ("memory.limit_in_bytes", "4096", "9223372036854771712", "9223372036854771712"),
        ("cpu.max", "max 50000", "25000 100000", "25000 100000"),
        ("cpuset.cpus", "0", "0-1", "0-1"),
        ("cpuset.mems", "0", "", "\n"),
        ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0", "0"),
        ("io.bfq.weight", "300", BFQ, "default 100"),
        ("io.bfq.weight", "300", "default 100", "default 100"),
        ("io.weight", "default 300", "default 100", "default 100"),
        ("io.bfq.weight", "8:0 300", BFQ, "8:0 200"),
        ("io.bfq.weight", "8:16 300", BFQ, "8:16 default"),
        ("io.max", "8:0 rbps=5", "8:0 rbps=9 wbps=max riops=max wiops=max", "8:0 rbps=9 wbps=max riops=max wiops=max"),
        ("io.max", "8:16 rbps=5", "8:0 rbps=9 wbps=max riops=max wiops=max", "8:16 rbps=max wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=5", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
        ("blkio.throttle.read_bps_device", "8:0 5", "8:0 9", "8:0 9"),
        ("blkio.throttle.read_bps_device", "8:0 5", "8:16 9", "8:0 0"),
        ("net_prio.ifpriomap", "lo 5", "lo 0\neth0 3", "lo 0"),
        ("rdma.max", "mlx hca_handle=5", "mlx hca_handle=max hca_object=7", "mlx hca_handle=max hca_object=7"),
        ("rdma.max", "mlx hca_handle=5", "", "mlx hca_handle=max hca_object=max"),
        ("misc.max", "res_a 5", "res_a 7\nres_b max", "res_a 7"),
        ("hugetlb.2MB.rsvd.max", "0", "max", "max"),
        ("some.table", "8:0 x=1", "8:16 x=2", None),
        ("some.table", "one", "a 1\nb 2", None),
    ],
)  # fmt: skip
def test_what_gives_a_file_back_its_content(file: str, written: str, before: str, expected: str | None) -> None:
    """The line of the device that was written, or what takes it away; the content where there is but one."""
    assert restoring(file, written, before) == expected


# ---- device lists of version 1 -------------------------------------------------------------------

DENY = ("devices.deny", "a")


def test_only_differences_of_a_device_list_are_written() -> None:
    """New allowances first, and what goes last; rights that both have are never taken."""
    lines = [DENY, ("devices.allow", "c 1:3 rwm"), ("devices.allow", "c 5:0 r"), ("devices.allow", "b *:* m")]
    assert legacy_changes(lines, "c 1:3 rw\nc 5:0 rw\nc 9:9 rwm\nb *:* m") == [
        ("devices.allow", "c 1:3 m"),
        ("devices.deny", "c 5:0 w"),
        ("devices.deny", "c 9:9 mrw"),
    ]
    assert legacy_changes(lines, "c 1:3 rwm\nc 5:0 r\nb *:* m") == []


def test_lists_that_allow_by_default_are_written_whole() -> None:
    """They do not show their exceptions, so nothing can be said of the difference."""
    lines = [DENY, ("devices.allow", "c 1:3 rwm")]
    assert legacy_changes(lines, "a *:* rwm") == lines
    everything = [("devices.allow", "a"), ("devices.deny", "c 1:3 w")]
    assert legacy_changes(everything, "c 1:3 rwm") == everything
    assert listed_lines("a *:* rwm") is None
    assert listed_lines("c 1:3 rw") == [DENY, ("devices.allow", "c 1:3 rw")]
