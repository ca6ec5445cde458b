# SPDX-License-Identifier: Apache-2.0
"""--log syslog:NAME and --log journald:NAME, as crun has them.

Both are datagrams: whoever is not there, or does not read, is an error and never a wait.
Kernel: unix(7).  Formats: syslog(3), systemd.journal-fields(7)
"""

from __future__ import annotations

import os
import time

SYSLOG_SOCKET = "/dev/log"
JOURNAL_SOCKET = "/run/systemd/journal/socket"
_PRIORITIES = {"error": 3, "warning": 4, "info": 6, "debug": 7}
_FACILITY_USER = 1
_AF_UNIX, _SOCK_DGRAM = 1, 2


def send(destination: str, level: str, line: str) -> None:
    """Send one line of text to where "syslog:NAME" or "journald:NAME" says.  Errors: OSError."""
    kind, _, name = destination.partition(":")
    priority = _PRIORITIES[level]
    name = name or "ocirun"
    if kind == "syslog":
        stamp = time.strftime("%b %e %H:%M:%S")
        text = f"<{_FACILITY_USER << 3 | priority}>{stamp} {name}[{os.getpid()}]: {line}"
        _send(SYSLOG_SOCKET, text)
    else:
        _send(JOURNAL_SOCKET, f"PRIORITY={priority}\nSYSLOG_IDENTIFIER={name}\nMESSAGE={line}\n")


def _send(path: str, text: str) -> None:
    # _socket: the module `socket` costs 15 ms.
    import _socket

    sender = _socket.socket(_AF_UNIX, _SOCK_DGRAM)
    try:
        sender.setblocking(False)
        sender.connect(path)
        sender.send(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        error.filename = path
        raise
    finally:
        sender.close()
