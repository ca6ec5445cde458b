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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from ocirun.spec.resources import Memory, Resources

    from .devices import Rule
    from .settings import Setting

    class Directories(Protocol):
        """What a manager offers here: directories that it owns."""

        def legacy_controllers(self) -> tuple[str, ...]: ...
        def has_unified(self) -> bool: ...
        def directory_of(self, controller: str) -> int | None: ...
        def enable(self, controller: str) -> bool: ...


def apply_limits(cgroup: Directories, resources: Resources) -> None:
    """Write the limits of *resources*: `limits_of` and `write_limits`, and their errors."""
    write_limits(cgroup, limits_of(cgroup, resources))


def limits_of(cgroup: Directories, resources: Resources) -> list[Setting]:
    """Return the limits of *resources* as what to write, checked; writes nothing.

    Errors: InvalidConfig for what this cgroup version cannot express; CgroupError if more memory is in use than
    the new limit and the container asked for a refusal.
    """
    cpu = resources.cpu
    settings, problems = build_settings(
        resources,
        legacy=cgroup.legacy_controllers(),
        unified=cgroup.has_unified(),
        cpu_max_now=_cpu_max_now(cgroup) if cpu and cpu.period and not cpu.quota else None,
    )
    if problems:
        raise InvalidConfig(problems)
    if resources.memory is not None and resources.memory.check_before_update:
        _check_memory_usage(cgroup, resources.memory)
    return settings


def write_limits(cgroup: Directories, settings: Sequence[Setting]) -> None:
    """Write *settings*, in an order that the kernel takes.  Errors: CgroupError."""
    refused = []
    for setting in settings:
        try:
            _write(cgroup, setting)
        except OSError as error:
            # Some files constrain each other (memory and memory + swap, quota and period and burst,
            # weight and idle): which has to come first depends on the present values.  Those
            # refused get a second chance at the end.
            if error.errno not in (EINVAL, EBUSY):
                raise _refusal(setting, error) from error
            refused.append(setting)
    for setting in refused:
        try:
            _write(cgroup, setting)
        except OSError as error:
            raise _refusal(setting, error) from error


def apply_devices(cgroup: Directories, resources: Resources | None, may_fail: bool) -> None:
    """Put the device rules in force; *may_fail* where nobody could have been given a device node.

    Errors: InvalidConfig, CgroupError.
    """
    rules, problems = effective_rules(resources.devices if resources is not None else ())
    lines: list[tuple[str, str]] = []
    legacy = "devices" in cgroup.legacy_controllers()
    if legacy and not problems:
        lines, problems = legacy_lines(rules)
    if problems:
        raise InvalidConfig(problems)
    directory = cgroup.directory_of("devices")
    if directory is None:
        if may_fail or allows_everything(rules):
            return
        raise CgroupError(
            f"{DEVICES_POINTER}: no cgroup can filter devices here",
            op="devices",
            json_pointer=DEVICES_POINTER,
        )
    try:
        if legacy:
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
            f"{what} {detail}".strip(), error, pointer=DEVICES_POINTER, hint=_devices_hint(error)
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
            hint="not in this kernel, not mounted, or not writable",
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


def _refusal(setting: Setting, error: OSError) -> CgroupError:
    hint = None
    if error.errno == ENOENT:
        hint = f"the kernel lacks it, or {setting.controller} is not delegated to this cgroup"
    elif error.errno in (EPERM, EACCES):
        hint = "this cgroup is not delegated to the user"
    elif error.errno == EOPNOTSUPP:
        hint = "the I/O scheduler of the device has no weights, see /sys/block/*/queue/scheduler"
    file, value = setting.file, setting.value
    if setting.fallback is not None and error.filename == setting.fallback[0]:
        file, value = setting.fallback
    what = f"write {file} = {value!r}"
    return failure(what, error, pointer=setting.pointer, hint=hint)


def _cpu_max_now(cgroup: Directories) -> str | None:
    directory = cgroup.directory_of("cpu")
    if directory is None:
        return None
    try:
        return read_file("cpu.max", directory)
    except FileNotFoundError:  # version 1, or the controller is not enabled yet
        return None


def _check_memory_usage(cgroup: Directories, memory: Memory) -> None:
    """Refuse limits below the present usage, if the container asked for that instead of being
    killed.

    Spec: config-linux.md#memory, checkBeforeUpdate
    """
    directory = cgroup.directory_of("memory")
    if directory is None or memory.limit is None:
        return
    if "memory" in cgroup.legacy_controllers():
        checks = [
            ("memory.usage_in_bytes", memory.limit, "limit"),
            ("memory.memsw.usage_in_bytes", memory.swap, "swap"),
        ]
    else:
        swap = None if memory.swap is None or memory.swap < 0 else memory.swap - memory.limit
        checks = [
            ("memory.current", memory.limit, "limit"),
            ("memory.swap.current", swap, "swap"),
        ]
    for file, limit, name in checks:
        if limit is None or limit < 0:
            continue
        try:
            usage = int(read_file(file, directory))
        except FileNotFoundError:  # no swap accounting
            continue
        if usage > limit:
            pointer = f"/linux/resources/memory/{name}"
            raise CgroupError(
                f"{pointer}: the container uses {usage} bytes, more than the limit",
                op="memory",
                json_pointer=pointer,
                hint="checkBeforeUpdate is set",
            )
