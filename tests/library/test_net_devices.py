# SPDX-License-Identifier: Apache-2.0
"""linux.netDevices from inside somebody else's program: its event loop, its namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.oracle import own_process

from ocirun import Runtime
from ocirun.errors import HookError

pytestmark = pytest.mark.root


def test_in_a_running_event_loop(library: Runtime, mkbundle: Callable[..., Bundle]) -> None:
    """A coroutine may create such a container; no thread, loop or namespace of the caller is involved."""
    device = f"v{os.getpid()}"
    subprocess.run(["ip", "link", "add", device, "type", "veth", "peer", "name", f"p{device}"], check=True)
    bundle = mkbundle().linux(netDevices={device: {"name": "ctr0"}}).seq("ready").write()
    stopped = mkbundle({"hooks": {"createRuntime": [{"path": "/bin/false"}]}})
    stopped.linux(netDevices={device: {"name": "ctr0"}}).write()

    def names(pid: int) -> list[str]:
        shown = subprocess.check_output(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-json", "link"])
        return [each["ifname"] for each in json.loads(shown)]

    def attributes() -> dict[str, object]:
        # The loop's own handler of SIGINT describes the task that it would interrupt, which changes by itself.
        return {**own_process(), "signals": signal.getsignal(signal.SIGINT), "threads": threading.active_count()}

    async def create() -> None:
        before = attributes()
        with pytest.raises(HookError, match="/hooks/createRuntime/0"):
            library.create(unique(), str(stopped.path))
        with library.create(unique(), str(bundle.path)) as container:
            assert "ctr0" in names(container.pid)
            container.delete(force=True)
        assert attributes() == before

    library.create(unique(), str(mkbundle().seq("ready").write().path)).delete(force=True)  # opens what it keeps
    try:
        asyncio.run(create())
    finally:
        if Path(f"/sys/class/net/{device}").exists():
            subprocess.run(["ip", "link", "del", device], check=True)
