# SPDX-License-Identifier: Apache-2.0
"""What ocirun-init reports, as an error with words (design D9): typed, located, in runc's words where engines look."""

from __future__ import annotations

import errno
import os

import pytest

from ocirun._native import Message, ffi, lib, site_name
from ocirun.errors import HookError, InitError, OcirunError
from ocirun.init.failure import describe_failure
from ocirun.init.process import describe_status

SITES = sorted(set(ffi.typeof("enum ocirun_site").elements) - {lib.OCIRUN_SITE_NONE, lib.OCIRUN_SITE_COUNT})
HOOK_SITES = {
    lib.OCIRUN_SITE_HOOK_EXIT, lib.OCIRUN_SITE_HOOK_SIGNAL, lib.OCIRUN_SITE_HOOK_EXEC, lib.OCIRUN_SITE_HOOK_TIMEOUT,
    lib.OCIRUN_SITE_HOOK_CONFINE,
}  # fmt: skip
# One use of a call, with hints of its own.
CALLS = {lib.OCIRUN_SITE_IDMAP: "mount_setattr"}
ERRNOS = (errno.EPERM, errno.ENOENT, errno.EINVAL, errno.EACCES, errno.ELOOP, errno.EBUSY, errno.ENOEXEC, 523)


def failed(site: int, error: int, origin: str, detail: str) -> OcirunError:
    """Return the error for a FAILED message with these contents."""
    raw = ffi.new(
        "struct ocirun_message *",
        {
            "kind": lib.OCIRUN_MSG_FAILED,
            "op": 3,
            "site": site,
            "error": error,
            "origin_size": len(origin.encode()),
            "detail_size": len(detail.encode()),
        },
    )
    content = bytes(ffi.buffer(raw)) + origin.encode() + detail.encode()
    return describe_failure(Message(content, -1), "c1")


@pytest.mark.parametrize("site", [site for site in SITES if site not in HOOK_SITES], ids=site_name)
def test_every_site(site: int) -> None:
    """Whatever failed: an InitError that is an OSError, with errno, call, pointer, container and one line of text."""
    for number in ERRNOS:
        error = failed(site, number, "/mounts/3", "/proc/sys")
        assert isinstance(error, InitError)
        assert isinstance(error, OSError)
        assert (error.errno, error.op, error.code) == (number, CALLS.get(site, site_name(site)), "init")
        assert (error.json_pointer, error.container_id, error.detail) == ("/mounts/3", "c1", "/proc/sys")
        text = str(error)
        assert text.startswith("/mounts/3: ")
        assert text.count("/mounts/3: ") == 1
        assert "\n" not in text
        assert text == text.strip()
        assert not text.endswith(".")
        assert error.hint is None or error.hint[0].islower()


def test_plain_call() -> None:
    """Without anything better to say: pointer, call, detail, the errno's name and its words."""
    error = failed(lib.OCIRUN_SITE_MOVE_MOUNT, errno.EBUSY, "/mounts/0", "/data")
    assert str(error) == f"/mounts/0: move_mount (/data): EBUSY ({os.strerror(errno.EBUSY)})"
    error = failed(lib.OCIRUN_SITE_SETSID, errno.EPERM, "", "")
    assert str(error) == f"setsid: EPERM ({os.strerror(errno.EPERM)})"
    assert error.json_pointer is None
    assert "errno 523" in str(failed(lib.OCIRUN_SITE_IOCTL, 523, "", ""))


# What podman, containerd and buildah compare with (features.md 1.6).
PROGRAMS = [
    (lib.OCIRUN_SITE_FIND_EXECUTABLE, errno.ENOENT, "sh", 'exec: "sh": executable file not found in $PATH'),
    (lib.OCIRUN_SITE_FIND_EXECUTABLE, errno.ENOENT, "/sh", 'exec: "/sh": stat /sh: no such file or directory'),
    (lib.OCIRUN_SITE_FIND_EXECUTABLE, errno.EACCES, "/etc", 'exec: "/etc": permission denied'),
    (lib.OCIRUN_SITE_EXECVE, errno.EACCES, "/sh", 'exec: "/sh": permission denied'),
    (lib.OCIRUN_SITE_EXECVE, errno.ENOEXEC, "/sh", "exec /sh: exec format error"),
    (lib.OCIRUN_SITE_EXECVE, errno.ENOENT, "/sh", "exec /sh: no such file or directory"),
    (lib.OCIRUN_SITE_EXECVE, errno.E2BIG, "/sh", "E2BIG"),
    (lib.OCIRUN_SITE_FIND_EXECUTABLE, errno.ENOENT, "", "config.json has no process to start"),
]


@pytest.mark.parametrize(("site", "number", "program", "words"), PROGRAMS)
def test_programs(site: int, number: int, program: str, words: str) -> None:
    """A program that cannot be started is told in runc's words."""
    error = failed(site, number, "/process/args/0", program)
    assert words in str(error)
    assert isinstance(error, InitError)
    assert error.errno == number


@pytest.mark.parametrize(
    "site", [site for site in SITES if site_name(site).startswith("verify_")], ids=site_name
)
def test_verifications(site: int) -> None:
    """A check that failed says what was found wrong, not only the errno."""
    text = str(failed(site, errno.EINVAL, "/mounts/1", "/dev/null"))
    assert text.startswith("/mounts/1: /dev/null: ")
    assert "verify" not in text


@pytest.mark.parametrize(
    ("site", "number", "words"),
    [
        (lib.OCIRUN_SITE_HOOK_EXIT, 7, "exit status 7"),
        (lib.OCIRUN_SITE_HOOK_SIGNAL, 9, "killed by signal 9"),
        (lib.OCIRUN_SITE_HOOK_TIMEOUT, 0, "timed out"),
        (lib.OCIRUN_SITE_HOOK_EXEC, errno.ENOENT, "could not be executed: ENOENT"),
        (lib.OCIRUN_SITE_HOOK_CONFINE, errno.EACCES, "could not be confined: EACCES"),
    ],
)
def test_hooks(site: int, number: int, words: str) -> None:
    """A hook inside the container fails as one outside does: kind, index, path and how."""
    error = failed(site, number, "/hooks/createContainer/2", "/usr/bin/hook")
    assert isinstance(error, HookError)
    assert (error.kind, error.index, error.container_id) == ("createContainer", 2, "c1")
    assert error.json_pointer == "/hooks/createContainer/2"
    assert "/usr/bin/hook" in str(error)
    assert words in str(error)


def test_hints() -> None:
    """The usual suspects get a word of advice."""
    hint = failed(lib.OCIRUN_SITE_PIVOT_ROOT, errno.EINVAL, "/root/path", "").hint
    assert hint is not None
    assert "--no-pivot" in hint
    assert failed(lib.OCIRUN_SITE_PIVOT_ROOT, errno.EPERM, "/root/path", "").hint is None


def test_statuses() -> None:
    """How a process ended, in words."""
    assert describe_status(None) == "without a word"
    assert describe_status(3 << 8) == "with exit status 3"
    assert describe_status(11) == "by signal 11"
    assert "lack of memory" in describe_status(9)
