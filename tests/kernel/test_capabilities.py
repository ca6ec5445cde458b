# SPDX-License-Identifier: Apache-2.0
"""process.capabilities: the five sets against a model of capabilities(7)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.report import CAPABILITIES, capability_mask, capability_names

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
POOL = [
    "CAP_CHOWN",
    "CAP_NET_RAW",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_SETPCAP",
    "CAP_SYSLOG",
    "CAP_BPF",
]


def model(sets: dict[str, list[str]], uid: int) -> dict[str, set[str]]:
    """Return the sets of a program without file capabilities after execve, by capabilities(7)."""
    bounding, inheritable, ambient = (set(sets.get(name, ())) for name in ("bounding", "inheritable", "ambient"))
    permitted = ambient | (bounding | inheritable if uid == 0 else set())
    return {
        "bounding": bounding,
        "effective": permitted,
        "permitted": permitted,
        "inheritable": inheritable,
        "ambient": ambient,
    }


def got(report: dict[str, Any]) -> dict[str, set[str]]:
    """Return the report's sets as names."""
    return {name: capability_names(report["caps"][name]) for name in SETS}


@st.composite
def possible_sets(draw: st.DrawFn) -> dict[str, list[str]]:
    """Sets that the kernel can install: effective and ambient within permitted, and so on."""

    def subset(of: list[str]) -> list[str]:
        return sorted(draw(st.sets(st.sampled_from(of)))) if of else []

    bounding, permitted = subset(POOL), subset(POOL)
    inheritable = subset(bounding)
    return {
        "bounding": bounding,
        "permitted": permitted,
        "effective": subset(permitted),
        "inheritable": inheritable,
        "ambient": subset(sorted(set(permitted) & set(inheritable))),
    }


@settings(
    max_examples=30,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sets=possible_sets(), uid=st.sampled_from([0, 1000]), userns=st.booleans())
def test_sets_equal_the_model(
    runtime: RuntimeCommand,
    mkbundle: MkBundle,
    sets: dict[str, list[str]],
    uid: int,
    userns: bool,
) -> None:
    """S-37: for any sets, user and user namespace the program has exactly what the model says."""
    bundle = mkbundle().capabilities(**sets).process(user={"uid": uid, "gid": uid})
    if userns:
        bundle.userns()
    report = runtime.report(bundle)
    assert got(report) == model(sets, uid)
    assert report["securebits"] == 0


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("sets", [{}, None])
def test_absent_sets_are_empty(runtime: RuntimeCommand, bundle: Bundle, uid: int, sets: dict[str, Any] | None) -> None:
    """An absent object and absent sets inside it give no capabilities at all."""
    bundle.patch({"process": {"capabilities": None}}).process(user={"uid": uid, "gid": uid})
    if sets is not None:
        bundle.process(capabilities=sets)
    assert got(runtime.report(bundle)) == {name: set() for name in SETS}


def test_unknown_name_is_a_warning(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """W5: a capability that does not exist is warned about and left out."""
    bundle.capabilities("CAP_CHOWN", "CAP_NOT_INVENTED")
    result = runtime.run(bundle).ok()
    assert got(result.report) == model({"bounding": ["CAP_CHOWN"]}, 0)
    if runtime.name == "ocirun":
        (line,) = result.stderr.splitlines()
        assert "warning" in line
        assert bundle.id in line
        assert "/process/capabilities: CAP_NOT_INVENTED" in line


def test_ambient_outside_permitted_gives_nothing_more(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """An ambient capability that cannot be raised is left out with a warning, never granted."""
    bundle.capabilities(bounding=["CAP_CHOWN"], ambient=["CAP_CHOWN"]).process(user={"uid": 1000, "gid": 1000})
    result = runtime.run(bundle)
    if result.rc == 0:
        assert result.report["caps"]["ambient"] == result.report["caps"]["effective"] == 0
    if runtime.name == "ocirun":
        assert "/process/capabilities/ambient: CAP_CHOWN" in result.ok().stderr


def test_file_capabilities_of_the_image(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """CVE-2022-24769: a file with inheritable capabilities gives nothing to a plain user."""
    bit = 1 << CAPABILITIES.index("CAP_NET_RAW")
    bundle.file("/capped", bundle.inside("/probe").read_bytes(), 0o755)
    # struct vfs_cap_data, revision 2, effective bit: cap_net_raw+ie
    xattr = struct.pack("<IIIII", 0x02000001, 0, bit, 0, 0)
    os.setxattr(bundle.inside("/capped"), "security.capability", xattr)
    bundle.process(user={"uid": 1000, "gid": 1000}).seq(["run", "/capped", "report"])
    report = runtime.report(bundle)
    assert report["caps"]["effective"] == report["caps"]["permitted"] == 0
    assert report["argv"][0] == "/capped"


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize(
    "odd",
    [
        ("--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"),
        ("--securebits", "+noroot,+no_setuid_fixup"),
        ("--bounding-set", "-net_admin"),
    ],
    ids=["ambient", "securebits", "bounding"],
)
def test_callers_odd_capabilities_do_not_arrive(
    runtime: RuntimeCommand, bundle: Bundle, odd: tuple[str, ...], uid: int
) -> None:
    """S-39: whatever the caller has in its sets, the container gets the model or is refused."""
    sets = {name: ["CAP_CHOWN"] for name in ("bounding", "permitted", "effective")}
    bundle.capabilities(**sets).process(user={"uid": uid, "gid": uid})
    result = runtime.under("setpriv", *odd).run(bundle)
    if result.rc == 0:
        caps = got(result.report)
        expected = model(sets, uid)
        assert all(caps[name] <= expected[name] for name in SETS), (caps, expected)
        assert caps["inheritable"] == caps["ambient"] == set()


def test_every_capability_of_the_kernel(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """All names that the kernel knows are understood; what the caller lacks cannot be given."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text()
    own = int(status.split("CapBnd:")[1].split()[0], 16)
    names = [name for name in CAPABILITIES[: last + 1] if own & capability_mask([name])]
    bundle.capabilities(*names)
    assert runtime.report(bundle)["caps"]["effective"] == capability_mask(names)
