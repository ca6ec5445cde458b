# SPDX-License-Identifier: Apache-2.0
"""The maps of a new user namespace."""

from __future__ import annotations

import os

from ocirun.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.spec.model import IdMapping


def write_maps(
    pid: int, uid_mappings: Sequence[IdMapping], gid_mappings: Sequence[IdMapping]
) -> None:
    """Write the maps of *pid*'s user namespace.

    Must run while init waits at NEED_ID_MAPS: the maps can be written once only.

    Spec: config-linux.md#user-namespace-mappings
    Kernel: user_namespaces(7)
    Errors: KernelError; EPERM when the caller may not map one of the ids.
    """
    _write(f"/proc/{pid}/uid_map", uid_mappings, "/linux/uidMappings")
    _write(f"/proc/{pid}/gid_map", gid_mappings, "/linux/gidMappings")


def _write(path: str, mappings: Sequence[IdMapping], pointer: str) -> None:
    text = "".join(f"{each.container_id} {each.host_id} {each.size}\n" for each in mappings)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            # One write: the kernel takes the map whole or not at all.
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError(error.errno or 0, "write", path, json_pointer=pointer) from error
