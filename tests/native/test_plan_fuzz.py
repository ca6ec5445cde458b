# SPDX-License-Identifier: Apache-2.0
"""The checker of plans under sanitizers, and ocirun-init with plans that are none (V-12, S-50).

OCIRUN_FUZZ_COUNT sets how often each plan is mutated; `.cache/tests/fuzz_plan-*` reads one input from stdin, for AFL.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from native.building import NATIVE, SANITIZED, build, tool

import ocirun
from ocirun import _native
from ocirun.errors import KernelError
from ocirun.plan import ops
from ocirun.plan.encode import encode

COUNT = int(os.environ.get("OCIRUN_FUZZ_COUNT", "8000"))
INIT = Path(ocirun.__file__).parent / "_native/ocirun-init"
# A leak is no fault of a program that ends at once, and LeakSanitizer cannot run under a tracer.
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0"}


def test_checker_refuses_and_never_faults(plans: list[Path]) -> None:
    """Cut at every offset no plan is taken; mutated at random none makes the checker, or who trusts it, fault."""
    program = tool("fuzz_plan", *SANITIZED)
    done = subprocess.run(
        [program, "20261125", str(COUNT), *plans], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried, accepted = (int(word) for word in done.stdout.replace(",", "").split() if word.isdigit())
    # A fuzzer whose inputs are all refused, or all taken, tests nothing.
    assert tried == COUNT * len(plans)
    assert tried / 100 < accepted < tried


@pytest.mark.parametrize("content", [b"", b"\0" * 31, b"\0" * 32, b"\xff" * 4096])
def test_one_input(content: bytes) -> None:
    """The driver takes one input from stdin: how AFL and its like use it."""
    program = tool("fuzz_plan", *SANITIZED)
    done = subprocess.run([program], input=content, capture_output=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def test_texts_are_those_of_libc() -> None:
    """text.c agrees with libc on random texts, under sanitizers."""
    names = ("memcpy", "memset", "memcmp")
    renamed = [f"-D{name}=ours_{name}" for name in names]
    here = Path(__file__).parent
    # Two objects: the renaming is for text.c, not for the program that compares.
    text = build("text.o", [NATIVE / "text.c"], "-std=gnu11", "-c", "-fno-builtin", *SANITIZED, *renamed)
    program = build("fuzz_text", [here / "fuzz_text.c", text], "-std=gnu11", "-Wall", "-Wextra", *SANITIZED)
    done = subprocess.run(
        [program, "20261125", "20000"], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_init_does_nothing_about_a_bad_plan(plans: list[Path]) -> None:
    """S-50: cut anywhere, or with any byte changed, a plan that the checker refuses ends init before any effect."""
    chosen = plans if os.environ.get("OCIRUN_SWEEP") == "all" else [path for path in plans if path.name == "minimal"]
    program = tool("sandbox_init", "-O1")
    for plan in chosen:
        done = subprocess.run([program, INIT, plan], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{plan.name}: {done.stdout}{done.stderr}"
        refused, stopped = (int(word) for word in done.stdout.split() if word.isdigit())
        size = plan.stat().st_size
        assert refused + stopped == 2 * size + 1
        assert refused > size


def run_init(content: bytes) -> int:
    """Start ocirun-init on these bytes as its plan; returns its wait status."""
    ours, theirs = _native.socketpair()
    executable, _ = _native.open_init("/tmp")
    plan = _native.plan_file(content, "/tmp")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        spawned = _native.spawn(executable, plan, (null, null, null), (), (theirs,))
        status = _native.wait(spawned.pidfd, 60)
        os.close(spawned.pidfd)
        assert status is not None
        return status
    finally:
        for fd in (ours, theirs, executable, plan, null):
            os.close(fd)


def test_init_has_an_effect_only_with_a_good_plan(tmp_path: Path) -> None:
    """The same through the library's spawn: the program of a good plan runs, that of a damaged one does not."""
    mark = tmp_path / "mark"
    good = encode(
        [ops.chdir("/", ""), ops.announce(), ops.execute(("/bin/touch", str(mark)), (), 0, "", "/bin/touch")], 1, 1, 0
    )
    assert run_init(good) == 0
    assert mark.exists()
    mark.unlink()
    # Not the numbers of slots and of kept descriptors: more of them is still a plan.
    for at in (*range(16), *range(20, 24), *range(28, 32)):
        status = run_init(good[:at] + bytes([good[at] ^ 0x5A]) + good[at + 1 :])
        assert os.waitstatus_to_exitcode(status) == 1, at
        assert not mark.exists(), at


def test_unsealed_executable_is_refused() -> None:
    """The spawn executes nothing that somebody could still change."""
    fd = os.memfd_create("open", os.MFD_CLOEXEC)
    plan = _native.plan_file(b"x", "/tmp")
    with pytest.raises(KernelError) as info:
        _native.spawn(fd, plan, (0, 1, 2), (), (plan,))
    assert info.value.op == "seals"
    os.close(fd)
    os.close(plan)
