# SPDX-License-Identifier: Apache-2.0
"""mounts: add mounts to a container that runs, or remove what was added, as a file in JSON says."""

from __future__ import annotations

from ocirun.cli.parser import UsageError
from ocirun.cli.signals import raise_at_termination
from ocirun.cli.update import read_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.runtime import Runtime


def mounts(invocation: Invocation, runtime: Runtime) -> int:
    """The command `mounts`.  A signal that asks to end takes back what was mounted so far."""
    action, container_id, path = invocation.arguments
    if action not in ("add", "remove"):
        raise UsageError(f"mounts: {action!r} is neither add nor remove")
    given = read_input(path)
    raise_at_termination()
    container = runtime.load(container_id)
    if action == "add":
        container.add_mounts(given)
    else:
        container.remove_mounts(given)
    return 0
