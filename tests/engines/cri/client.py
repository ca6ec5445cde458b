# SPDX-License-Identifier: Apache-2.0
"""The Container Runtime Interface, called as the kubelet calls it."""

from __future__ import annotations

import copy
import functools
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # the tests start programs; none of them goes on with the channel
import grpc
from cri.messages import decode, encode
from cri.streaming import Command, Forwarding
from harness.containerd import IMAGE
from harness.engine import TIMEOUT, eventually

CREATED, RUNNING, EXITED = 0, 1, 2  # states of a container
READY, NOT_READY = 0, 1  # of a pod
POD, CONTAINER, NODE, TARGET = 0, 1, 2, 3  # whose namespace
RUNTIME_DEFAULT, UNCONFINED, LOCALHOST = 0, 1, 2  # which profile of seccomp
PRIVATE, HOST_TO_CONTAINER, BIDIRECTIONAL = 0, 1, 2  # propagation


class CriError(Exception):
    """A call that was refused: its name, the code and what was said."""


class Cri:
    """`cri("RunPodSandbox", config=…)` calls a method and returns its answer."""

    def __init__(self, address: str, logs: Path) -> None:
        # Without a name of its own the socket's path would be sent as one, which Go's server refuses.
        self.channel = grpc.insecure_channel(f"unix://{address}", [("grpc.default_authority", "localhost")])
        self.logs = logs
        logs.mkdir()

    def __call__(self, method: str, **fields: Any) -> dict[str, Any]:
        call = self.channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=functools.partial(encode, f"{method}Request"),
            response_deserializer=functools.partial(decode, f"{method}Response"),
        )
        try:
            answer: dict[str, Any] = call(fields, timeout=TIMEOUT, wait_for_ready=True)
        except grpc.RpcError as error:
            raise CriError(f"{method}: {error.code().name}: {error.details()}") from None
        return answer

    def pod(self, name: str = "pod", handler: str = "", **config: Any) -> Pod:
        """Run a pod."""
        return Pod(self, name, handler, config)

    def clean(self) -> None:
        """Stop and remove every pod with all that is in it."""
        for pod in self("ListPodSandbox")["items"]:
            self("StopPodSandbox", pod_sandbox_id=pod["id"])
            self("RemovePodSandbox", pod_sandbox_id=pod["id"])


class Pod:
    """A pod that runs; *config* is what a PodSandboxConfig has beside its metadata."""

    def __init__(self, cri: Cri, name: str, handler: str, config: dict[str, Any]) -> None:
        self.cri = cri
        self.logs = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=cri.logs))
        self.config = {
            "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "tests"},
            "log_directory": self.logs,
            **copy.deepcopy(config),
        }
        security = self.config.setdefault("linux", {}).setdefault("security_context", {})
        self.namespaces = security.setdefault("namespace_options", {"pid": CONTAINER})
        self.id: str = cri("RunPodSandbox", config=self.config, runtime_handler=handler)["pod_sandbox_id"]

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.cri("PodSandboxStatus", pod_sandbox_id=self.id)["status"]
        return answer

    @property
    def ip(self) -> str:
        return str(self.status()["network"]["ip"])

    def stop(self) -> None:
        self.cri("StopPodSandbox", pod_sandbox_id=self.id)

    def remove(self) -> None:
        self.cri("RemovePodSandbox", pod_sandbox_id=self.id)

    def create(self, *command: str, name: str = "main", attempt: int = 0, **config: Any) -> Container:
        """Make a container that is not started."""
        return Container(self, name, attempt, {"command": command, **config})

    def run(self, *command: str, name: str = "main", attempt: int = 0, **config: Any) -> Container:
        """Make a container and start it."""
        return self.create(*command, name=name, attempt=attempt, **config).start()

    def forward(self, port: int) -> Forwarding:
        """Open what forwards ports of the pod."""
        return Forwarding(self.cri("PortForward", pod_sandbox_id=self.id, port=[port])["url"])


class Container:
    """A container of a pod; *config* is what a ContainerConfig has beside its metadata, image and log."""

    def __init__(self, pod: Pod, name: str, attempt: int, config: dict[str, Any]) -> None:
        self.cri = pod.cri
        self.log_path = pod.logs / f"{name}-{attempt}.log"
        whole = {
            "metadata": {"name": name, "attempt": attempt},
            "image": {"image": IMAGE},
            "log_path": self.log_path.name,
            **copy.deepcopy(config),
        }
        security = whole.setdefault("linux", {}).setdefault("security_context", {})
        security.setdefault("namespace_options", pod.namespaces)  # the kubelet tells them again
        answer = self.cri("CreateContainer", pod_sandbox_id=pod.id, config=whole, sandbox_config=pod.config)
        self.id: str = answer["container_id"]

    def start(self) -> Container:
        self.cri("StartContainer", container_id=self.id)
        return self

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.cri("ContainerStatus", container_id=self.id)["status"]
        return answer

    def ended(self) -> dict[str, Any]:
        """Wait until it has ended; returns its status."""
        eventually(lambda: self.status()["state"] == EXITED, f"{self.id} does not end")
        return self.status()

    def exec(self, *command: str, timeout: int = 0) -> tuple[str, str, int]:
        """Run a command in it; returns what it printed, its errors and its exit status."""
        done = self.cri("ExecSync", container_id=self.id, cmd=command, timeout=timeout)
        return done["stdout"].decode(), done["stderr"].decode(), done["exit_code"]

    def shell(self, script: str) -> str:
        """Run a script in it, which must succeed; returns what it printed."""
        out, err, status = self.exec("sh", "-c", script)
        assert status == 0, (script, out, err, status)
        return out

    def stream(self, *command: str, tty: bool = False) -> Command:
        """`kubectl exec -i`."""
        words = {"container_id": self.id, "cmd": command, "tty": tty, "stdin": True, "stdout": True, "stderr": not tty}
        return Command(self.cri("Exec", **words)["url"], tty=tty)

    def attach(self, *, tty: bool = False) -> Command:
        """`kubectl attach -i`."""
        words = {"container_id": self.id, "tty": tty, "stdin": True, "stdout": True, "stderr": not tty}
        return Command(self.cri("Attach", **words)["url"], tty=tty)

    def stop(self, timeout: int = 0) -> None:
        self.cri("StopContainer", container_id=self.id, timeout=timeout)

    def remove(self) -> None:
        self.cri("RemoveContainer", container_id=self.id)

    def update(self, **resources: Any) -> None:
        self.cri("UpdateContainerResources", container_id=self.id, linux=resources)

    def log(self, stream: str = "") -> str:
        """Return what its log has, of one stream or of both: each line is "time stream tag text"."""
        text = ""
        for line in self.log_path.read_text().splitlines():
            _, source, tag, rest = line.split(" ", 3)
            if stream in ("", source):
                text += rest + ("\n" if tag == "F" else "")
        return text
