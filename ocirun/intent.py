# SPDX-License-Identifier: Apache-2.0
"""The intent: the record as it is before anything of the container exists (design D7).

It names all that may come to exist, so that whoever cleans up after a crash need not guess.
"""

from __future__ import annotations

import os
import time

from ocirun import procfs
from ocirun.store import SCHEMA_VERSION
from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups import CgroupManager
    from ocirun.inputs import CreateOptions
    from ocirun.spec.model import Config, Hook
    from ocirun.store import Record


def new_record(
    container_id: str,
    bundle: str,
    rootfs: str,
    config: Config,
    cgroup: CgroupManager,
    options: CreateOptions,
) -> Record:
    """Return the record of a container of which nothing exists yet; the calling process is its creator."""
    assert config.linux is not None
    creator = procfs.process_stat(os.getpid())
    assert creator is not None
    hooks = config.hooks
    return {
        "schemaVersion": SCHEMA_VERSION,
        "ociVersion": SPEC_VERSION,
        "id": container_id,
        "bundle": bundle,
        "rootfs": rootfs,
        "created": _now(),
        "owner": "root" if os.geteuid() == 0 else str(os.geteuid()),
        "annotations": config.annotations,
        "bootId": procfs.boot_id(),
        "creator": {"pid": os.getpid(), "startTime": creator[1]},
        "cgroup": cgroup.record(),
        "frozenFiles": _frozen_files(cgroup),
        "ownPidNamespace": any(each.type == "pid" for each in config.linux.namespaces),
        "pidFile": options.pid_file,
        # What exec has to know of how the process was started.
        "noPivot": options.no_pivot,
        "newKeyring": not options.no_new_keyring,
        # What CRIU has to replace when it restores the process.
        "descriptors": _pipes(config, options),
        "hooks": {
            "poststart": [hook_record(each) for each in hooks.poststart] if hooks else [],
            "poststop": [hook_record(each) for each in hooks.poststop] if hooks else [],
        },
        "init": None,
    }


def _pipes(config: Config, options: CreateOptions) -> list[str]:
    """Return what each standard descriptor of the process leads to, if that is a pipe: its other end is outside."""
    if config.process is None or config.process.terminal:
        return []
    targets = [os.readlink(f"/proc/self/fd/{number if fd is None else fd}") for number, fd in enumerate(options.stdio)]
    return [target if target.startswith("pipe:") else "" for target in targets]


def _frozen_files(cgroup: CgroupManager) -> list[list[str]]:
    """Return [file, content while frozen] pairs by which `state` sees that the container is paused."""
    result = []
    for hierarchy in cgroup.paths():
        if "freezer" in hierarchy.controllers:
            # Not freezer.state: that is FREEZING until the last task is, and what `pause` left when it was killed then
            # must be known to `resume`.
            result.append([f"{hierarchy.directory}/freezer.self_freezing", "1"])
        if hierarchy.version == 2:
            result.append([f"{hierarchy.directory}/cgroup.freeze", "1"])
    return result


def hook_record(hook: Hook) -> dict[str, object]:
    """Return a hook as `start` and `delete` read it back."""
    return {"path": hook.path, "args": list(hook.args), "env": list(hook.env), "timeout": hook.timeout}


def _now() -> str:
    """Return the time as RFC 3339 in UTC with nanoseconds, as runc writes it."""
    now = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    return f"{seconds}.{now % 1_000_000_000:09d}Z"
