# SPDX-License-Identifier: Apache-2.0
"""A `criu swrk` that saves and restores nothing: it speaks the protocol, says what it was asked, and does as it is told.

`FakeCriu` is the test's side.  What runs as CRIU is this file: it reads what to do from `plan.json` beside its own
directory's log, to which it adds a line for each message that it gets.

    version     [major, minor]
    features    null: refuse the check; else which features there are
    log         text for the log of a dump or restore
    success     what is answered at last
    notify      the notifications that are sent before
    die, hang   the notification instead of which it ends, or stays until it is told to go on (a file `go`) or is alone
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_PARENT = 0x8000
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
PLAN: dict[str, Any] = {
    "version": [4, 1], "features": {"mem_track": True, "lazy_pages": True}, "log": "", "success": True,
    "notify": ["setup-namespaces", "post-restore", "pre-resume"], "die": None, "hang": None,
}  # fmt: skip


class FakeCriu:
    """A program to be named by --criu; `plan` what it shall do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.path = directory / "criu"
        self.path.write_text(f'#!/bin/sh\nexec {sys.executable} -P {__file__} {directory} "$@"\n')
        self.path.chmod(0o755)
        self.plan()

    def plan(self, **changes: Any) -> None:
        """Say what it shall do differently from doing well."""
        (self.directory / "plan.json").write_text(json.dumps(PLAN | changes))

    def messages(self) -> list[dict[str, Any]]:
        """Return what it was told so far, each with the names of the files that are its descriptors."""
        try:
            return [json.loads(line) for line in (self.directory / "log").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def request(self, kind: int) -> dict[str, Any]:
        """Return the only request of a kind."""
        (found,) = [each for each in self.messages() if each["type"] == kind]
        return found

    def wait_for(self, notification: str, is_over: Callable[[], object] = bool) -> None:
        """Wait until it hangs at a notification.  `is_over` tells that it never will."""
        deadline = time.monotonic() + 60
        while not (self.directory / f"at-{notification}").exists():
            assert not is_over(), "ended before"
            assert time.monotonic() < deadline, f"does not come to {notification}"
            time.sleep(0.01)


class _Criu:
    def __init__(self, directory: Path, connection: socket.socket) -> None:
        self.directory = directory
        self.connection = connection
        self.plan = json.loads((directory / "plan.json").read_text())
        self.child = 0

    def receive(self) -> dict[str, Any] | None:
        from ocirun.criu.protobuf import decode
        from ocirun.criu.rpc import OPTIONS, REQUEST

        content = self.connection.recv(1 << 20)
        if not content:
            return None
        # The options one by one: a field that is repeated counts as often as it is there.
        message = decode(REQUEST, content)
        if "opts" in message:
            message["opts"] = _decode_all(OPTIONS, _field(content, 2))
        with (self.directory / "log").open("a") as log:
            log.write(json.dumps({"type": 0, **message, "descriptors": _descriptors(), "pid": os.getpid()}) + "\n")
        return message

    def send(self, **fields: Any) -> None:
        from ocirun.criu.protobuf import encode
        from ocirun.criu.rpc import RESPONSE

        self.connection.send(encode(RESPONSE, fields))

    def serve(self) -> int:
        while True:
            message = self.receive()
            if message is None:
                return 0
            kind = message["type"]
            if kind == VERSION:
                major, minor = self.plan["version"]
                self.send(type=VERSION, success=True, version={"major_number": major, "minor_number": minor})
            elif kind == FEATURE_CHECK:
                features = self.plan["features"]
                if features is None:
                    print("Error (kernel.c:1): this kernel is strange", file=sys.stderr, flush=True)
                self.send(type=FEATURE_CHECK, success=features is not None, features=features)
                return 0
            else:
                return self.work(message)

    def work(self, message: dict[str, Any]) -> int:
        kind, options = message["type"], message["opts"]
        work = f"/proc/{os.getppid()}/fd/{options['work_dir_fd']}/{options['log_file']}"
        Path(work).write_text(self.plan["log"])
        if kind == RESTORE:
            self.child = ctypes.CDLL(None).syscall(56, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
            if self.child == 0:
                signal.pause()
        lazy = ["status-ready"] if options.get("lazy_pages") else []
        notifications = self.plan["notify"] if kind == RESTORE else ["pre-dump", "network-lock", *lazy, "post-dump"]
        for each in notifications:
            if not self.notify(each):
                self.end_child()
                self.send(type=kind, success=False, restore={"pid": self.child} if self.child else None)
                return 1
        if not self.plan["success"]:
            self.end_child()
        elif kind == DUMP and not options.get("leave_running"):
            os.kill(options["pid"], signal.SIGKILL)
        self.send(
            type=kind, success=self.plan["success"], restore={"pid": self.child} if self.child else None,
            cr_errmsg=None if self.plan["success"] else "the first thing that went wrong",
        )  # fmt: skip
        return 0 if self.plan["success"] else 1

    def notify(self, script: str) -> bool:
        if script == self.plan["die"]:
            os._exit(9)
        if script == self.plan["hang"]:
            (self.directory / f"at-{script}").touch()
            alone = select.poll()
            alone.register(self.connection, 0)
            while not alone.poll(10) and not (self.directory / "go").exists():
                pass
        try:
            pid = {"pid": self.child} if script in ("setup-namespaces", "post-restore") else {}
            self.send(type=NOTIFY, success=True, notify={"script": script, **pid})
            answer = self.receive()
        except OSError:
            answer = None
        return bool(answer and answer.get("notify_success"))

    def end_child(self) -> None:
        if self.child:
            os.kill(self.child, signal.SIGKILL)


def _descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def _fields(content: bytes) -> list[tuple[int, bytes]]:
    """Split a message into its fields, as (number, the bytes of this one field)."""
    found, at = [], 0

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = content[at]
            value |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if byte < 0x80:
                return value, at

    while at < len(content):
        start = at
        key, at = varint(at)
        size, at = varint(at)
        if key & 7 == 2:
            at += size
        found.append((key >> 3, content[start:at]))
    return found


def _field(content: bytes, number: int) -> bytes:
    (found,) = [field for each, field in _fields(content) if each == number]
    # Without key and size: both are varints.
    at = 0
    for _ in range(2):
        while found[at] >= 0x80:
            at += 1
        at += 1
    return found[at:]


def _decode_all(fields: dict[str, Any], content: bytes) -> dict[str, Any]:
    from ocirun.criu.protobuf import decode

    found: dict[str, Any] = {}
    for _, field in _fields(content):
        for name, value in decode(fields, field).items():
            if name in ("external", "inherit_fd", "join_ns", "cg_root", "ext_mnt"):
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
    return found


if __name__ == "__main__":
    assert sys.argv[2] == "swrk", sys.argv
    sys.exit(_Criu(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[3]))).serve())
