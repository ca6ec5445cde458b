# SPDX-License-Identifier: Apache-2.0
"""containerd: its daemon, and its command `ctr`."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from harness.engine import TIMEOUT, Engine, Result, Session, eventually

ADDRESS = "/run/containerd/containerd.sock"
RUNC_V2 = "io.containerd.runc.v2"
IMAGE = "docker.io/library/busybox:latest"
DEBIAN = "docker.io/library/debian:latest"
PLUGINS = "/usr/lib/cni"
NETWORK = """\
{"cniVersion": "0.4.0", "name": "tests", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {
    "type": "host-local", "dataDir": "/run/cni-addresses", "ranges": [[{"subnet": "10.89.0.0/24"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}}]}
"""
CONF = """\
version = 2
root = "{data}/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"{disabled}]
[grpc]
address = "{address}"
[timeouts]  # by default a task whose shim does not answer within two seconds is of an unknown state
"io.containerd.timeout.shim.cleanup" = "60s"
"io.containerd.timeout.shim.load" = "60s"
"io.containerd.timeout.shim.shutdown" = "60s"
"io.containerd.timeout.task.state" = "60s"
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1ms"
{more}
"""


class Daemon:
    """containerd, which a scenario may stop, kill and start again.

    Where the shim is not told which runtime to call it looks for `runc`: what it finds in its PATH is *command*.
    *more* are lines of the configuration, *disabled* more plugins that are left out.
    """

    def __init__(self, data: Path, command: str, more: str = "", disabled: tuple[str, ...] = ()) -> None:
        self.log = data / "containerd.log"
        self.conf = data / "config.toml"
        left_out = "".join(f', "{name}"' for name in disabled)
        self.conf.write_text(CONF.format(data=data, address=ADDRESS, more=more, disabled=left_out))
        first = data / "bin"
        first.mkdir(exist_ok=True)
        (first / "runc").symlink_to(command)
        self.env = {**os.environ, "PATH": f"{first}:{os.environ['PATH']}"}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(["containerd", "--config", self.conf], env=self.env, stdout=log, stderr=log)
        eventually(self._answers, "containerd does not answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"containerd ended: {self.log.read_text()[-4000:]}"
        return Engine(["ctr", "--address", ADDRESS, "--connect-timeout", "1s"])("version").rc == 0

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone; its containers stay."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(TIMEOUT)


class Ctr(Engine):
    """`ctr`; `run` names the runtime under test."""

    def __init__(self, daemon: Daemon, command: str, namespace: str = "default") -> None:
        super().__init__(["ctr", "--address", ADDRESS, "--namespace", namespace])
        self.daemon = daemon
        self.namespace = namespace
        self.runtime = ["--runtime", RUNC_V2, "--runc-binary", command]

    def run(self, *words: str | Path, stdin: str | None = None) -> Result:
        """`ctr run` with the runtime under test, to its end."""
        return self("run", *self.runtime, *words, stdin=stdin)

    def start(self, *words: str | Path) -> Result:
        """`ctr run --detach` with the runtime under test."""
        return self.run("--detach", *words).ok()

    def talk(self, *words: str | Path, size: tuple[int, int] | None = None) -> Session:
        """`ctr run` with the runtime under test, as a session; with a *size*, with a terminal."""
        return self.session("run", *self.runtime, *(["--tty"] if size else []), *words, size=size)

    def exec(self, name: str, *command: str, stdin: str | None = None) -> Result:
        """`ctr task exec` to its end, under an id that no other has."""
        return self("task", "exec", "--exec-id", f"exec-{os.urandom(6).hex()}", name, *command, stdin=stdin)

    def status(self, name: str) -> str:
        """Return what `ctr task ls` says of a task: RUNNING, PAUSED, STOPPED, or "" if there is none."""
        lines = [line.split() for line in self("task", "ls").ok().lines[1:]]
        return next((words[2] for words in lines if words[0] == name), "")

    def pid(self, name: str) -> int:
        """Return the host's number of a task's first process."""
        lines = [line.split() for line in self("task", "ls").ok().lines[1:]]
        return next(int(words[1]) for words in lines if words[0] == name)

    def state(self, command: str, name: str, root: str | Path = "/run/containerd/runc") -> dict[str, Any]:
        """Return what the runtime itself says of a container."""
        answer: dict[str, Any] = Engine([command, "--root", f"{root}/{self.namespace}"])("state", name).ok().json
        return answer

    def ends(self, name: str, status: int = 0) -> None:
        """Wait until a task has ended, remove it, and see that it has ended with *status*."""
        eventually(lambda: self.status(name) == "STOPPED", f"{name} does not end")
        done = self("task", "rm", name).ok()
        assert f"exit code {status}" in done.err if status else not done.err, done

    def clean(self) -> None:
        """Remove every task and every container."""
        for name in self("task", "ls", "--quiet").ok().text.split():
            self("task", "rm", "--force", name)
        for name in self("container", "ls", "--quiet").ok().text.split():
            eventually(lambda one=name: self("container", "rm", one).rc == 0, f"{name} cannot be removed")


def write_network(directory: Path = Path("/etc/cni/net.d")) -> None:
    """Write the one network that there is, a bridge, where CNI looks for networks, and the plugins where it looks."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "10-tests.conflist").write_text(NETWORK)
    Path("/opt/cni").mkdir(parents=True, exist_ok=True)
    if not Path("/opt/cni/bin").exists():
        Path("/opt/cni/bin").symlink_to(PLUGINS)
