# SPDX-License-Identifier: Apache-2.0
"""`exec`: one more process in a container that is there already.

No lock is held: `kill`, `pause` and `delete` go on beside it.  That nothing of the process ends up elsewhere follows
from what is used instead of names: a directory of /proc that was proven to be the container's process (V-21), its
namespaces as descriptors, the cgroup as a directory.  Whatever goes away meanwhile is an error.
"""

from __future__ import annotations

import os
import time

from ocirun import _native, identity, status, strict_json
from ocirun.cgroups import open_manager
from ocirun.cgroups.subgroups import join_files, open_birthplace
from ocirun.closing import Closing
from ocirun.errors import (
    ContainerNotFound,
    InitDied,
    InvalidStatus,
    OcirunError,
)
from ocirun.exec_options import describe_process
from ocirun.host import HostFacts
from ocirun.init.process import InitProcess, wait_executed
from ocirun.init.protocol import AT_BARRIER
from ocirun.inputs import Inputs, check_descriptors, fill_stdio, write_pid_file
from ocirun.plan import ops
from ocirun.plan.execution import Joined, build_joining
from ocirun.spec.id_map_rules import KEEP_GROUPS
from ocirun.spec.model import Config
from ocirun.spec.state import CREATED, PAUSED, RUNNING, STOPPED, hook_state, process_state
from ocirun.store import CONFIG
from ocirun.target import Target, not_running
from ocirun.undo import Undo
from ocirun.validate import check_shape, validate_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirun.exec_options import ExecOptions, ProcessChanges
    from ocirun.plan.plan import Plan
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.runtime import Runtime
    from ocirun.spec.model import Linux, Process
    from ocirun.store import Record


#: How long a container may take to die after the process that was to join it.
_DYING_S = 1.0

VERB = "exec in"


class ExecProcess(Closing):
    """A process that `Container.exec` has executed, a child of the caller.

    `pid` is its number in the caller's pid namespace.  Holds a pidfd; close() or the end of a `with` block gives it up,
    and leaves the process as it is.  Safe to use from several threads.

    As with every child somebody has to wait for it: a pid namespace, and so the container, does not end before all
    processes in it are reaped.  `Container.wait` and `Container.delete` do it where the object is not closed.
    """

    __slots__ = ("_exit_code", "_pidfd", "_unreaped", "container_id", "pid")

    def __init__(self, container_id: str, pid: int, pidfd: int, unreaped: set[ExecProcess]) -> None:
        self._pidfd = pidfd
        self._unreaped = unreaped
        unreaped.add(self)
        self._exit_code: int | None = None
        self.container_id = container_id
        self.pid = pid

    def __repr__(self) -> str:
        return f"<ExecProcess {self.pid} of {self.container_id}>"

    def close(self) -> None:
        """Give up the pidfd."""
        self._unreaped.discard(self)
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            os.close(fd)

    def pidfd(self) -> int:
        """Return a pidfd of the process, owned by the caller.  Errors: OSError with EBADF after close()."""
        return os.dup(self._pidfd)

    def kill(self, signal: int) -> None:
        """Send a signal to the process.  Errors: KernelError, with ESRCH where it is gone."""
        _native.pidfd_signal(self._pidfd, signal)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end; returns its exit code, or 128 + N where signal N ended it, and reaps it.

        Errors: as `Container.wait`.
        """
        if self._exit_code is None:
            self._exit_code = identity.wait_exit_code(self._pidfd, timeout, self.container_id)
            self._unreaped.discard(self)
        return self._exit_code


def reap_until(pidfd: int, processes: Sequence[ExecProcess], timeout_s: float | None) -> None:
    """Reap those of *processes* that end until the process of *pidfd* does, or for so long."""
    import select

    end = None if timeout_s is None else time.monotonic() + timeout_s
    running = {process.pidfd(): process for process in processes}
    poll = select.poll()
    for fd in (pidfd, *running):
        poll.register(fd, select.POLLIN)
    try:
        while running and (end is None or time.monotonic() < end):
            left = None if end is None else max(0.0, end - time.monotonic()) * 1000
            for fd, _ in poll.poll(left):
                if fd == pidfd:
                    return
                poll.unregister(fd)
                try:
                    running[fd].wait(0)
                except (OcirunError, TimeoutError):
                    pass  # somebody else has reaped it, or is about to
                os.close(fd)
                del running[fd]
    finally:
        for fd in running:
            os.close(fd)


def execute(
    runtime: Runtime,
    container_id: str,
    given: bytes | dict[str, Any] | None,
    args: Sequence[str],
    changes: ProcessChanges,
    options: ExecOptions,
) -> ExecProcess:
    """Execute a process in a container; `Container.exec` documents the parameters."""
    placeholders = fill_stdio()
    try:
        entry = runtime.store.open(container_id)
        try:
            record = entry.read_record()
            now, _ = status.compute(entry, record)
            _check_status(now, container_id, options)
            config = strict_json.loads(entry.read(CONFIG))
        except FileNotFoundError:
            raise ContainerNotFound("container does not exist", container_id=container_id) from None  # removed just now
        finally:
            entry.close()
        assert isinstance(config, dict)
        facts = HostFacts()
        linux = Config.decode(config).linux
        assert linux is not None  # the rules gate asks for it
        if given is not None:
            given = check_shape(given, "process", what="the process document")
        document, pointer = describe_process(config.get("process"), given, args, changes)
        process = validate_process(document, facts, linux, pointer)
        check_descriptors(options.pass_fds)
        execution = Execution(runtime, record, linux, process, options, facts, is_paused=now == PAUSED)
        return execution.run()
    finally:
        for fd in placeholders:
            os.close(fd)


def _check_status(now: str, container_id: str, options: ExecOptions) -> None:
    if now in (CREATED, RUNNING) or (now == PAUSED and options.ignore_paused):
        return
    if now == STOPPED:
        raise not_running(container_id, VERB)
    hint = "resume it, or pass --ignore-paused" if now == PAUSED else None
    error = InvalidStatus(f"cannot exec in a container that is {now}", status=now, container_id=container_id)
    error.hint = hint
    raise error


class Execution:
    """One exec, from the record of the container to a process that has executed its program."""

    def __init__(
        self,
        runtime: Runtime,
        record: Record,
        linux: Linux,
        process: Process,
        options: ExecOptions,
        facts: HostFacts,
        *,
        is_paused: bool,
    ) -> None:
        self.runtime = runtime
        self.record = record
        self.id: str = record["id"]
        self.linux = linux
        self.process = process
        self.options = options
        self.facts = facts
        # Nothing goes on in a paused container, for as long as it is.
        self.timeout = None if is_paused else options.timeout
        self.is_paused = is_paused
        self.seccomp: CompiledFilter | None = runtime.compile_seccomp(linux.seccomp)
        self.inputs = Inputs(options)
        self.cgroup = open_manager("", "", self.id, None, record["cgroup"])
        self._undo = Undo()

    def run(self) -> ExecProcess:
        """Execute the process, or leave nothing of it."""
        try:
            self.target = Target(self.record, self.linux, self.facts, self.inputs, VERB)
            self.inputs.open_sockets(self.process, self.seccomp)
            namespaces = self.target.open_namespaces()
            birthplace = self._open_birthplace()
            plan = self._build_plan(namespaces)
            for warning in plan.warnings:
                self.runtime.warn(f"{self.id}: {warning}")
            init = self._spawn(plan, birthplace)
            init.drive(self._handlers(), self.timeout)
            wait_executed(init.sync, self.id, self.timeout)
        except BaseException as error:
            self._undo.roll_back(error)
            if isinstance(error, OcirunError | OSError) and self._is_gone(error):
                # What went wrong is that the container stopped meanwhile, whatever it was that noticed first.
                raise not_running(self.id, VERB) from error
            raise
        finally:
            self._undo.forget()
            self.cgroup.close()
            self.inputs.close()
        return ExecProcess(self.id, init.pid, init.pidfd, self.runtime.unreaped)

    # The steps, in order.

    def _open_birthplace(self) -> int:
        birthplace = open_birthplace(self.cgroup, self.options.subgroups)
        if birthplace is None:
            return -1
        self.inputs.own(birthplace)
        affinity = self.process.exec_cpu_affinity
        if affinity is not None and affinity.initial is not None:
            return -1  # the process is to be on those CPUs before it is in the cgroup
        if self.is_paused or self.options.subgroups:
            # The spawn returns when its process has executed ocirun-init, which one that is frozen at birth does not.
            # A cgroup below the container's may be the container's own to freeze.
            return -1
        return birthplace

    def _build_plan(self, namespaces: list[str]) -> Plan:
        facts = self.facts
        in_user_namespace = "user" in namespaces
        return build_joining(
            self.process,
            self.linux,
            Joined(
                self.target.pid,
                namespaces,
                available_capabilities=facts.available_capabilities(in_user_namespace=in_user_namespace),
                last_capability=facts.cap_last_cap,
                privileged=facts.may_clone_mounts,
                is_root=facts.euid == 0,
                ids=self.target.first_ids() if in_user_namespace else (0, 0),
                set_groups=self._may_set_groups(in_user_namespace=in_user_namespace),
                join_paths=join_files(self.cgroup, self.options.subgroups),
                rdt_paths=self._rdt_files(),
                seccomp=self.seccomp,
                keep_count=len(self.options.pass_fds),
                keyring=f"_ses.{self.id}" if self.record.get("newKeyring", True) else None,
                own_root=self.target.open_root(),
            ),
        )

    def _may_set_groups(self, *, in_user_namespace: bool) -> bool:
        if KEEP_GROUPS in self.record["annotations"]:
            return False
        allowed = self.facts.may_set_groups
        if in_user_namespace:
            allowed = not self.target.denies_groups()
        if not allowed and self.process.user.additional_gids:
            raise OcirunError(
                "/process/user/additionalGids: the container's user namespace does not allow setgroups(2)",
                container_id=self.id,
                json_pointer="/process/user/additionalGids",
            )
        return allowed

    def _rdt_files(self) -> list[str]:
        if self.linux.intel_rdt is None:
            return []
        from ocirun.rdt import tasks_files

        return tasks_files(self.facts.resctrl, self.linux.intel_rdt, self.id)

    def _spawn(self, plan: Plan, birthplace: int) -> InitProcess:
        executable = self.inputs.own(self.runtime.open_init())
        self._init = init = InitProcess.spawn(
            plan,
            self.id,
            executable=executable,
            fallback_directory=self.runtime.store.root,
            stdio=self.inputs.stdio(),
            keep=self.options.pass_fds,
            inputs=self.inputs.of(plan.inputs[1:]),
            cgroup=birthplace,
        )
        self._undo.add(lambda: os.close(init.pidfd))
        self._undo.add(init.kill)
        self.inputs.own(init.sync)
        return init

    def _handlers(self) -> dict[tuple[int, int], Callable[[], int]]:
        return {
            (AT_BARRIER, ops.BARRIER_CGROUP): self._at_cgroup,
            (AT_BARRIER, ops.BARRIER_READY): self._at_ready,
        }

    def _at_cgroup(self) -> int:
        """Place what was not born in its cgroup of version 2.

        The kernel refuses processes in a cgroup whose controllers are given to those below it (EBUSY): a container that
        did that has moved its own process down, and there is where this one goes.
        """
        init, subgroup = self._init, self.options.subgroups.get("")
        if not init.placed:
            if subgroup is None or any(each.version == 1 for each in self.cgroup.paths()):
                subgroup = self.cgroup.init_subgroup(self.record["init"]["pid"])
            self.cgroup.place(init.pid, joined=True, subgroup=subgroup)
        return -1

    def _at_ready(self) -> int:
        """Everything is done but the last steps: make the process known."""
        init = self._init
        if self._is_gone():
            raise not_running(self.id, VERB)
        if self.options.pid_file is not None:
            write_pid_file(self.options.pid_file, init.pid)
            self._undo.remove(self.options.pid_file)
        self.inputs.send_pidfd(init.pidfd, b"setns")
        if self.seccomp is not None and self.seccomp.notify:
            record = self.record
            pid = record["init"]["pid"]
            state = hook_state(self.id, RUNNING, pid, record["bundle"], record["annotations"])
            text = process_state(init.pid, self.seccomp.listener_metadata, state)
            return self.inputs.own(_native.plan_file(text, self.runtime.store.root))
        return -1

    # When it fails.

    def _is_gone(self, error: BaseException | None = None) -> bool:
        """Say whether the container's process is gone; who killed ours with it may not have come to that one yet."""
        end = time.monotonic() + (_DYING_S if isinstance(error, InitDied) else 0.0)
        while (directory := identity.open_directory(self.record)) >= 0:
            os.close(directory)
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)
        return True
