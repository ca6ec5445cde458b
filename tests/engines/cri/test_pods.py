# SPDX-License-Identifier: Apache-2.0
"""Pods and their containers from their start to their end."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cri.client import CREATED, EXITED, NOT_READY, POD, READY, RUNNING, Container, Cri, CriError
from harness.engine import eventually


def test_version_status(cri: Cri) -> None:
    """The service tells who it is and that it is ready, the network as well."""
    version = cri("Version", version="v1")
    assert (version["runtime_name"], version["runtime_api_version"]) == ("containerd", "v1")
    conditions = {one["type"]: one["status"] for one in cri("Status")["status"]["conditions"]}
    assert conditions == {"RuntimeReady": 1, "NetworkReady": 1}


@pytest.mark.core
def test_pod_lifecycle(cri: Cri) -> None:
    """A pod is run, listed, stopped twice and removed twice; a container goes the same way."""
    pod = cri.pod("life", labels={"app": "life"}, annotations={"org.example.a": "b"})
    status = pod.status()
    assert status["state"] == READY
    assert status["labels"] == {"app": "life"}
    assert [item["id"] for item in cri("ListPodSandbox")["items"]] == [pod.id]
    container = pod.create("sleep", "1000")
    assert container.status()["state"] == CREATED
    container.start()
    assert container.status()["state"] == RUNNING
    assert [item["id"] for item in cri("ListContainers")["containers"]] == [container.id]
    for _ in range(2):
        container.stop()
    assert container.status()["state"] == EXITED
    for _ in range(2):
        container.remove()
    assert cri("ListContainers")["containers"] == []
    for _ in range(2):
        pod.stop()
    assert pod.status()["state"] == NOT_READY
    for _ in range(2):
        pod.remove()
    assert cri("ListPodSandbox")["items"] == []


@pytest.mark.core
def test_container_log_exit(cri: Cri) -> None:
    """What a container prints is in its log, each output by its name; its status has what it returned."""
    script = "echo out; echo err >&2; printf unfinished; exit 3"
    container = cri.pod().run("sh", "-c", script)
    status = container.ended()
    assert (status["exit_code"], status["reason"]) == (3, "Error")
    assert status["created_at"] < status["started_at"]
    assert status["created_at"] < status["finished_at"]  # which may be before the start is noted
    eventually(lambda: container.log("stdout") == "out\nunfinished")
    assert container.log("stderr") == "err\n"


def test_completed(cri: Cri) -> None:
    """A container that returns 0 is completed."""
    status = cri.pod().run("true").ended()
    assert (status["exit_code"], status["reason"]) == (0, "Completed")


def test_start_error(cri: Cri) -> None:
    """A command that cannot be run is an error of the start, which names it; the pod goes on."""
    pod = cri.pod()
    for name, command, words in (
        ("missing", "no-such-command", "not found in $path"),
        ("path", "/no/such/command", "no such file or directory"),
        ("text", "/etc/passwd", "permission denied"),
    ):
        container = pod.create(command, name=name)
        with pytest.raises(CriError) as caught:
            container.start()
        assert words in str(caught.value).lower()
        assert command in str(caught.value)
        status = container.status()
        assert (status["state"], status["exit_code"], status["reason"]) == (EXITED, 128, "StartError")
        assert words in status["message"].lower()
    assert pod.run("true", name="works").ended()["exit_code"] == 0


def test_stop_term(cri: Cri) -> None:
    """A stop sends TERM and waits for what the process makes of it."""
    container = cri.pod().run("sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    ready(container)
    container.stop(60)
    assert container.status()["exit_code"] == 7
    eventually(lambda: container.log() == "ready\nbye\n")


@pytest.mark.core
def test_stop_kill(cri: Cri) -> None:
    """What does not end within its time is killed, and so are its children."""
    container = cri.pod().run("sh", "-c", "trap '' TERM; sleep 1000 & echo ready; while :; do sleep 0.05; done")
    ready(container)
    container.stop(1)
    assert container.status()["exit_code"] == 137


def test_rm_running_pod(cri: Cri) -> None:
    """A pod is stopped and removed with all that runs in it."""
    pod = cri.pod()
    for number in range(3):
        pod.run("sh", "-c", "sleep 1000 & wait", name=f"c{number}")
    pod.stop()
    assert {item["state"] for item in cri("ListContainers")["containers"]} == {EXITED}
    pod.remove()
    assert cri("ListContainers")["containers"] == []


def test_container_restart(cri: Cri) -> None:
    """A container that ended is followed by the next attempt in the same pod."""
    pod = cri.pod()
    for attempt in range(3):
        container = pod.run("sh", "-c", f"echo attempt {attempt}; exit {attempt}", attempt=attempt)
        assert container.ended()["exit_code"] == attempt
        eventually(lambda one=container, number=attempt: one.log() == f"attempt {number}\n")
        if attempt:
            container.remove()
    with pytest.raises(CriError, match="reserved"):
        pod.create("true", attempt=0)


def test_kill_from_inside(cri: Cri) -> None:
    """A process that is killed by another, of its own container or of a neighbour in the pod's PID namespace."""
    pod = cri.pod(linux={"security_context": {"namespace_options": {"pid": POD}}})
    victim = pod.run("sh", "-c", "echo $$; sleep 1000 & wait", name="victim")
    eventually(lambda: victim.log_path.exists() and victim.log())
    killer = pod.run("kill", "-9", victim.log().strip(), name="killer")
    assert killer.ended()["exit_code"] == 0
    assert victim.ended()["exit_code"] == 137
    alone = cri.pod("alone").run("sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    ready(alone)
    alone.shell("kill 1")
    assert alone.ended()["exit_code"] == 9


def test_default_handler(cri: Cri) -> None:
    """No handler is the default one; one that is named is taken; one that is unknown is refused."""
    assert cri.pod("unnamed").run("true").ended()["exit_code"] == 0
    other = cri.pod("named", handler="other")
    assert other.status()["runtime_handler"] == "other"
    assert other.run("true").ended()["exit_code"] == 0
    with pytest.raises(CriError, match="no-such-handler"):
        cri.pod("unknown", handler="no-such-handler")


@pytest.mark.core
def test_parallel_pods(cri: Cri) -> None:
    """Eight pods at once, two containers in each."""

    def one(number: int) -> list[tuple[int, str]]:
        pod = cri.pod(f"many{number}")
        both = [pod.run("sh", "-c", f"echo {name}; exit {number}", name=name) for name in ("a", "b")]
        ended = [container.ended()["exit_code"] for container in both]
        for container in both:
            eventually(container.log)
        logs = [container.log().strip() for container in both]
        pod.stop()
        pod.remove()
        return list(zip(ended, logs, strict=True))

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(8)))
    assert done == [[(number, "a"), (number, "b")] for number in range(8)]
    assert cri("ListPodSandbox")["items"] == []


def ready(container: Container) -> None:
    """Wait until a container has printed that it is."""
    eventually(lambda: container.log_path.exists() and "ready\n" in container.log())


def host_pid(container: Container) -> int:
    """Return the host's number of a container's first process, by its cgroup."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and container.id in (entry / "cgroup").read_text():
                status = (entry / "status").read_text()
                if next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1] == "1":
                    return int(entry.name)
        except OSError:
            continue  # has just ended
    raise AssertionError(f"no process of {container.id} among {os.listdir('/proc')}")
