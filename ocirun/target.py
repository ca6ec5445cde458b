# SPDX-License-Identifier: Apache-2.0
"""The process of a container that is there, as what enters the container finds its way: exec, mounts.

A directory of /proc that was proven to be that process (V-21), and what is opened below it: no number and no path is
looked up later, so whoever dies meanwhile is an error, and never somebody else.
"""

from __future__ import annotations

import os
from errno import ENOENT, ESRCH

from ocirun import identity, procfs
from ocirun.errors import ContainerNotRunning, KernelError, OcirunError
from ocirun.host import NAMESPACE_FILES
from ocirun.spec.state import STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from ocirun.host import HostFacts
    from ocirun.inputs import Inputs
    from ocirun.spec.model import Linux
    from ocirun.store import Record


def not_running(container_id: str, verb: str) -> ContainerNotRunning:
    """Return the error that the container has stopped; `verb` is what was to be done with it."""
    words = f"cannot {verb} a stopped container: container not running"
    return ContainerNotRunning(words, status=STOPPED, container_id=container_id)


class Target:
    """The process of a container.  All that is opened belongs to *inputs*.

    Errors of every method: ContainerNotRunning where the process is gone, with the words of *verb*; KernelError.
    """

    __slots__ = ("_directory", "_facts", "_id", "_inputs", "_linux", "_record", "_verb")

    def __init__(self, record: Record, linux: Linux, facts: HostFacts, inputs: Inputs, verb: str) -> None:
        self._id: str = record["id"]
        self._record = record
        self._linux = linux
        self._facts = facts
        self._inputs = inputs
        self._verb = verb
        directory = identity.open_directory(record)
        if directory < 0:
            raise not_running(self._id, verb)
        self._directory = inputs.own(directory)

    @property
    def pid(self) -> int:
        """The number of the process, for messages."""
        pid: int = self._record["init"]["pid"]
        return pid

    def open_namespaces(self, kinds: Collection[str] | None = None) -> list[str]:
        """Open its namespaces that are not ours, all or those of some kinds; returns which, inputs of their names.

        Errors: OcirunError where the process has left one that was made for it, for that of the caller.
        """
        found = []
        own = self._facts.namespace_ids
        created = {each.type: index for index, each in enumerate(self._linux.namespaces) if each.path is None}
        for kind in sorted(own if kinds is None else own.keys() & kinds):
            namespace = self._open(f"ns/{NAMESPACE_FILES[kind]}", os.O_RDONLY)
            opened = os.fstat(namespace)
            if (opened.st_dev, opened.st_ino) != own[kind]:
                self._inputs.add(kind, namespace)
                found.append(kind)
                continue
            os.close(namespace)
            if kind in created:
                # It had one of its own, and has left it: with a privileged process we do not go to the host (S-76).
                pointer = f"/linux/namespaces/{created[kind]}"
                raise OcirunError(
                    f"{pointer}: the container's process has gone from its {kind} namespace to that of the runtime",
                    container_id=self._id,
                    json_pointer=pointer,
                )
        return found

    def open_root(self) -> bool:
        """Open its root, where that is not the root of its mount namespace; says whether it is the input "root"."""
        if not self._record.get("noPivot"):
            return False
        self._inputs.add("root", self._open("root", os.O_PATH | os.O_DIRECTORY))
        return True

    def _open(self, path: str, flags: int) -> int:
        try:
            return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError as error:
            raise self._failure(error, "openat", path) from error

    def _read(self, path: str) -> bytes:
        try:
            return procfs.read(path, self._directory)
        except OSError as error:
            raise self._failure(error, "read", path) from error

    def _failure(self, error: OSError, call: str, path: str) -> OcirunError:
        if error.errno in (ENOENT, ESRCH):
            return not_running(self._id, self._verb)
        return KernelError(error.errno or 0, call, f"/proc/{self.pid}/{path}", container_id=self._id)

    def first_ids(self) -> tuple[int, int]:
        """Return the user and group to be in its user namespace: root, or what there is without one."""
        return self._first_id("uid_map"), self._first_id("gid_map")

    def _first_id(self, name: str) -> int:
        first = [int(line.split()[0]) for line in self._read(name).splitlines()]
        return 0 if 0 in first else first[0]

    def denies_groups(self) -> bool:
        """Say whether its user namespace forbids setgroups(2)."""
        return self._read("setgroups").strip() == b"deny"
