# SPDX-License-Identifier: Apache-2.0
"""A plan: what `build` and `execution` make, and ocirun-init carries out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op
    from ocirun.plan.slots import Slots
    from ocirun.spec.id_maps import IdMaps


class Plan:
    """The operations, the flags of the spawn, and the descriptors that it passes in (`inputs`, by name and in order).

    `maps` are the user namespaces that are inputs (`idmap0` …).  `warnings` are things of the configuration that could
    not be done and need not be, such as capabilities that this kernel does not know.
    """

    __slots__ = (
        "clone_flags",
        "inputs",
        "keep_count",
        "makes_user_namespace",
        "maps",
        "ops",
        "slot_count",
        "two_steps",
        "warnings",
    )

    def __init__(
        self,
        operations: Sequence[Op],
        slots: Slots,
        *,
        clone_flags: int,
        keep_count: int,
        two_steps: bool,
        makes_user_namespace: bool,
        maps: Sequence[IdMaps] = (),
        warnings: Sequence[str] = (),
    ) -> None:
        self.ops = tuple(operations)
        self.inputs = tuple(slots.inputs)
        self.slot_count = slots.count
        self.clone_flags = clone_flags
        self.keep_count = keep_count
        self.two_steps = two_steps
        self.makes_user_namespace = makes_user_namespace
        self.maps = tuple(maps)
        self.warnings = tuple(warnings)

    def encode(self) -> bytes:
        """Return the bytes that ocirun-init reads."""
        from ocirun.plan.encode import encode

        return encode(self.ops, self.slot_count, len(self.inputs), self.keep_count)

    def explain(self) -> str:
        """Return the plan as text, one line an operation."""
        from ocirun.plan.explain import explain

        return explain(self)

    def to_json(self) -> dict[str, object]:
        """Return the plan as JSON values."""
        from ocirun.plan.explain import to_json

        return to_json(self)
