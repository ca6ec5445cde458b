# SPDX-License-Identifier: Apache-2.0
"""The cgroup manager that works on the cgroup file systems itself, in any layout.

In each hierarchy the container has one directory at the same kind of place.  The first hierarchy
(version 2 if it is mounted, also in the hybrid layout where it has no controllers) is the one that
decides: its mkdir is the claim to the place, it carries the mark, and processes are listed, frozen
and killed there.
"""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT

from ocirun.errors import CgroupError

from . import legacy, unified
from .claim import (
    DENIED,
    MODE,
    check_unused,
    existing_components,
    make_directory,
    mark,
    read_mark,
    remove_parents,
    unusable,
)
from .files import (
    Backoff,
    failure,
    move_process,
    open_directory,
    processes,
    read_file,
    remove_below,
    remove_directory,
)
from .hierarchies import CGROUPS_PATH_POINTER, Hierarchy, check_subgroup, parse_own_cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ocirun.spec.resources import Resources


class CgroupfsManager:
    """See `ocirun.cgroups.CgroupManager`."""

    def __init__(self, hierarchies: Sequence[Hierarchy], *, optional: bool = False) -> None:
        self._hierarchies = list(hierarchies)
        self._optional = optional
        self._nonce = ""
        # Index into _hierarchies and inode number of the directory that was made or taken over.
        self._identity: tuple[int, int] | None = None
        self._fds: dict[int, int] = {}
        self._gone: set[int] = set()
        self._marked = False
        self._failed = False
        self._wrong_mode = False

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> CgroupfsManager:
        """Return the manager of a container that another process made, or failed to make."""
        match record:
            case {
                "hierarchies": [*hierarchies],
                "nonce": str(nonce),
                "optional": bool(optional),
                "absent": [*absent],
            } if hierarchies and nonce and all(isinstance(index, int) for index in absent):
                manager = cls(
                    [Hierarchy.from_record(each) for each in hierarchies], optional=optional
                )
            case _:
                raise CgroupError(f"not a record of a cgroup: {record!r}", op="record")
        manager._nonce = nonce
        manager._gone.update(absent)
        match record.get("identity"):
            case [int(index), int(inode)] if 0 <= index < len(hierarchies):
                manager._identity = (index, inode)
        return manager

    def record(self) -> dict[str, Any]:
        """See CgroupManager."""
        if not self._nonce:
            self._nonce = os.urandom(8).hex()
            for index, hierarchy in enumerate(self._hierarchies):
                hierarchy.existing = existing_components(hierarchy)
                if hierarchy.existing == hierarchy.path.count("/") + 1:
                    check_unused(self._hierarchies[index], optional=self._optional)
        return {
            "manager": "cgroupfs",
            "hierarchies": [hierarchy.to_record() for hierarchy in self._hierarchies],
            "nonce": self._nonce,
            "optional": self._optional,
            "identity": list(self._identity) if self._identity else None,
            "absent": sorted(self._gone),
        }

    def create_birthplace(self) -> None:
        """See CgroupManager."""
        if self._hierarchies[0].version == 2:
            self._create(range(1))

    def create(self) -> None:
        """See CgroupManager."""
        self._create(range(1 if 0 in self._fds else 0, len(self._hierarchies)))

    def _create(self, indices: Sequence[int]) -> None:
        if not self._nonce:
            self.record()
        has_birthplace = bool(self._fds)
        made: list[str] = []
        try:
            for index in indices:
                self._create_in(index, made)
            if self._hierarchies[0].version == 2 and len(self._hierarchies) == 1 and indices and self._fds:
                hierarchy = self._hierarchies[0]
                unified.enable_controllers(hierarchy.mount_point, hierarchy.path)
        except BaseException as error:
            self.close()
            # Whatever else is in the recorded places belongs to somebody else.  But init may live in the birthplace:
            # `remove` can do away with that once init is dead.
            if has_birthplace:
                self._hierarchies = self._hierarchies[:1]
            else:
                self._identity, self._failed = None, True
            for path in reversed(made):
                try:
                    remove_directory(path)
                except OSError as another:
                    error.add_note(f"while undoing: {another}")
            raise

    def _create_in(self, index: int, made: list[str]) -> None:
        hierarchy = self._hierarchies[index]
        try:
            fresh = make_directory(hierarchy, made)
            if "cpuset" in hierarchy.controllers:
                legacy.seed_cpuset(hierarchy.mount_point, hierarchy.path)
        except OSError as error:
            if self._optional and error.errno in DENIED:
                self._gone.add(index)
                return
            raise failure(
                f"mkdir {hierarchy.directory}",
                error,
                pointer=CGROUPS_PATH_POINTER,
                hint=_delegation_hint() if error.errno in DENIED else None,
            ) from error
        if not fresh:
            if hierarchy.existing != hierarchy.path.count("/") + 1:
                raise unusable(hierarchy, "another container was given this cgroup meanwhile")
            check_unused(self._hierarchies[index], optional=self._optional)
        self._identify(index)
        if fresh and self._wrong_mode:
            os.fchmod(self._fd(index), MODE)

    def _identify(self, index: int) -> None:
        """Know the first directory again, and have others know whose it is."""
        if self._identity is None:
            fd = self._fd(index)
            status = os.fstat(fd)
            self._identity = (index, status.st_ino)
            # The caller's umask is not ours to change.
            self._wrong_mode = status.st_mode & 0o777 != MODE
            mark(fd, self._nonce)

    def take_over(self, *, make: bool = True) -> None:
        """Make the container's own what somebody else (systemd) made for it, and with *make* the rest of it.

        Parents of what was there stay when the container's is removed.  Errors: CgroupError.
        """
        made: list[str] = []
        for index, hierarchy in enumerate(self._hierarchies):
            try:
                self._fds[index] = open_directory(hierarchy.directory)
            except FileNotFoundError:
                if make:
                    self._create_in(index, made)
                continue
            except OSError as error:
                raise failure(f"open {hierarchy.directory}", error) from error
            hierarchy.existing = hierarchy.path.count("/")
            self._identify(index)

    def clone_into(self, subgroup: str = "") -> int | None:
        """See CgroupManager."""
        for index, hierarchy in enumerate(self._hierarchies):
            if hierarchy.version == 2 and index not in self._gone:
                return self._open_subgroup(index, subgroup)
        return None

    def join_paths(self, subgroup: str = "") -> list[str]:
        """See CgroupManager."""
        below = check_subgroup(subgroup)
        found = []
        for index, hierarchy in enumerate(self._hierarchies):
            if hierarchy.version == 1 and index not in self._gone:
                directory = f"{hierarchy.directory}/{below}" if below else hierarchy.directory
                if below and not os.path.isdir(directory):
                    raise CgroupError(f"{directory}: there is no such cgroup", op="join")
                found.append(f"{directory}/tasks")
        return found

    def _open_subgroup(self, index: int, subgroup: str) -> int:
        path = check_subgroup(subgroup) or "."
        try:
            return open_directory(path, dir_fd=self._fd(index))
        except OSError as error:
            raise failure(f"open {self._hierarchies[index].directory}/{path}", error) from error

    def place(
        self, pid: int, *, cloned: bool = False, joined: bool = False, subgroup: str = ""
    ) -> None:
        """See CgroupManager."""
        prefix = check_subgroup(subgroup)
        path = f"{prefix}/cgroup.procs" if prefix else "cgroup.procs"
        for index, hierarchy in enumerate(self._hierarchies):
            if index in self._gone or (cloned if hierarchy.version == 2 else joined):
                continue
            move_process(path, pid, self._fd(index), hierarchy.directory)

    def apply(
        self, resources: Resources | None, in_user_namespace: bool, *, update: bool = False
    ) -> None:
        """See CgroupManager."""
        if update:
            from .update import update_limits

            if resources is not None:
                update_limits(self, resources, in_user_namespace)
            return
        from .limits import apply_devices, apply_limits

        if resources is not None:
            apply_limits(self, resources)
        apply_devices(self, resources, in_user_namespace)

    def limits_now(self) -> dict[str, str]:
        """See CgroupManager."""
        from .limits import limits_now

        return limits_now(self)

    # What `limits` needs.

    def legacy_controllers(self) -> tuple[str, ...]:
        """Return the controllers of the version 1 hierarchies that the container is in."""
        return tuple(
            controller
            for index, hierarchy in enumerate(self._hierarchies)
            if hierarchy.version == 1 and index not in self._gone
            for controller in hierarchy.controllers
        )

    def has_unified(self) -> bool:
        """Tell whether the container has a version 2 cgroup."""
        return any(
            hierarchy.version == 2 and index not in self._gone
            for index, hierarchy in enumerate(self._hierarchies)
        )

    def directory_of(self, controller: str) -> int | None:
        """Return the borrowed directory for a controller's files, None if there is none."""
        unified_fd = None
        for index, hierarchy in enumerate(self._hierarchies):
            if index in self._gone:
                continue
            if controller in hierarchy.controllers:
                return self._fd(index)
            if hierarchy.version == 2:
                unified_fd = self._fd(index)
        return unified_fd

    def enable(self, controller: str) -> bool:
        """Try to make a controller of version 2 available; False if there is nothing to try."""
        for index, hierarchy in enumerate(self._hierarchies):
            if hierarchy.version == 2 and index not in self._gone:
                unified.enable_controllers(hierarchy.mount_point, hierarchy.path, (controller,))
                return True
        return False

    # Freezing and killing, in the first hierarchy.

    def freeze(self, deadline_s: float = 10.0) -> None:
        """See CgroupManager."""
        index, version = self._freezer()
        (unified if version == 2 else legacy).freeze(self._fd(index), deadline_s)

    def thaw(self) -> None:
        """See CgroupManager."""
        self._freezer()
        # On a hybrid host somebody else may have used the other freezer.
        for index, hierarchy in self._freezers():
            (unified if hierarchy.version == 2 else legacy).thaw(self._fd(index))

    def is_frozen(self) -> bool:
        """See CgroupManager."""
        for _, hierarchy in self._freezers():
            prefix = f"{hierarchy.directory}/"
            try:
                if (unified if hierarchy.version == 2 else legacy).is_frozen(prefix):
                    return True
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno != ENODEV:
                    raise failure("read the freezer state", error) from error
        return False

    def _freezers(self) -> list[tuple[int, Hierarchy]]:
        return [
            (index, hierarchy)
            for index, hierarchy in enumerate(self._hierarchies)
            if index not in self._gone and (hierarchy.version == 2 or "freezer" in hierarchy.controllers)
        ]

    def _freezer(self) -> tuple[int, int]:
        for index, hierarchy in self._freezers():
            return index, hierarchy.version
        raise CgroupError("the container has no cgroup that can be frozen", op="freeze", hint=_delegation_hint())

    def _first(self) -> int:
        for index in range(len(self._hierarchies)):
            if index not in self._gone:
                return index
        raise CgroupError("the container has no cgroup", op="cgroup", hint=_delegation_hint())

    def pids(self) -> list[int]:
        """See CgroupManager."""
        try:
            return processes(self._fd(self._first()))
        except OSError as error:
            raise failure("read cgroup.procs", error) from error

    def kill_all(self, signal: int) -> None:
        """See CgroupManager."""
        from .killing import kill_all

        self._first()
        kill_all(self.paths(), signal)

    def init_subgroup(self, pid: int) -> str:
        """See CgroupManager."""
        if not self.paths():
            return ""  # all of it was out of reach for the user: the container is where its creator was
        hierarchy = self._hierarchies[self._first()]
        try:
            own = parse_own_cgroups(read_file(f"/proc/{pid}/cgroup"))
        except OSError as error:
            raise failure(f"read /proc/{pid}/cgroup", error) from error
        top = f"{hierarchy.root.rstrip('/')}/{hierarchy.path}"
        path = own.get(hierarchy.controllers, "")
        if path != top and not path.startswith(f"{top}/"):
            raise CgroupError(f"process {pid} is in {path!r}, not below {top}", op="cgroup")
        return check_subgroup(path[len(top) :])

    def remove(self, deadline_s: float = 10.0, *, keep_existing: bool = False) -> None:
        """See CgroupManager."""
        if self._failed or not self._may_remove():
            self.close()
            return
        left = [
            index
            for index, hierarchy in enumerate(self._hierarchies)
            if not (keep_existing and hierarchy.existing == hierarchy.path.count("/") + 1)
        ]
        self.close()
        # Usually everybody is dead and there are no children: then this is all.
        left = self._remove_leaves(left)
        if left:
            left = self._empty_and_remove(left, deadline_s)
        if left:
            paths = ", ".join(self._hierarchies[index].directory for index in left)
            raise CgroupError(
                f"cannot remove cgroup {paths}: still in use after {deadline_s:g} s",
                op="rmdir",
                hint="a process in it does not die (uninterruptible sleep?); delete again later",
            )
        for hierarchy in self._hierarchies:
            remove_parents(hierarchy)

    def _remove_leaves(self, indices: Sequence[int]) -> list[int]:
        """Try to remove the container's directories; returns those that are in use."""
        left = []
        for index in indices:
            directory = self._hierarchies[index].directory
            try:
                if not remove_directory(directory):
                    left.append(index)
            except OSError as error:
                if error.errno in DENIED and index in self._gone:
                    continue
                raise failure(f"rmdir {directory}", error) from error
        return left

    def _empty_and_remove(self, left: list[int], deadline_s: float) -> list[int]:
        """Kill, thaw, wait and remove until nothing is left or the deadline is over.

        Returns what is left of what is ours.
        """
        from .killing import kill_remaining

        backoff = Backoff(deadline_s)
        while self._identity is not None or self._marked:
            ours = [index for index in left if self._is_certainly_ours(index)]
            kill_remaining([self._hierarchies[index] for index in ours])
            for index in ours:
                self._remove_children(index)
            left = self._remove_leaves(left)
            if not left or not backoff.wait():
                break
        return [index for index in left if self._is_certainly_ours(index)]

    def _remove_children(self, index: int) -> None:
        directory = self._hierarchies[index].directory
        try:
            fd = open_directory(directory)
            try:
                remove_below(fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise failure(f"rmdir below {directory}", error) from error

    # Whose directories are they?

    def _may_remove(self) -> bool:
        """Tell whether what is in the recorded place is not known to be another container's."""
        for index, hierarchy in enumerate(self._hierarchies):
            try:
                fd = open_directory(hierarchy.directory)
            except OSError as error:
                if error.errno in (ENOENT, *DENIED):
                    continue
                raise failure(f"open {hierarchy.directory}", error) from error
            try:
                made, inode = self._identity or (-1, -1)
                if index == made and os.fstat(fd).st_ino != inode:
                    return False
                # Also where the directory is the same: another container may have taken it over
                # while it was empty.
                mark = read_mark(fd)
                if mark is not None:
                    self._marked = mark == self._nonce
                    return self._marked
            finally:
                os.close(fd)
        return True

    def _is_certainly_ours(self, index: int) -> bool:
        """Tell whether this container made the directory, so that killing in it is right.

        A record from after `create` says so.  An earlier one only names the places; then the mark
        decides, which the first directory alone has.  What is in use and not certainly ours is
        another's, who took the place between our record and our mkdir.
        """
        return self._identity is not None or (self._marked and index == self._first())

    def _fd(self, index: int) -> int:
        """Return the borrowed directory descriptor of the container's cgroup in a hierarchy."""
        fd = self._fds.get(index)
        if fd is None:
            try:
                fd = self._fds[index] = open_directory(self._hierarchies[index].directory)
            except OSError as error:
                raise failure(f"open {self._hierarchies[index].directory}", error) from error
        return fd

    def paths(self) -> list[Hierarchy]:
        """See CgroupManager."""
        return [
            hierarchy
            for index, hierarchy in enumerate(self._hierarchies)
            if index not in self._gone
        ]

    def close(self) -> None:
        """See CgroupManager."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def _delegation_hint() -> str | None:
    from .hints import delegation_hint

    return delegation_hint()
