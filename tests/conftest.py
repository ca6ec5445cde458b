# SPDX-License-Identifier: Apache-2.0
"""Fixtures and markers of all tests.

    pytest tests/kernel                     against ocirun ($OCIRUN, or beside this interpreter)
    pytest tests/kernel --peer runc         the same tests against runc or crun, for comparison;
                                            OCIRUN_PEER_ALL=1: also those that only ocirun promises

A kernel test that another runtime fails is suspect first.  Where the peer really lacks something, the
test says so: `@pytest.mark.peer_fails(runc="reason")`.

OCIRUN_MUST_RUN=1 turns a skip into a failure unless its reason is one that the machine cannot help
(`MACHINE_CANNOT`).
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from support.bundle import TAG, Bundle, unique
from support.canary import Canary
from support.command import RuntimeCommand, find_runtime
from support.oracle import HostSnapshot, remove_leftovers
from support.peers import CRUN_FAILS, CRUN_LEAKS, crun_reason

REPOSITORY = Path(__file__).resolve().parent.parent
MARKERS = {
    "root": "needs to be root",
    "rootless": "needs to be an ordinary user; with `systemd`: who has a session of his own",
    "userns": "needs user namespaces",
    "unified": "needs a pure cgroup v2 machine",
    "systemd": "needs systemd as init",
    "sys_resource": "needs CAP_SYS_RESOURCE",
    "vm": "for `tests/run --vm` too: depends on the version of cgroups, on full root, or on the kernel's options",
    "kernel(version)": "needs a kernel of at least this version",
    "peers": "needs runc and crun",
    "core": "a scenario of tests/engines that .ci/run takes",
    "peer_fails(runc=reason, crun=reason)": "what the named peer gets wrong; expected to fail there",
    "ocirun_only(reason)": "a promise that only ocirun makes; not run on a peer",
}
# Reasons for a skip that OCIRUN_MUST_RUN accepts, each by its first words.
MACHINE_CANNOT = (
    "machine: no pure cgroup v2",
    "machine: no cgroup v1",
    "machine: no systemd",
    "machine: no session of an ordinary user",
    "machine: is root",
    "machine: no CAP_SYS_RESOURCE",
    "machine: kernel older than",
    "machine: no second filesystem",
    "machine: no loop device",
    "machine: no 32-bit system calls",
    "machine: the kernel has no memory policies",
    "machine: the kernel has no netfilter",
    "machine: no huge pages",
    "machine: another tree holds the controller",
    "machine: no hugetlb in cgroup v2",
    "machine: no AppArmor",
    "machine: no SELinux",
    "machine: has AppArmor",
    "machine: has SELinux",
    "machine: the image of tests/vm has no",
    "machine: the specification's schemas are not at hand",
    "machine: the engines' config.json files are not at hand",
    "machine: no CRIU",
    "machine: conformance: cgroup version",
    "machine: conformance: chrt -d",
    "machine: conformance: no RDMA device",
    "machine: conformance: no block device",
    "machine: conformance: no cgroup controller",
    "machine: conformance: no network device of type",
    "machine: conformance: real time is shared out by cgroups",
    "machine: conformance: the kernel",
    "machine: conformance: there is AppArmor",
    "machine: conformance: there is SELinux",
    "peer:",
)
CAP_SYS_RESOURCE = 24
CLONE_NEWNS = 0x20000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x2000, 0x4000, 1 << 18, 1 << 20
PR_SET_CHILD_SUBREAPER = 36
FAILURES = pytest.StashKey[list[TracebackType]]()
# How long an example takes says what else the machine does.
settings.register_profile("steady", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--peer", choices=("runc", "crun"), help="run the kernel tests on this runtime")


def pytest_configure(config: pytest.Config) -> None:
    for name, text in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")
    # nohup, and shells that start something in the background, leave some ignored, and what we start would inherit it.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    peer = config.getoption("--peer")
    for item in items:
        for mark in item.iter_markers("peer_fails"):
            if peer and (reason := mark.kwargs.get(peer)):
                item.add_marker(pytest.mark.xfail(reason=f"{peer}: {reason}", strict=True))
        if peer == "crun":
            if reason := crun_reason(item.nodeid, CRUN_LEAKS):
                item.add_marker(pytest.mark.skip(reason=f"peer: {reason}"))
            elif reason := crun_reason(item.nodeid, CRUN_FAILS):
                item.add_marker(pytest.mark.xfail(reason=f"crun: {reason}", strict=False))
        mark = item.get_closest_marker("ocirun_only")
        if peer and mark and os.environ.get("OCIRUN_PEER_ALL") != "1":
            item.add_marker(pytest.mark.skip(reason=f"peer: {mark.args[0]}"))


def _missing(item: pytest.Item) -> str | None:
    """Return why the test cannot run on this machine, or None."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        return "not root"
    if item.get_closest_marker("rootless") and os.geteuid() == 0:
        return "machine: is root; `tests/run --user` and `tests/run --vm` have an ordinary user"
    if item.get_closest_marker("userns") and not os.path.exists("/proc/self/ns/user"):
        return "no user namespaces"
    if item.get_closest_marker("unified") and not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "machine: no pure cgroup v2"
    if item.get_closest_marker("systemd") and not os.path.isdir("/run/systemd/system"):
        return "machine: no systemd"
    if item.get_closest_marker("systemd") and os.geteuid() != 0 and not _has_session():
        return "machine: no session of an ordinary user"
    if item.get_closest_marker("sys_resource") and not _effective(CAP_SYS_RESOURCE):
        return "machine: no CAP_SYS_RESOURCE"
    if item.get_closest_marker("peers") and not (shutil.which("runc") and shutil.which("crun")):
        return "runc or crun is not installed"
    mark = item.get_closest_marker("kernel")
    if mark and _version(platform.release()) < _version(mark.args[0]):
        return f"machine: kernel older than {mark.args[0]}"
    return None


def _has_session() -> bool:
    return os.path.exists(f"{os.environ.get('XDG_RUNTIME_DIR', '/nowhere')}/bus")


def _effective(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> capability & 1)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _end_what_failures_left(item.config)
    if reason := _missing(item):
        pytest.skip(reason)


def pytest_sessionfinish(session: pytest.Session) -> None:
    _end_what_failures_left(session.config)


def _end_what_failures_left(config: pytest.Config) -> None:
    """End the processes, and close the files, that nobody but the frames of a failed test has.

    Those frames live on in sys.last_traceback, and wherever a plugin keeps the exception.  What they hold would complain, by a ResourceWarning that is an error,
    when the garbage collector comes to it: in the middle of another test.
    """
    failures = config.stash.get(FAILURES, [])
    if not failures:
        return
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        while failures:
            for frame, _ in traceback.walk_tb(failures.pop()):
                known = frame.f_locals
                try:
                    frame.clear()
                except RuntimeError:
                    continue  # it still runs
                if known is not frame.f_globals:
                    known.clear()  # what was made of them for pytest's report
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            vars(sys).pop(name, None)
        gc.collect()
    for complaint in complaints:
        if isinstance(complaint.source, subprocess.Popen):  # it is still running, and nobody's any more
            complaint.source.kill()
            complaint.source.wait()
            for stream in (complaint.source.stdin, complaint.source.stdout, complaint.source.stderr):
                if stream is not None:
                    stream.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        item.config.stash.setdefault(FAILURES, []).append(call.excinfo.tb)
    if report.skipped and os.environ.get("OCIRUN_MUST_RUN") == "1" and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        if not reason.removeprefix("Skipped: ").startswith(MACHINE_CANNOT):
            report.outcome = "failed"
            report.longrepr = f"OCIRUN_MUST_RUN forbids this skip: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why a test failed that was run again (`--reruns` of .ci/run): the plugin says only that it did."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"{report.nodeid}, run again")
        terminalreporter.write_line(report.longreprtext)


def _load_build() -> Any:
    spec = importlib.util.spec_from_file_location("payload_build", REPOSITORY / "tests/payload/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def probe() -> Path:
    """The static test program."""
    path: Path = _load_build().build()
    return path


@pytest.fixture(scope="session")
def private_host() -> None:
    """A mount namespace of our own, with shared mounts as on a real host, and orphans that come to us.

    Leaks of other programs on the machine then never look like leaks of the runtime under test, and a
    runtime that changes the owner of /dev/null changes a copy.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) < 0:
        return

    def mount(source: str, target: str, kind: str | None, flags: int) -> None:
        encoded = [text.encode() if text is not None else None for text in (source, target, kind)]
        if libc.mount(*encoded, flags, b"mode=755" if kind == "tmpfs" else None) < 0:
            raise OSError(ctypes.get_errno(), f"cannot mount {target}")

    mount("none", "/", None, MS_REC | MS_PRIVATE)
    copy = tempfile.mkdtemp(prefix=TAG)
    mount("dev", copy, "tmpfs", 0)
    for entry in os.scandir("/dev"):
        try:
            st = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # others make devices and take them away meanwhile
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(entry.path), f"{copy}/{entry.name}")
        elif stat.S_ISDIR(st.st_mode):
            os.mkdir(f"{copy}/{entry.name}")
        else:
            os.mknod(f"{copy}/{entry.name}", st.st_mode, st.st_rdev)
            os.chmod(f"{copy}/{entry.name}", stat.S_IMODE(st.st_mode))
    for name in ("pts", "shm"):
        mount(f"/dev/{name}", f"{copy}/{name}", None, MS_REC | MS_BIND)
    mount(copy, "/dev", None, MS_REC | MS_MOVE)
    os.rmdir(copy)
    mount("none", "/", None, MS_REC | MS_SHARED)


@pytest.fixture
def workdir() -> Iterator[Path]:
    """A directory that every uid may enter (tmp_path is for its owner only), removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"{TAG}-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def canary(workdir: Path) -> Canary:
    """A tree outside the rootfs that nothing may touch."""
    return Canary(workdir / unique("canary"))


@pytest.fixture
def mkbundle(workdir: Path, probe: Path) -> Callable[..., Bundle]:
    """Make a bundle from the default configuration and patches: `mkbundle({"process": …})`."""

    def make(*patches: dict[str, Any]) -> Bundle:
        return Bundle(workdir / unique("bundle"), probe, *patches)

    return make


@pytest.fixture
def bundle(mkbundle: Callable[..., Bundle]) -> Bundle:
    """One bundle with the default configuration."""
    return mkbundle()


@pytest.fixture(scope="session")
def peer(request: pytest.FixtureRequest) -> str | None:
    """The peer under test, None for ocirun."""
    value: str | None = request.config.getoption("--peer")
    return value


@pytest.fixture
def runtime(private_host: None, workdir: Path, peer: str | None) -> Iterator[RuntimeCommand]:
    """The runtime under test with a state root of its own.  Leaves nothing, and checks that."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    argv = find_runtime(peer)
    if argv is None:
        pytest.skip(f"{peer or 'ocirun'} is not installed")
    command = RuntimeCommand(peer or "ocirun", argv, workdir)
    snapshot = HostSnapshot(command.root)
    yield command
    try:
        command.cleanup()
        if peer == "crun":
            os.chown("/dev/null", 0, 0)  # crun gives its stdio away, even /dev/null
        snapshot.assert_clean()
    finally:
        remove_leftovers()


@pytest.fixture
def oracle(runtime: RuntimeCommand) -> HostSnapshot:
    """The host as it was when the test began; `oracle.assert_clean()` at any time."""
    return HostSnapshot(runtime.root)
