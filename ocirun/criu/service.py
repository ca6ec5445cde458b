# SPDX-License-Identifier: Apache-2.0
"""A `criu swrk` that we have started, and the conversation with it over a SOCK_SEQPACKET socket.

It does one thing that it is asked for, asks back meanwhile by notifications, answers, and ends.  When we go away it
notices at the next notification, and undoes what it has done: that is what makes an interrupted checkpoint harmless.
"""

from __future__ import annotations

import os
import select
from errno import ECONNRESET, EPIPE

from ocirun import _native
from ocirun.criu.protobuf import decode, encode
from ocirun.criu.rpc import FEATURE_CHECK, NOTIFY, REQUEST, RESPONSE, VERSION
from ocirun.errors import CriuError, KernelError, UnsupportedFeature
from ocirun.init.process import describe_status, kill_child, wait_executed
from ocirun.plan import ops
from ocirun.plan.encode import encode as encode_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Answer = dict[str, Any]
    #: Called with the pid of a notification (0: it has none) and a borrowed descriptor (-1).
    Handler = Callable[[int, int], None]

#: The descriptor that CRIU finds its end of the conversation at; those that it is to pass on come behind.
SOCKET = 3
#: The oldest version that external namespaces, the freezer of cgroup version 2 and all options work with.
OLDEST = (3, 16)
DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

_MAX_ANSWER = 1 << 16
_EXECUTE_S = 30.0
_END_S = 30.0


def find_criu(name: str | None) -> str:
    """Return the absolute path of the program: *name*, or a "criu" of $PATH or one of the usual directories.

    Errors: UnsupportedFeature where there is none.
    """
    wanted = name or "criu"
    if "/" in wanted:
        candidates = [os.path.abspath(wanted)]
    else:
        directories = (*os.environ.get("PATH", "").split(":"), *DIRECTORIES)
        candidates = [f"{each}/{wanted}" for each in directories if each.startswith("/")]
    for path in candidates:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    where = f"{candidates[0]} is no program" if "/" in wanted else f"no {wanted} in $PATH"
    raise UnsupportedFeature(
        f"CRIU is not there: {where}", op="criu", hint="install criu 3.16 or newer, or name it by --criu"
    )


def program(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments and the environment that CRIU is started with: ours, which it runs other programs with."""
    env = tuple(f"{name}={value}" for name, value in os.environ.items())
    return (path, "swrk", str(SOCKET)), env


class Service:
    """A running `criu swrk`.  Owns its socket, its pidfd and, with `output`, the pipe that it complains into."""

    __slots__ = ("_connection", "_output", "_pid", "_pidfd")

    def __init__(self, connection: int, pid: int, pidfd: int, output: int = -1) -> None:
        self._connection = connection
        self._output = output
        self._pid = pid
        self._pidfd = pidfd

    @classmethod
    def start(cls, path: str, open_init: Callable[[], int], fallback_directory: str) -> Service:
        """Start CRIU for what needs nothing but the conversation.  Errors: OcirunError if it cannot be executed."""
        from contextlib import ExitStack

        args, env = program(path)
        operations = [ops.setsid(), ops.announce(), ops.execute(args, env, ops.HOOK_UMASK, "", path)]
        with ExitStack() as kept, ExitStack() as opened:

            def own(fd: int, stack: ExitStack = opened) -> int:
                stack.callback(os.close, fd)
                return fd

            ours, theirs = _native.socketpair()
            own(ours, kept)
            own(theirs)
            output, writer = os.pipe2(os.O_CLOEXEC)
            own(output, kept)
            own(writer)
            os.set_blocking(writer, False)  # nobody reads before it has ended, and it must not wait for that
            sync, their_sync = _native.socketpair()
            own(sync)
            with ExitStack() as until_spawned:
                own(their_sync, until_spawned)
                executable = own(open_init())
                null = own(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
                plan = own(_native.plan_file(encode_plan(operations, 1, 1, 1), fallback_directory))
                spawned = _native.spawn(executable, plan, (null, writer, writer), (theirs,), (their_sync,))
            service = cls(ours, spawned.pid, spawned.pidfd, output)
            kept.pop_all()
            try:
                wait_executed(sync, "", _EXECUTE_S)
            except BaseException:
                service.close()
                raise
            return service

    def ask(self, request: Mapping[str, Any], handlers: Mapping[str, Handler] | None = None) -> Answer:
        """Return CRIU's answer to a request, whatever it says; `handlers` are called for notifications by their names.

        What a handler raises is passed on, when CRIU has heard of it and undone its work.
        Errors: CriuError if it goes away.
        """
        self._send(request)
        failure: BaseException | None = None
        while True:
            answer = self._receive(failure)
            if answer.get("type") != NOTIFY or "notify" not in answer:
                if failure is not None:
                    raise failure
                return answer
            try:
                if failure is None:
                    self._handle(answer, handlers or {})
            except BaseException as error:  # noqa: BLE001  # raised when CRIU has ended its work
                failure = error
            finally:
                if answer["rights"] >= 0:
                    os.close(answer["rights"])
            self._send({"type": NOTIFY, "notify_success": failure is None}, failure)

    def _handle(self, answer: Answer, handlers: Mapping[str, Handler]) -> None:
        handler = handlers.get(answer["notify"].get("script", ""))
        if handler is not None:
            handler(answer["notify"].get("pid", 0), answer["rights"])

    def _send(self, request: Mapping[str, Any], failure: BaseException | None = None) -> None:
        try:
            _native.send_text(self._connection, encode(REQUEST, request))
        except KernelError as error:
            if error.errno not in (EPIPE, ECONNRESET):
                raise
            raise failure or self._gone() from error

    def _receive(self, failure: BaseException | None) -> Answer:
        content, rights = b"", -1
        if self._wait():
            try:
                content, rights = _native.receive_bytes(self._connection, _MAX_ANSWER, 0.0)
            except KernelError as error:
                if error.errno != ECONNRESET:
                    raise
        if not content:
            raise failure or self._gone()
        try:
            return decode(RESPONSE, content) | {"rights": rights}
        except ValueError as error:
            if rights >= 0:
                os.close(rights)
            raise failure or CriuError(f"criu answers what is no message of its protocol: {error}") from error

    def _wait(self) -> bool:
        """Wait for a message; False if it has died instead: what it has made may hold its end of the socket."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        return self._connection in dict(poll.poll())

    def _gone(self) -> CriuError:
        try:
            how = describe_status(_native.wait(self._pidfd, _END_S))
        except TimeoutError:
            how = "without a word"
        said = self.complaints()
        return CriuError(f"criu ended {how}" + (f": {said}" if said else ""))

    def complaints(self) -> str:
        """Return the last that it has written to its standard output and standard error, when it has ended."""
        if self._output < 0:
            return ""
        try:
            _native.wait(self._pidfd, _END_S)  # what it had to say before its log was open it says at the end
        except TimeoutError:
            pass
        os.set_blocking(self._output, False)
        try:
            text = os.read(self._output, 1 << 16).decode("utf-8", "replace")
        except BlockingIOError:
            return ""
        return " | ".join(text.replace("\0", "").strip().splitlines()[-3:])

    def wait(self) -> None:
        """Wait until it has ended, which it does by itself after the answer.  Errors: CriuError if it fails then."""
        os.close(self._connection)
        self._connection = -1
        status = _native.wait(self._pidfd, None)
        if status:
            raise CriuError(f"criu ended {describe_status(status)}")

    def close(self, *, kill: bool = False) -> None:
        """Give it up: it hears end-of-file when it asks the next time, undoes its work and ends.

        It is waited for, but not for ever.  With *kill* it is killed then; whoever kills it in the middle of a dump
        kills the container too, since CRIU's code runs in its processes.
        """
        if self._pidfd < 0:
            return
        if self._connection >= 0:
            os.close(self._connection)
        try:
            _native.wait(self._pidfd, _END_S)
        except TimeoutError:
            if kill:
                kill_child(self._pid, self._pidfd)
                _native.wait(self._pidfd, None)
        for fd in (self._pidfd, self._output):
            if fd >= 0:
                os.close(fd)
        self._connection = self._pidfd = self._output = -1


def check_criu(
    path: str, features: Sequence[str], open_init: Callable[[], int], fallback_directory: str
) -> tuple[int, ...]:
    """Return the version of a CRIU that is new enough, and has these features on this kernel.

    Errors: UnsupportedFeature
    """
    service = Service.start(path, open_init, fallback_directory)
    try:
        answer = service.ask({"type": VERSION, "keep_open": True})
        if not answer.get("success") or "version" not in answer:
            raise UnsupportedFeature(f"{path} does not tell its version: it is older than 3.0", op="criu")
        found = answer["version"]
        version = (found.get("major_number", 0), found.get("minor_number", 0))
        if version < OLDEST:
            raise UnsupportedFeature(f"{path} is of version {words_of(version)}, and 3.16 is needed", op="criu")
        # Whatever is asked for, it looks at the kernel first, and says if it cannot cope with that.
        asked = dict.fromkeys(features or _FEATURE_WORDS, True)
        answer = service.ask({"type": FEATURE_CHECK, "features": asked})
        if not answer.get("success"):
            said = answer.get("cr_errmsg", "").strip("\0 \n") or service.complaints() or "it says no reason"
            raise UnsupportedFeature(f"criu {words_of(version)} does not work on this kernel: {said}", op="criu")
        has = answer.get("features", {})
        if missing := [_FEATURE_WORDS[each] for each in features if not has.get(each)]:
            raise UnsupportedFeature(f"criu cannot do this on this kernel: {', '.join(missing)}", op="criu")
    except CriuError as error:
        raise UnsupportedFeature(f"{path} does not work: {error}", op="criu") from error
    finally:
        service.close()
    return version


def words_of(version: tuple[int, ...]) -> str:
    """Return a version as people write it."""
    return ".".join(str(each) for each in version)


_FEATURE_WORDS = {
    "mem_track": "tell which memory has changed since a pre-dump (CONFIG_MEM_SOFT_DIRTY)",
    "lazy_pages": "send memory later (userfaultfd)",
}
