# SPDX-License-Identifier: Apache-2.0
"""docker: /etc/docker/daemon.json."""

from __future__ import annotations

from ocirun.engines import EngineConfigError, Proposal, json_text, lookup
from ocirun.engines.config_file import ConfigFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.engines import Request, Table


def propose(request: Request) -> Proposal:
    """Register the runtime, and with it the default.

    Docker says itself at each call which cgroup manager it wants; that is a setting of the daemon, not of a runtime.
    """
    home = "/etc/docker" if request.config_home is None else f"{request.config_home}/docker"
    file = ConfigFile(request.config or f"{home}/daemon.json", json_text, sysroot=request.sysroot)
    present = lookup(file.document, "runtimes", request.name)
    if isinstance(present, dict) and "runtimeType" in present:
        raise EngineConfigError(
            f"{file.path}: runtimes.{request.name} is a shim (runtimeType), which cannot have a path as well",
            hint="another name: --runtime-name",
        )
    settings: Table = {"default-runtime": request.name} if request.is_default else {}
    settings["runtimes"] = {request.name: {"path": request.command}}
    notes = ["dockerd does not start if an option on its command line sets the same: --add-runtime, --default-runtime"]
    user = "--user " if request.config_home is not None else ""
    return Proposal(
        file,
        settings,
        restart=f"systemctl {user}reload docker",
        check="docker info --format '{{json .Runtimes}} {{.DefaultRuntime}}'",
        notes=notes,
    )
