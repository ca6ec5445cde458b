# SPDX-License-Identifier: Apache-2.0
"""From cgroupsPath to the scope, its slice, its cgroup and its D-Bus object."""

from __future__ import annotations

import pytest

from ocirun.cgroups.units import parse_scope, unit_object
from ocirun.errors import InvalidConfig


@pytest.mark.parametrize(
    ("path", "cgroup"),
    [
        (None, "system.slice/ocirun-ID.scope"),
        ("", "system.slice/ocirun-ID.scope"),
        ("machine.slice:libpod:abc", "machine.slice/libpod-abc.scope"),
        ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        ("-.slice:p:n", "p-n.scope"),
        (":p:n", "system.slice/p-n.scope"),
        # What runc 1.1.5 makes of empty fields.
        ("::n", "system.slice/-n.scope"),
        (":p:", "system.slice/p-.scope"),
        ("a.slice:p:..", "a.slice/p-...scope"),
        ("a.slice:cri-containerd:x@1_2", "a.slice/cri-containerd-x@1_2.scope"),
    ],
)
def test_scopes(path: str | None, cgroup: str) -> None:
    """systemd.slice(5): a dash in a slice's name is a level of the tree."""
    assert parse_scope(path, "ID", rootless=False).path == cgroup


def test_default_of_a_user() -> None:
    """A user's scopes are in his manager's user.slice, as with runc."""
    assert parse_scope(None, "ID", rootless=True).path == "user.slice/ocirun-ID.scope"
    assert parse_scope(":p:n", "ID", rootless=True).path == "user.slice/p-n.scope"


def test_plus_in_an_id() -> None:
    """The one letter of an ID that no unit may have is written as systemd-escape(1) writes it."""
    assert parse_scope(None, "a+b", rootless=False).unit == "ocirun-a\\x2bb.scope"


@pytest.mark.parametrize(
    "path",
    [
        "plain", "/abs/olute", "a.slice:b", "a.slice:b:c:d", "noslice:p:n", ".slice:p:n", "a--b.slice:p:n",
        "-a.slice:p:n", "a-.slice:p:n", "a.slice:p:x.slice", "a/b.slice:p:n", "a.slice:p:a/b",
        "a.slice:p:n\n", "a.slice:p:é", "a.slice:p:a+b", "a.slice:p:" + "x" * 250,
    ],
)  # fmt: skip
def test_what_is_no_scope(path: str) -> None:
    """Refused at its place, before anybody is asked."""
    with pytest.raises(InvalidConfig) as caught:
        parse_scope(path, "ID", rootless=False)
    assert [problem.pointer for problem in caught.value.problems] == ["/linux/cgroupsPath"]


def test_objects() -> None:
    """As `systemctl status` and sd_bus_path_encode(3) have them."""
    assert unit_object("ocirun-a.scope") == "/org/freedesktop/systemd1/unit/ocirun_2da_2escope"
    assert unit_object("1a\\x2b.scope") == "/org/freedesktop/systemd1/unit/_31a_5cx2b_2escope"
