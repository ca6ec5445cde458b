# SPDX-License-Identifier: Apache-2.0
"""Operations of ocirun-init that were told something wrong: plans that no builder makes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EBADF, ERANGE
from pathlib import Path

import pytest

from ocirun import _native
from ocirun.host import HostFacts
from ocirun.init.process import kill_child
from ocirun.init.protocol import AT_BARRIER, FAILED
from ocirun.plan import ops
from ocirun.plan.encode import encode
from ocirun.plan.namespaces import CLONE_FLAGS

pytestmark = pytest.mark.root


def carry_out(operations: Sequence[ops.Op], directory: Path, slot_count: int = 1) -> _native.Message:
    """Return what init says when it has done the operations, or could not."""
    last = [ops.barrier(ops.BARRIER_CGROUP), ops.execute(("",), (), 0, "")]
    plan = _native.plan_file(encode([*operations, *last], slot_count, 1, 0), str(directory))
    executable, _ = _native.open_init(str(directory))
    ours, theirs = _native.socketpair()
    try:
        spawned = _native.spawn(executable, plan, (theirs, theirs, theirs), (), (theirs,))
    finally:
        for fd in (plan, executable, theirs):
            os.close(fd)
    try:
        message = _native.receive(ours, 60.0)
        assert message is not None
        return message
    finally:
        os.close(ours)
        kill_child(spawned.pid, spawned.pidfd)
        _native.wait(spawned.pidfd, 60.0)
        os.close(spawned.pidfd)


@pytest.mark.parametrize("missing", [0, 1])
def test_capabilities_that_the_parent_does_not_know(tmp_path: Path, missing: int) -> None:
    """V-09: the bounding set is emptied to the kernel's last capability, whatever the plan takes for it."""
    last = HostFacts().cap_last_cap
    message = carry_out([ops.bounding(0, last - missing)], tmp_path)
    if not missing:
        assert message.kind == AT_BARRIER
        return
    assert (message.kind, message.error) == (FAILED, ERANGE)
    assert message.origin == "/process/capabilities/bounding"


@pytest.mark.parametrize("make", [ops.mask, ops.readonly])
def test_restriction_below_a_mount_that_is_not_there(tmp_path: Path, make: type) -> None:
    """V-06: a path below a mount is never looked up below the root, where it would be missing and count as done."""
    slot = 2
    operations = [
        ops.unshare(CLONE_FLAGS["mount"], ""),
        ops.propagation(0x44000, ""),  # MS_PRIVATE | MS_REC
        ops.open_tree(1, str(tmp_path), True, ""),
        ops.rootfs(1, str(tmp_path), 0, 0x80000),  # MS_SLAVE
        make("/kcore", "/linux/maskedPaths/0", slot),
    ]
    message = carry_out(operations, tmp_path, 3)
    assert (message.kind, message.error, message.origin) == (FAILED, EBADF, "/linux/maskedPaths/0")
