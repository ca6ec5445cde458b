# SPDX-License-Identifier: Apache-2.0
"""One write to a cgroup file, and the list of them while it grows.  Pure."""

from __future__ import annotations

from ocirun.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Where resources stand in config.json; in a document of their own, as `update` takes it, they are the whole.
POINTER = "/linux/resources"


class Setting:
    """One write of *value* to *file* of a container's cgroup.

    `controller` says in which hierarchy, by the kernel's name for the version in use ("blkio" or
    "io").  `pointer` is the place in the document.  Where the kernel has no such file, `fallback` is
    tried instead.
    """

    __slots__ = ("controller", "fallback", "file", "pointer", "value")

    def __init__(
        self,
        controller: str,
        file: str,
        value: str,
        pointer: str,
        fallback: tuple[str, str] | None = None,
    ) -> None:
        self.controller = controller
        self.file = file
        self.value = value
        self.pointer = pointer
        self.fallback = fallback

    def __repr__(self) -> str:
        return f"Setting({self.controller}: {self.file} = {self.value!r} from {self.pointer})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Setting) and all(
            getattr(self, name) == getattr(other, name) for name in Setting.__slots__
        )

    def __hash__(self) -> int:
        return hash((self.controller, self.file, self.value, self.pointer, self.fallback))


class Settings:
    """The writes, in the order to make them, and what cannot be written, while both lists grow.

    *legacy* are the controllers that version 1 hierarchies have here, *unified* says whether version 2 is mounted.
    *now* has what files of a cgroup hold that exists already; *pointer* is where the resources stand in their document.
    """

    def __init__(
        self, legacy: Collection[str], unified: bool, now: Mapping[str, str], pointer: str
    ) -> None:
        self.writes: list[Setting] = []
        self.problems: list[Problem] = []
        self.now = now
        self.unified = unified
        self._legacy = legacy
        self._pointer = pointer

    def is_legacy(self, controller: str) -> bool:
        """Tell whether version 1 rules apply to *controller*."""
        return controller in self._legacy or not self.unified

    def add(
        self,
        controller: str,
        file: str,
        value: object,
        pointer: str,
        fallback: tuple[str, str] | None = None,
    ) -> None:
        self.writes.append(Setting(controller, file, str(value), self._pointer + pointer, fallback))

    def refuse(self, pointer: str, why: str, gate: str = "host") -> None:
        self.problems.append(Problem(gate, self._pointer + pointer, why))

    def impossible(self, controller: str, pointer: str, what: str) -> None:
        """Refuse what only *controller* of version 1 can do."""
        why = f"{what} cannot be expressed in cgroup version 2"
        if self._legacy:  # hybrid
            why += f", and the {controller} controller of version 1 is not mounted"
        self.refuse(pointer, why)
