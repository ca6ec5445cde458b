# SPDX-License-Identifier: Apache-2.0
"""Changing the limits of a cgroup in use: all of what is asked for, or nothing.

Everything that can be known is refused before the first write.  What the kernel refuses after that, or an interruption,
has every file that is different by then written back.  (Whoever kills this process cannot be helped.)  The files are
the only memory there is: nothing of an update is kept elsewhere, but for what systemd has to know.
"""

from __future__ import annotations

from ocirun.errors import CgroupError, OcirunError

from .devices import legacy_changes, listed_lines
from .files import read_file
from .limits import limits_now, limits_of, plan_devices, write_devices, write_limits
from .restoring import restoring
from .settings import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.spec.resources import Resources

    from .limits import Directories

    #: Tells systemd of limits before they are written.
    Tell = Callable[[Sequence[Setting]], None]

_DEVICES = "/devices"


def update_limits(
    cgroup: Directories,
    resources: Resources,
    may_fail: bool,
    *,
    tell: Tell | None = None,
    tell_devices: Callable[[], None] | None = None,
) -> None:
    """Set the limits of *resources*, and the device rules if there are some; pointers are relative to *resources*.

    *may_fail* is about devices, see `apply_devices`.  *tell* and *tell_devices* come before the writes that they are
    about, and *tell* before what is written back as well.
    Errors: InvalidConfig; CgroupError, whose message says that the limits are as before, or which were not restored.
    """
    settings = limits_of(cgroup, resources, now=limits_now(cgroup), pointer="")
    rules, lines = plan_devices(cgroup, resources, _DEVICES)
    before = _Before(cgroup, settings, devices=bool(resources.devices))
    try:
        if tell is not None and settings:
            tell(settings)
        write_limits(cgroup, settings)
        if resources.devices:
            if tell_devices is not None:
                tell_devices()
            write_devices(cgroup, rules, before.changed_lines(lines), may_fail, _DEVICES)
    except BaseException as error:
        _say(error, before.restore(tell))
        raise


def _say(error: BaseException, lost: list[str]) -> None:
    """Add to the message of *error* what an update that failed has left: *lost* could not be restored."""
    text = f"not restored: {', '.join(lost)}" if lost else "the limits are as before"
    if isinstance(error, OcirunError):
        error.message = f"{error.message}; {text}"
    else:
        error.add_note(text)


def _side_effects(settings: Sequence[Setting]) -> list[Setting]:
    """Return further files that writing *settings* changes: idleness forgets the weight."""
    return [
        Setting("cpu", file, "", setting.pointer)
        for setting in settings
        for file in ("cpu.weight", "cpu.shares")
        if setting.file == "cpu.idle"
    ]


class _Before:
    """What the files held that are to be written."""

    def __init__(self, cgroup: Directories, settings: Sequence[Setting], *, devices: bool) -> None:
        self._cgroup = cgroup
        # Each with what was in its file, and with what gives it back; None for what cannot be read or given back.
        self._files: list[tuple[Setting, str | None]] = []
        for setting in [*settings, *_side_effects(settings)]:
            # A controller that no limit has asked for so far may have to be enabled first.
            if not self._read(setting) and cgroup.enable(setting.controller):
                self._read(setting)
        self._listed = self._device_list() if devices else None

    def _read(self, setting: Setting) -> bool:
        """Read the files that *setting* may be written to; False if there is none."""
        is_there = False
        for file, value in [(setting.file, setting.value), *([setting.fallback] if setting.fallback else [])]:
            content = old = None
            try:
                content = self._content(setting.controller, file)
                old = restoring(file, value, content)
            except FileNotFoundError:
                continue
            except OSError:
                pass  # one that is for writing alone
            is_there = True
            written_back = Setting(setting.controller, file, old or "", setting.pointer)
            self._files.append((written_back, content if old is not None else None))
        return is_there

    def _content(self, controller: str, file: str) -> str:
        directory = self._cgroup.directory_of(controller)
        if directory is None:
            raise FileNotFoundError(file)
        return read_file(file, directory)

    def _device_list(self) -> str | None:
        """Return the device list of version 1; None where there is none."""
        if "devices" not in self._cgroup.legacy_controllers():
            return None
        try:
            return self._content("devices", "devices.list")
        except OSError:
            return None

    def changed_lines(self, lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of the lines for version 1 that make a difference to the list as it is now."""
        listed = self._device_list()
        return lines if listed is None else legacy_changes(lines, listed)

    def restore(self, tell: Tell | None) -> list[str]:
        """Write back what is different now; returns the files, or else, for which that did not work."""
        lost = [setting.file for setting, content in self._files if content is None]
        if tell is not None:
            try:
                tell([setting for setting, content in self._files if content is not None])
            except CgroupError:
                lost.append("properties of the unit")
        left = [
            setting
            for setting, content in reversed(self._files)
            if content is not None and not self._holds(setting, content)
        ]
        while left:
            # In some order the kernel takes them: each state on the way here was one that it had.
            refused = [setting for setting in left if not self._write(setting)]
            if len(refused) == len(left):
                lost += [setting.file for setting in refused]
                break
            left = refused
        return lost if self._restore_devices() else [*lost, "devices"]

    def _holds(self, setting: Setting, content: str) -> bool:
        try:
            return self._content(setting.controller, setting.file) == content
        except OSError:
            return False

    def _write(self, setting: Setting) -> bool:
        try:
            write_limits(self._cgroup, [setting])
        except CgroupError:
            return False
        return True

    def _restore_devices(self) -> bool:
        now = self._device_list()
        if self._listed is None or now == self._listed:
            return True
        lines = listed_lines(self._listed)
        if lines is None or now is None:
            return False
        try:
            write_devices(self._cgroup, (), legacy_changes(lines, now), False)
        except CgroupError:
            return False
        return True
