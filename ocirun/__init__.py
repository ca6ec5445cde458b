# SPDX-License-Identifier: Apache-2.0
"""ocirun: an OCI container runtime as a library.

    from ocirun import Runtime

    with Runtime() as runtime:
        container = runtime.create("web1", "/path/to/bundle")
        container.start()
        code = container.wait()
        container.delete()

Importing it has no side effect; the names below are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cgroups.stats import Stats
    from ocirun.container import Container
    from ocirun.errors import (
        BundleError,
        Busy,
        CgroupError,
        ContainerExists,
        ContainerNotFound,
        ContainerNotRunning,
        CorruptState,
        CriuError,
        DeadlineExceeded,
        HookError,
        InitDied,
        InitError,
        InternalError,
        InvalidConfig,
        InvalidContainerId,
        InvalidStatus,
        KernelError,
        OcirunError,
        Problem,
        StateError,
        UnsupportedFeature,
    )
    from ocirun.events import Event, EventStream
    from ocirun.execution import ExecProcess
    from ocirun.host import HostFacts
    from ocirun.plan.plan import Plan
    from ocirun.runtime import Runtime
    from ocirun.spec.state import State
    from ocirun.validate import validate_bundle

_ERRORS = (
    "BundleError", "Busy", "CgroupError", "ContainerExists", "ContainerNotFound", "ContainerNotRunning",
    "CorruptState", "CriuError", "DeadlineExceeded", "HookError", "InitDied", "InitError", "InternalError",
    "InvalidConfig", "InvalidContainerId", "InvalidStatus", "KernelError", "OcirunError", "Problem", "StateError",
    "UnsupportedFeature",
)  # fmt: skip
_HOMES = {
    "Container": "ocirun.container",
    "Event": "ocirun.events",
    "EventStream": "ocirun.events",
    "ExecProcess": "ocirun.execution",
    "HostFacts": "ocirun.host",
    "Plan": "ocirun.plan.plan",
    "Runtime": "ocirun.runtime",
    "State": "ocirun.spec.state",
    "Stats": "ocirun.cgroups.stats",
    "validate_bundle": "ocirun.validate",
    **dict.fromkeys(_ERRORS, "ocirun.errors"),
}

__all__ = [
    "BundleError", "Busy", "CgroupError", "Container", "ContainerExists", "ContainerNotFound",
    "ContainerNotRunning", "CorruptState", "CriuError", "DeadlineExceeded", "Event", "EventStream", "ExecProcess",
    "HookError", "HostFacts", "InitDied", "InitError", "InternalError", "InvalidConfig", "InvalidContainerId",
    "InvalidStatus", "KernelError", "OcirunError", "Plan", "Problem", "Runtime", "State", "StateError", "Stats",
    "UnsupportedFeature", "validate_bundle",
]  # fmt: skip


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(home, fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
