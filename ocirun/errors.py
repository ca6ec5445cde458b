# SPDX-License-Identifier: Apache-2.0
"""The error tree of ocirun.

Every error is an `OcirunError` and, where one fits, also the built-in exception that a caller would expect
(`OSError` with its errno, `ValueError`, `TimeoutError`).  Errors are data: `code` is a stable word for programs,
`op` the system call or step, `json_pointer` the place in config.json, `hint` what to do about it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class OcirunError(Exception):
    """Base of all errors that ocirun raises on purpose."""

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        op: str | None = None,
        container_id: str | None = None,
        json_pointer: str | None = None,
        hint: str | None = None,
    ) -> None:
        # OSError.__new__ would interpret several positional arguments as errno and text.
        super().__init__(message)
        self.message = message
        self.op = op
        self.container_id = container_id
        self.json_pointer = json_pointer
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class Problem:
    """One thing that is wrong with a document: which gate found it, where, and what.

    `gate` is "json", "schema", "rule" or "host" (design D8); `pointer` is an RFC 6901 JSON pointer, "" for the
    whole document.
    """

    __slots__ = ("gate", "message", "pointer")

    def __init__(self, gate: str, pointer: str, message: str) -> None:
        self.gate = gate
        self.pointer = pointer
        self.message = message

    def __str__(self) -> str:
        # Both may quote the document: no character of it may act on a terminal or end the line.
        line = f"{self.pointer or '/'}: {self.message}"
        if line.isprintable():
            return line
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode() for c in line
        )

    def __repr__(self) -> str:
        return f"Problem({self.gate!r}, {self.pointer!r}, {self.message!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and (self.gate, self.pointer, self.message) == (
            other.gate,
            other.pointer,
            other.message,
        )

    def __hash__(self) -> int:
        return hash((self.gate, self.pointer, self.message))


class BundleError(OcirunError, ValueError):
    """The bundle directory, its config.json or its root filesystem cannot be used."""

    code = "invalid_bundle"


class InvalidConfig(OcirunError, ValueError):
    """config.json was refused; `problems` lists everything that the failing gate found, never empty."""

    code = "invalid_config"

    def __init__(self, problems: Sequence[Problem], *, container_id: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            container_id=container_id,
            json_pointer=self.problems[0].pointer,
        )


class UnsupportedFeature(OcirunError, ValueError):
    """Valid by the specification, but not possible on this host or in this build."""

    code = "unsupported"


class StateError(OcirunError):
    """Base of the errors about a container's existence and status."""

    code = "state"


class InvalidContainerId(StateError, ValueError):
    """The container ID is not one that ocirun accepts (`[A-Za-z0-9_+.-]`, not "." or "..", at most 200 bytes)."""

    code = "invalid_id"


class ContainerExists(StateError, FileExistsError):
    """A container of this ID exists already."""

    code = "exists"


class ContainerNotFound(StateError, LookupError):
    """No container of this ID exists under the state root.

    The words "container does not exist" are what engines look for in the message.
    """

    code = "not_found"


class InvalidStatus(StateError):
    """The operation is not allowed in the container's present status; `status` says which that is."""

    code = "invalid_status"

    def __init__(self, message: str, *, status: str, container_id: str | None = None) -> None:
        super().__init__(message, container_id=container_id)
        self.status = status


class ContainerNotRunning(InvalidStatus):
    """The container's process is gone.  Engines look for "container not running"."""

    code = "not_running"


class Busy(StateError, TimeoutError):
    """Another operation holds the container's lock and did not finish within the deadline."""

    code = "busy"


class CorruptState(StateError, ValueError):
    """The record of a container cannot be read.

    `delete --force` refuses too: the pid and the cgroups that a damaged record names may be anybody's.
    """

    code = "corrupt_state"


class KernelError(OcirunError, OSError):
    """A system call failed.  `errno` is the kernel's number, `op` the call's name."""

    code = "syscall"

    def __init__(
        self,
        errno: int,
        op: str,
        detail: str = "",
        *,
        container_id: str | None = None,
        json_pointer: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = f" ({detail})" if detail else ""
        message = f"{op}{where}: {errno_text(errno)}"
        if json_pointer:
            message = f"{json_pointer}: {message}"
        super().__init__(
            message, op=op, container_id=container_id, json_pointer=json_pointer, hint=hint
        )
        self.errno = errno
        self.detail = detail


class InitError(KernelError):
    """ocirun-init reported that an operation of the plan failed."""

    code = "init"


class InitDied(OcirunError):
    """ocirun-init vanished without a report (killed, out of memory)."""

    code = "init_died"


class DeadlineExceeded(OcirunError, TimeoutError):
    """An external wait did not end in time; the message says which."""

    code = "timeout"


class HookError(OcirunError):
    """A hook failed.  `kind` and `index` name it as in config.json."""

    code = "hook"

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        index: int,
        container_id: str | None = None,
    ) -> None:
        super().__init__(
            message, op="hook", container_id=container_id, json_pointer=f"/hooks/{kind}/{index}"
        )
        self.kind = kind
        self.index = index


class CgroupError(OcirunError):
    """A cgroup could not be made, limited, frozen, emptied or removed."""

    code = "cgroup"


class CriuError(OcirunError):
    """CRIU could not checkpoint or restore; the message has its own reason, `log` is the file where it says more."""

    code = "criu"

    def __init__(self, message: str, *, container_id: str | None = None, log: str | None = None) -> None:
        super().__init__(message, op="criu", container_id=container_id, hint=f"see {log}" if log else None)
        self.log = log


class InternalError(OcirunError):
    """ocirun broke its own rules (protocol violation, malformed plan).  Please report this."""

    code = "internal"


def errno_text(number: int) -> str:
    """Return "ENAME (strerror)"; the name always, because strerror is localised."""
    from errno import errorcode

    return f"{errorcode.get(number, f'errno {number}')} ({os.strerror(number)})"
