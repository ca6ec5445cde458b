# SPDX-License-Identifier: Apache-2.0
"""`checkpoint`: have CRIU save a container's processes.

Nothing is changed before it is known that CRIU works here.  When it fails, or when we die, it lets the processes go on;
only when it has been told that the images are complete does it kill them.
"""

from __future__ import annotations

import os

from ocirun import procfs
from ocirun.cgroups import open_manager
from ocirun.criu.images import (
    EXTERNAL_NAMESPACES,
    Directories,
    check_config,
    check_privileges,
    config_file,
    external_mounts,
    has_foreign_devices,
    has_own_network,
    is_file,
    resolve_inside,
    stdio_of,
)
from ocirun.criu.log import read_reasons
from ocirun.criu.rpc import DUMP, EMPTY_NETWORK, PRE_DUMP
from ocirun.criu.service import Service, check_criu, find_criu
from ocirun.errors import ContainerNotRunning, CriuError, InvalidStatus, KernelError, OcirunError
from ocirun.host import NAMESPACE_FILES, HostFacts
from ocirun.spec.model import Config
from ocirun.spec.state import PAUSED, RUNNING, STOPPED
from ocirun.store import CONFIG
from ocirun.strict_json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.criu.options import CheckpointOptions
    from ocirun.spec.model import Linux
    from ocirun.store import Entry, Record


def check_status(container_id: str, now: str) -> None:
    """Errors: InvalidStatus unless the container is running or paused."""
    if now in (RUNNING, PAUSED):
        return
    if now == STOPPED:
        raise ContainerNotRunning("container not running", status=now, container_id=container_id)
    words = f"cannot checkpoint a container that is {now}"
    raise InvalidStatus(words, status=now, container_id=container_id)


class Checkpoint:
    """One checkpoint of a container whose entry the caller has locked."""

    def __init__(
        self,
        entry: Entry,
        record: Record,
        options: CheckpointOptions,
        open_init: Callable[[], int],
    ) -> None:
        document = loads(entry.read(CONFIG), what=CONFIG)
        assert isinstance(document, dict)
        self.entry = entry
        self.record = record
        self.options = options
        self.pid: int = record["init"]["pid"]
        self.config = Config.decode(document)
        assert self.config.linux is not None
        self.linux: Linux = self.config.linux
        self._open_init = open_init

    def run(self, image_path: str) -> None:
        """Save the container to a directory, which is made if need be."""
        options = self.options
        check_privileges(HostFacts())
        path = find_criu(options.criu)
        check_criu(path, options.features, self._open_init, self.entry.path)
        check_config(self.config)
        directories = Directories(image_path, options.work_path, make_images=True)
        try:
            self._check_parent(directories)
            descriptors = stdio_of(self.pid, self.record.get("descriptors", ()))
            request = self._request(directories, descriptors)
            if not options.pre_dump:
                directories.write_descriptors(descriptors)
            self._ask(path, request, directories)
        except BaseException:
            directories.close(undo=True)
            raise
        directories.close()

    def _check_parent(self, directories: Directories) -> None:
        parent = self.options.parent_path
        if parent is not None and not os.path.isdir(os.path.join(directories.image_path, parent)):
            raise OcirunError(
                f"the parent path {parent} is no directory, seen from the image path",
                op="criu",
                container_id=self.entry.id,
            )

    def _request(self, directories: Directories, descriptors: list[str]) -> dict[str, Any]:
        manager = open_manager("", "", self.entry.id, None, self.record["cgroup"])
        try:
            hierarchies = manager.paths()
        finally:
            manager.close()
        options: dict[str, Any] = {
            **self.options.request,
            "images_dir_fd": directories.images,
            "work_dir_fd": directories.work,
            "pid": self.pid,
            "root": self.record["rootfs"],
            "config_file": config_file(self.record["annotations"], self.record["rootfs"]),
            "freeze_cgroup": self._freezer(),
            "external": [
                *self._namespaces(),
                *self._mounts(hierarchies),
                *(each for each in descriptors if is_file(each)),
            ],
        }
        if has_own_network(self.config) and has_foreign_devices(self.pid):
            options["empty_ns"] = EMPTY_NETWORK
        return {"type": PRE_DUMP if self.options.pre_dump else DUMP, "opts": options}

    def _freezer(self) -> str | None:
        """Return the cgroup by which CRIU is to freeze the processes: if they are frozen, that by which they are.

        It tells the versions apart by the files.  By another it could not let them run its code.
        """
        files: list[list[str]] = self.record["frozenFiles"]
        for path, frozen in files:
            try:
                if procfs.read(path).strip() == frozen.encode():
                    return os.path.dirname(path)
            except OSError:
                continue
        return os.path.dirname(files[0][0]) if files else None

    def _namespaces(self) -> list[str]:
        """Namespaces that the container has joined are not saved, and joined again."""
        found = []
        for namespace in self.linux.namespaces:
            if namespace.path is None or namespace.type not in EXTERNAL_NAMESPACES:
                continue
            word, key = EXTERNAL_NAMESPACES[namespace.type]
            place = f"/proc/{self.pid}/ns/{NAMESPACE_FILES[namespace.type]}"
            found.append(f"{word}[{os.stat(place).st_ino}]:{key}")
        return found

    def _mounts(self, hierarchies: list[Any]) -> list[str]:
        root = f"/proc/{self.pid}/root"
        found = []
        for destination in external_mounts(self.config, hierarchies):
            place = resolve_inside(root, destination)
            if place is not None:
                found.append(f"mnt[{place}]:{destination}")
        for path in self.linux.masked_paths:
            place = resolve_inside(root, path)
            # Directories are covered by file systems of the container's own.
            if place is not None and not os.path.isdir(root + place):
                found.append(f"mnt[{place}]:/dev/null")
        return found

    def _ask(self, path: str, request: dict[str, Any], directories: Directories) -> None:
        service = Service.start(path, self._open_init, self.entry.path)
        try:
            answer = service.ask(request, {"status-ready": self._tell_ready})
            if not answer.get("success"):
                raise failure(answer, directories, self.options.request["log_file"], "save", self.entry.id)
            if not self.options.pre_dump:  # after one it waits for the next, and has not got it
                service.wait()
        finally:
            service.close()

    def _tell_ready(self, _pid: int, _rights: int) -> None:
        if self.options.status_fd is not None:
            try:
                os.write(self.options.status_fd, b"\0")
            except OSError as error:
                raise KernelError(error.errno or 0, "write", "status_fd") from error


def failure(answer: dict[str, Any], directories: Directories, log: str, verb: str, container_id: str) -> CriuError:
    """Return the error for an answer that says no, with the reasons that CRIU's log has for it."""
    reasons = read_reasons(directories.work, log) or [answer.get("cr_errmsg", "").strip() or "it says no reason"]
    error = CriuError(
        f"criu cannot {verb} the container: {reasons[0]}", container_id=container_id, log=directories.log(log)
    )
    for each in reasons[1:]:
        error.add_note(each)
    return error
