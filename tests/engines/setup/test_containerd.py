# SPDX-License-Identifier: Apache-2.0
"""containerd with what `setup containerd` writes."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.engine import Engine, Result

from .conftest import daemon

FILE = Path("/etc/containerd/config.toml")
CRI = "io.containerd.grpc.v1.cri"
CASES: dict[str, Callable[[], str | None]] = {
    "no file": lambda: None,
    "another plugin": lambda: f'version = 2\n[plugins."{CRI}"]\n  sandbox_image = "kept"  # why\n',
    "all there is": lambda: subprocess.run(["containerd", "config", "default"], check=True, capture_output=True, text=True).stdout,
}


def dump() -> Any:
    """What containerd makes of its configuration."""
    return tomllib.loads(Engine(["containerd"])("config", "dump").ok().out)


@pytest.mark.core
@pytest.mark.parametrize("case", CASES)
def test_containerd_knows_it(setup: Callable[..., Result], data: Path, runtime_path: str, case: str, scratch: Path) -> None:
    """The CRI service starts with it, knows ocirun and still knows runc, and nothing else has changed."""
    FILE.unlink(missing_ok=True)
    text = CASES[case]()
    if text is not None:
        FILE.write_text(text)
    before = dump() if text is not None else None
    setup("containerd")
    after = dump()
    runtimes = after["plugins"][CRI]["containerd"]["runtimes"]
    assert runtimes.pop("ocirun")["options"]["BinaryName"] == runtime_path
    assert set(runtimes) == {"runc"}
    assert runtimes["runc"]["runtime_type"] == "io.containerd.runc.v2"
    assert after["plugins"][CRI]["containerd"]["default_runtime_name"] == "runc"
    if case == "all there is":  # what was left to defaults is written in another way, so the whole is compared here
        assert after == before
    setup("containerd", "--default")
    assert dump()["plugins"][CRI]["containerd"]["default_runtime_name"] == "ocirun"

    ctr = Engine(["ctr", "--timeout", "10s", "--connect-timeout", "2s"])
    with daemon(scratch / "log", "containerd", "--root", data / "containerd", until=lambda: ctr("version").rc == 0):
        lines = [line.split() for line in ctr("plugins", "ls").ok().lines]
        assert [line[-1] for line in lines if line[:2] == ["io.containerd.grpc.v1", "cri"]] == ["ok"], scratch / "log"
    FILE.unlink()
