# SPDX-License-Identifier: Apache-2.0
"""The checker of plans under sanitizers, and ocirun-init with plans that are none (S-50)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ocirun import _native
from ocirun.dry_run import plan_document
from ocirun.errors import KernelError
from ocirun.host import HostFacts
from ocirun.plan import ops
from ocirun.plan.encode import encode

TOP = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("OCIRUN_FUZZ_COUNT", "60000"))


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The encoded plans of the example bundles."""
    directory = tmp_path_factory.mktemp("plans")
    paths = []
    for config in sorted((TOP / "bundles").glob("*/config.json")):
        text = config.read_bytes().replace(b"@BUNDLE@", b"/bundle")
        path = directory / config.parent.name
        path.write_bytes(plan_document(text, "/bundle", HostFacts.of()).encode())
        paths.append(path)
    return paths


def test_checker_refuses_and_never_faults(plans: list[Path], tmp_path: Path) -> None:
    """Truncated at every offset and mutated at random, no plan makes the checker read out of bounds."""
    program = tmp_path / "fuzz_plan"
    flags = ["-std=gnu11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [str(TOP / "tests/native/fuzz_plan.c"), str(TOP / "ocirun/_native/plan.c")]
    subprocess.run(["cc", *flags, "-o", str(program), *sources], check=True)
    done = subprocess.run(
        [str(program), "20261125", str(COUNT // len(plans)), *map(str, plans)],
        capture_output=True,
        text=True,
        check=False,
        env={"ASAN_OPTIONS": "detect_leaks=0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tried" in done.stdout


def run_init(content: bytes) -> int:
    """Start ocirun-init on these bytes as its plan; returns its wait status."""
    ours, theirs = _native.socketpair()
    executable = _native.open_init("/tmp")
    plan = _native.plan_file(content, "/tmp")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        spawned = _native.spawn(executable, plan, (null, null, null), (), (theirs,))
        status = _native.wait(spawned.pidfd, 10)
        os.close(spawned.pidfd)
        assert status is not None
        return status
    finally:
        for fd in (ours, theirs, executable, plan, null):
            os.close(fd)


def test_init_does_nothing_with_a_bad_plan(plans: list[Path], tmp_path: Path) -> None:
    """Each byte of the header changed, and the plan cut anywhere: init ends, and the mark of a plan's effect is not there."""
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
        assert status != 0, at
        assert not mark.exists(), at
    for cut in range(0, len(good), 7):
        assert run_init(good[:cut]) != 0
    assert not mark.exists()


def test_unsealed_executable_is_refused() -> None:
    """The spawn executes nothing that somebody could still change."""
    fd = os.memfd_create("open", os.MFD_CLOEXEC)
    plan = _native.plan_file(b"x", "/tmp")
    with pytest.raises(KernelError) as info:
        _native.spawn(fd, plan, (0, 1, 2), (), (plan,))
    assert info.value.op == "seals"
    os.close(fd)
    os.close(plan)
