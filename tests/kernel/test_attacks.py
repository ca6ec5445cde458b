# SPDX-License-Identifier: Apache-2.0
"""Attacks on the runtime itself: its executable, its modules, its look-ups, and names swapped under it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.canary import Canary
from support.command import CreateFailed, RuntimeCommand, started
from support.native import compat
from support.report import mounts

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


def installation(runtime: RuntimeCommand) -> dict[str, str]:
    """Return the hashes of the files that the runtime consists of."""
    program = Path(shutil.which(runtime.argv[0]) or runtime.argv[0]).resolve()
    files = [program]
    if runtime.name == "ocirun":
        import sys

        import ocirun

        files += [p for p in Path(ocirun.__file__).parent.rglob("*") if p.is_file()]
        files.append(Path(sys.executable).resolve())
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("userns", [False, True])
def test_executable_cannot_be_overwritten(runtime: RuntimeCommand, mkbundle: MkBundle, userns: bool) -> None:
    """S-01, CVE-2019-5736: a container that sees the runtime's processes cannot change their program."""
    caps = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
    attacker = mkbundle().capabilities(*caps).seq(["exe-attack", "/enough"], "sleep")
    if userns:
        attacker.userns()
    before = installation(runtime)
    container = runtime.create(attacker).start()
    assert container.line()["ready"]
    payloads = set()
    for number in range(12):
        joining = mkbundle().args(*(("sleep",) if number == 0 else ("exit", "0")))
        joining.namespaces({"type": "pid", "path": f"/proc/{container.pid}/ns/pid"})
        if userns:
            joining.namespaces({"type": "user", "path": f"/proc/{container.pid}/ns/user"})
            if runtime.name != "ocirun":
                joining.linux(**{k: attacker.spec["linux"][k] for k in ("uidMappings", "gidMappings")})
        payloads.add(joining.inside("/probe").stat().st_ino)
        if number == 0:
            # It stays until it is seen, which shows that the attacker looks.
            stays = runtime.create(joining).start()
            assert container.line()["seen"] == 1
            stays.delete("--force").ok()
        else:
            runtime.run(joining).ok()
    attacker.file("/enough")
    outcome = container.line()
    won = [entry for entry in outcome["won"] if entry["ino"] not in payloads]
    assert won == []
    assert installation(runtime) == before


@pytest.mark.parametrize("userns", [False, True])
def test_executable_cannot_be_overwritten_by_exec(runtime: RuntimeCommand, mkbundle: MkBundle, userns: bool) -> None:
    """S-01, CVE-2019-5736: what exec brings into the container cannot be changed from inside."""
    caps = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
    attacker = mkbundle().capabilities(*caps).seq(["exe-attack", "/enough"], "sleep")
    if userns:
        attacker.userns()
    shutil.copy2(attacker.inside("/probe"), attacker.inside("/victim"))
    before = installation(runtime)
    container = runtime.create(attacker).start()
    assert container.line()["ready"]
    # The first stays until it is seen, which shows that the attacker looks.
    runtime.call("exec", "--detach", attacker.id, "/victim", "sleep").ok()
    assert container.line()["seen"] == 1
    for _ in range(11):
        runtime.call("exec", attacker.id, "/victim", "exit", "0").ok()
    attacker.file("/enough")
    outcome = container.line()
    payload = attacker.inside("/victim").stat().st_ino
    assert [entry for entry in outcome["won"] if entry["ino"] != payload] == []
    assert installation(runtime) == before


@pytest.mark.ocirun_only("S-03 is about our own init")
def test_waiting_init_is_sealed(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-03: init runs from a sealed memfd and maps nothing else from a file."""
    import fcntl

    container = runtime.create(bundle)
    exe = f"/proc/{container.pid}/exe"
    assert os.readlink(exe).startswith("/memfd:")
    fd = os.open(exe, os.O_RDONLY)
    try:
        seals = fcntl.fcntl(fd, 1034)  # F_GET_SEALS
        assert seals & 0xF == 0xF
    finally:
        os.close(fd)
    maps = Path(f"/proc/{container.pid}/maps").read_text()
    files = {line.split(None, 5)[5] for line in maps.splitlines() if len(line.split(None, 5)) == 6}
    assert {f for f in files if not f.startswith(("[", "/memfd:"))} == set()
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert re.search(r"NoNewPrivs:\t\d", status)
    assert os.stat(f"/proc/{container.pid}/fd").st_uid == 0


@pytest.mark.ocirun_only("S-03 is about our own init")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("tmpfs", [False, True])
def test_init_without_memfd(runtime: RuntimeCommand, bundle: Bundle, error: str, tmpfs: bool) -> None:
    """S-03: without memfd_create init's file is read-only or has no name, or create is refused.

    The state root is a directory on a disk, or on a tmpfs, whose files can be asked for seals as well.
    """
    if tmpfs:
        runtime.root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", runtime.root], check=True)
    try:
        _init_without_memfd(runtime, bundle, error)
        runtime.cleanup()
    finally:
        if tmpfs:
            subprocess.run(["umount", runtime.root], check=True)


def _init_without_memfd(runtime: RuntimeCommand, bundle: Bundle, error: str) -> None:
    result = runtime.under(*compat("memfd_create", error)).try_create(bundle)
    result.ok()
    pid = runtime.state(bundle.id)["pid"]
    st = os.stat(f"/proc/{pid}/exe")
    vfs = os.statvfs(f"/proc/{pid}/exe")
    assert st.st_nlink == 0 or vfs.f_flag & os.ST_RDONLY
    assert st.st_mode & 0o222 == 0 or vfs.f_flag & os.ST_RDONLY


SHADOWED = [
    "abc",
    "argparse",
    "array",
    "ast",
    "base64",
    "bisect",
    "builtins",
    "cffi",
    "codecs",
    "collections",
    "contextlib",
    "copy",
    "ctypes",
    "dataclasses",
    "datetime",
    "encodings",
    "enum",
    "errno",
    "fcntl",
    "functools",
    "genericpath",
    "glob",
    "grp",
    "hashlib",
    "heapq",
    "importlib",
    "inspect",
    "io",
    "itertools",
    "json",
    "jsonschema",
    "keyword",
    "linecache",
    "locale",
    "logging",
    "math",
    "ocirun",
    "operator",
    "os",
    "pathlib",
    "platform",
    "posixpath",
    "pwd",
    "pyroute2",
    "queue",
    "random",
    "re",
    "reprlib",
    "resource",
    "secrets",
    "select",
    "selectors",
    "shlex",
    "shutil",
    "signal",
    "site",
    "sitecustomize",
    "socket",
    "stat",
    "string",
    "struct",
    "subprocess",
    "sys",
    "tempfile",
    "termios",
    "textwrap",
    "threading",
    "time",
    "token",
    "tokenize",
    "traceback",
    "tty",
    "types",
    "typing",
    "usercustomize",
    "uuid",
    "warnings",
    "weakref",
    "zipimport",
    "zipfile",
    "_json",
]


@pytest.mark.ocirun_only("Python only")
def test_no_code_from_the_working_directory(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-67: modules of the bundle, PYTHONPATH and the user's site directory are never loaded."""
    marker = workdir / "code-ran"
    evil = f"open({str(marker)!r}, 'a').write(__name__ + chr(10))\n"
    site = workdir / "home/.local/lib/python3.11/site-packages"
    site.mkdir(parents=True)
    for place in (bundle.path, site, bundle.rootfs):
        for name in SHADOWED:
            (place / f"{name}.py").write_text(evil)
        (place / "evil.pth").write_text(f"import os; {evil}")
    env = {
        "PYTHONPATH": str(bundle.path),
        "PYTHONSTARTUP": str(bundle.path / "json.py"),
        "PYTHONUSERBASE": str(workdir / "home/.local"),
        "HOME": str(workdir / "home"),
        "PYTHONINSPECT": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    bundle.seq("ready", "sleep").write()
    runtime.remember(bundle.id)
    for words in (
        ["create", bundle.id],
        ["state", bundle.id],
        ["start", bundle.id],
        ["list"],
        ["kill", bundle.id, "KILL"],
        ["delete", "--force", bundle.id],
        ["--version"],
        ["features"],
        ["validate", str(bundle.path)],
    ):
        runtime.call(*words, env=env, cwd=bundle.path)
        assert not marker.exists(), (words, marker.read_text())


@pytest.mark.ocirun_only("Python only")
@pytest.mark.parametrize("value", ["C", "POSIX", "tr_TR.UTF-8", "nonsense"])
def test_locale_makes_no_difference(runtime: RuntimeCommand, bundle: Bundle, value: str) -> None:
    """R-43: under any locale the container is the same, and names beyond ASCII arrive."""
    bundle.process(args=["/probe", "report", "žluť"]).patch({"annotations": {"a.b": "ž"}})
    env = {"LC_ALL": value, "LANG": value, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    report = runtime.report(bundle, env=env)
    assert report["argv"][2] == "žluť"
    assert report["environ"] == ["PATH=/bin:/", "TEST=1"] or report["environ"][2].startswith("HOME=")


@pytest.mark.parametrize("cwd", ["/", "deleted", "unreadable"])
def test_working_directory_makes_no_difference(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, cwd: str
) -> None:
    """R-43: the caller's working directory may be gone or closed."""
    place = workdir / "cwd"
    place.mkdir()

    def enter() -> None:
        os.chdir("/" if cwd == "/" else place)
        if cwd == "deleted":
            place.rmdir()

    if cwd == "unreadable":
        place.chmod(0)
    if cwd == "deleted" and runtime.name != "ocirun":
        pytest.skip("peer: wants to know its working directory")
    assert runtime.report(bundle, before_exec=enter)["raw_cwd"] == "/"


@pytest.mark.ocirun_only("about our own init")
def test_init_opens_nothing_of_the_host(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-68: from its start init opens nothing by a path of /etc, /lib, /usr or in the rootfs."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = workdir / "trace"
    bundle.linux(maskedPaths=["/etc/passwd"], readonlyPaths=["/etc"]).mount("/m/x", "tmpfs")
    calls = "open,openat,openat2,creat,execve,execveat,mkdir,mknod,symlink,chown,chmod,mount"
    strace = ("strace", "-f", "-qq", "-o", str(trace), "-s", "4096", "-e", f"trace={calls}")
    runtime.under(*strace).run(bundle).ok()
    inits: set[str] = set()
    done: set[str] = set()
    bad = []
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, what = line.partition(" ")
        what = what.strip()
        if what.startswith("execveat("):
            inits.add(pid)
        elif what.startswith("execve(") and pid in inits:
            done.add(pid)
        elif pid in inits and pid not in done and "RESOLVE_IN_ROOT" not in what:
            # a path that is resolved in the root of the container means nothing of the host's
            paths = re.findall(r'"([^"]*)"', what)
            if any(path.startswith(("/etc", "/lib", "/usr", f"{bundle.rootfs}/")) for path in paths):
                bad.append(line)
    assert inits, "no execveat seen: the trace shows nothing"
    assert bad == []


# ---- names swapped while the container is made -------------------------------------------------------


@contextmanager
def swapping(probe: Path, first: Path, second: Path) -> Iterator[None]:
    """A process exchanges two names without pause."""
    words = [str(probe), "spin-rename", str(first), str(second)]
    with started(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"ready" in process.stdout.readline()
        yield


RUNS = 25


@pytest.mark.ocirun_only("runc 1.1.5 loses the race for /proc and made directories")
def test_mount_destination_is_swapped(
    runtime: RuntimeCommand, mkbundle: MkBundle, canary: Canary, probe: Path, workdir: Path
) -> None:
    """S-20, CVE-2021-30465: while a directory and a link outwards change places no mount gets out."""
    volume = workdir / "volume"
    (volume / "a/b").mkdir(parents=True)
    (volume / "x").symlink_to("../../../../../../../.." + str(canary.path))
    before = set(Path("/proc/self/mountinfo").read_text().splitlines())
    with swapping(probe, volume / "a", volume / "x"):
        for _ in range(RUNS):
            bundle = mkbundle().mount("/v", None, volume, "rbind").mount("/v/a/b", "tmpfs", "inner")
            bundle.seq("report", ["ls", "/"])
            result = runtime.run(bundle)
            assert set(Path("/proc/self/mountinfo").read_text().splitlines()) <= before
            if result.rc == 0:
                targets = {m.target for m in mounts(result.report["mountinfo"]) if m.source == "inner"}
                assert targets, result
                assert not any(target.startswith("/proc") for target in targets)
            else:
                result.refused()
    canary.assert_untouched()


@pytest.mark.ocirun_only("runc 1.1.5 loses the race for /proc and made directories")
def test_proc_is_swapped(
    runtime: RuntimeCommand, mkbundle: MkBundle, canary: Canary, probe: Path, workdir: Path
) -> None:
    """S-14: with /proc and a link changing places the container has a real procfs or is refused."""
    for _ in range(RUNS):
        bundle = mkbundle().linux(maskedPaths=["/proc/keys"], readonlyPaths=["/proc/sys"])
        bundle.symlink("/other", str(canary.path)).seq(
            ["stat", "/proc", "/proc/keys"], ["write", "/proc/sys/kernel/hostname", "x"]
        )
        try:
            with swapping(probe, bundle.inside("/proc"), bundle.inside("/other")):
                container = runtime.create(bundle)
        except CreateFailed as failure:
            failure.result.refused()
            canary.assert_untouched()
            continue
        if bundle.inside("/proc").is_symlink():
            # A mount goes along when another namespace renames its directory.  That the attacker can
            # do at any time; what counts is where the runtime mounted and masked.
            bundle.inside("/proc").unlink()
            bundle.inside("/other").rename(bundle.inside("/proc"))
        result = container.finish()
        assert (result.files["/proc"]["fs"], result.files["/proc"]["ino"]) == (0x9FA0, 1)
        assert result.files["/proc/keys"]["rdev"] == [1, 3]
        assert result.outcomes("write")["/proc/sys/kernel/hostname"] == "EROFS"
        canary.assert_untouched()


@pytest.mark.ocirun_only("runc 1.1.5 loses the race for /proc and made directories")
def test_masked_path_is_swapped(runtime: RuntimeCommand, mkbundle: MkBundle, canary: Canary, probe: Path) -> None:
    """S-25, S-27: a masked file that is exchanged with a link never shows or changes what is outside."""
    for _ in range(RUNS):
        bundle = mkbundle().file("/secret", "hide me").symlink("/link", str(canary.file))
        bundle.linux(maskedPaths=["/secret"], readonlyPaths=["/secret"])
        bundle.seq(["read", "/secret"], ["write", "/secret", "x"])
        with swapping(probe, bundle.inside("/secret"), bundle.inside("/link")):
            result = runtime.run(bundle)
        canary.assert_untouched()
        if result.rc != 0:
            result.refused()


@pytest.mark.ocirun_only("runc 1.1.5 loses the race for /proc and made directories")
def test_made_directories_are_swapped(
    runtime: RuntimeCommand, mkbundle: MkBundle, canary: Canary, probe: Path, workdir: Path
) -> None:
    """S-34, CVE-2024-45310: directories for a mount are never made outside the root."""
    for _ in range(RUNS):
        bundle = mkbundle().dir("/v/real").symlink("/v/link", str(canary.path / "empty"))
        bundle.mount("/v/real/x1/x2/x3/x4/file", "tmpfs", "tmpfs")
        with swapping(probe, bundle.inside("/v/real"), bundle.inside("/v/link")):
            result = runtime.run(bundle)
        canary.assert_untouched()
        if result.rc != 0:
            result.refused()
