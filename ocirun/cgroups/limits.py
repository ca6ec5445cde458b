# SPDX-License-Identifier: Apache-2.0
"""Carrying out settings and device rules on cgroup directories."""

from __future__ import annotations

import os
from errno import EACCES, EBUSY, EINVAL, ENOENT, EOPNOTSUPP, EPERM

from ocirun.errors import CgroupError, InvalidConfig, KernelError

from .devices import POINTER as DEVICES_POINTER
from .devices import allows_everything, device_program, effective_rules, legacy_lines
from .files import failure, read_file, write_file
from .resources import build_settings
from .settings import POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from ocirun.spec.resources import Resources

    from .devices import Rule
    from .settings import Setting

    class Directories(Protocol):
        """What a manager offers here: directories that it owns."""

        def legacy_controllers(self) -> tuple[str, ...]: ...
        def has_unified(self) -> bool: ...
        def directory_of(self, controller: str) -> int | None: ...
        def enable(self, controller: str) -> bool: ...


#: What each limit is compared with if it must not be below the present use.
_USAGE = {
    "memory.limit_in_bytes": "memory.usage_in_bytes",
    "memory.memsw.limit_in_bytes": "memory.memsw.usage_in_bytes",
    "memory.max": "memory.current",
    "memory.swap.max": "memory.swap.current",
}


def apply_limits(cgroup: Directories, resources: Resources) -> None:
    """Write the limits of *resources* to a new cgroup, in an order that the kernel takes.

    Errors: InvalidConfig for what this cgroup version cannot express, before anything is written;
    CgroupError.
    """
    write_limits(cgroup, limits_of(cgroup, resources))


def limits_now(cgroup: Directories) -> dict[str, str]:
    """Return what the files of version 2 hold that have two things in one, or only half of one."""
    found = {}
    for controller, file in (("cpu", "cpu.max"), ("memory", "memory.max")):
        directory = cgroup.directory_of(controller)
        if directory is not None:
            try:
                found[file] = read_file(file, directory)
            except FileNotFoundError:
                pass  # version 1, or the controller is not enabled
    return found


def limits_of(
    cgroup: Directories,
    resources: Resources,
    *,
    now: Mapping[str, str] | None = None,
    pointer: str = POINTER,
) -> list[Setting]:
    """Return the writes for *resources*; nothing is written.

    Errors: InvalidConfig for what this cgroup version cannot express; CgroupError for a limit below
    the present usage, if the container asked for that instead of being killed.
    Spec: config-linux.md#memory, checkBeforeUpdate
    """
    settings, problems = build_settings(
        resources,
        legacy=cgroup.legacy_controllers(),
        unified=cgroup.has_unified(),
        now=now,
        pointer=pointer,
    )
    if problems:
        raise InvalidConfig(problems)
    if resources.memory is not None and resources.memory.check_before_update:
        for setting in settings:
            _check_usage(cgroup, setting)
    return settings


def write_limits(cgroup: Directories, settings: Sequence[Setting]) -> None:
    """Make the writes, in an order that the kernel takes.

    Some files constrain each other (memory and memory + swap, quota and period and burst, weight
    and idle): which has to come first depends on the present values.  Those refused are tried again
    after the others, as long as that helps.  Errors: CgroupError.
    """
    if any(setting.file == "cpu.idle" and setting.value == "1" for setting in settings):
        # An idle group has no weight: the kernel forgets it, and refuses it where systemd has made the group idle.
        settings = [setting for setting in settings if setting.file not in ("cpu.weight", "cpu.shares")]
    while settings:
        refused: list[Setting] = []
        reason: CgroupError | None = None
        for setting in settings:
            if any(setting.file == other.file for other in refused):
                refused.append(setting)  # the last word on a file stays the last
                continue
            try:
                _write(cgroup, setting)
            except OSError as error:
                refusal = _refusal(setting, error)
                if error.errno not in (EINVAL, EBUSY):
                    raise refusal from error
                reason = reason or refusal
                refused.append(setting)
        if reason is not None and len(refused) == len(settings):
            raise reason
        settings = refused


def plan_devices(
    cgroup: Directories, resources: Resources | None, pointer: str = DEVICES_POINTER
) -> tuple[list[Rule], list[tuple[str, str]]]:
    """Return the device rules and, for version 1, their lines; nothing is written.

    Errors: InvalidConfig.
    """
    rules, problems = effective_rules(resources.devices if resources is not None else (), pointer)
    lines: list[tuple[str, str]] = []
    if "devices" in cgroup.legacy_controllers() and not problems:
        lines, problems = legacy_lines(rules, pointer)
    if problems:
        raise InvalidConfig(problems)
    return rules, lines


def apply_devices(cgroup: Directories, resources: Resources | None, may_fail: bool) -> None:
    """Put the device rules of a new cgroup in force; *may_fail* where nobody could have been given
    a device node.

    Errors: InvalidConfig, CgroupError.
    """
    rules, lines = plan_devices(cgroup, resources)
    write_devices(cgroup, rules, lines, may_fail)


def write_devices(
    cgroup: Directories,
    rules: Sequence[Rule],
    lines: Sequence[tuple[str, str]],
    may_fail: bool,
    pointer: str = DEVICES_POINTER,
) -> None:
    """Put device rules in force: the *lines* where version 1 has the controller, else a program that
    replaces ours in one step.

    Errors: CgroupError.
    """
    directory = cgroup.directory_of("devices")
    if directory is None:
        if may_fail or allows_everything(rules):
            return
        raise CgroupError(
            f"{pointer}: no cgroup can filter devices here", op="devices", json_pointer=pointer
        )
    try:
        if "devices" in cgroup.legacy_controllers():
            _write_lines(directory, lines)
        else:
            _attach(directory, rules)
    except OSError as error:
        if may_fail and error.errno in (EPERM, EACCES):
            return
        if isinstance(error, KernelError):
            detail, what = error.detail, error.op or "bpf"
        else:
            detail, what = "", "write the device rules"
        raise failure(
            f"{what} {detail}".strip(), error, pointer=pointer, hint=_devices_hint(error)
        ) from error


def _devices_hint(error: OSError) -> str | None:
    if error.errno == EINVAL:
        return "in cgroup version 1 a cgroup that has children cannot get a new device list"
    if error.errno == EPERM:
        return "the memory lock limit is too low, or CAP_BPF and CAP_NET_ADMIN are missing"
    return None


def _write_lines(directory: int, lines: Sequence[tuple[str, str]]) -> None:
    """Write device lines; the files are opened once each, the kernel takes one rule for each
    write(2).
    """
    opened: dict[str, int] = {}
    try:
        for file, line in lines:
            if file not in opened:
                opened[file] = os.open(file, os.O_WRONLY, dir_fd=directory)
            os.write(opened[file], line.encode())
    finally:
        for fd in opened.values():
            os.close(fd)


def _attach(directory: int, rules: Sequence[Rule]) -> None:
    from ocirun._native import attach_device_program, load_device_program

    program = load_device_program(device_program(rules))
    try:
        attach_device_program(directory, program)
    finally:
        os.close(program)


def _write(cgroup: Directories, setting: Setting) -> None:
    """Write one setting: its file, else its fallback, else both again once the controller was
    enabled.

    EOPNOTSUPP is what a weight of a device gets whose I/O scheduler is not the one of that file.
    Errors: OSError, with the name of the file.
    """
    directory = cgroup.directory_of(setting.controller)
    if directory is None:
        raise CgroupError(
            f"{setting.pointer}: the {setting.controller} controller is not available",
            op="cgroup",
            json_pointer=setting.pointer,
            hint=_delegation_hint() or "not in this kernel, or not mounted",
        )
    choices = [(setting.file, setting.value)]
    if setting.fallback is not None:
        choices.append(setting.fallback)
    for attempt in (0, 1):
        refusal: OSError | None = None
        for file, value in choices:
            try:
                write_file(file, value, directory)
            except OSError as error:
                error.filename = file  # write(2) does not know it
                if error.errno not in (ENOENT, EOPNOTSUPP):
                    raise
                if refusal is None or refusal.errno == ENOENT:
                    refusal = error
                continue
            return
        assert refusal is not None
        if attempt or refusal.errno != ENOENT or not cgroup.enable(setting.controller):
            raise refusal


def _delegation_hint() -> str | None:
    from .hints import delegation_hint

    return delegation_hint()


def _refusal(setting: Setting, error: OSError) -> CgroupError:
    hint = None
    if error.errno == ENOENT:
        hint = f"the kernel lacks it, or {setting.controller} is not delegated to this cgroup"
        more = _delegation_hint()
        hint += f": {more}" if more else ""
    elif error.errno in (EPERM, EACCES):
        hint = _delegation_hint() or "this cgroup is not delegated to the user"
    elif error.errno == EOPNOTSUPP:
        hint = "the I/O scheduler of the device has no weights, see /sys/block/*/queue/scheduler"
    file, value = setting.file, setting.value
    if setting.fallback is not None and error.filename == setting.fallback[0]:
        file, value = setting.fallback
    if error.errno == EINVAL and file == "memory.limit_in_bytes":
        hint = "it must not exceed the limit of memory + swap: memory.swap can be set beside it"
    what = f"write {file} = {value!r}"
    return failure(what, error, pointer=setting.pointer, hint=hint)


def _check_usage(cgroup: Directories, setting: Setting) -> None:
    file = _USAGE.get(setting.file)
    directory = cgroup.directory_of(setting.controller)
    if file is None or directory is None or setting.value in ("max", "-1"):
        return
    try:
        usage = int(read_file(file, directory))
    except FileNotFoundError:  # no swap accounting
        return
    if usage > int(setting.value):
        raise CgroupError(
            f"{setting.pointer}: the container uses {usage} bytes, more than the limit",
            op="memory",
            json_pointer=setting.pointer,
            hint="checkBeforeUpdate is set",
        )
