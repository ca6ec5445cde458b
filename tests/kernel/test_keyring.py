# SPDX-License-Identifier: Apache-2.0
"""V-14: the container's session keyring."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.native import tool
from support.oracle import keys

pytestmark = pytest.mark.root
SYS_ADD_KEY, SYS_KEYCTL = (248, 250) if os.uname().machine == "x86_64" else (217, 219)
JOIN_SESSION_KEYRING, SPEC_SESSION_KEYRING = 1, -3


@pytest.fixture(autouse=True)
def needs_keyrings() -> None:
    """Skip where the kernel has no keyrings."""
    if not os.path.exists("/proc/keys"):
        pytest.skip("machine: no keyrings in this kernel")


def with_a_key(name: str) -> Callable[[], None]:
    """Return what gives the caller a session keyring that holds the key "canary"."""
    libc = ctypes.CDLL(None, use_errno=True)

    def join() -> None:
        libc.syscall(SYS_KEYCTL, JOIN_SESSION_KEYRING, name.encode())
        libc.syscall(SYS_ADD_KEY, b"user", b"canary", b"secret", 6, SPEC_SESSION_KEYRING)

    return join


def test_own_session_keyring(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-57: the container has a keyring of its own, and the caller's key is not found in it."""
    bundle.seq("report", ["keyctl", "search", "canary"], ["keyctl", "add", "mine", "data"])
    result = runtime.run(bundle, before_exec=with_a_key(f"caller-{bundle.id}")).ok()
    assert result.report["keyring"]["description"].split(";")[-1] == f"_ses.{bundle.id}"
    search, add = result.all("keyctl")
    assert search["errno"] == "ENOKEY"
    assert add["ret"] > 0
    deadline = time.monotonic() + 60
    while f"_ses.{bundle.id}" in str(keys()) and time.monotonic() < deadline:
        time.sleep(0.05)  # the kernel's garbage collector
    assert f"_ses.{bundle.id}" not in str(keys())


def test_no_new_keyring(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-57: with --no-new-keyring the caller's keyring is kept."""
    bundle.seq("report", ["keyctl", "search", "canary"])
    result = runtime.run(bundle, "--no-new-keyring", before_exec=with_a_key(f"caller-{bundle.id}")).ok()
    assert result.report["keyring"]["description"].split(";")[-1] == f"caller-{bundle.id}"
    assert result.one("keyctl")["ret"] > 0


def test_keyring_in_a_user_namespace(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-57: in a user namespace the keyring is as separate."""
    bundle.userns().seq("report", ["keyctl", "search", "canary"])
    result = runtime.run(bundle, before_exec=with_a_key(f"caller-{bundle.id}")).ok()
    assert result.one("keyctl")["errno"] in ("ENOKEY", "EACCES", "EKEYREVOKED")


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EDQUOT"])
def test_kernel_that_refuses_keyrings(runtime: RuntimeCommand, bundle: Bundle, error: str) -> None:
    """S-57: without the system call create goes on; an exhausted quota is an error or a warning."""
    result = runtime.under(str(tool("compat")), error, "keyctl,add_key", "--").run(bundle)
    if error == "ENOSYS":
        result.ok()
    elif result.rc != 0:
        result.refused("key")
