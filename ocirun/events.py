# SPDX-License-Identifier: Apache-2.0
"""What happens to a container, as it happens: lack of memory, and what it uses every so often.

One poll(2) waits for everything: the kernel's word about memory, the end of the container's process, the hour of the
next statistics, the caller's deadline, and close() from another thread.
"""

from __future__ import annotations

import os
from errno import EPIPE
from time import monotonic

from ocirun.cgroups.oom import watch_oom
from ocirun.closing import Closing
from ocirun.errors import CgroupError
from ocirun.usage import cgroup_places, stats_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ocirun.cgroups.oom import OomWatch
    from ocirun.cgroups.stats import Stats
    from ocirun.store import Record

STATS = "stats"
OOM = "oom"
_LONGEST_MS = 1 << 30  # poll(2) takes an int


class Event:
    """Something that happened to a container.

    `type` is "stats", and `data` what it uses; or "oom", and `data` says how often since the last event: `oom_kill`
    processes were killed (cgroup version 2), or `oom` times the limit was hit (version 1).
    """

    __slots__ = ("data", "id", "type")

    def __init__(self, kind: str, container_id: str, data: Stats | dict[str, int]) -> None:
        self.type = kind
        self.id = container_id
        self.data = data

    def __repr__(self) -> str:
        return f"<Event {self.type} {self.id}>"

    def to_json(self) -> dict[str, object]:
        """Return the event as JSON values, in runc's shape."""
        return {"type": self.type, "id": self.id, "data": self.data}


class EventStream(Closing):
    """The events of one container, from now to its end.  Iterate over it, or call `get`, from any thread.

    Comes from `Container.events`.  Owns descriptors: close() or the end of a `with` block gives them up; close() from
    another thread ends a `get` that waits.  What happens while nobody waits is not lost: the kernel counts it.
    `problem` says why there will be no "oom" events, and is None where there will.
    """

    def __init__(self, record: Record, pidfd: int, interval_s: float | None, consumer: int = -1) -> None:
        """Begin to watch.  Takes *pidfd*, of the container's process, also on error; borrows *consumer*."""
        from _thread import RLock

        self._record = record
        self._interval_s = interval_s
        self._due = None if interval_s is None else monotonic() + interval_s
        self._consumer = consumer
        self._ended = False
        # Of the descriptors, held by whoever waits.  A signal handler may close what its own thread waits for.
        self._lock = RLock()
        self._pidfd = pidfd
        self._oom: OomWatch | None = None
        self.problem: CgroupError | None = None
        self._waker = -1
        self._open = [True]  # taken out by the one close() that counts
        try:
            self._waker = os.eventfd(0, os.EFD_CLOEXEC)
            try:
                self._oom = watch_oom(cgroup_places(record, "watch for lack of memory"))
            except CgroupError as error:
                self.problem = error
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Give up the descriptors; whoever waits gets None."""
        try:
            self._open.pop()
        except IndexError:
            return  # somebody else was quicker
        self._ended = True
        if self._waker >= 0:
            os.eventfd_write(self._waker, 1)
        with self._lock:
            for fd in (self._waker, self._pidfd):
                if fd >= 0:
                    os.close(fd)
            self._drop_oom()

    def _drop_oom(self) -> None:
        oom, self._oom = self._oom, None
        if oom is not None:
            oom.close()

    def get(self, timeout: float | None = None) -> Event | None:
        """Wait for the next event; None when the container's process has ended, or the stream was closed.

        Errors: a plain TimeoutError at the deadline (seconds, 0 looks without waiting); BrokenPipeError when nobody
        reads *consumer* any more; CgroupError.
        """
        deadline = None if timeout is None else monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError  # another thread waits
        try:
            while not self._ended:
                ready = self._wait(deadline)
                event = self._take(ready)
                if event is not None:
                    return event
                if not ready and deadline is not None and monotonic() >= deadline:
                    raise TimeoutError
        finally:
            self._lock.release()
        return None

    def _take(self, ready: dict[int, int]) -> Event | None:
        """Return what there is to tell after a wait.  What killed the container comes before its end."""
        if self._waker in ready:
            return None  # closed
        has_ended = self._pidfd in ready
        if self._oom is not None and (self._oom.fd in ready or has_ended):
            new = self._oom.take()
            if new:
                return Event(OOM, self._record["id"], new)
            if new is None:
                self._drop_oom()  # else poll(2) would report it for ever
        if has_ended:
            self._ended = True
            return None
        if self._consumer in ready:
            raise BrokenPipeError(EPIPE, os.strerror(EPIPE))
        if self._due is not None and self._interval_s is not None and monotonic() >= self._due:
            # Those that nobody asked for in time are left out.
            self._due += self._interval_s * max(1, (monotonic() - self._due) // self._interval_s)
            return self._stats()
        return None

    def _stats(self) -> Event | None:
        try:
            return Event(STATS, self._record["id"], stats_of(self._record))
        except CgroupError:
            # Deleted since we looked?  Then that is all.
            self._ended = self._pidfd in self._wait(0)
            if not self._ended:
                raise
            return None

    def _wait(self, deadline: float | None) -> dict[int, int]:
        """Wait until something is ready, or for the deadline or the next statistics; returns descriptor -> events."""
        from select import POLLIN, poll

        poller = poll()
        poller.register(self._waker, POLLIN)
        poller.register(self._pidfd, POLLIN)
        if self._oom is not None:
            poller.register(self._oom.fd, self._oom.mask)
        if self._consumer >= 0:
            poller.register(self._consumer, 0)  # errors alone: nobody reads it any more
        moments = [each for each in (deadline, self._due) if each is not None]
        if not moments:
            return dict(poller.poll())
        left_s = min(moments) - monotonic()
        # Rounded up: when the wait is over, the moment is there.
        return dict(poller.poll(min(int(left_s * 1000) + 1, _LONGEST_MS) if left_s > 0 else 0))
