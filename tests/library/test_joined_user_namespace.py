# SPDX-License-Identifier: Apache-2.0
"""A user namespace that is joined, whose path comes to lead elsewhere while the container is created."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle, unique
from support.holder import Holder

import ocirun.idmap
from ocirun import Runtime

pytestmark = [pytest.mark.root, pytest.mark.userns]


def test_the_namespace_joined_is_the_one_whose_maps_were_read(
    library: Runtime, bundle: Bundle, probe: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/proc/PID/ns/user leads elsewhere as soon as that process enters another namespace."""
    read_maps = ocirun.idmap.read_maps
    path = workdir / "user"
    with Holder(probe, "--user") as first, Holder(probe, "--user") as second:
        for holder, host_id in ((first, 150000), (second, 250000)):
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{holder.pid}/{name}").write_text(f"0 {host_id} 65536\n")
        path.symlink_to(first.ns("user"))
        seen = []

        def read_and_move_on(*arguments: Any) -> Any:
            seen.append(read_maps(*arguments))
            path.unlink()
            path.symlink_to(second.ns("user"))
            return seen[-1]

        monkeypatch.setattr(ocirun.idmap, "read_maps", read_and_move_on)
        bundle.namespaces({"type": "user", "path": str(path)}).seq("ready").write()
        with library.create(unique(), str(bundle.path)) as container:
            assert Path(f"/proc/{container.pid}/ns/user").stat().st_ino == first.inode("user")
            assert Path(f"/proc/{container.pid}/uid_map").read_text().split() == ["0", "150000", "65536"]
            container.delete(force=True)
    assert [each.uid_mappings[0].host_id for each in seen] == [150000]
