# SPDX-License-Identifier: Apache-2.0
"""A file of an engine's configuration: read once, and replaced whole or not at all."""

from __future__ import annotations

import os
import stat

from ocirun.engines import EngineConfigError, toml_text
from ocirun.errors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from ocirun.engines import Table

MAX_BYTES = 1 << 20
_NEW_MODE = 0o644  # also where root's umask is strict: podman reads its files as the user who calls it
_NEW_DIRECTORY_MODE = 0o755


class ConfigFile:
    """A file and what is in it.

    path: as it is called; real: where links led, which is what is replaced.  language: the module that reads and edits
    it.  text: None where there is no file.  spare: where backups and half-written files go, the file's own directory
    if None; for engines that read whatever is in a directory.
    Errors: EngineConfigError
    """

    def __init__(
        self, path: str, language: ModuleType = toml_text, *, sysroot: str = "", spare: str | None = None
    ) -> None:
        self.path = sysroot + path
        self.real = os.path.realpath(self.path)
        if sysroot and os.path.commonpath((self.real, os.path.realpath(sysroot))) != os.path.realpath(sysroot):
            raise EngineConfigError(f"{self.path}: a link leads out of {sysroot}, to {self.real}")
        self.spare = os.path.dirname(self.real) if spare is None else sysroot + spare
        self._language = language
        self._stat: os.stat_result | None = None
        self.text = self._read()
        self.document: Table = {} if self.text is None else self._language.parse(self.text, self.path)

    def _read(self) -> str | None:
        try:
            # Not to be kept waiting by a FIFO.
            fd = os.open(self.real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineConfigError(f"{self.path}: open: {errno_text(error.errno or 0)}") from None
        try:
            self._stat = os.fstat(fd)
            if not stat.S_ISREG(self._stat.st_mode):
                raise EngineConfigError(f"{self.path}: is no regular file")
            with open(fd, "rb", closefd=False) as file:
                data = file.read(MAX_BYTES + 1)
        finally:
            os.close(fd)
        if len(data) > MAX_BYTES:
            raise EngineConfigError(f"{self.path}: larger than {MAX_BYTES >> 20} MiB")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise EngineConfigError(f"{self.path}: line {line} is not UTF-8") from None

    def fragment(self, settings: Table) -> str:
        """Return the settings alone, in the file's language."""
        text: str = self._language.render(settings)
        return text

    def edited(self, settings: Table) -> str:
        """Return what the file should hold."""
        if self.text is None:
            return self.fragment(settings)
        text: str = self._language.edited(self.text, settings, self.path)
        return text

    def replace(self, text: str) -> str | None:
        """Put *text* in the file's place and return where the file went, None where there was none.

        Mode and owner are kept.  Whatever fails, the old file is there as it was, or the new one is.
        Errors: EngineConfigError where somebody else has changed it meanwhile; OSError
        """
        directory, name = os.path.split(self.real)
        for each in dict.fromkeys((directory, self.spare)):
            _make_directories(each)
        temporary = os.path.join(self.spare, f".{name}.{os.urandom(6).hex()}")
        backup = None
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(text.encode())
                file.flush()
                if self._stat is not None:
                    os.fchown(fd, self._stat.st_uid, self._stat.st_gid)  # first: it takes set-id bits away
                os.fchmod(fd, _NEW_MODE if self._stat is None else stat.S_IMODE(self._stat.st_mode))
                os.fsync(fd)
            backup = self._back_up(name)
            self._check_unchanged()
            if self._stat is None:
                self._link(temporary)
            else:
                os.rename(temporary, self.real)
        except BaseException:
            for path in filter(None, (temporary, backup)):
                try:
                    os.unlink(path)
                except FileNotFoundError:
                    pass
            raise
        for each in dict.fromkeys((directory, self.spare)):
            _sync_directory(each)
        return backup

    def _back_up(self, name: str) -> str | None:
        """Give the old file a second name, numbered as by `cp --backup=numbered`: it keeps everything that it has."""
        if self._stat is None:
            return None
        number = 1
        while True:
            path = os.path.join(self.spare, f"{name}.~{number}~")
            try:
                os.link(self.real, path)
            except FileExistsError:
                number += 1
            else:
                return path

    def _link(self, temporary: str) -> None:
        """Name a file that was not there: unlike rename, never over one that has just come."""
        try:
            os.link(temporary, self.real)
        except FileExistsError:
            raise EngineConfigError(f"{self.path}: somebody has made it meanwhile", hint="try again") from None
        os.unlink(temporary)

    def _check_unchanged(self) -> None:
        if self._stat is None:
            return
        now = os.stat(self.real)
        if any(
            getattr(now, each) != getattr(self._stat, each) for each in ("st_dev", "st_ino", "st_size", "st_mtime_ns")
        ):
            raise EngineConfigError(f"{self.path}: somebody has changed it meanwhile", hint="try again")


def _make_directories(path: str) -> None:
    if os.path.isdir(path):
        return
    _make_directories(os.path.dirname(path))
    os.mkdir(path, 0o700)
    os.chmod(path, _NEW_DIRECTORY_MODE)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
