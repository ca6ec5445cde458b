# SPDX-License-Identifier: Apache-2.0
"""Labels of security modules: what the process is executed as, what its mounts and its keyring are labelled with.

Spec: config.md#linux-process, config-linux.md#mount-label
Kernel: Documentation/admin-guide/LSM/apparmor.rst, proc_pid_attr(5), mount options of SELinux
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.spec.mount_options import context_label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.ops import Op
    from ocirun.spec.model import Process

#: File systems whose files the policy labels one by one, or that exist already when they are mounted.
_NEVER_LABELLED = frozenset({"proc", "sysfs", "mqueue", "cgroup", "cgroup2"})


def build_execution(process: Process) -> list[Op]:
    """Return what makes execve(2) change the label.

    While we are root, and before no_new_privs, which may stand in the way of a change.  Whatever is executed from then
    on, startContainer hooks included, runs with it.  Written through the private procfs: in the image's it would be a
    file like any other (CVE-2019-16884).
    """
    result = []
    if process.apparmor_profile is not None:
        # The directory of its own is there since 5.8; without it SELinux would get the text where both are on.
        result.append(
            ops.write_proc(
                "thread-self/attr/apparmor/exec", f"exec {process.apparmor_profile}", "/process/apparmorProfile"
            )
        )
    if process.selinux_label is not None:
        result.append(
            ops.write_proc("thread-self/attr/exec", process.selinux_label, "/process/selinuxLabel")
        )
    return result


def build_keyring(name: str, process: Process | None) -> list[Op]:
    """Return the session keyring, with the process's label, so that SELinux lets the process use it."""
    label = process.selinux_label if process is not None else None
    if label is None:
        return [ops.keyring(name)]
    place, origin = "thread-self/attr/keycreate", "/process/selinuxLabel"
    return [ops.write_proc(place, label, origin), ops.keyring(name), ops.write_proc(place, "\n", origin)]


def mount_options(kind: str, options: Sequence[str], label: str | None) -> list[str]:
    """Return the options of a new file system with `linux.mountLabel` among them, unless they label it themselves.

    Labels are without quotes here, as fsconfig(2) takes them; ocirun-init adds quotes where it uses mount(2).
    """
    own = [context_label(option) for option in options]
    result = [
        option if value is None else f"{option.partition('=')[0]}={value}"
        for option, value in zip(options, own, strict=True)
    ]
    if label is not None and kind not in _NEVER_LABELLED and all(value is None for value in own):
        result.append(f"context={label}")
    return result
