# SPDX-License-Identifier: Apache-2.0
"""Health, restarts, many at once, and what dies without warning."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.podman import background, in_log, inside, state, trapping


def test_health(podman: Engine) -> None:
    """A health check says what its command says."""
    # Without an interval, because that would be a timer of systemd.
    background(podman, "--health-cmd", "test -e /well", "--health-interval", "disable", "--health-retries", "1")
    podman("healthcheck", "run", "one").fails(1, "unhealthy")
    assert state(podman)["Health"]["Status"] == "unhealthy"
    inside(podman, "touch", "/well")
    podman("healthcheck", "run", "one").ok()
    assert state(podman)["Health"]["Status"] == "healthy"


def test_restart_policy(podman: Engine) -> None:
    """A container that fails starts anew, as often as was said; one that succeeds does not."""
    podman("run", "--detach", "--name", "one", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 1").ok()
    eventually(lambda: podman("logs", "one").out.count("run") == 3 and state(podman)["Status"] == "exited")
    assert podman("inspect", "--format", "{{.RestartCount}}", "one").ok().text == "2"
    podman("run", "--detach", "--name", "two", "--restart", "on-failure", "busybox", "echo", "run").ok()
    eventually(lambda: state(podman, "two")["Status"] == "exited")
    assert podman("logs", "two").ok().text == "run"
    trapping(podman, "", "--restart", "always", name="three")
    os.kill(state(podman, "three")["Pid"], signal.SIGKILL)
    eventually(lambda: podman("logs", "three").out.count("ready") == 2)


def run_many(podman: Engine, count: int, lanes: int, *words: str) -> list[tuple[int, str]]:
    """Run *count* containers, *lanes* at a time, each with its own number at the end; returns what came of each."""
    with ThreadPoolExecutor(lanes) as pool:
        done = list(pool.map(lambda n: podman("run", *words, f"echo {n}; exit {n}", timeout=300), range(count)))
    return [(one.rc, one.text) for one in done]


@pytest.mark.core
def test_parallel_few(podman: Engine) -> None:
    """A few at once, each with its own output and status."""
    assert run_many(podman, 6, 6, "--rm", "busybox", "sh", "-c") == [(n, str(n)) for n in range(6)]


def test_parallel_20(podman: Engine) -> None:
    """Twenty at once."""
    assert run_many(podman, 20, 20, "--rm", "busybox", "sh", "-c") == [(n, str(n)) for n in range(20)]


def test_parallel_short(podman: Engine) -> None:
    """One after the other in each of four lanes, without a network."""
    assert run_many(podman, 24, 4, "--rm", "--network", "none", "busybox", "sh", "-c") == [(n, str(n)) for n in range(24)]


def test_parallel_50(podman: Engine) -> None:
    """Fifty started at once all run; all are gone afterwards, and the fixture sees that nothing is left of them."""
    names = [f"n{n}" for n in range(50)]
    with ThreadPoolExecutor(50) as pool:
        started = list(
            pool.map(lambda name: podman("run", "--detach", "--name", name, "busybox", "sleep", "1000", timeout=300), names)
        )
    assert [one for one in started if one.rc] == []
    found = podman("ps", "--format", "json").ok().json
    assert sorted(one["Names"][0] for one in found) == sorted(names)
    pids = {one["Pid"] for one in found}
    assert {Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids} == {b"sleep\0001000\0"}
    assert len({os.readlink(f"/proc/{pid}/ns/{kind}") for pid in pids for kind in ("pid", "net", "mnt")}) == 150
    podman("rm", "--all", "--force", "--time", "0", timeout=300).ok()
    assert podman("ps", "--all", "--quiet").ok().text == ""
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_conmon_killed(podman: Engine, runtime_path: str) -> None:
    """`kill -9` of conmon: the container runs on, exec and stop work, it can be removed, and the next one works."""
    container = background(podman)
    found = state(podman)
    os.kill(found["ConmonPid"], signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{found['ConmonPid']}").exists())
    assert Path(f"/proc/{found['Pid']}/cmdline").read_bytes() == b"sleep\0001000\0"
    assert inside(podman, "echo", "alive") == "alive"
    podman("stop", "--time", "0", "one").ok()
    eventually(lambda: not Path(f"/proc/{found['Pid']}").exists())
    podman("rm", "--force", "--time", "0", "one").ok()
    background(podman)
    assert inside(podman, "echo", "alive") == "alive"
    # It is conmon that calls the runtime's delete, so that nobody does: what the runtime knows of it, it can take away.
    subprocess.run([runtime_path, "delete", "--force", container], check=True)
    assert container not in subprocess.run([runtime_path, "list", "-q"], check=True, capture_output=True, text=True).stdout


def checkpointed(podman: Engine) -> str:
    """Start a container that counts, and return how far it was."""
    script = "n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.05; done"
    podman("run", "--detach", "--name", "one", "--network", "none", "busybox", "sh", "-c", script).ok()
    return str(eventually(lambda: podman("exec", "one", "cat", "/count").text))


def test_checkpoint_restore(podman: Engine) -> None:
    """A container is written down, and goes on where it was."""
    before = int(checkpointed(podman))
    podman("container", "checkpoint", "one").ok()
    assert state(podman)["Status"] == "exited"
    podman("container", "restore", "one").ok()
    assert state(podman)["Status"] == "running"
    assert eventually(lambda: int(inside(podman, "cat", "/count") or 0) > before)


def test_checkpoint_leave_running(podman: Engine) -> None:
    """A container is written down, and goes on at once."""
    before = int(checkpointed(podman))
    podman("container", "checkpoint", "--leave-running", "one").ok()
    assert state(podman)["Status"] == "running"
    assert eventually(lambda: int(inside(podman, "cat", "/count") or 0) > before)


def test_checkpoint_export(podman: Engine, scratch: Path) -> None:
    """A container is written to a file, removed, and goes on from the file."""
    before = int(checkpointed(podman))
    podman("container", "checkpoint", "--export", scratch / "one.tar", "one").ok()
    podman("rm", "--force", "--time", "0", "one").ok()
    podman("container", "restore", "--import", scratch / "one.tar", "--name", "two").ok()
    assert eventually(lambda: int(inside(podman, "cat", "/count", name="two") or 0) > before)


def test_build(podman: Engine, scratch: Path) -> None:
    """An image is built: its commands run in containers, and what they leave is in it."""
    (scratch / "file").write_text("copied\n")
    (scratch / "Containerfile").write_text(
        "FROM busybox\nARG WHAT=built\nWORKDIR /work\nCOPY file .\nENV NAME=value\n"
        'RUN echo "$WHAT $NAME" >made && id -u >>made\nUSER 1000\nRUN id -u >/tmp/user\nENTRYPOINT ["cat"]\nCMD ["made"]\n'
    )
    podman("build", "--tag", "mine", "--build-arg", "WHAT=made", scratch).ok()
    try:
        assert podman("run", "--rm", "mine").ok().lines == ["made value", "0"]
        assert podman("run", "--rm", "mine", "file", "/tmp/user").ok().lines == ["copied", "1000"]
        (scratch / "Containerfile").write_text("FROM busybox\nRUN exit 7\n")
        podman("build", scratch).fails(words="exit status 7")
    finally:
        podman("rmi", "--force", "mine").ok()
        podman("image", "prune", "--force").ok()


def test_build_limits(podman: Engine, scratch: Path) -> None:
    """A build has the limits that the user says."""
    show = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    (scratch / "Containerfile").write_text(f"FROM busybox\nRUN echo memory=$({show}) files=$(ulimit -n)\n")
    words = ("--no-cache", "--memory", "64m", "--memory-swap", "64m", "--ulimit", "nofile=77:77")
    done = podman("build", *words, scratch).ok()
    podman("image", "prune", "--force").ok()
    assert f"memory={64 << 20} files=77" in done.out
    (scratch / "Containerfile").write_text("FROM busybox\nRUN /probe touch-memory 200\n")
    podman("build", *words, scratch).fails()


def test_api_docker_cli(podman: Engine, scratch: Path) -> None:
    """Docker's command over podman's API."""
    address = f"unix://{scratch}/api"
    service = podman.session("system", "service", "--time", "0", address)
    docker = Engine(["/usr/bin/docker", "--host", address], {"HOME": str(scratch)})
    with service:
        eventually(lambda: docker("version").rc == 0, "no answer from the API")
        assert docker("run", "--rm", "busybox", "echo", "hello").ok().text == "hello"
        docker("run", "--name", "four", "busybox", "sh", "-c", "exit 4").fails(4)
        docker("run", "--detach", "--name", "one", "--memory", "64m", "busybox", "sleep", "1000").ok()
        assert docker("exec", "one", "sh", "-c", "echo from-exec").ok().text == "from-exec"
        assert docker("inspect", "one").ok().json[0]["HostConfig"]["Memory"] == 64 << 20
        assert "one" in docker("ps").ok().out
        docker("kill", "one").ok()
        assert docker("wait", "one").ok().text == "137"
        docker("rm", "one").ok()
        docker("run", "--detach", "--name", "two", "busybox", "sh", "-c", "echo logged; sleep 1000").ok()
        in_log(podman, "logged", "two")
        assert docker("logs", "two").ok().text == "logged"
        docker("rm", "--force", "two").ok()
        service.process.terminate()
        service.process.wait(60)
    # For five minutes podman keeps what would tell the status of an exec to who asks its API for it.
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"conmon") and b"--exec-attach" in words:
            os.kill(int(path.parent.name), signal.SIGKILL)
