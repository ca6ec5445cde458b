# SPDX-License-Identifier: Apache-2.0
"""The part of a Container that acts inside it; what it takes is loaded when it is used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Unpack

    from ocirun.exec_options import ProcessChanges
    from ocirun.execution import ExecProcess
    from ocirun.runtime import Runtime

EXEC_DEADLINE_S = 60.0


class Executor:
    """See `Container`, which has the attributes."""

    __slots__ = ()

    if TYPE_CHECKING:
        id: str
        _runtime: Runtime

    def exec(
        self,
        args: Sequence[str] = (),
        *,
        process: bytes | dict[str, Any] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        console_socket: str | None = None,
        console_fd: int | None = None,
        pid_file: str | None = None,
        preserve_fds: int = 0,
        pass_fds: Sequence[int] = (),
        pidfd_socket: str | None = None,
        cgroups: Sequence[str] = (),
        ignore_paused: bool = False,
        timeout: float | None = EXEC_DEADLINE_S,
        **changes: Unpack[ProcessChanges],
    ) -> ExecProcess:
        """Execute one more process in the container.  Returns when execve(2) has happened.

        process: an object like `process` of config.json, as JSON text or as its values.  What it leaves out of
        capabilities, limits, labels, scheduling, CPUs, OOM score and umask is as for the container's own process;
        without it everything is.  args and `changes` (`ocirun.exec_options.ProcessChanges`) apply to what results.
        cgroups: a path below the container's cgroup, or in version 1 "CONTROLLER:PATH" for some controllers.
        ignore_paused: also in a paused container; returns when it was resumed.
        timeout: seconds that ocirun-init may take between two steps.
        The other parameters are those of `Runtime.create`.

        What counts is the configuration that the container was created with, whatever became of the bundle.  The
        process is a child of the caller.
        Errors: ContainerNotRunning, InvalidStatus, InvalidConfig, InitError (execve failed, for instance), CgroupError,
        KernelError, DeadlineExceeded; after any of them nothing is left.
        """
        from ocirun.exec_options import ExecOptions
        from ocirun.execution import execute

        options = ExecOptions(
            stdio=(stdin, stdout, stderr),
            console_socket=console_socket,
            console_fd=console_fd,
            pid_file=pid_file,
            pass_fds=pass_fds or range(3, 3 + preserve_fds),
            pidfd_socket=pidfd_socket,
            cgroups=cgroups,
            ignore_paused=ignore_paused,
            timeout=timeout,
        )
        return execute(self._runtime, self.id, process, args, changes, options)

    def add_mounts(self, mounts: bytes | list[dict[str, Any]]) -> None:
        """Add mounts to the container, all or none, in the order of the list: objects like those of `mounts`.

        mounts: JSON text, or its values.  Sources are the caller's paths, relative ones below the bundle; destinations
        are resolved in the container's root, and made where missing.  Binds and new file systems, but for those that
        show a namespace or cgroup (proc, sysfs, mqueue, cgroup); no remount, no tmpcopyup, nothing shared with the
        host.  Processes see them at once; those of `exec` too.  They end with the container or by `remove_mounts`.
        Errors: ContainerNotRunning, InvalidConfig with pointers relative to the list, InitError, KernelError,
        DeadlineExceeded, Busy; after any of them nothing is left.
        """
        from ocirun.mount_changes import add

        add(self._runtime, self.id, mounts)

    def remove_mounts(self, mounts: bytes | list[dict[str, Any]]) -> None:
        """Remove mounts that `add_mounts` has made: of each object of the list only `destination` counts.

        What is in use stays until nobody uses it.  A mount that is in another one goes with it.
        Errors: as above, and OcirunError where something else stands at a destination by now.
        """
        from ocirun.mount_changes import remove

        remove(self._runtime, self.id, mounts)

    def reap_executed(self, pidfd: int, timeout: float | None) -> None:
        """Until init ends reap processes that we executed: with a pid namespace of its own it waits for that."""
        executed = [each for each in list(self._runtime.unreaped) if each.container_id == self.id]
        if executed:
            from ocirun.execution import reap_until

            reap_until(pidfd, executed, timeout)
