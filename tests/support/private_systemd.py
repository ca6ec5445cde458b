# SPDX-License-Identifier: Apache-2.0
"""A real systemd as PID 1 of namespaces of its own, on a machine with cgroup version 1 whose init is another.

It gets a cgroup in each hierarchy and a cgroup namespace, so that it manages a tree of its own, an empty /run, and no
unit but what is made there.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.bundle import unique
from support.cgroup import ROOT, until

PROGRAM = Path("/lib/systemd/systemd")
BUS = Path("/usr/bin/dbus-daemon")
UNITS = {"tests.target": "[Unit]\n"}
UNITS_OF_A_BUS = {
    "tests.target": "[Unit]\nRequires=dbus.service\nAfter=dbus.service\n",
    "dbus.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n",
    "dbus.service": f"""
[Unit]
DefaultDependencies=no
Requires=dbus.socket
[Service]
Type=notify
NotifyAccess=main
ExecStart={BUS} --system --address=systemd: --nofork --nopidfile --systemd-activation
""",
}
# In the namespaces: the hierarchies again, seen from the new cgroup namespace, and then systemd.
SETUP = """
set -e
mount -t proc proc /proc
mount -t tmpfs run /run
mkdir -p /run/systemd/system
mount -t tmpfs cgroups /sys/fs/cgroup
for name in $HIERARCHIES; do
    mkdir "/sys/fs/cgroup/$name"
    case $name in
    unified) mount -t cgroup2 cgroup2 "/sys/fs/cgroup/$name";;
    systemd) mount -t cgroup -o none,name=systemd cgroup "/sys/fs/cgroup/$name";;
    *) mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name";;
    esac
done
exec /lib/systemd/systemd --system --unit=tests.target --log-target=null --show-status=no
"""
JOIN = 'for file in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >"$file"; done; exec "$@"'


def missing() -> str | None:
    """Return why there can be none here, or None."""
    if not PROGRAM.exists():
        return "machine: no systemd installed"
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers") or not (ROOT / "systemd/cgroup.procs").exists():
        return "machine: no cgroup v1 hierarchy of systemd"
    return None


@contextmanager
def private_systemd(*, hybrid: bool) -> Iterator[tuple[str, ...]]:
    """Start one; gives the words that run a command under it.

    With *hybrid* version 2 is there as well, and a system bus if the machine has one to start.
    """
    name = unique("systemd")
    trees = [Path(entry.path) for entry in os.scandir(ROOT) if entry.is_dir() and (hybrid or entry.name != "unified")]
    trees = [tree for tree in trees if (tree / "cgroup.procs").exists()]
    with tempfile.TemporaryDirectory() as units:
        Path(units).chmod(0o755)
        for unit, text in (UNITS_OF_A_BUS if hybrid and BUS.exists() else UNITS).items():
            Path(units, unit).write_text(text)
        for tree in trees:
            (tree / name).mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (tree / file).exists():
                    (tree / name / file).write_text((tree / file).read_text())
        join = "; ".join(f"echo $$ >{tree / name}/cgroup.procs" for tree in trees)
        options = "--pid --fork --kill-child --mount --uts --ipc --cgroup --propagation private"
        environment = {
            "PATH": os.environ["PATH"],
            "HIERARCHIES": " ".join(tree.name for tree in trees),
            "SETUP": SETUP,
            "container": "test",
            # Where transient units are kept, and nothing of the machine's.
            "SYSTEMD_UNIT_PATH": f"/run/systemd/system.control:/run/systemd/transient:{units}",
        }
        process = subprocess.Popen(
            ["sh", "-c", f'{join}; exec unshare {options} sh -c "$SETUP"'],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            pid = _first_child(process)
            until(lambda: _is_up(pid), "systemd is up")
            yield ("nsenter", f"--target={pid}", "--mount", "--pid", "--cgroup", "sh", "-c", JOIN, "sh")
        finally:
            process.kill()  # its child, the init of the pid namespace, dies with it, and all the others
            process.wait()
            for tree in trees:
                until(lambda tree=tree: _remove(tree / name), f"{tree / name} can be removed")  # type: ignore[misc]


def _first_child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def found() -> bool:
        assert process.poll() is None, "systemd could not be started"
        return bool(children.read_text())

    until(found, "systemd starts")
    return int(children.read_text().split()[0])


def _is_up(pid: int) -> bool:
    command = ["nsenter", f"--target={pid}", "--mount", "--pid", "systemctl", "is-active", "tests.target"]
    return subprocess.run(command, check=False, capture_output=True).stdout == b"active\n"


def _remove(top: Path) -> bool:
    try:
        for path, _, _ in os.walk(top, topdown=False):
            os.rmdir(path)
    except OSError:
        return False
    return True
