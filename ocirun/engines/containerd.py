# SPDX-License-Identifier: Apache-2.0
"""containerd's CRI service: /etc/containerd/config.toml.

The file itself is changed: what `imports` names replaces whole sections of it (containerd issue 5837), so a file of our
own would take everything else away that is said about the CRI service.
"""

from __future__ import annotations

from ocirun.engines import EngineConfigError, Proposal, lookup
from ocirun.engines.config_file import ConfigFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.engines import Request, Table

SHIM = "io.containerd.runc.v2"
#: What the CRI service is called in each version of the file.  containerd 1.3 to 2.x read version 2, 2.x version 3.
PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime", 4: "io.containerd.cri.v1.runtime"}


def propose(request: Request) -> Proposal:
    """Register the runtime as a handler of the CRI service, and make it the default of pods.

    `ctr` and docker read nothing of this.  Where nothing is said about cgroups, it is as for runc in the same file.
    """
    home = "/etc/containerd" if request.config_home is None else f"{request.config_home}/containerd"
    file = ConfigFile(request.config or f"{home}/config.toml", sysroot=request.sysroot)
    version = _version(file)
    service: Table = lookup(file.document, "plugins", PLUGINS[version], "containerd") or {}
    options: Table = {"BinaryName": request.command}
    systemd_cgroup = request.systemd_cgroup
    if systemd_cgroup is None and lookup(service, "runtimes", request.name, "options", "SystemdCgroup") is None:
        systemd_cgroup = lookup(service, "runtimes", "runc", "options", "SystemdCgroup")
    if isinstance(systemd_cgroup, bool):
        options["SystemdCgroup"] = systemd_cgroup
    runtimes: Table = {request.name: {"runtime_type": SHIM, "options": options}}
    if not lookup(service, "runtimes"):
        # With a table of runtimes, containerd 1.x forgets its own entry for runc, which is the default.
        runtimes = {"runc": {"runtime_type": SHIM}} | runtimes
    settings: Table = {} if file.document else {"version": version}
    containerd: Table = {"default_runtime_name": request.name} if request.is_default else {}
    settings["plugins"] = {PLUGINS[version]: {"containerd": containerd | {"runtimes": runtimes}}}
    notes = []
    if {"cri", PLUGINS[2], PLUGINS[version]} & set(lookup(file.document, "disabled_plugins") or ()):
        notes.append(f"{file.path} switches the CRI service off (disabled_plugins): without it this has no effect")
    user = "--user " if request.config_home is not None else ""
    return Proposal(
        file, settings, restart=f"systemctl {user}restart containerd", check="containerd config dump", notes=notes
    )


def _version(file: ConfigFile) -> int:
    version = lookup(file.document, "version")
    if version is None and not file.document:
        return 2  # what every containerd can read that is still to be met
    if version in PLUGINS and isinstance(version, int):
        return version
    said = "without a version, so of version 1" if version is None else f"of version {version!r}"
    raise EngineConfigError(
        f"{file.path}: a file {said}; ocirun knows 2 to 4",
        hint="`containerd config migrate` prints it in a newer version",
    )
