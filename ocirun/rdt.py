# SPDX-License-Identifier: Apache-2.0
"""linux.intelRdt: a class of service (CLOS) and a monitoring group of the resctrl file system.

A class that exists already is joined if its schemata are the ones asked for, and never changed: others are in it.  What
was made here is removed where create fails; `delete` removes the monitoring group, and the class only if it has the
container's name.  Only what is proven to be ours is removed, by the inode that the record has from right after mkdir:
rmdir succeeds on a class with tasks in it, and throws them into the default class.

Spec: config-linux.md#intelrdt; Kernel: Documentation/filesystems/resctrl.rst
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOENT

from ocirun.errors import KernelError, OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ocirun.spec.model import IntelRdt

    #: Resource -> cache or node -> its mask or bandwidth.
    Schemata = dict[str, dict[int, int]]

_POINTER = "/linux/intelRdt"
#: What the kernel has in a group itself.
RESERVED = frozenset({"info", "mon_data", "mon_groups"})


class RdtGroup:
    """The group of one container below *root*, where the resctrl file system is mounted."""

    def __init__(self, root: str, config: IntelRdt, container_id: str) -> None:
        """Look at what is there.  Errors: OcirunError that names the property."""
        if config.clos_id is None and container_id in RESERVED:
            raise OcirunError(
                f"{_POINTER}: no class of service can have the name {container_id}", json_pointer=_POINTER
            )
        self._root = root
        self._config = config
        self.directory, self.monitoring = _directories(root, config, container_id)
        self.lines = _lines(config, _POINTER)
        self._inodes: dict[str, int] = {}  # of what make() has made
        self._makes_class = not os.path.isdir(self.directory)
        if self._makes_class and config.clos_id is not None and not self.lines:
            pointer = f"{_POINTER}/closID"
            raise OcirunError(
                f"{pointer}: there is no class of service {config.clos_id}, and no schemata to make it with",
                json_pointer=pointer,
            )
        if not self._makes_class:
            self._compare()

    def record(self) -> dict[str, Any]:
        """Return the directories that may come to exist, those of them that `delete` removes, and the inodes known."""
        own = [self.directory] if self._makes_class else []
        monitoring = [self.monitoring] if self.monitoring is not None else []
        kept = own if self._config.clos_id is not None else []
        return {
            "made": own + monitoring,
            "removed": [each for each in own if each not in kept] + monitoring,
            "inodes": dict(self._inodes),
        }

    def make(self, save: Callable[[], None]) -> None:
        """Make what is missing, and call *save* whenever record() says something new.

        Errors: KernelError that names the property, and those of *save*; undo() removes what was made.
        """
        if self._makes_class:
            try:
                self._make_directory(self.directory)
            except FileExistsError:
                # Somebody else was faster, so it is theirs.
                self._makes_class = False
                save()
                self._compare()
            except OSError as error:
                raise self._error(error.errno or 0, "mkdir", self.directory, f"{_POINTER}/closID") from error
        if self._makes_class:
            self._prove(self.directory, save)
            for pointer, line in self.lines:
                self._write(f"{self.directory}/schemata", line, pointer)
        if self.monitoring is not None:
            try:
                self._make_directory(self.monitoring)
            except OSError as error:
                pointer = f"{_POINTER}/enableMonitoring"
                raise self._error(error.errno or 0, "mkdir", error.filename, pointer) from error
            self._prove(self.monitoring, save)

    def place(self, pid: int) -> None:
        """Put a process with one thread into the class, and into the monitoring group; its children are in them too."""
        self._write(f"{self.directory}/tasks", str(pid), _POINTER)
        if self.monitoring is not None:
            self._write(f"{self.monitoring}/tasks", str(pid), f"{_POINTER}/enableMonitoring")

    def undo(self) -> None:
        """Remove what make() has made.  Errors: KernelError"""
        remove(self._inodes, self._inodes, self._remove_directory)

    def _compare(self) -> None:
        if not self.lines:
            return
        there = parse_schemata(_read(f"{self.directory}/schemata").splitlines())
        granularity = _read(f"{self._root}/info/MB/bandwidth_gran").strip()
        for pointer, line in self.lines:
            difference = find_difference(parse_schemata([line]), there, int(granularity or 1))
            if difference is not None:
                raise OcirunError(
                    f"{pointer}: the class of service {self.directory} exists with other schemata: {difference}",
                    json_pointer=pointer,
                )

    def _write(self, path: str, text: str, pointer: str) -> None:
        _write(self._root, path, text, pointer)

    def _error(self, errno: int, op: str, path: str, pointer: str) -> KernelError:
        return _error(self._root, errno, op, path, pointer)

    def _prove(self, path: str, save: Callable[[], None]) -> None:
        self._inodes[path] = os.stat(path, follow_symlinks=False).st_ino
        save()

    def _make_directory(self, path: str) -> None:
        os.mkdir(path, 0o755)

    def _remove_directory(self, path: str) -> None:
        os.rmdir(path)


class SchemataChange:
    """Other schemata for a class that a container's create has made."""

    def __init__(self, directory: str) -> None:
        self._root, _, _ = directory.rpartition("/")
        self._file = f"{directory}/schemata"
        self._before = _read(self._file).splitlines()

    @classmethod
    def of(cls, groups: Mapping[str, Any]) -> SchemataChange | None:
        """Return the change for the container with these groups in its record; None if it joined a class.

        Only a class that is proven to be the one that create made is changed: others may be in any other.
        """
        for directory in groups["made"]:
            if "/mon_groups/" not in directory and directory in groups.get("inodes", {}):
                try:
                    if os.stat(directory, follow_symlinks=False).st_ino == groups["inodes"][directory]:
                        return cls(directory)
                except FileNotFoundError:
                    pass
        return None

    def make(self, config: IntelRdt) -> None:
        """Write the schemata of *config*, all or none.  Errors: KernelError, with a pointer relative to *config*."""
        try:
            for pointer, line in _lines(config, ""):
                _write(self._root, self._file, line, pointer)
        except BaseException as error:
            self.undo(error)
            raise

    def undo(self, error: BaseException) -> None:
        """Write back what was there; if that fails it is a note of *error*."""
        for line in self._before:
            try:
                _write(self._root, self._file, line.strip(), "")
            except KernelError as failure:
                error.add_note(f"while restoring {line.strip()}: {failure}")


def tasks_files(root: str, config: IntelRdt, container_id: str) -> list[str]:
    """Return the files by which a process joins the groups of a container, by writing "0"; the class first."""
    return [f"{each}/tasks" for each in _directories(root, config, container_id) if each is not None]


def _directories(root: str, config: IntelRdt, container_id: str) -> tuple[str, str | None]:
    name = container_id if config.clos_id is None else config.clos_id
    directory = root if name == "/" else f"{root}/{name}"
    return directory, f"{directory}/mon_groups/{container_id}" if config.enable_monitoring else None


def remove(
    directories: Iterable[str],
    inodes: Mapping[str, int],
    remove_directory: Callable[[str], None] = os.rmdir,
) -> list[str]:
    """Remove groups, the last first, where they are the ones with these inodes; returns those without a known inode.

    Such a one may be ours (create died between mkdir and the next write of the record) or that of somebody else who was
    faster.  What is gone, or has another inode and so replaced ours, is no error.  Errors: KernelError
    """
    unproven = []
    for directory in reversed(list(directories)):
        op = "stat"
        try:
            inode = os.stat(directory, follow_symlinks=False).st_ino
            if directory not in inodes:
                unproven.append(directory)
            elif inode == inodes[directory]:
                op = "rmdir"
                remove_directory(directory)
        except OSError as error:
            if error.errno != ENOENT:
                raise KernelError(error.errno or 0, op, directory, json_pointer=_POINTER) from error
    return unproven


def parse_schemata(lines: Iterable[str]) -> Schemata:
    """Return what lines such as "L3:0=7f0;1=1f" say.  Masks are hexadecimal, bandwidths decimal.

    Errors: KernelError with EINVAL for what is no such line.
    """
    result: Schemata = {}
    for line in lines:
        if not line.strip():
            continue
        name, colon, values = line.partition(":")
        resource = result.setdefault(name.strip(), {})
        for value in values.split(";") if colon else ("",):
            place, _, number = value.partition("=")
            try:
                resource[int(place)] = int(number, 10 if _is_bandwidth(name.strip()) else 16)
            except ValueError:
                error = KernelError(EINVAL, "schemata", line)
                error.message = f'{_POINTER}: "{line}" is not a line of schemata'
                error.json_pointer = _POINTER
                raise error from None
    return result


def find_difference(wanted: Schemata, there: Schemata, granularity: int = 1) -> str | None:
    """Return the first thing in *wanted* that *there* does not have, in words; None if it has all.

    What is not asked for may be anything.  The kernel rounds bandwidths up to a multiple of *granularity*.
    """
    for name, resource in wanted.items():
        for place, value in resource.items():
            found = there.get(name, {}).get(place)
            expected = {value}
            if _is_bandwidth(name):
                expected.add(-(-value // granularity) * granularity)
            if found not in expected:
                shown = "nothing" if found is None else str(found) if _is_bandwidth(name) else f"{found:x}"
                return f"{name}:{place} is {shown}"
    return None


def _is_bandwidth(resource: str) -> bool:
    return resource in ("MB", "SMBA")


def _lines(config: IntelRdt, pointer: str) -> list[tuple[str, str]]:
    """Return what is written, in the specification's order, with the property below *pointer* that each comes from."""
    result = []
    if config.l3_cache_schema is not None:
        result += [(f"{pointer}/l3CacheSchema", line) for line in config.l3_cache_schema.splitlines()]
    if config.mem_bw_schema is not None:
        result.append((f"{pointer}/memBwSchema", config.mem_bw_schema))
    result += [(f"{pointer}/schemata/{index}", line) for index, line in enumerate(config.schemata)]
    return result


def _write(root: str, path: str, text: str, pointer: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(fd, f"{text}\n".encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise _error(root, error.errno or 0, "write", path, pointer) from error


def _error(root: str, errno: int, op: str, path: str, pointer: str) -> KernelError:
    # The kernel says in words what was wrong with the last command.
    words = _read(f"{root}/info/last_cmd_status").strip()
    return KernelError(errno, op, path, json_pointer=pointer, hint=None if words in ("", "ok") else words)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
