# SPDX-License-Identifier: Apache-2.0
"""`plan` of every example bundle is the text in tests/golden, on every machine: the host is an imagined one.

    OCIRUN_UPDATE_GOLDEN=1 pytest tests/unit/test_plan_golden.py

writes the texts anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ocirun.dry_run import plan_document
from ocirun.host import HostFacts
from ocirun.plan.build import build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.execution import Joined, build_joining
from ocirun.plan.explain import _DESCRIPTIONS
from ocirun.plan.mount_changes import ENTERED, Place, build_adding, build_removing
from ocirun.plan.mounts import CgroupMount
from ocirun.plan.plan import Plan
from ocirun.spec.model import Linux, Mount, Process
from ocirun.validate import validate_document

TOP = Path(__file__).resolve().parents[2]
GOLDEN = TOP / "tests/golden"
BUNDLES = sorted(path.parent for path in (TOP / "bundles").glob("*/config.json"))
FACTS = HostFacts.of(cgroup_layout="unified")
# The hierarchies of a Debian of the hybrid days; the first is two controllers mounted together.
HIERARCHIES = {"cpu,cpuacct": ["cpu", "cpuacct"], "memory": [], "pids": [], "systemd": []}


def document(bundle: Path) -> bytes:
    """Return the configuration of a bundle as a copy of it at /bundle has it."""
    return (bundle / "config.json").read_bytes().replace(b"@BUNDLE@", b"/bundle")


def check(name: str, text: str) -> None:
    """Compare with the golden text, or write that."""
    # How long a filter becomes is the machine's matter, and has tests of its own.
    text = re.sub(r"filter of \d+ instructions", "filter of N instructions", text)
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("OCIRUN_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_plan_is_as_before(bundle: Path) -> None:
    """On an imagined host of today with cgroup version 2 the plan is the checked-in one."""
    check(bundle.name, plan_document(document(bundle), "/bundle", FACTS).explain())


@pytest.mark.parametrize("name", ["hello", "userns"])
def test_plan_of_a_hybrid_host(name: str) -> None:
    """Where controllers are in version 1, init joins their cgroups by itself, and a cgroup mount is a tree of them."""
    text = document(TOP / "bundles" / name).replace(
        b'"mounts": [', b'"mounts": [{"destination": "/cgroups", "type": "cgroup", "options": ["ro", "nosuid"]},', 1
    )
    cgroups = [
        CgroupMount(directory, directory.replace("systemd", "name=systemd"), f"/sys/fs/cgroup/{directory}/ID", links)
        for directory, links in HIERARCHIES.items()
    ]
    circumstances = Circumstances(
        "/bundle",
        "ID",
        unified=False,
        cgroups=cgroups,
        join_paths=[f"{each.path}/tasks" for each in cgroups],
    )
    check(f"{name}.hybrid", build(validate_document(text, FACTS), circumstances).explain())


def plan_of_exec() -> Plan:
    """Return the plan of exec with everything that it can have."""
    document = {
        "cwd": "/",
        "args": ["sh"],
        "env": ["PATH=/bin"],
        "terminal": True,
        "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 1000, "gid": 1000, "additionalGids": [5]},
        "apparmorProfile": "profile",
        "oomScoreAdj": 100,
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}],
        "execCPUAffinity": {"initial": "0-1", "final": "64"},
    }
    linux = {"namespaces": [{"type": kind} for kind in ("pid", "mount", "user", "network")]}
    return build_joining(
        Process.decode(document),
        Linux.decode(linux),
        Joined(
            77,
            sorted(("pid", "mount", "user", "network", "time")),
            join_paths=["/sys/fs/cgroup/pids/ID/tasks"],
            rdt_paths=["/sys/fs/resctrl/ID/tasks"],
            keep_count=1,
            keyring="_ses.ID",
            own_root=True,
        ),
    )


def test_plan_of_exec() -> None:
    """The order of exec, seen as a whole."""
    check("exec", plan_of_exec().explain())


def plans_of_mounts() -> dict[str, Plan]:
    """Return the plans that change mounts, by what they do."""
    document = [
        {"destination": "/data", "source": "data", "options": ["rbind", "ro", "rslave"]},
        {"destination": "/scratch", "type": "tmpfs", "options": ["size=1m"]},
    ]
    place = Place(77, ENTERED, privileged=True, ids=(0, 0), own_root=False)
    mounts = [Mount.decode(each) for each in document]
    where = [("/0/destination", "/data"), ("/1/destination", "/scratch")]
    return {
        "mounts-add": build_adding(mounts, "/bundle", place, maps=None, label=None),
        "mounts-remove": build_removing(where, place),
    }


def test_plans_of_mounts() -> None:
    """The order of `mounts add` and `mounts remove`, seen as a whole."""
    for name, plan in plans_of_mounts().items():
        check(name, plan.explain())


def test_every_golden_text_is_used() -> None:
    """No text is left over from a bundle that is gone."""
    names = {bundle.name for bundle in BUNDLES} | {"hello.hybrid", "userns.hybrid", "exec", *plans_of_mounts()}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == names


def test_plans_depend_on_nothing_else() -> None:
    """The same document and facts give the same plan, object by object and byte by byte."""
    for bundle in BUNDLES:
        first, second = (plan_document(document(bundle), "/bundle", FACTS) for _ in range(2))
        assert first.ops == second.ops
        assert first.encode() == second.encode()
        assert first.to_json() == second.to_json()


def test_golden_texts_show_most_operations() -> None:
    """The bundles together use all operations but a few, so that a changed wording is noticed."""
    used = {op.name for bundle in BUNDLES for op in plan_document(document(bundle), "/bundle", FACTS).ops}
    used |= {op.name for plan in (plan_of_exec(), *plans_of_mounts().values()) for op in plan.ops}
    rare = {
        "IO_PRIORITY", "JOIN_CGROUP", "MEMORY_POLICY", "OPEN_NETLINK", "PERSONALITY", "REMOUNT", "ROOT_ATTRIBUTES",
        "SCHEDULER",
    }  # fmt: skip
    assert set(_DESCRIPTIONS) - used <= rare
