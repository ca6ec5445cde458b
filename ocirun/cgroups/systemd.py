# SPDX-License-Identifier: Apache-2.0
"""The cgroup manager that asks systemd for a scope, and works below it as the cgroupfs manager does.

systemd owns the tree on its hosts: what it does not know of it may change or remove.  So the container's cgroup is that
of a transient scope, delegated (nothing below it is systemd's business), with a property for every limit that systemd
would write itself.

How init gets in.  systemd makes no scope without a process, so `place` has it made around the process that shall be in
it: init, or the first process of two, whose child init is born there.  That process waits at BARRIER_CGROUP meanwhile,
before anything of the container runs and before it makes its cgroup namespace.  (A placeholder first and
CLONE_INTO_CGROUP then would be one process more for the same move, which systemd makes either way; and an ordinary
user outside of his own tree may not use CLONE_INTO_CGROUP, whereas his systemd may ask root's to move his process.)

Whose unit is it.  A unit of this name may be anybody's.  Ours is told by its description, which holds a number from the
record, and which systemd sets in the same step that makes the unit: after a crash at any moment it can be removed, and
another's never is.

Freezing is done by the kernel's file and not by FreezeUnit: it needs no bus, waits for the kernel's answer, and is
there with every version of systemd.  systemd writes that file only when it is asked to.
"""

from __future__ import annotations

import os

from ocirun.errors import CgroupError, InvalidConfig

from .cgroupfs import CgroupfsManager
from .files import read_file
from .hierarchies import CGROUPS_PATH_POINTER, discover, parse_own_cgroups
from .units import Scope, parse_scope, unit_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ocirun.spec.resources import Resources

    from .hierarchies import Hierarchy
    from .settings import Setting
    from .systemd_bus import Property, SystemdBus

SYSTEM_ADDRESSES = ("unix:path=/run/dbus/system_bus_socket", "unix:path=/run/systemd/private")
OOM_GROUP = "memory.oom.group"


class SystemdManager:
    """See `ocirun.cgroups.CgroupManager`.

    The connection to systemd is opened by what needs it, and closed by `close`.
    """

    def __init__(self, scope: Scope, container_id: str, *, user: bool, nonce: str) -> None:
        self._scope = scope
        self._id = container_id
        self._user = user
        self._nonce = nonce
        self._addresses: Sequence[str] = ()
        self._layout = ""
        self._annotations: Mapping[str, str] = {}
        self._kills_as_group = False
        self._files: CgroupfsManager | None = None
        self._bus: SystemdBus | None = None
        self._version, self._root = -1, ""
        self._is_started = False

    @classmethod
    def new(
        cls,
        layout: str,
        container_id: str,
        cgroups_path: str | None,
        *,
        rootless: bool,
        annotations: Mapping[str, str],
        resources: Resources | None,
    ) -> SystemdManager:
        """Return the manager of a container that is to be made.  Errors: InvalidConfig, CgroupError."""
        if rootless and layout != "unified":
            raise CgroupError(
                "the systemd cgroup manager of an ordinary user needs cgroup version 2 alone",
                op="open",
                hint="version 1 cannot be delegated safely; use the cgroup manager 'disabled'",
            )
        scope = parse_scope(cgroups_path, container_id, rootless=rootless)
        manager = cls(scope, container_id, user=rootless, nonce=os.urandom(8).hex())
        manager._addresses = user_addresses() if rootless else system_addresses()
        manager._layout = layout
        manager._annotations = annotations
        unified = resources.unified if resources is not None else {}
        manager._kills_as_group = unified.get(OOM_GROUP, "").strip() == "1"
        return manager

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> SystemdManager:
        """Return the manager of a container that another process made, or failed to make."""
        match record:
            case {
                "slice": str(slice_name),
                "unit": str(unit),
                "id": str(container_id),
                "user": bool(user),
                "nonce": str(nonce),
                "addresses": [*addresses],
                "files": dict(files),
            } if nonce and all(isinstance(each, str) for each in addresses):
                manager = cls(Scope(slice_name, unit), container_id, user=user, nonce=nonce)
            case _:
                raise CgroupError(f"not a record of a scope: {record!r}", op="record")
        manager._addresses = addresses
        manager._files = CgroupfsManager.from_record(files)
        manager._is_started = True
        return manager

    def record(self) -> dict[str, Any]:
        """See CgroupManager."""
        if self._files is None:
            _, root = self._ask_manager()
            hierarchies = discover(self._layout, f"{root.rstrip('/')}/{self._scope.path}", self._id)
            self._files = CgroupfsManager(hierarchies)
        return {
            "manager": "systemd",
            "slice": self._scope.slice,
            "unit": self._scope.unit,
            "id": self._id,
            "user": self._user,
            "nonce": self._nonce,
            "addresses": list(self._addresses),
            "files": self._files.record(),
        }

    def create_birthplace(self) -> None:
        """Make nothing: systemd makes no scope without a process."""

    def create(self) -> None:
        """Make nothing, as above."""

    def clone_into(self, subgroup: str = "") -> int | None:
        """See CgroupManager; None until the scope is there."""
        return self._cgroup().clone_into(subgroup) if self._is_started else None

    def join_paths(self, subgroup: str = "") -> list[str]:
        """See CgroupManager."""
        return self._cgroup().join_paths(subgroup)

    def place(self, pid: int, *, cloned: bool = False, joined: bool = False, subgroup: str = "") -> None:
        """Move *pid* into the cgroup; the first time by starting the scope with it."""
        if not self._is_started:
            self._start(pid)
            cloned = True
        self._cgroup().place(pid, cloned=cloned, joined=joined, subgroup=subgroup)

    def _start(self, pid: int) -> None:
        from .unit_annotations import annotation_properties

        extra, problems = annotation_properties(self._annotations)
        if problems:
            raise InvalidConfig(problems)
        properties = [*self._base_properties(pid, [name for name, _ in extra]), *extra]
        try:
            self._start_with(properties)
        except CgroupError as error:
            self._locate(error)
            raise
        self._is_started = True
        files = self._cgroup()
        _check_member(pid, files.paths())
        files.take_over()

    def _base_properties(self, pid: int, given: Sequence[str]) -> list[Property]:
        accounting = ["CPUAccounting", "MemoryAccounting", "TasksAccounting"]
        accounting.append("IOAccounting" if self._layout == "unified" else "BlockIOAccounting")
        properties: list[Property] = [
            ("Description", ("s", self._description)),
            ("Slice", ("s", self._scope.slice)),
            ("Delegate", ("b", True)),
            ("PIDs", ("au", [pid])),
            *((name, ("b", True)) for name in accounting if name not in given),
        ]
        if self._layout != "unified":
            from .unit_properties import device_properties

            properties += device_properties(None, legacy=True)
        if "DefaultDependencies" not in given:
            # With them the scope would be stopped early at shutdown, and start after the whole of basic.target.
            properties.append(("DefaultDependencies", ("b", False)))
        if self._kills_as_group and "OOMPolicy" not in given:
            # Otherwise systemd would write 0 to memory.oom.group again.
            properties.append(("OOMPolicy", ("s", "kill")))
        return properties

    def _start_with(self, properties: Sequence[Property]) -> None:
        from .systemd_bus import UNIT_EXISTS, BusError

        bus, unit = self._connection(), self._scope.unit
        was_reset = False
        while True:
            try:
                bus.start_transient_unit(unit, properties)
            except BusError as error:
                refused = error
            else:
                return
            if refused.name == UNIT_EXISTS and not was_reset:
                # A unit that failed is kept until somebody says that he has seen it; one that is active stays.
                self._reset_failed()
                was_reset = True
            elif "OOMPolicy" in refused.message and ("OOMPolicy", ("s", "kill")) in properties:
                # Scopes have it since systemd 253, and as a fix in some before: the file alone has to do.
                properties = [each for each in properties if each[0] != "OOMPolicy"]
            elif refused.name != UNIT_EXISTS:
                raise refused
            else:
                break
        raise CgroupError(
            f"{CGROUPS_PATH_POINTER}: there is a unit {unit} already, and it is not this container's",
            op="StartTransientUnit",
            json_pointer=CGROUPS_PATH_POINTER,
        )

    def _locate(self, error: CgroupError) -> None:
        """Say which annotation an error is about, if systemd's words name its property."""
        from .unit_annotations import PREFIX, annotation_pointer

        words = error.message.replace(",", " ").replace(":", " ").split()
        given = [key for key in self._annotations if key.startswith(PREFIX)]
        for key in given:
            name = key.removeprefix(PREFIX)
            if name in words or f"{name.removesuffix('Sec')}USec" in words:
                _point(error, annotation_pointer(key))
        if given and "properties" in words:
            # The type is wrong; whose it is is not said.
            _point(error, annotation_pointer(given[0]) if len(given) == 1 else "/annotations")

    def apply(
        self, resources: Resources | None, in_user_namespace: bool, *, update: bool = False
    ) -> None:
        """See CgroupManager.

        Properties first, since systemd writes the files for them at once and some of its values are rounded.
        """
        from .limits import apply_devices, limits_of, write_limits
        from .settings import POINTER
        from .systemd_rules import check_devices

        files = self._cgroup()
        if resources is not None:
            problems = check_devices(resources, files.legacy_controllers(), "" if update else POINTER)
            if problems:
                raise InvalidConfig(problems)
        if update:
            if resources is not None:
                self._update(resources, in_user_namespace)
            return
        settings = limits_of(files, resources) if resources is not None else []
        self._set_properties(settings, self._device_properties(resources))
        write_limits(files, settings)
        apply_devices(files, resources, in_user_namespace)

    def _update(self, resources: Resources, in_user_namespace: bool) -> None:
        from .update import update_limits

        update_limits(
            self._cgroup(),
            resources,
            in_user_namespace,
            tell=self._set_properties,
            tell_devices=lambda: self._set_properties((), self._device_properties(resources)),
        )

    def limits_now(self) -> dict[str, str]:
        """See CgroupManager."""
        return self._cgroup().limits_now()

    def _device_properties(self, resources: Resources | None) -> list[Property]:
        from .unit_properties import device_properties

        if self._user:
            return []  # his systemd may not load device programs
        legacy = "devices" in self._cgroup().legacy_controllers()
        return device_properties(_device_lines(resources), legacy=legacy)

    def _set_properties(self, settings: Sequence[Setting], devices: Sequence[Property] = ()) -> None:
        from .unit_properties import limit_properties

        files = self._cgroup()
        version, _ = self._ask_manager()
        controller = "blkio" if "blkio" in files.legacy_controllers() else "io"
        io = files.directory_of(controller)
        limits = limit_properties(
            settings,
            version=version,
            has_bfq=io is not None and os.access(f"{controller}.bfq.weight", os.F_OK, dir_fd=io),
            cpu_max_now=_cpu_max_now(files),
            is_idle=_is_idle(files),
        )
        properties = [*(each for each, _ in limits.values()), *devices]
        if not properties:
            return
        try:
            self._connection().set_unit_properties(self._scope.unit, properties)
        except CgroupError as error:
            for name, (_, pointer) in limits.items():
                if name in error.message.replace(",", " ").split():
                    _point(error, pointer)
            raise

    # The cgroup itself.

    def freeze(self, deadline_s: float = 10.0) -> None:
        """See CgroupManager."""
        self._cgroup().freeze(deadline_s)

    def thaw(self) -> None:
        """See CgroupManager."""
        self._cgroup().thaw()

    def is_frozen(self) -> bool:
        """See CgroupManager."""
        return self._cgroup().is_frozen()

    def pids(self) -> list[int]:
        """See CgroupManager."""
        return self._cgroup().pids()

    def kill_all(self, signal: int) -> None:
        """See CgroupManager."""
        self._cgroup().kill_all(signal)

    def init_subgroup(self, pid: int) -> str:
        """See CgroupManager."""
        return self._cgroup().init_subgroup(pid)

    def paths(self) -> list[Hierarchy]:
        """See CgroupManager."""
        return self._cgroup().paths()

    def remove(self, deadline_s: float = 10.0, *, keep_existing: bool = False) -> None:
        """Kill what is left, remove the cgroup, and stop the unit, if it is there and ours."""
        if self._files is None:
            return  # not recorded: nothing was made
        ours = self._is_unit_ours()
        if ours:
            # Whatever is in its cgroup is the container's, also where create was interrupted before it said so.
            self._files.take_over(make=False)
        # By the kernel: systemd would send SIGTERM first, and give 90 seconds to whoever ignores it.
        self._files.remove(deadline_s, keep_existing=keep_existing)
        if ours:
            self._stop()

    def close(self) -> None:
        """See CgroupManager."""
        if self._files is not None:
            self._files.close()
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def _cgroup(self) -> CgroupfsManager:
        if self._files is None:
            self.record()
        assert self._files is not None
        return self._files

    # The unit.

    @property
    def _description(self) -> str:
        return f"ocirun container {self._id} ({self._nonce})"

    def _is_unit_ours(self) -> bool:
        from .systemd_bus import NoBus

        try:
            description = self._connection().unit_property(unit_object(self._scope.unit), "Description")
        except NoBus:
            if self._user:
                return False  # a user's manager ends when he logs out, and all its units with it
            raise
        return description == self._description

    def _stop(self) -> None:
        from .systemd_bus import NO_SUCH_UNIT, BusError

        try:
            self._connection().stop_unit(self._scope.unit)
        except BusError as error:
            if error.name != NO_SUCH_UNIT:  # it went by itself when its cgroup became empty
                raise
        self._reset_failed()

    def _reset_failed(self) -> None:
        from .systemd_bus import NO_SUCH_UNIT, BusError

        try:
            self._connection().reset_failed_unit(self._scope.unit)
        except BusError as error:
            if error.name != NO_SUCH_UNIT:
                raise

    def _ask_manager(self) -> tuple[int, str]:
        """Return systemd's version and its cgroup: "" or "/" for the root's, else where its units are below."""
        if self._version < 0:
            from .unit_properties import version_number

            version, self._root = self._connection().manager_properties("Version", "ControlGroup")
            self._version = version_number(version)
        return self._version, self._root

    def _connection(self) -> SystemdBus:
        if self._bus is None or self._bus.is_closed:
            from .systemd_bus import SystemdBus

            self._bus = SystemdBus(self._addresses)
        return self._bus


def system_addresses() -> list[str]:
    """Return where root finds systemd: the system bus, or its own socket where there is no bus."""
    given = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    return [*([given] if given else []), *SYSTEM_ADDRESSES]


def user_addresses() -> list[str]:
    """Return where a user finds his systemd; also as the root of a user namespace that is his."""
    found = [os.environ.get("DBUS_SESSION_BUS_ADDRESS") or ""]
    directories = [os.environ.get("XDG_RUNTIME_DIR") or "", f"/run/user/{_outer_uid()}"]
    found += [f"unix:path={directory}/bus" for directory in directories if directory]
    found += [f"unix:path={directory}/systemd/private" for directory in directories if directory]
    return list(dict.fromkeys(address for address in found if address))


def _outer_uid() -> int:
    """Return our uid outside of the user namespace that we are in."""
    uid = os.geteuid()
    for line in read_file("/proc/self/uid_map").splitlines():
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def _check_member(pid: int, hierarchies: Sequence[Hierarchy]) -> None:
    """Check that systemd has put *pid* where we shall look for it.

    It has a hierarchy of its own in version 1, and version 2 otherwise.  Errors: CgroupError.
    """
    own = parse_own_cgroups(read_file(f"/proc/{pid}/cgroup"))
    for hierarchy in hierarchies:
        if hierarchy.version == 2 or "name=systemd" in hierarchy.controllers:
            expected = f"{hierarchy.root.rstrip('/')}/{hierarchy.path}"
            found = own.get(hierarchy.controllers)
            if found != expected:
                raise CgroupError(
                    f"systemd put the process into the cgroup {found!r}, not {expected!r}", op="StartTransientUnit"
                )
            return
    raise CgroupError("systemd's own cgroup hierarchy is not mounted", op="StartTransientUnit")


def _cpu_max_now(files: CgroupfsManager) -> tuple[str, int] | None:
    """Return the present quota ("max" for none) and period in us; None without the controller."""
    directory = files.directory_of("cpu")
    if directory is None:
        return None
    try:
        if "cpu" in files.legacy_controllers():
            quota = read_file("cpu.cfs_quota_us", directory)
            return ("max" if quota.startswith("-") else quota), int(read_file("cpu.cfs_period_us", directory))
        quota, period = read_file("cpu.max", directory).split()
        return quota, int(period)
    except FileNotFoundError:
        return None


def _is_idle(files: CgroupfsManager) -> bool:
    directory = files.directory_of("cpu")
    try:
        return directory is not None and read_file("cpu.idle", directory) == "1"
    except FileNotFoundError:
        return False


def _device_lines(resources: Resources | None) -> list[tuple[str, str]] | None:
    """Return the device rules as version 1 has them, None where it cannot."""
    from .devices import effective_rules, legacy_lines

    rules, problems = effective_rules(resources.devices if resources is not None else ())
    lines, more = legacy_lines(rules)
    return None if problems or more else lines


def _point(error: CgroupError, pointer: str) -> None:
    """Make *error* name a place in config.json."""
    if error.json_pointer is None:
        error.json_pointer = pointer
        error.message = f"{pointer}: {error.message}"
