# SPDX-License-Identifier: Apache-2.0
"""`mounts add` and `mounts remove`: mounts of a container that is there.

The record names every mount that was added, by its number in the kernel, before it can be seen: what is unmounted is
never anything else that the container has put in the same place.
"""

from __future__ import annotations

import os

from ocirun import procfs, status, strict_json
from ocirun.errors import ContainerNotFound, InitDied, InvalidConfig, OcirunError, Problem
from ocirun.host import HostFacts
from ocirun.init.process import InitProcess
from ocirun.init.protocol import AT_BARRIER
from ocirun.inputs import CreateOptions, Inputs, fill_stdio
from ocirun.plan import ops
from ocirun.plan.mount_changes import ENTERED, Place, build_adding, build_removing, build_taking_back, check
from ocirun.plan.mounts import normalize
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.model import Config
from ocirun.spec.mount_options import IDMAP
from ocirun.spec.state import CREATED, PAUSED, RUNNING
from ocirun.store import CONFIG
from ocirun.target import Target, not_running
from ocirun.undo import Undo
from ocirun.validate import validate_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.plan.plan import Plan
    from ocirun.runtime import Runtime
    from ocirun.spec.model import Linux, Mount
    from ocirun.store import Entry, Record

    Given = bytes | list[dict[str, Any]]

_VERB = "change the mounts of"
_DEADLINE_S = 60.0


def add(runtime: Runtime, container_id: str, given: Given) -> None:
    """Add mounts to a container, all or none; `Container.add_mounts` documents the parameters."""
    _change(runtime, container_id, given, _Change.add)


def remove(runtime: Runtime, container_id: str, given: Given) -> None:
    """Remove mounts that were added; `Container.remove_mounts` documents the parameters."""
    _change(runtime, container_id, given, _Change.remove)


def _change(runtime: Runtime, container_id: str, given: Given, how: Any) -> None:
    placeholders = fill_stdio()
    try:
        entry = runtime.store.open(container_id)
        try:
            record, config = _lock(entry)
            facts = HostFacts()
            decoded = validate_mounts(config, given, facts)
            inputs = Inputs(CreateOptions())
            try:
                how(_Change(runtime, entry, record, decoded, facts, inputs))
            finally:
                inputs.close()
        finally:
            entry.close()
    finally:
        for fd in placeholders:
            os.close(fd)


def _lock(entry: Entry) -> tuple[Record, dict[str, Any]]:
    """Lock the entry; returns its record and configuration.  Errors: ContainerNotFound, ContainerNotRunning."""
    try:
        entry.lock()
        record = entry.read_record()
        if status.compute(entry, record)[0] not in (CREATED, RUNNING, PAUSED):
            raise not_running(entry.id, _VERB)
        config = strict_json.loads(entry.read(CONFIG))
    except FileNotFoundError:
        raise ContainerNotFound("container does not exist", container_id=entry.id) from None  # removed just now
    assert isinstance(config, dict)
    return record, config


class _Change:
    """One change of the mounts of a container, whose lock is held."""

    def __init__(
        self, runtime: Runtime, entry: Entry, record: Record, config: Config, facts: HostFacts, inputs: Inputs
    ) -> None:
        assert config.linux is not None  # the rules gate asks for it
        self.runtime = runtime
        self.entry = entry
        self.record = record
        self.mounts: tuple[Mount, ...] = tuple(config.mounts)
        self.linux: Linux = config.linux
        self.facts = facts
        self.inputs = inputs
        target = Target(record, self.linux, facts, inputs, _VERB)
        namespaces = target.open_namespaces(ENTERED)
        self.place = Place(
            target.pid,
            namespaces,
            privileged=facts.may_clone_mounts,
            ids=target.first_ids() if "user" in namespaces else (0, 0),
            own_root=target.open_root(),
        )
        self._init: InitProcess | None = None
        self._removed: list[int] = []
        #: Of the mounts that came by: (pointer, destination), and a descriptor for each.
        self._seen: list[tuple[str, str]] = []
        self._seen_fds: list[int] = []

    # add

    def add(self) -> None:
        """Attach the mounts, or leave none of them."""
        problems = check(self.mounts, may_clone=self.facts.may_clone_mounts)
        problems += self._check_maps()
        if problems:
            raise InvalidConfig(problems)
        maps = IdMaps(self.linux.uid_mappings, self.linux.gid_mappings, "/linux") if self.linux.uid_mappings else None
        plan = build_adding(
            self.mounts, self.record["bundle"], self.place, maps=maps, label=self.linux.mount_label
        )
        for number, each in enumerate(plan.maps):
            from ocirun.idmap import make_user_namespace

            namespace = make_user_namespace(each, self.runtime.open_init, self.runtime.store.root)
            self.inputs.add(f"idmap{number}", namespace)
        before = list(self.record.get("mounts", ()))
        undo = Undo()
        undo.add(lambda: self._take_back(before))
        try:
            self._carry_out(plan, self._note)
        except BaseException as error:
            undo.roll_back(error)
            raise

    def _check_maps(self) -> list[Problem]:
        if self.linux.uid_mappings:
            return []
        message = "idmap and ridmap need mappings here, since the container has joined its user namespace"
        return [
            Problem("rule", f"/{index}/options", message)
            for index, mount in enumerate(self.mounts)
            if not mount.uid_mappings and not IDMAP.isdisjoint(mount.options)
        ]

    def _note(self) -> int:
        """A mount is made and nobody can see it yet: put it into the record."""
        fd = self._keep_received()
        index = len(self._seen)
        destination = normalize(self.mounts[index].destination)
        self._seen.append((f"/{index}", destination))
        self._seen_fds.append(fd)
        known = self.record.get("mounts", [])
        self._save([*known, {"destination": destination, "id": _mount_id(fd)}])
        return fd

    def _take_back(self, before: list[dict[str, Any]]) -> None:
        """Unmount what was attached, and forget it; what cannot be unmounted stays in the record, for `remove`."""
        if self._seen:
            for number, fd in enumerate(self._seen_fds):
                self.inputs.add(f"mount{number}", os.dup(fd))
            self._carry_out(build_taking_back(self._seen, self.place), self._keep_received)
        self._save(before)

    # remove

    def remove(self) -> None:
        """Unmount the mounts, or none of them."""
        known = self.record.get("mounts", [])
        wanted: list[tuple[str, str]] = []
        problems = []
        for index, mount in enumerate(self.mounts):
            destination = normalize(mount.destination)
            if any(destination == each for _, each in wanted):
                problems.append(Problem("rule", f"/{index}/destination", f"{destination} is there twice"))
            elif not any(each["destination"] == destination for each in known):
                message = f"{destination} is no mount that was added to this container"
                problems.append(Problem("host", f"/{index}/destination", message))
            wanted.append((f"/{index}/destination", destination))
        if problems:
            raise InvalidConfig(problems)
        self._carry_out(build_removing(wanted, self.place), lambda: self._recognise(wanted[len(self._removed)]))
        self._save(self._left(known))

    def _left(self, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those that are still there: what was mounted in one that is gone, and so after it, went with it."""
        left = []
        gone: tuple[str, ...] = ()
        for each in known:
            if each["id"] in self._removed:
                gone += (f"{each['destination']}/",)
            elif not each["destination"].startswith(gone):
                left.append(each)
        return left

    def _recognise(self, where: tuple[str, str]) -> int:
        """Something stands at a destination: hand it back if it is what was added there."""
        pointer, destination = where
        fd = self._keep_received()
        number = _mount_id(fd)
        if not any(each["destination"] == destination and each["id"] == number for each in self.record["mounts"]):
            raise OcirunError(
                f"{pointer}: {destination}: what was added there is not there any more",
                container_id=self.entry.id,
                json_pointer=pointer,
            )
        self._removed.append(number)
        return fd

    # both

    def _carry_out(self, plan: Plan, at_mount: Any) -> None:
        executable = self.inputs.own(self.runtime.open_init())
        null = self.inputs.own(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
        init = self._init = InitProcess.spawn(
            plan,
            self.entry.id,
            executable=executable,
            fallback_directory=self.runtime.store.root,
            stdio=(null, null, null),
            keep=(),
            inputs=self.inputs.of(plan.inputs[1:]),
            cgroup=-1,
        )
        try:
            init.drive({(AT_BARRIER, ops.BARRIER_MOUNT): at_mount}, _DEADLINE_S)
            init.wait_end(_DEADLINE_S)
        finally:
            init.kill()
            init.close()

    def _keep_received(self) -> int:
        assert self._init is not None
        if self._init.received < 0:
            raise InitDied("ocirun-init sent no mount", container_id=self.entry.id)
        return self.inputs.own(os.dup(self._init.received))

    def _save(self, mounts: list[dict[str, Any]]) -> None:
        self.record["mounts"] = mounts
        self.entry.write_record(self.record)


def _mount_id(fd: int) -> int:
    """Return the number of the mount that a descriptor is on: no other has it while this one is there."""
    _, found, rest = procfs.read(f"/proc/self/fdinfo/{fd}").partition(b"mnt_id:")
    assert found, "proc_pid_fdinfo(5), Linux 3.15"
    return int(rest.split()[0])
