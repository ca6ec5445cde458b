# SPDX-License-Identifier: Apache-2.0
"""Who a user's containers are, inside and outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from harness.engine import Engine
from harness.user import SUBIDS, UID

RUN = ("run", "--rm", "--network", "none")


@pytest.mark.core
def test_idmap(podman: Engine) -> None:
    """root of the container is the user; the others are his subordinate ids."""
    for name in ("uid_map", "gid_map"):
        found = [line.split() for line in podman(*RUN, "busybox", "cat", f"/proc/self/{name}").ok().lines]
        assert found == [["0", str(UID), "1"], ["1", str(SUBIDS), "65536"]]
    assert podman(*RUN, "busybox", "cat", "/proc/self/setgroups").ok().text == "allow"


def test_owner_outside(podman: Engine, directory: Path) -> None:
    """Files that the container makes belong, outside, to the user and to his subordinate ids."""
    script = "touch /mnt/root; touch /mnt/other; chown 1000:1001 /mnt/other"
    podman(*RUN, "-v", f"{directory}:/mnt", "busybox", "sh", "-c", script).ok()
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in directory.iterdir()}
    assert owners == {"root": (UID, UID), "other": (SUBIDS + 999, SUBIDS + 1000)}


def test_user(podman: Engine) -> None:
    """A user by name and by number, with his groups and with more of them, and capabilities for root alone."""
    script = "id -u; id -g; id -G; grep CapEff /proc/self/status"
    by_name = podman(*RUN, "-u", "user", "busybox", "sh", "-c", script).ok().lines
    assert by_name == ["1000", "1000", "1000 1001", "CapEff:\t0000000000000000"]
    by_number = podman(*RUN, "-u", "5:6", "--group-add", "7", "busybox", "sh", "-c", script).ok().lines
    assert by_number[:3] == ["5", "6", "6 7"]
    podman(*RUN, "-u", "nobody-knows", "busybox", "true").fails(words="nobody-knows")


@pytest.mark.core
def test_keep_id(podman: Engine, directory: Path) -> None:
    """--userns keep-id: the user is himself in the container too, and owns what he owned."""
    (directory / "mine").write_text("mine")
    os.chown(directory / "mine", UID, UID)
    words = (*RUN, "--userns", "keep-id", "-v", f"{directory}:/mnt", "busybox")
    assert podman(*words, "sh", "-c", "id -u; id -g; stat -c %u /mnt/mine; touch /mnt/new").ok().lines == ["1000", "1000", "1000"]
    assert (directory / "new").stat().st_uid == UID
    # exec is the same user, in the same user namespace.
    podman("run", "-d", "--name", "it", "--userns", "keep-id", "--network", "none", "busybox", "sleep", "1000").ok()
    pid = podman("inspect", "--format", "{{.State.Pid}}", "it").ok().text
    inside = podman("exec", "it", "sh", "-c", "id -u; readlink /proc/self/ns/user").ok().lines
    assert inside == ["1000", os.readlink(f"/proc/{pid}/ns/user")]


def test_userns_auto_map(podman: Engine) -> None:
    """Maps that podman chooses, and maps that the user writes."""
    chosen = podman(*RUN, "--userns", "auto:size=2000", "busybox", "cat", "/proc/self/uid_map").ok()
    assert sum(int(line.split()[2]) for line in chosen.lines) == 2000
    words = ("--uidmap", "0:1:100", "--uidmap", "1000:2000:10", "--gidmap", "0:1:2000")
    written = podman(*RUN, *words, "-u", "1000:1000", "busybox", "sh", "-c", "cat /proc/self/uid_map; id -u").ok().lines
    assert [line.split() for line in written] == [["0", "1", "100"], ["1000", "2000", "10"], ["1000"]]
