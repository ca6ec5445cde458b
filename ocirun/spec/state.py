# SPDX-License-Identifier: Apache-2.0
"""The state of a container: the specification's document, and the shape of it that runc prints.

Status is computed whenever it is asked for, never stored (design D7).
Spec: runtime.md#state
"""

from __future__ import annotations

from ocirun.strict_json import dumps
from ocirun.version import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"
UNKNOWN = "unknown"


class State:
    """The state document.  `pid` is 0 once the container is stopped; `error` says why a record could not be read."""

    __slots__ = (
        "annotations",
        "bundle",
        "created",
        "error",
        "id",
        "oci_version",
        "owner",
        "pid",
        "rootfs",
        "status",
    )

    def __init__(
        self,
        container_id: str,
        status: str,
        *,
        pid: int = 0,
        bundle: str = "",
        rootfs: str = "",
        created: str = "",
        owner: str = "",
        annotations: Mapping[str, str] | None = None,
        error: str | None = None,
    ) -> None:
        self.oci_version = SPEC_VERSION
        self.id = container_id
        self.status = status
        self.pid = pid
        self.bundle = bundle
        self.rootfs = rootfs
        self.created = created
        self.owner = owner
        self.annotations = dict(annotations or {})
        self.error = error

    def to_json(self) -> dict[str, object]:
        """Return the document as JSON values, in runc's order of keys."""
        document: dict[str, object] = {
            "ociVersion": self.oci_version,
            "id": self.id,
            "pid": self.pid,
            "status": self.status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
        }
        if self.annotations:
            document["annotations"] = self.annotations
        document["owner"] = self.owner
        if self.error is not None:
            document["error"] = self.error
        return document


def state_around_pid(
    container_id: str, status: str, bundle: str, annotations: Mapping[str, str]
) -> tuple[str, str]:
    """Return what a hook reads, in two parts: the pid as the hook's namespace sees it goes between them.

    Spec: runtime.md#state: `pid` is there from "created" on, and hooks get it at "creating" too.
    """
    head = f'{{"ociVersion":{dumps(SPEC_VERSION)},"id":{dumps(container_id)},"status":{dumps(status)},"pid":'
    tail = f',"bundle":{dumps(bundle)}'
    if annotations:
        tail += f',"annotations":{dumps(dict(annotations))}'
    return head, tail + "}"


def hook_state(
    container_id: str, status: str, pid: int, bundle: str, annotations: Mapping[str, str]
) -> bytes:
    """Return what a hook of the runtime namespace reads on its standard input."""
    before, after = state_around_pid(container_id, status, bundle, annotations)
    return f"{before}{pid}{after}".encode()


def process_state(pid: int, metadata: str | None, state: bytes) -> bytes:
    """Return what the seccomp agent is told of the process *pid*; *state* is the container's, as a hook gets it.

    Spec: config-linux.md#containerprocessstate
    """
    text = f'{{"ociVersion":{dumps(SPEC_VERSION)},"fds":["seccompFd"],"pid":{pid},'
    if metadata is not None:
        text += f'"metadata":{dumps(metadata)},'
    return f'{text}"state":{state.decode()}}}'.encode()
