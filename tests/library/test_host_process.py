# SPDX-License-Identifier: Apache-2.0
"""The library inside other people's programs: nothing of them is changed, nothing is left in them (D6, V-24)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.bundle import Bundle

from ocirun import ContainerExists, InitError, InvalidConfig, InvalidStatus, Runtime

HERE = Path(__file__).resolve().parent
COUNT = int(os.environ.get("OCIRUN_CROWD", "300"))


@pytest.fixture
def ready(bundle: Bundle) -> str:
    """A bundle on the disk whose program ends at once."""
    bundle.args("exit", "0")
    bundle.write()
    return str(bundle.path)


def test_crowd(ready: str, tmp_path: Path) -> None:
    """S-80: 16 busy threads, 1 GB: no descriptor, child, mount, memory or attribute is different afterwards."""
    done = subprocess.run(
        [sys.executable, "-P", str(HERE / "crowd.py"), str(tmp_path / "state"), ready, str(COUNT), "1024"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["descriptors"][0] == seen["descriptors"][1]
    assert seen["children"] == ["", ""]
    assert seen["mounts"][0] == seen["mounts"][1]
    assert seen["resident"][1] - seen["resident"][0] < 4 << 20, seen
    assert seen["same"]
    assert seen["changed"] == 0
    assert seen["left"] == 0


def test_creating_thread_may_end(ready: str, tmp_path: Path) -> None:
    """R-37: the container outlives the thread that created it."""
    with Runtime(str(tmp_path)) as runtime:
        made = []
        thread = threading.Thread(target=lambda: made.append(runtime.create("thread", ready)))
        thread.start()
        thread.join()
        with made[0] as container:
            assert container.state().status == "created"
            container.start()
            assert container.wait(10) == 0
            container.delete()


def test_sigchld_ignored_by_the_host(ready: str, tmp_path: Path) -> None:
    """R-38: a host that lets the kernel reap its children still gets the exit code, by the pidfd (Linux 6.15)."""
    script = (
        "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from ocirun import Runtime\n"
        "with Runtime(sys.argv[1]) as r, r.create('c', sys.argv[2]) as c:\n"
        "    c.start()\n"
        "    try: print(c.wait(10))\n"
        "    except Exception as e: print(e.code)\n"
        "    c.delete()\n"
        "    print(r.list())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(tmp_path), ready], capture_output=True, text=True, check=False
    )
    code, states = done.stdout.split()
    assert code in ("0", "exit_status_unknown"), done.stderr
    assert states == "[]"


def test_signal_storm_in_the_host(ready: str, tmp_path: Path) -> None:
    """R-34: a handler that fires a thousand times a second changes nothing."""
    fired = []
    before = signal.signal(signal.SIGALRM, lambda *_: fired.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        with Runtime(str(tmp_path)) as runtime:
            for number in range(10):
                with runtime.create(f"storm{number}", ready) as container:
                    container.start()
                    assert container.wait(10) == 0
                    container.delete()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert fired


def test_threads_in_parallel(ready: str, tmp_path: Path) -> None:
    """One Runtime serves many threads at once."""
    errors: list[BaseException] = []
    with Runtime(str(tmp_path)) as runtime:

        def work(name: str) -> None:
            try:
                for number in range(8):
                    with runtime.create(f"{name}-{number}", ready) as container:
                        container.start()
                        assert container.wait(30) == 0
                        container.delete()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert runtime.list() == []


def test_errors_are_typed_and_located(bundle: Bundle, tmp_path: Path) -> None:
    """D9: errors are objects with a code, a place and an errno."""
    bundle.args("exit", "0")
    bundle.mount("/data", "tmpfs", "tmpfs", "size=lots")
    bundle.write()
    index = len(bundle.spec["mounts"]) - 1
    with Runtime(str(tmp_path)) as runtime:
        with pytest.raises(InitError) as failed:
            runtime.create("typed", str(bundle.path))
        assert isinstance(failed.value, OSError)
        assert (failed.value.errno, failed.value.op) == (22, "fsconfig")
        assert failed.value.json_pointer == f"/mounts/{index}"
        del bundle.spec["mounts"][-1]
        bundle.spec["process"]["cwd"] = "not/absolute"
        bundle.write()
        with pytest.raises(InvalidConfig) as invalid:
            runtime.create("typed", str(bundle.path))
        assert invalid.value.problems[0].pointer == "/process/cwd"
        bundle.spec["process"]["cwd"] = "/"
        bundle.write()
        with runtime.create("typed", str(bundle.path)) as container:
            with pytest.raises(ContainerExists):
                runtime.create("typed", str(bundle.path))
            container.start()
            container.wait(10)
            with pytest.raises(InvalidStatus):
                container.start()
            container.delete()
