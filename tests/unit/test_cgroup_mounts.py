# SPDX-License-Identifier: Apache-2.0
"""Mounts of type cgroup where the host's tree stands in: what becomes of their options."""

from __future__ import annotations

import json
from typing import Any

from ocirun.host import HostFacts
from ocirun.plan.build import Plan, build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.mounts import CgroupMount
from ocirun.plan.ops import Op
from ocirun.spec.mount_options import ATTRIBUTES, MS_PRIVATE, MS_REC, RDONLY
from ocirun.validate import validate_document

NOATIME = ATTRIBUTES["noatime"][0]
NOEXEC = ATTRIBUTES["noexec"][0]
NOSUID = ATTRIBUTES["nosuid"][0]


def plan_of(*options: str, destination: str = "/cg", **circumstances: Any) -> Plan:
    """Return the plan of a container without a cgroup namespace that has a cgroup mount with these options."""
    document = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "mounts": [{"destination": destination, "type": "cgroup", "options": list(options)}],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    }
    config = validate_document(json.dumps(document).encode(), HostFacts.of())
    return build(config, Circumstances("/bundle", "c1", **circumstances))


def bind_of(plan: Plan) -> Op:
    """Return the one operation that shows the tree."""
    [op] = [op for op in plan.ops if op.name == "BIND" and op.texts[3] == "/cg"]
    return op


def test_borrowed_tree_has_the_attributes() -> None:
    """All that a bind mount can have is applied, but the host's tree is read-only whatever is said."""
    plan = plan_of("noatime", "rnoexec", "suid", "rrw", "rprivate", in_user_namespace=True)
    op = bind_of(plan)
    set_bits, cleared, propagation, _, recursive_set, recursive_cleared = op.numbers
    assert set_bits & (NOATIME | RDONLY) == NOATIME | RDONLY
    assert recursive_set & NOEXEC
    assert cleared & NOSUID
    assert not (cleared | recursive_cleared) & RDONLY
    assert propagation == MS_PRIVATE | MS_REC
    assert [each for each in plan.warnings if each.startswith("/mounts/0/")] == [
        "/mounts/0/options: read-only, since the cgroups are not the container's own"
    ]


def test_borrowed_tree_is_the_hosts_file_system() -> None:
    """Options of the file system are left out with a warning that names them."""
    plan = plan_of("ro", "sync", "nsdelegate", in_user_namespace=True)
    assert [each.partition(": left out")[0] for each in plan.warnings] == [
        "/mounts/0/options: sync",
        "/mounts/0/options: nsdelegate",
    ]
    assert plan_of("rro", in_user_namespace=True).warnings == ()


def test_hierarchies_on_the_root() -> None:
    """The directories of version 1 have paths as they are written, also in a mount on "/"."""
    cgroups = [CgroupMount("cpu,cpuacct", "cpu,cpuacct", "/sys/fs/cgroup/cpu/c1", ("cpu",))]
    places = [op.texts for op in plan_of(destination="/", cgroups=cgroups, unified=False).ops]
    assert not any("//" in (text or "") for texts in places for text in texts), places


def test_bind_for_want_of_a_namespace() -> None:
    """Without a cgroup namespace the host's tree is bound: the options of its file system are not for us to set."""
    assert [each.partition(": left out")[0] for each in plan_of("ro", "sync").warnings] == ["/mounts/0/options: sync"]
