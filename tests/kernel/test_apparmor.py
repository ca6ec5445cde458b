# SPDX-License-Identifier: Apache-2.0
"""process.apparmorProfile on a kernel with AppArmor: in force, and nothing else than what was asked for.

Where AppArmor is off, test_process.py shows that the property is refused.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.command import RuntimeCommand

ENABLED = Path("/sys/module/apparmor/parameters/enabled")


def is_on() -> bool:
    """Say whether the kernel has AppArmor, and this machine can load profiles."""
    return ENABLED.exists() and ENABLED.read_text().strip() == "Y" and shutil.which("apparmor_parser") is not None


pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.skipif(not is_on(), reason="machine: no AppArmor, or no apparmor_parser")]
LABEL = "/proc/self/attr/current"
FAKES = ("exec", "current", "apparmor/exec")


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[str]:
    """A profile that allows everything but to read /secret."""
    securityfs = Path("/sys/kernel/security")
    is_mounted = (securityfs / "apparmor").exists()
    if not is_mounted:
        subprocess.run(["mount", "-t", "securityfs", "securityfs", str(securityfs)], check=True)
    name = unique("profile")
    source = tmp_path / "profile"
    source.write_text(
        f"profile {name} flags=(attach_disconnected) {{\n"
        "  file, capability, network, mount, umount, signal, ptrace, unix,\n  deny /secret r,\n}\n"
    )
    subprocess.run(["apparmor_parser", "-K", "-r", str(source)], check=True)
    yield name
    subprocess.run(["apparmor_parser", "-K", "-R", str(source)], check=True)
    if not is_mounted:
        subprocess.run(["umount", str(securityfs)], check=True)


@pytest.mark.parametrize("variant", ["plain", "no_new_privs", "seccomp", "seccomp and no_new_privs", "user namespace"])
def test_profile_is_in_force(runtime: RuntimeCommand, bundle: Bundle, profile: str, variant: str) -> None:
    """The process has the label, and what the profile forbids is forbidden; in each order of filter and no_new_privs."""
    bundle.file("/secret", "x").process(apparmorProfile=profile, noNewPrivileges="no_new_privs" in variant)
    if "seccomp" in variant:
        bundle.linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]})
    if variant == "user namespace":
        bundle.userns()
    reads = runtime.run(bundle.seq(["read", LABEL], ["read", "/secret"])).ok().reads
    assert reads[LABEL].strip() == f"{profile} (enforce)"
    assert reads["/secret"] == ("EACCES",)


def test_without_a_profile(runtime: RuntimeCommand, bundle: Bundle, profile: str) -> None:
    """Nobody who asks for none gets one, not even one that another container has."""
    bundle.file("/secret", "x").seq(["read", LABEL], ["read", "/secret"])
    reads = runtime.run(bundle).ok().reads
    assert reads[LABEL].strip() == "unconfined"
    assert reads["/secret"] == "x"


@pytest.mark.parametrize("name", ["nosuch", "unconfined_not", "two words"])
def test_unknown_profile(runtime: RuntimeCommand, bundle: Bundle, name: str) -> None:
    """A profile that is not loaded is create's error, and names the property."""
    result = runtime.try_create(bundle.process(apparmorProfile=name))
    result.refused("/process/apparmorProfile" if runtime.name == "ocirun" else "apparmor")
    if runtime.name == "ocirun":
        assert "ENOENT" in result.stderr
        assert "profile of this name" in result.stderr
    runtime.call("state", bundle.id).refused("does not exist")


def test_unconfined(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The one name that always is there."""
    reads = runtime.run(bundle.process(apparmorProfile="unconfined").seq(["read", LABEL])).ok().reads
    assert reads[LABEL].strip() == "unconfined"


def test_files_of_the_image_are_not_procfs(runtime: RuntimeCommand, bundle: Bundle, profile: str) -> None:
    """S-16: without a procfs of its own the image's files look like one; none of them gets the label."""
    for name in FAKES:
        for directory in ("self", "thread-self"):
            bundle.file(f"/proc/{directory}/attr/{name}", "")
    bundle.file("/secret", "x").without_mount("/proc").process(apparmorProfile=profile)
    reads = runtime.run(bundle.seq(["read", "/secret"])).ok().reads
    assert reads["/secret"] == ("EACCES",)
    for name in FAKES:
        for directory in ("self", "thread-self"):
            assert bundle.inside(f"/proc/{directory}/attr/{name}").read_text() == ""
