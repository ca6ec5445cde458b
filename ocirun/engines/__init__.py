# SPDX-License-Identifier: Apache-2.0
"""What makes an engine use ocirun: which settings, in which file of the engine's own configuration.

Each engine is a module with one function, `propose`, which reads what is there and says what should be, and changes
nothing.  Settings are a document of nested tables that is merged into the file: `json_text` and `toml_text` do that,
and `config_file` replaces the file.
"""

from __future__ import annotations

from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ocirun.engines.config_file import ConfigFile

    Table = dict[str, Any]

NAMES = ("podman", "docker", "containerd", "crio")


class EngineConfigError(OcirunError, ValueError):
    """A file of an engine's configuration cannot be read, understood or changed; the message names it.

    Nothing has been changed.
    """

    code = "engine_config"


class Request:
    """What is asked for.

    name: what the engine shall call the runtime; command: the path of the command; is_default: whether containers get
    it unasked; systemd_cgroup: None where nothing was said; sysroot: the directory that stands for "/", "" for "/";
    config: the file to use instead of the usual one; config_home: a user's ~/.config, None for the whole machine.
    """

    __slots__ = ("command", "config", "config_home", "is_default", "name", "sysroot", "systemd_cgroup")

    def __init__(
        self,
        name: str,
        command: str,
        *,
        is_default: bool = False,
        systemd_cgroup: bool | None = None,
        sysroot: str = "",
        config: str | None = None,
        config_home: str | None = None,
    ) -> None:
        self.name = name
        self.command = command
        self.is_default = is_default
        self.systemd_cgroup = systemd_cgroup
        self.sysroot = sysroot
        self.config = config
        self.config_home = config_home


class Proposal:
    """What should be in which file.

    file: that of the engine; settings: what is merged into it; restart: the command after which the engine has read
    it, None where it does so by itself; check: a command that shows whether the engine knows it; notes: what else one
    should know.
    """

    __slots__ = ("check", "file", "notes", "restart", "settings")

    def __init__(
        self, file: ConfigFile, settings: Table, *, restart: str | None, check: str, notes: list[str]
    ) -> None:
        self.file = file
        self.settings = settings
        self.restart = restart
        self.check = check
        self.notes = notes


def merge(before: Table, wanted: Table, name: str, path: tuple[str, ...] = ()) -> Table:
    """Return *before* with *wanted* in it: tables are merged, everything else is replaced.

    Errors: EngineConfigError where a table would meet something that is none; *name* is the file's.
    """
    result = dict(before)
    for key, value in wanted.items():
        place = (*path, key)
        if isinstance(value, dict):
            below = result.get(key, {})
            if not isinstance(below, dict):
                raise EngineConfigError(f"{name}: {'.'.join(place)} is no table of settings")
            result[key] = merge(below, value, name, place)
        elif isinstance(result.get(key), dict):
            raise EngineConfigError(f"{name}: {'.'.join(place)} is a table of settings")
        else:
            result[key] = value
    return result


def leaves(settings: Table, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each setting that is no table, with the path to it."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def lookup(document: object, *path: str) -> Any:
    """Return what is at a path, None where there is nothing."""
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return document


def same(one: object, other: object) -> bool:
    """Say whether two settings are the same; 1 is not true, and 1.0 is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))  # nan
