# SPDX-License-Identifier: Apache-2.0
"""CRI-O: a file of our own in /etc/crio/crio.conf.d.

CRI-O reads every file there, whatever its name and however deep, so nothing else may lie in it, not for a moment.
"""

from __future__ import annotations

import os

from ocirun.engines import Proposal, lookup
from ocirun.engines.config_file import ConfigFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.engines import Request, Table

DROP_IN = "50-ocirun.conf"  # after 10-crio.conf of CRI-O's packages, which names a default
#: Without it CRI-O would have ocirun keep its containers in the directory of another runtime.
RUNTIME_ROOT = "/run/ocirun"
#: What a handler needs to know of the machine: where conmon is, among others.
_OF_THE_MACHINE = ("monitor_path", "monitor_cgroup", "monitor_env", "allowed_annotations")


def propose(request: Request) -> Proposal:
    """Register the runtime as a handler, and make it the default of pods.

    CRI-O says itself at each call which cgroup manager it wants.  Where conmon is, and which annotations are allowed,
    is as for the runtime that is the default so far.
    """
    directory = "/etc/crio"
    file = ConfigFile(
        request.config or f"{directory}/crio.conf.d/{DROP_IN}",
        sysroot=request.sysroot,
        spare=None if request.config else directory,
    )
    others = list(_others(directory, file, request.sysroot))
    handler: Table = {"runtime_path": request.command, "runtime_type": "oci", "runtime_root": RUNTIME_ROOT}
    model = _handler(others, _default(others), request.name)
    for key in _OF_THE_MACHINE:
        if key in model and lookup(file.document, "crio", "runtime", "runtimes", request.name, key) is None:
            handler[key] = model[key]
    runtime: Table = {"default_runtime": request.name} if request.is_default else {}
    notes = [
        f"{each.path} is read later and sets default_runtime as well"
        for each in others
        if request.is_default and each.path > file.path and lookup(each.document, "crio", "runtime", "default_runtime")
    ]
    return Proposal(
        file,
        {"crio": {"runtime": runtime | {"runtimes": {request.name: handler}}}},
        restart="systemctl restart crio",
        check="crio status config",
        notes=notes,
    )


def _others(directory: str, file: ConfigFile, sysroot: str) -> Iterator[ConfigFile]:
    """Yield the other files that CRI-O reads, in its order."""
    paths = [f"{directory}/crio.conf"]
    for place, directories, names in os.walk(f"{sysroot}{directory}/crio.conf.d"):
        directories.sort()
        paths += [os.path.join(place, name).removeprefix(sysroot) for name in sorted(names)]
    for path in paths:
        if os.path.realpath(sysroot + path) != file.real:
            yield ConfigFile(path, sysroot=sysroot)


def _default(files: list[ConfigFile]) -> str | None:
    names = [lookup(each.document, "crio", "runtime", "default_runtime") for each in files]
    return next((name for name in reversed(names) if name), None)


def _handler(files: list[ConfigFile], default: str | None, ours: str) -> Table:
    """Return what is said about the default runtime, or about one of the usual ones; never about ocirun itself."""
    for name in dict.fromkeys((default, "crun", "runc")):
        for each in reversed(files):
            found = lookup(each.document, "crio", "runtime", "runtimes", name) if name and name != ours else None
            if isinstance(found, dict):
                return found
    return {}
