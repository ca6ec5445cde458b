# SPDX-License-Identifier: Apache-2.0
"""The command `update`: limits from a document or from options, which become the same document."""

from __future__ import annotations

import os

from ocirun.cli.parser import UsageError
from ocirun.cli.signals import raise_at_termination
from ocirun.errors import InvalidConfig, OcirunError, Problem
from ocirun.strict_json import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.cli.parser import Invocation
    from ocirun.runtime import Runtime

# 1024 for each step, as docker/go-units has it: for runc's users "k" is not a thousand.
_MULTIPLES = {letter: 1024**power for power, letter in enumerate("bkmgtp")}
_LONGEST_NUMBER = 20


def update(invocation: Invocation, runtime: Runtime) -> int:
    """The command `update`."""
    schemata = {
        name.replace("-", "_"): invocation.value(name)
        for name in ("l3-cache-schema", "mem-bw-schema")
    }
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if invocation.value(name) is not None:
            runtime.warn(f"option --{name} is ignored: kernels have no such limit any more")
    resources: bytes | dict[str, Any]
    source = invocation.value("resources")
    given = [name for name in OPTIONS if invocation.value(name) is not None]
    if source is not None:
        if given:
            raise UsageError(f"option --{given[0]} cannot be given beside --resources")
        resources = read_input(source)
    else:
        resources = document(invocation)
    raise_at_termination()  # not between two writes; but the input may be a terminal, at which nobody types
    container = runtime.load(invocation.arguments[0])
    try:
        container.update(resources, **schemata)
    except OcirunError as error:
        if source is None:
            _name_options(error)
        raise
    return 0


def document(invocation: Invocation) -> dict[str, Any]:
    """Return the object `linux.resources` that the options make.  Errors: UsageError."""
    resources: dict[str, Any] = {}
    for name, (part, member, parse) in OPTIONS.items():
        text = invocation.value(name)
        if text is not None:
            resources.setdefault(part, {})[member] = parse(name, text)
    return resources


def parse_bytes(name: str, text: str) -> int:
    """Return a number of bytes: "512m", "1.5 GiB", "1024"; -1 is no limit.  Errors: UsageError.

    Units count 1024, in either case, and may be followed by "b" or "ib".
    """
    if text == "-1":
        return -1
    rest = text.lower()
    for suffix in ("ib", "b"):
        if rest.endswith(suffix) and rest[: -len(suffix)][-1:] in tuple("kmgtp"):
            rest = rest.removesuffix(suffix)
            break
    unit = "b"
    if rest[-1:] in _MULTIPLES:
        unit, rest = rest[-1], rest[:-1]
    whole, dot, fraction = rest.removesuffix(" ").partition(".")
    if not _is_digits(whole) or (dot and not _is_digits(fraction)):
        raise UsageError(f"option --{name} is a size such as 512m or 1.5g, or -1, not {text!r}")
    size: int = int(whole + fraction) * _MULTIPLES[unit] // 10 ** len(fraction)
    return size


def parse_number(name: str, text: str) -> int:
    """Return a whole number.  Errors: UsageError."""
    if not _is_digits(text.removeprefix("-")):
        raise UsageError(f"option --{name} is a number, not {text!r}")
    return int(text)


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER


def _as_it_is(_name: str, text: str) -> str:
    return text


#: Option -> the place in the document, and what reads its value.
OPTIONS: dict[str, tuple[str, str, Callable[[str, str], object]]] = {
    "blkio-weight": ("blockIO", "weight", parse_number),
    "cpu-period": ("cpu", "period", parse_number),
    "cpu-quota": ("cpu", "quota", parse_number),
    "cpu-burst": ("cpu", "burst", parse_number),
    "cpu-share": ("cpu", "shares", parse_number),
    "cpu-rt-period": ("cpu", "realtimePeriod", parse_number),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", parse_number),
    "cpu-idle": ("cpu", "idle", parse_number),
    "cpuset-cpus": ("cpu", "cpus", _as_it_is),
    "cpuset-mems": ("cpu", "mems", _as_it_is),
    "memory": ("memory", "limit", parse_bytes),
    "memory-reservation": ("memory", "reservation", parse_bytes),
    "memory-swap": ("memory", "swap", parse_bytes),
    "pids-limit": ("pids", "limit", parse_number),
}
_POINTERS = {f"/{part}/{member}": f"--{name}" for name, (part, member, _) in OPTIONS.items()}
_POINTERS |= {"/l3CacheSchema": "--l3-cache-schema", "/memBwSchema": "--mem-bw-schema"}


def _name_options(error: OcirunError) -> None:
    """Call the places of a document that nobody has written by the options that they come from."""
    if isinstance(error, InvalidConfig):
        error.problems = tuple(
            Problem(each.gate, _POINTERS.get(each.pointer, each.pointer), each.message)
            for each in error.problems
        )
        error.message = "\n".join(str(problem) for problem in error.problems)
        error.json_pointer = error.problems[0].pointer
        return
    pointer = error.json_pointer or ""
    if pointer in _POINTERS:
        error.message = error.message.replace(pointer, _POINTERS[pointer], 1)
        error.json_pointer = None


def read_input(source: str) -> bytes:
    """Return what a file holds, or standard input for "-"; one byte more than may be decoded at most."""
    fd = 0 if source == "-" else os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        data = chunk = os.read(fd, 1 << 16)
        while chunk and len(data) <= MAX_BYTES:
            chunk = os.read(fd, 1 << 16)
            data += chunk
    except OSError as error:
        error.filename = source
        raise
    finally:
        if fd:
            os.close(fd)
    return data
