# SPDX-License-Identifier: Apache-2.0
"""The cgroup manager that makes no cgroup: the container stays where its creator is."""

# ruff: noqa: ARG002  (the arguments are the protocol's)

from __future__ import annotations

from ocirun.errors import CgroupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ocirun.spec.resources import Resources

    from .hierarchies import Hierarchy


class DisabledManager:
    """Everything that needs a cgroup is refused; the rest does nothing."""

    def record(self) -> dict[str, Any]:
        """See CgroupManager."""
        return {"manager": "disabled"}

    def create(self) -> None:
        """Make nothing."""

    def clone_into(self, subgroup: str = "") -> int | None:
        """Return None: there is no directory."""
        _refuse_subgroup(subgroup)
        return None

    def join_paths(self, subgroup: str = "") -> list[str]:
        """Return nothing to join."""
        _refuse_subgroup(subgroup)
        return []

    def create_birthplace(self) -> None:
        """Make nothing."""

    def place(
        self, pid: int, *, cloned: bool = False, joined: bool = False, subgroup: str = ""
    ) -> None:
        """Leave *pid* where it is."""
        _refuse_subgroup(subgroup)

    def apply(
        self, resources: Resources | None, in_user_namespace: bool, *, update: bool = False
    ) -> None:
        """Refuse any limit.

        Device rules alone are let pass: engines send their default list whatever the cgroup manager
        is, and whoever disables cgroups has been told that nothing enforces it
        (docs/spec-conformance.md).
        """
        if resources is None:
            return
        from .resources import build_settings
        from .settings import POINTER

        pointer = "" if update else POINTER
        settings, problems = build_settings(resources, legacy=(), unified=True, pointer=pointer)
        pointers = [problem.pointer for problem in problems] + [item.pointer for item in settings]
        if pointers:
            raise _no_cgroup("set a limit", pointers[0])

    def limits_now(self) -> dict[str, str]:
        """Return nothing: there are no files."""
        return {}

    def freeze(self, deadline_s: float = 10.0) -> None:
        """Refuse."""
        raise _no_cgroup("freeze")

    def thaw(self) -> None:
        """Refuse."""
        raise _no_cgroup("thaw")

    def is_frozen(self) -> bool:
        """Return False: nothing could have frozen it."""
        return False

    def pids(self) -> list[int]:
        """Refuse."""
        raise _no_cgroup("list processes")

    def kill_all(self, signal: int) -> None:
        """Refuse."""
        raise _no_cgroup("kill all processes")

    def init_subgroup(self, pid: int) -> str:
        """Return the only cgroup there is."""
        return ""

    def remove(self, deadline_s: float = 10.0, *, keep_existing: bool = False) -> None:
        """Remove nothing."""

    def paths(self) -> list[Hierarchy]:
        """Return no hierarchies."""
        return []

    def close(self) -> None:
        """Close nothing."""


def _no_cgroup(what: str, pointer: str | None = None) -> CgroupError:
    where = f"{pointer}: " if pointer else ""
    return CgroupError(
        f"{where}cannot {what}: the container has no cgroup",
        op="cgroup",
        json_pointer=pointer,
        hint="it was created with the cgroup manager 'disabled'",
    )


def _refuse_subgroup(subgroup: str) -> None:
    if subgroup:
        raise _no_cgroup(f"enter the cgroup {subgroup!r}")
