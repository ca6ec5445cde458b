# SPDX-License-Identifier: Apache-2.0
"""Labels of security modules as operations.  No kernel here has SELinux: this is what shows how it would be asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.plan import ops
from ocirun.plan.build import build
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.labels import mount_options
from ocirun.plan.ops import Op
from ocirun.plan.plan import Plan
from ocirun.spec.model import Config

PROCESS = "system_u:system_r:container_t:s0:c1,c2"
FILES = "system_u:object_r:container_file_t:s0:c1,c2"
EXEC = ops.write_proc("thread-self/attr/exec", PROCESS, "/process/selinuxLabel")


def plan(process: dict[str, Any], **members: Any) -> Plan:
    document = {
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["a"], "user": {"uid": 1, "gid": 1}, **process},
        "linux": {"namespaces": [{"type": "mount"}], **members.pop("linux", {})},
        **members,
    }
    return build(Config.decode(document), Circumstances("/bundle", "ID"))


def places(made: Plan, name: str) -> list[int]:
    return [index for index, op in enumerate(made.ops) if op.name == name]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"apparmorProfile": "p q"}, ops.write_proc("thread-self/attr/apparmor/exec", "exec p q", "/process/apparmorProfile")),
        ({"selinuxLabel": PROCESS}, EXEC),
    ],
)
def test_order_of_labels(members: dict[str, Any], expected: Op) -> None:
    """After pivot_root, while we are root; before `created`, so that create reports it; before no_new_privs and exec."""
    made = plan({"noNewPrivileges": True, **members})
    [at] = [index for index, op in enumerate(made.ops) if op == expected]
    assert places(made, "PIVOT")[0] < at < places(made, "IDS")[0]
    assert at < places(made, "BARRIER")[-1]
    assert at < places(made, "NO_NEW_PRIVILEGES")[0] < places(made, "EXEC")[0]
    assert not [op for op in plan({}).ops if op.name == "WRITE_PROC"]


def test_keyring_has_the_label_of_the_process() -> None:
    """It is made while keys get that label, and nothing after it is."""
    made = plan({"selinuxLabel": PROCESS})
    [keyring] = places(made, "KEYRING")
    key = "thread-self/attr/keycreate"
    assert made.ops[keyring - 1] == ops.write_proc(key, PROCESS, "/process/selinuxLabel")
    assert made.ops[keyring + 1] == ops.write_proc(key, "\n", "/process/selinuxLabel")


MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
    {"destination": "/own", "type": "tmpfs", "source": "tmpfs", "options": ['context="a:b:c:s0:c3,c4"', "size=1m"]},
    {"destination": "/data", "type": "bind", "source": "/data", "options": ["bind"]},
]


def test_mounts_are_labelled() -> None:
    """New file systems get the context, but those that label themselves or say it; binds never; masks do."""
    namespaces = [{"type": "mount"}, {"type": "cgroup"}]
    made = plan({}, mounts=MOUNTS, linux={"namespaces": namespaces, "mountLabel": FILES, "maskedPaths": ["/a"]})
    options = {op.texts[3]: op.texts[2] for op in made.ops if op.name == "MOUNT"}
    assert options == {
        "/proc": (),
        "/sys": (),
        "/dev": ("mode=755", f"context={FILES}"),
        "/dev/pts": (f"context={FILES}",),
        "/dev/mqueue": (),
        "/sys/fs/cgroup": (),
        "/own": ("context=a:b:c:s0:c3,c4", "size=1m"),
    }
    [bind] = [op for op in made.ops if op.name == "BIND"]
    assert FILES not in repr(bind)
    assert [op.texts for op in made.ops if op.name == "MASK"] == [("/a", FILES)]


OPTION = st.sampled_from(["size=1m", "context=x", 'context="x,y"', "fscontext=z", 'lowerdir="a"', "mode=755", 'context="'])


@given(st.lists(OPTION, max_size=4), st.sampled_from(["tmpfs", "proc", "ext4"]), st.none() | st.just(FILES))
def test_options_keep_their_order(options: list[str], kind: str, label: str | None) -> None:
    """Only quotes around contexts go, and at most one context is added, at the end."""
    result = mount_options(kind, options, label)
    plain = ["context=x,y" if option == 'context="x,y"' else option for option in options]
    assert result[: len(options)] == plain
    has_own = any("context=" in option for option in options)
    added = label is not None and kind != "proc" and not has_own
    assert result[len(options) :] == ([f"context={label}"] if added else [])
