# SPDX-License-Identifier: Apache-2.0
"""podman and buildah: a file of their own in containers.conf.d.

Podman 3.4 and later read that directory.  Lists replace those of files that were read before, so ours has what is in
those, or podman's own defaults.
"""

from __future__ import annotations

import os

from ocirun.engines import Proposal, lookup
from ocirun.engines.config_file import ConfigFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocirun.engines import Request, Table

DROP_IN = "50-ocirun.conf"

#: The defaults of podman 3.4 to 5.6.  A name that no runtime has does no harm.
SUPPORTS_JSON = ["crun", "runc", "kata", "runsc", "youki", "krun", "ocijail"]
SUPPORTS_NO_CGROUPS = ["crun", "krun"]
#: The documented key, and the one that podman 4.3, for one, looks for.
_NO_CGROUPS_KEYS = ("runtime_supports_nocgroups", "runtime_supports_nocgroup")


def propose(request: Request) -> Proposal:
    """Register the runtime, say that it writes JSON messages and works without cgroups; and make it the default.

    Podman says itself at each call which cgroup manager it wants.
    """
    directories = ["/usr/share/containers", "/etc/containers"]
    if request.config_home is not None:
        directories.append(f"{request.config_home}/containers")
    file = ConfigFile(request.config or f"{directories[-1]}/containers.conf.d/{DROP_IN}", sysroot=request.sysroot)
    others = list(_others(directories, file, request.sysroot))
    after = [each for each in others if _is_after(each.path, file.path)]
    engine: Table = {"runtime": request.name} if request.is_default else {}
    for keys, defaults in ((("runtime_supports_json",), SUPPORTS_JSON), (_NO_CGROUPS_KEYS, SUPPORTS_NO_CGROUPS)):
        names = list(defaults)
        for each in others:
            if each not in after:
                names = _with(names, each.document, keys)
        for name in (*_with([], file.document, keys), request.name):
            if name not in names:
                names.append(name)
        engine |= dict.fromkeys(keys, names)
    engine["runtimes"] = {request.name: [request.command]}
    option = "" if request.is_default else f"--runtime {request.name} "
    return Proposal(
        file,
        {"engine": engine},
        restart=None,
        check=f"podman {option}info --format '{{{{.Host.OCIRuntime.Name}}}} {{{{.Host.OCIRuntime.Path}}}}'",
        notes=list(_notes(request, engine, after)),
    )


def _others(directories: list[str], file: ConfigFile, sysroot: str) -> Iterator[ConfigFile]:
    """Yield the other files that podman reads, in its order."""
    for directory in directories:
        drop_ins = f"{directory}/containers.conf.d"
        try:
            names = sorted(name for name in os.listdir(sysroot + drop_ins) if name.endswith(".conf"))
        except (FileNotFoundError, NotADirectoryError):
            names = []
        for path in (f"{directory}/containers.conf", *(f"{drop_ins}/{name}" for name in names)):
            if os.path.realpath(sysroot + path) != file.real and not os.path.isdir(sysroot + path):
                yield ConfigFile(path, sysroot=sysroot)


def _is_after(path: str, ours: str) -> bool:
    """Say whether podman reads *path* after our file: only one beside it can be."""
    return os.path.dirname(path) == os.path.dirname(ours) and path > ours


def _with(names: list[str], document: Table, keys: tuple[str, ...]) -> list[str]:
    """Return a list after one more file: replaced, or longer where the file says so (podman 5: {append = true})."""
    for key in keys:
        found = lookup(document, "engine", key)
        if isinstance(found, list):
            added = [each for each in found if isinstance(each, str)]
            appends = any(lookup(each, "append") is True for each in found)
            return [*names, *(each for each in added if each not in names)] if appends else added
    return names


def _notes(request: Request, engine: Table, after: list[ConfigFile]) -> Iterator[str]:
    for each in after:
        for key in engine.keys() - {"runtimes"}:
            found = lookup(each.document, "engine", key)
            if found is not None and found != request.name and not (isinstance(found, list) and request.name in found):
                yield f"{each.path} is read later and sets {key} as well: without {request.name}"
    if not request.sysroot and os.environ.get("CONTAINERS_CONF"):
        yield "CONTAINERS_CONF is set: where it is, podman reads no other file"
