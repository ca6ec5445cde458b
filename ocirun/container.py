# SPDX-License-Identifier: Apache-2.0
"""A container: start, exec, state, kill, delete, wait.

Spec: runtime.md#operations
"""

from __future__ import annotations

import os
from errno import ECONNRESET, EPERM, EPIPE

from ocirun import _native, preconditions, procfs, status
from ocirun.cgroups import open_manager
from ocirun.checkpointer import Checkpointer
from ocirun.closing import Closing
from ocirun.errors import (
    ContainerNotFound,
    ContainerNotRunning,
    CorruptState,
    HookError,
    InitDied,
    InitError,
    InvalidStatus,
    KernelError,
    OcirunError,
)
from ocirun.executor import Executor
from ocirun.identity import exit_code, is_this_boot, open_pidfd, signal_process, wait_end, wait_exit_code, wait_gone
from ocirun.spec.state import CREATED, CREATING, PAUSED, RUNNING, STOPPED, hook_state
from ocirun.store import NOTIFY_DIRECTORY, START_SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ocirun.cgroups import CgroupManager
    from ocirun.cgroups.stats import Stats
    from ocirun.events import EventStream
    from ocirun.notify import NotifyProxy
    from ocirun.runtime import Runtime
    from ocirun.spec.model import Hook
    from ocirun.spec.state import State
    from ocirun.store import Entry, Record

SIGKILL = 9
START_DEADLINE_S = 60.0
EXIT_DEADLINE_S = 10.0


class Container(Executor, Checkpointer, Closing):
    """A container that exists.  Comes from `Runtime.create` and `Runtime.load`; safe to use from several threads.

    Holds a pidfd of the container's process when it was created here; close() or the end of a `with` block gives it
    up, and leaves the container as it is.
    """

    __slots__ = ("_exit_code", "_pidfd", "_runtime", "bundle", "id", "pid")

    def __init__(self, runtime: Runtime, container_id: str, bundle: str, pid: int, pidfd: int) -> None:
        self._runtime = runtime
        self._pidfd = pidfd
        self._exit_code: int | None = None
        self.id = container_id
        self.bundle = bundle
        self.pid = pid

    def __repr__(self) -> str:
        return f"<Container {self.id} pid {self.pid}>"

    def close(self) -> None:
        """Give up the pidfd."""
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            os.close(fd)

    def pidfd(self) -> int:
        """Return a pidfd of the container's process, owned by the caller; also of one that nobody has reaped yet.

        Errors: ContainerNotRunning.
        """
        if self._pidfd >= 0:
            return os.dup(self._pidfd)
        entry = self._open()
        try:
            fd = open_pidfd(entry.read_record(), or_zombie=True)
        finally:
            entry.close()
        if fd < 0:
            raise ContainerNotRunning(
                "container not running", status=STOPPED, container_id=self.id
            )
        return fd

    def state(self) -> State:
        """Return the state document.  Errors: ContainerNotFound, CorruptState."""
        entry = self._open()
        try:
            return status.state_of(entry, entry.read_record())
        finally:
            entry.close()

    def start(
        self, timeout: float | None = START_DEADLINE_S, *, notify_socket: str | None = None
    ) -> None:
        """Execute the process.  Returns when execve(2) has happened and the poststart hooks have run.

        With `notify_socket` (a container created with one) also when the process has said that it is ready.

        A failure of execve is this call's error, and the container is stopped then.
        So it is after a failed hook: runtime.md step 7 and 9.
        Errors: InvalidStatus unless the container is created, InitError, HookError, DeadlineExceeded.
        """
        proxy: NotifyProxy | None = None
        entry = self._open()
        try:
            preconditions.lock(entry, preconditions.check_startable)
            record = entry.read_record()
            preconditions.check_startable(self.id, status.compute(entry, record)[0])
            if notify_socket is not None and entry.has(NOTIFY_DIRECTORY):
                from ocirun.notify import NotifyProxy

                proxy = NotifyProxy(entry.fd, notify_socket)
            try:
                self._release_init(entry, timeout)
            except HookError as error:
                # runtime.md step 7: a failed startContainer hook continues at "the container is destroyed".
                self._destroy(entry, record)
                self.run_poststop(record, error)
                raise
            except (InitDied, InitError) as error:
                # Engines delete at once what could not be started, and refuse to where it is not seen to have ended.
                try:
                    wait_gone(record, EXIT_DEADLINE_S)
                except TimeoutError:
                    error.add_note(f"its process has not ended within {EXIT_DEADLINE_S:g} s")
                raise
            entry.unlink(START_SOCKET)
        except BaseException:
            if proxy is not None:
                proxy.close()
            raise
        finally:
            entry.close()
        self._run_poststart(record)
        if proxy is not None:
            try:
                init = record["init"]
                proxy.wait_ready(
                    init["pid"], lambda: procfs.is_alive(init["pid"], init["startTime"])
                )
            finally:
                proxy.close()

    def _release_init(self, entry: Entry, timeout: float | None) -> None:
        from ocirun.init.process import wait_executed
        from ocirun.init.protocol import START

        try:
            connection = _native.connect(entry.short_path(START_SOCKET), stream=False)
        except KernelError as error:
            raise InvalidStatus(
                f"cannot start: init does not listen ({error})", status=STOPPED, container_id=self.id
            ) from error
        try:
            try:
                _native.send(connection, START)
            except KernelError as error:
                if error.errno not in (EPIPE, ECONNRESET):
                    raise
                # init went away: what follows says why
            # startContainer hooks without a timeout may take as long as they like.
            wait_executed(connection, self.id, timeout)
        finally:
            os.close(connection)

    def _run_poststart(self, record: Record) -> None:
        hooks = _hooks(record, "poststart")
        if not hooks:
            return
        state = hook_state(
            self.id, RUNNING, record["init"]["pid"], record["bundle"], record["annotations"]
        )
        try:
            self._runtime.hook_runner(self.id, record["bundle"]).run_all(hooks, "poststart", state)
        except HookError as error:
            # Since 1.3 a failure is fatal: the container is stopped and destroyed, poststop hooks run.
            try:
                self.delete(force=True)
            except OcirunError as failure:
                error.add_note(f"while deleting: {failure}")
            raise

    def pause(self) -> None:
        """Freeze all processes of the container.  Errors: InvalidStatus unless it is created or running."""
        self._freeze(to_pause=True)

    def resume(self) -> None:
        """Let the processes go on.  Errors: InvalidStatus unless the container is paused."""
        self._freeze(to_pause=False)

    def _freeze(self, *, to_pause: bool) -> None:
        entry = self._open()
        try:
            entry.lock()
            record = entry.read_record()
            now, _ = status.compute(entry, record)
            if now not in ((CREATED, RUNNING) if to_pause else (PAUSED,)):
                if to_pause and now == STOPPED:
                    raise ContainerNotRunning("container not running", status=now, container_id=self.id)
                words = f"cannot pause a container that is {now}" if to_pause else "container not paused"
                raise InvalidStatus(words, status=now, container_id=self.id)
            with_manager(record, lambda manager: manager.freeze() if to_pause else manager.thaw())
            if to_pause and status.compute(entry, record)[0] == STOPPED:
                # It ended just before; whoever is left without it is not to be found frozen by nobody.
                with_manager(record, lambda manager: manager.thaw())
                raise ContainerNotRunning("container not running", status=STOPPED, container_id=self.id)
        finally:
            entry.close()

    def update(
        self,
        resources: bytes | dict[str, Any],
        *,
        l3_cache_schema: str | None = None,
        mem_bw_schema: str | None = None,
    ) -> None:
        """Change limits: *resources* is an object `linux.resources`, as JSON or decoded; what it leaves out stays.

        Device rules are replaced whole if it has any.  The schemas are those of `linux.intelRdt`.
        Errors: InvalidConfig with pointers relative to *resources*; ContainerNotRunning; CgroupError, KernelError; the
        limits are as before then, or the error names those that could not be restored.
        """
        from ocirun.update import update

        pairs = (("l3CacheSchema", l3_cache_schema), ("memBwSchema", mem_bw_schema))
        schemata = {name: each for name, each in pairs if each is not None}
        entry = self._open()
        try:
            entry.lock()
            record = entry.read_record()
            now, _ = status.compute(entry, record)
            if now not in (CREATED, RUNNING, PAUSED):  # no container is being created while we hold the lock
                raise ContainerNotRunning("container not running", status=now, container_id=self.id)
            with_manager(record, lambda manager: update(record, manager, resources, schemata))
        finally:
            entry.close()

    def kill(self, signal: int, *, all: bool = False) -> None:  # noqa: A002  # the name of the option
        """Send a signal to the container's process, or with `all` to every process of the container.

        Without a cgroup SIGKILL reaches all processes through init alone, by the container's pid namespace.
        Errors: ContainerNotRunning (with `all` a stopped container is no error), KernelError, CgroupError.
        """
        entry = self._open()
        try:
            record = entry.read_record()
            now, _ = status.compute(entry, record)
            own_pids = record["ownPidNamespace"]
            if all or (signal == SIGKILL and not own_pids):
                # Without a pid namespace of its own the death of init does not take the others along.
                is_needed = all and now != STOPPED and not (signal == SIGKILL and own_pids)
                done = self._kill_all(record, signal, is_needed=is_needed)
                if (done and now != STOPPED) or (all and now == STOPPED):
                    return
            if now == STOPPED:
                raise ContainerNotRunning("container not running", status=now, container_id=self.id)
            self._signal(record, signal)
            if now == PAUSED and signal == SIGKILL:
                # A frozen cgroup of version 1 delivers not even SIGKILL.
                with_manager(record, lambda manager: manager.thaw())
        finally:
            entry.close()

    def _kill_all(self, record: Record, signal: int, *, is_needed: bool) -> bool:
        """Signal all processes of the cgroup; False without one, which is an error where nothing else can do it."""
        manager = open_manager("", "", self.id, None, record["cgroup"])
        try:
            if not is_needed and not manager.paths():
                return False
            manager.kill_all(signal)
            return True
        finally:
            manager.close()

    def _signal(self, record: Record, signal: int) -> None:
        try:
            signal_process(record, signal)
        except ProcessLookupError as error:
            raise ContainerNotRunning(
                "container not running", status=STOPPED, container_id=self.id
            ) from error
        except PermissionError as error:
            raise KernelError(EPERM, "kill", f"pid {self.pid}", container_id=self.id) from error

    def delete(self, *, force: bool = False) -> None:
        """Remove what create made, and run the poststop hooks, whose failures are notes in `Runtime.warnings`.

        A created container is killed first, as every runtime does; a running one only with `force`.
        Errors: InvalidStatus, CgroupError when something does not go away (call again), Busy.
        """
        entry = self._open()
        try:
            if force:
                entry.lock()
            else:
                preconditions.lock(entry, preconditions.check_deletable)
            record = self.delete_locked(entry, force=force)
        finally:
            entry.close()
        if record is not None:
            self.run_poststop(record)

    def delete_locked(self, entry: Entry, *, force: bool) -> Record | None:
        """Remove what create made; the caller holds the entry's lock, and runs the poststop hooks of the record.

        None comes back where create died before its intent was saved: it has made nothing but the directory.
        """
        try:
            record = entry.read_record()
        except ContainerNotFound:
            entry.remove()
            return None
        except CorruptState as error:
            # What it named can be found no more; without it nothing is removed, so that it can be mended.
            error.hint = f"what is left of the container is in {entry.path}"
            raise
        if not force:
            preconditions.check_deletable(self.id, status.compute(entry, record)[0])
        self._destroy(entry, record)
        return record

    def _destroy(self, entry: Entry, record: Record) -> None:
        fd = self._pidfd if self._pidfd >= 0 else open_pidfd(record, or_zombie=True)
        manager = open_manager("", "", self.id, None, record["cgroup"])
        # Create was interrupted; once it has succeeded, devices stay in their namespace and share its fate.
        astray = record["init"] is None and "netDevices" in record and is_this_boot(record)
        try:
            if astray and record["netDevices"]["path"] is None:
                # The kernel destroys virtual devices along with the namespace, that is with its last process.
                self._runtime.fetch_net_devices(record, manager.pids())
            self._end(record, fd, manager)
            # With everything in it: whoever shares no pid namespace with init outlives it until here.
            manager.remove()
        finally:
            manager.close()
            if self._pidfd < 0:
                self._pidfd = fd  # for a `wait` after this, which gives the parent its time
        if astray:
            self._runtime.return_net_devices(record)
        if "intelRdt" in record and is_this_boot(record):
            self._remove_rdt_groups(record)
        entry.remove()

    def _remove_rdt_groups(self, record: Record) -> None:
        from ocirun.rdt import remove

        groups = record["intelRdt"]
        which = "made" if record["init"] is None else "removed"
        for left in remove(groups[which], groups.get("inodes", {})):
            self._runtime.warn(f"{self.id}: {left} is left: nothing proves that this container's create made it")

    def _end(self, record: Record, fd: int, manager: CgroupManager) -> None:
        """Kill init if it lives, and reap it if it is our child."""
        try:
            signal_process(record, SIGKILL)
        except ProcessLookupError:
            pass
        if manager.is_frozen():
            manager.thaw()
        try:
            if fd >= 0:
                self.reap_executed(fd, EXIT_DEADLINE_S)
            code = wait_end(record, fd, EXIT_DEADLINE_S, manager)
        except TimeoutError:
            raise OcirunError(
                f"init (pid {record['init']['pid']}) does not end after SIGKILL within {EXIT_DEADLINE_S:g} s",
                container_id=self.id,
                hint="it is in uninterruptible sleep, or nobody reaps what was executed in it; delete again after that",
            ) from None
        if self._exit_code is None and code is not None:
            self._exit_code = exit_code(code)

    def run_poststop(self, record: Record, error: HookError | None = None) -> None:
        """Run the poststop hooks of a record.  Failures become notes of *error*, or warnings of the runtime."""
        hooks = _hooks(record, "poststop")
        if not hooks:
            return
        state = hook_state(self.id, STOPPED, 0, record["bundle"], record["annotations"])
        runner = self._runtime.hook_runner(self.id, record["bundle"])
        for failure in runner.run_each(hooks, "poststop", state):
            if error is not None:
                error.add_note(str(failure))
            else:
                self._runtime.warn(failure)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the container's process to end; returns its exit code, or 128 + N where signal N ended it.

        Works from any process.  Errors: a plain TimeoutError at the deadline; OcirunError with code
        "exit_status_unknown" where nobody can tell: not our child, and a kernel before 6.15 or a parent
        that does not reap it.
        """
        if self._exit_code is not None:
            return self._exit_code
        fd = self.pidfd()
        try:
            self.reap_executed(fd, timeout)
            self._exit_code = wait_exit_code(fd, timeout, self.id)
        finally:
            os.close(fd)
        return self._exit_code

    def stats(self) -> Stats:
        """Return what the container uses, in the shape that runc prints; a key that is not there is not known.

        Also of a paused or stopped one, as long as its cgroups are there.  Errors: CgroupError
        """
        from ocirun.usage import stats_of

        return stats_of(self._record())

    def events(self, interval: float | None = 5.0, *, consumer: int = -1) -> EventStream:
        """Return what happens from now on: lack of memory, and statistics every *interval* seconds (None: never).

        *consumer* is a borrowed descriptor to which somebody else writes the events; when nobody reads that any more,
        BrokenPipeError ends the wait.  Errors: InvalidStatus, ContainerNotRunning, ValueError for an interval of 0 or
        less.
        """
        from ocirun.events import EventStream

        if interval is not None and not interval > 0:
            raise ValueError("duration interval must be greater than 0")
        entry = self._open()
        try:
            record = entry.read_record()
            now, _ = status.compute(entry, record)
            pidfd = -1 if now == STOPPED else open_pidfd(record)
        finally:
            entry.close()
        if pidfd < 0:
            words = "container not running" if now != CREATING else "the container is being created"
            raise ContainerNotRunning(words, status=now, container_id=self.id)
        return EventStream(record, pidfd, interval, consumer)

    def processes(self) -> list[int]:
        """Return the pids of the container's processes, sorted, as the caller's pid namespace sees them.

        Those that have none there are left out.  Errors: CgroupError if the container has no cgroup.
        """
        from ocirun.usage import processes_of

        return processes_of(self._record())

    def _record(self) -> Record:
        entry = self._open()
        try:
            return entry.read_record()
        finally:
            entry.close()

    def _open(self) -> Entry:
        return self._runtime.store.open(self.id)


def with_manager(record: Record, use: Callable[[CgroupManager], None]) -> None:
    """Call *use* with the manager that the record describes, and close it."""
    manager = open_manager("", "", record["id"], None, record["cgroup"])
    try:
        use(manager)
    finally:
        manager.close()


def _hooks(record: Record, kind: str) -> list[Hook]:
    documents = record["hooks"][kind]
    if not documents:
        return []
    from ocirun.spec.model import Hook

    return [Hook(document) for document in documents]
