# SPDX-License-Identifier: Apache-2.0
"""config.json: mounts (config.md#mounts), each option seen in mountinfo and by what it does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.canary import Canary
from support.command import RuntimeCommand
from support.report import mount_at, mounts

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]

# options -> (per-mount options that must be there, that must not be there, filesystem options likewise)
TABLE: list[tuple[list[str], str, str, str, str]] = [
    (["ro"], "ro", "rw", "", ""),
    (["rw"], "rw", "ro", "", ""),
    (["ro", "rw"], "rw", "ro", "", ""),
    (["rw", "ro"], "ro", "rw", "", ""),
    (["nosuid"], "nosuid", "", "", ""),
    (["nosuid", "suid"], "", "nosuid", "", ""),
    (["nodev"], "nodev", "", "", ""),
    (["nodev", "dev"], "", "nodev", "", ""),
    (["noexec"], "noexec", "", "", ""),
    (["noexec", "exec"], "", "noexec", "", ""),
    (["noatime"], "noatime", "relatime", "", ""),
    (["noatime", "atime"], "relatime", "noatime", "", ""),
    (["nodiratime"], "nodiratime", "", "", ""),
    (["nodiratime", "diratime"], "", "nodiratime", "", ""),
    (["relatime"], "relatime", "noatime", "", ""),
    (["strictatime"], "", "relatime noatime", "", ""),
    (["strictatime", "nostrictatime"], "relatime", "", "", ""),
    (["relatime", "strictatime"], "", "relatime noatime", "", ""),
    (["noatime", "strictatime"], "", "relatime noatime", "", ""),
    (["sync"], "", "", "sync", ""),
    (["sync", "async"], "", "", "", "sync"),
    (["dirsync"], "", "", "dirsync", ""),
    (["nosuid", "nodev", "noexec", "ro"], "nosuid nodev noexec ro", "", "", ""),
    ([], "rw relatime", "ro nosuid nodev noexec noatime", "", "sync"),
]


def check_table(runtime: RuntimeCommand, bundle: Bundle, table: list[tuple[list[str], str, str, str, str]]) -> None:
    """Mount a tmpfs per row in one container and compare mountinfo."""
    for number, (options, *_) in enumerate(table):
        bundle.mount(f"/m/{number}", "tmpfs", "tmpfs", *options)
    mountinfo = runtime.report(bundle)["mountinfo"]
    wrong = []
    for number, (options, have, have_not, fs_have, fs_have_not) in enumerate(table):
        mount = mount_at(mountinfo, f"/m/{number}")
        if not (
            set(have.split()) <= mount.options
            and not set(have_not.split()) & mount.options
            and set(fs_have.split()) <= mount.data
            and not set(fs_have_not.split()) & mount.data
        ):
            wrong.append((options, mount))
    assert not wrong


def test_options_that_must_be_understood(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-24: each option of the table has its effect in mountinfo, and the last of a pair wins."""
    check_table(runtime, bundle, TABLE)


@pytest.mark.parametrize(
    ("options", "have"),
    [
        pytest.param(["defaults"], "rw", marks=pytest.mark.peer_fails(runc="passes it to the kernel")),
        pytest.param(["norelatime"], "rw"),
        pytest.param(["mand"], "rw"),
        pytest.param(["nomand"], "rw"),
        pytest.param(["iversion"], "rw", marks=pytest.mark.peer_fails(crun="not in 1.8.1's table")),
        pytest.param(["noiversion"], "rw", marks=pytest.mark.peer_fails(crun="not in 1.8.1's table")),
        pytest.param(["lazytime"], "rw"),
        pytest.param(["nolazytime"], "rw"),
        pytest.param(["silent"], "rw", marks=pytest.mark.peer_fails(crun="not in 1.8.1's table")),
        pytest.param(["loud"], "rw", marks=pytest.mark.peer_fails(crun="not in 1.8.1's table")),
        pytest.param(
            ["nosymfollow"],
            "nosymfollow",
            marks=pytest.mark.peer_fails(crun="1.8.1 passes it to the kernel"),
        ),
        pytest.param(
            ["nosymfollow", "symfollow"],
            "rw",
            marks=pytest.mark.peer_fails(crun="1.8.1 passes it to the kernel"),
        ),
    ],
    ids=str,
)
def test_rarer_options(runtime: RuntimeCommand, bundle: Bundle, options: list[str], have: str) -> None:
    """Options that peers do not all know are understood, and do not reach the filesystem as data."""
    bundle.mount("/m", "tmpfs", "tmpfs", *options)
    mount = mount_at(runtime.report(bundle)["mountinfo"], "/m")
    assert set(have.split()) <= mount.options, mount


def test_lazytime_is_seen(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """lazytime is an option of the filesystem, where the kernel shows it."""
    bundle.mount("/m", "tmpfs", "tmpfs", "lazytime")
    assert "lazytime" in mount_at(runtime.report(bundle)["mountinfo"], "/m").data


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (["silent"], {"MS_SILENT"}),
        (["iversion"], {"MS_I_VERSION"}),
        (["silent", "iversion", "sync", "nosuid", "ro"], {"MS_SILENT", "MS_I_VERSION", "MS_SYNCHRONOUS"}),
        (["silent", "loud", "iversion", "noiversion", "nodev"], set()),
    ],
    ids=str,
)
@pytest.mark.ocirun_only("each passes what it knows in a way of its own")
def test_flags_that_nothing_shows(
    runtime: RuntimeCommand, bundle: Bundle, options: list[str], flags: set[str]
) -> None:
    """silent and iversion are passed to the kernel, which shows them nowhere; their opposites take them back.  The
    other options of the same mount have their effect."""
    bundle.mount("/m", "tmpfs", "tmpfs", "size=1m", *options)
    trace = bundle.path / "trace"
    traced = runtime.under("strace", "-f", "-qq", "-e", "trace=mount", "-o", str(trace))
    mount = mount_at(traced.report(bundle)["mountinfo"], "/m")
    assert "size=1024k" in mount.data
    assert {"ro", "nosuid", "nodev"} & set(options) <= mount.options
    assert ("sync" in mount.data) == ("sync" in options)
    found = {flag for flag in ("MS_SILENT", "MS_I_VERSION", "MS_SYNCHRONOUS") if flag in trace.read_text()}
    assert found == flags


@pytest.mark.vm
@pytest.mark.parametrize("option", ["silent", "loud", None])
@pytest.mark.ocirun_only("crun 1.8.1 passes the words to the file system")
def test_silent(runtime: RuntimeCommand, bundle: Bundle, option: str | None) -> None:
    """With silent the kernel's log says nothing of a mount that fails."""
    (bundle.path / "image").write_bytes(bytes(1 << 20))
    done = subprocess.run(["losetup", "-f", "--show", bundle.path / "image"], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("machine: no loop device, or no kernel log")
    device = done.stdout.strip()
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.lseek(log, 0, os.SEEK_END)
        bundle.mount("/m", "ext4", device, *([option] if option else []))
        failed = runtime.run(bundle).refused("/m")
        said = []
        with contextlib.suppress(BlockingIOError):
            while True:
                with contextlib.suppress(BrokenPipeError):  # lines that were overwritten before they were read
                    said.append(os.read(log, 8192).decode("utf-8", "replace"))
    finally:
        os.close(log)
        subprocess.run(["losetup", "-d", device], check=True)
    name = device.removeprefix("/dev/")
    assert any(f"EXT4-fs ({name})" in line for line in said) == (option != "silent"), (said, failed)


@pytest.mark.parametrize(("option", "opposite"), [("sync", "async"), ("lazytime", "nolazytime")])
def test_remount_takes_options_of_the_file_system_back(
    runtime: RuntimeCommand, bundle: Bundle, option: str, opposite: str
) -> None:
    """async and its like have an effect on a mount that is there."""
    bundle.mount("/m", "tmpfs", "tmpfs", option, "dirsync").mount("/m", "tmpfs", "tmpfs", "remount", opposite)
    bundle.mount("/n", "tmpfs", "tmpfs").mount("/n", "tmpfs", "tmpfs", "remount", option)
    mountinfo = runtime.report(bundle)["mountinfo"]
    assert option not in mount_at(mountinfo, "/m").data
    assert option in mount_at(mountinfo, "/n").data


@pytest.mark.ocirun_only("left out without a word")
def test_options_of_a_file_system_on_a_bind(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """What belongs to the file system a bind shares with its source: left out, and said."""
    (bundle.path / "dir").mkdir()
    bundle.mount("/m", None, "dir", "bind", "sync", "iversion", "noexec").write()
    mount = mount_at(runtime.report(bundle)["mountinfo"], "/m")
    assert "sync" not in mount.data
    assert "noexec" in mount.options
    index = len(bundle.spec["mounts"]) - 1
    plan = runtime.call("plan", str(bundle.path)).ok().stdout.decode()
    assert f"/mounts/{index}/options: sync, iversion: left out" in plan


def test_options_do_what_they_say(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-24: writes, programs, devices and set-user-ID bits are really stopped."""
    source = bundle.path / "source"
    source.mkdir()
    (source / "suid").write_bytes(bundle.inside("/probe").read_bytes())
    (source / "suid").chmod(0o4755)
    os.mknod(source / "zero", 0o020666, os.makedev(1, 5))
    (source / "zero").chmod(0o666)
    (source / "link").symlink_to("suid")
    for name in ("ro", "noexec", "nosuid", "nodev"):
        bundle.mount(f"/{name}", None, "source", "bind", name)
    bundle.mount("/plain", None, "source", "bind")
    bundle.process(user={"uid": 1000, "gid": 1000}).linux(resources={"devices": [{"allow": True, "access": "rwm"}]})
    bundle.seq(
        ["open", "/ro/suid", "wronly"],
        ["create", "/ro/new", "x"],
        ["run", "/noexec/suid", "exit", "3"],
        ["run", "/nosuid/suid", "report"],
        ["run", "/plain/suid", "report"],
        ["open", "/nodev/zero", "rdonly"],
        ["open", "/plain/zero", "rdonly"],
    )
    result = runtime.run(bundle).ok()
    opened = result.outcomes("open")
    assert opened["/ro/suid"] in ("EROFS", "EACCES")
    assert result.outcomes("create")["/ro/new"] == "EROFS"
    assert opened["/nodev/zero"] == "EACCES"
    assert opened["/plain/zero"] == "ok"
    assert result.outcomes("run")["/noexec/suid"] == "EACCES"
    nosuid, plain = result.all("report")
    assert (nosuid["uids"][1], plain["uids"][1]) == (1000, 0)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["rw", "rro"], "ro"),
        (["rro", "rw"], "ro"),
        (["exec", "rnoexec"], "noexec"),
        (["rnoexec"], "noexec"),
        (["strictatime", "rnoatime"], "noatime"),
    ],
    ids=str,
)
def test_recursive_options_win_over_plain_ones(
    runtime: RuntimeCommand, bundle: Bundle, options: list[str], shown: str
) -> None:
    """A recursive option is for the top of the tree too, whatever a plain one says."""
    (bundle.path / "source").mkdir()
    bundle.mount("/m", None, "source", "rbind", *options)
    assert shown in mount_at(runtime.report(bundle)["mountinfo"], "/m").options


def test_access_times(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """noatime leaves the access time alone, strictatime changes it with each read."""
    source = bundle.path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    os.utime(source / "file", ns=(10**18, 10**18))
    bundle.mount("/no", None, "source", "bind", "noatime")
    bundle.mount("/strict", None, "source", "bind", "strictatime")
    bundle.seq(
        ["read", "/no/file"],
        ["stat", "/no/file"],
        ["read", "/strict/file"],
        ["stat", "/strict/file"],
    )
    files = runtime.run(bundle).ok().files
    assert files["/no/file"]["atime_ns"] == 10**18
    assert files["/strict/file"]["atime_ns"] > 10**18


# ---- binds ---------------------------------------------------------------------------------------


def tree(bundle: Bundle) -> Path:
    """Make a directory with a submount in the test's own mount namespace; unmount it yourself."""
    source = bundle.path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("top\n")
    os.system(f"mount -t tmpfs tree '{source}/sub'")
    (source / "sub/inner").write_text("sub\n")
    return source


@pytest.fixture
def source(bundle: Bundle) -> Any:
    """A bind source with a tmpfs mounted on its "sub"."""
    path = tree(bundle)
    yield path
    os.system(f"umount -R '{path}/sub'")


def test_bind_and_rbind(runtime: RuntimeCommand, bundle: Bundle, source: Path) -> None:
    """bind shows the directory alone, rbind with what is mounted below it."""
    bundle.mount("/bind", None, "tree", "bind").mount("/rbind", None, source, "rbind")
    bundle.mount("/both", "bind", "tree", "rbind", "ro")
    bundle.seq(
        ["read", "/bind/file"],
        ["read", "/bind/sub/inner"],
        ["read", "/rbind/sub/inner"],
        ["create", "/both/new", "x"],
        ["create", "/both/sub/new", "x"],
        "report",
    )
    result = runtime.run(bundle).ok()
    assert result.reads["/bind/file"] == "top\n"
    assert result.reads["/bind/sub/inner"] == ("ENOENT",)
    assert result.reads["/rbind/sub/inner"] == "sub\n"
    # ro is not recursive: the submount stays writable, as mount(8) does
    assert result.outcomes("create") == {"/both/new": "EROFS", "/both/sub/new": "ok"}
    assert (source / "sub/new").exists()
    assert {m.target for m in mounts(result.report["mountinfo"])} >= {"/rbind", "/rbind/sub"}


RECURSIVE = [
    ("rro", "ro", "rw"),
    ("rnosuid", "nosuid", ""),
    ("rnodev", "nodev", ""),
    ("rnoexec", "noexec", ""),
    ("rnoatime", "noatime", "relatime"),
    ("rnodiratime", "nodiratime", ""),
    ("rstrictatime", "", "relatime noatime"),
    ("rrelatime", "relatime", "noatime"),
]


@pytest.mark.kernel("5.12")
def test_recursive_options(runtime: RuntimeCommand, bundle: Bundle, source: Path) -> None:
    """S-24: the r* options hold in submounts as well."""
    for option, _, _ in RECURSIVE:
        bundle.mount(f"/{option}", None, "tree", "rbind", option)
    bundle.seq("report", ["create", "/rro/sub/new", "x"])
    result = runtime.run(bundle).ok()
    assert result.outcomes("create")["/rro/sub/new"] == "EROFS"
    for option, have, have_not in RECURSIVE:
        for target in (f"/{option}", f"/{option}/sub"):
            found = mount_at(result.report["mountinfo"], target)
            assert set(have.split()) <= found.options, (option, found)
            assert not set(have_not.split()) & found.options, (option, found)


@pytest.mark.kernel("5.12")
@pytest.mark.peer_fails(crun="1.8.1 does not know rnosymfollow")
def test_recursive_nosymfollow(runtime: RuntimeCommand, bundle: Bundle, source: Path) -> None:
    """rnosymfollow holds in submounts."""
    bundle.mount("/m", None, "tree", "rbind", "rnosymfollow")
    mountinfo = runtime.report(bundle)["mountinfo"]
    assert "nosymfollow" in mount_at(mountinfo, "/m").options
    assert "nosymfollow" in mount_at(mountinfo, "/m/sub").options


@pytest.mark.kernel("5.12")
def test_recursive_clearing_options(runtime: RuntimeCommand, bundle: Bundle, source: Path) -> None:
    """rrw, rsuid, rdev and rexec take the restriction away in submounts as well."""
    os.system(f"mount -o remount,bind,ro,nosuid,nodev,noexec '{source}/sub'")
    bundle.mount("/m", None, "tree", "rbind", "rrw", "rsuid", "rdev", "rexec")
    mountinfo = runtime.report(bundle)["mountinfo"]
    for target in ("/m", "/m/sub"):
        assert not {"ro", "nosuid", "nodev", "noexec"} & mount_at(mountinfo, target).options


def test_bind_keeps_the_flags_of_its_source(runtime: RuntimeCommand, bundle: Bundle, source: Path) -> None:
    """A plain bind keeps what restricts its source; naming the opposite takes it away."""
    os.system(f"mount -o remount,bind,nosuid,nodev,noexec '{source}/sub'")
    bundle.mount("/kept", None, "tree/sub", "bind")
    bundle.mount("/ro", None, "tree/sub", "bind", "ro")
    mountinfo = runtime.report(bundle)["mountinfo"]
    assert {"nosuid", "nodev", "noexec"} <= mount_at(mountinfo, "/kept").options
    assert "ro" in mount_at(mountinfo, "/ro").options


def test_bind_of_a_file(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A file is bound onto a file, which is made when missing, with its directories."""
    (bundle.path / "host-file").write_text("from the bundle\n")
    bundle.file("/existing", "image\n")
    bundle.mount("/made/deep/file", None, "host-file", "bind", "ro")
    bundle.mount("/existing", "none", "host-file", "bind")
    bundle.seq(
        ["read", "/made/deep/file"],
        ["write", "/made/deep/file", "x"],
        ["write", "/existing", "y"],
        ["stat", "/made", "/made/deep"],
    )
    result = runtime.run(bundle).ok()
    assert result.reads["/made/deep/file"] == "from the bundle\n"
    assert result.outcomes("write") == {"/made/deep/file": "EROFS", "/existing": "ok"}
    assert (bundle.path / "host-file").read_text() == "yrom the bundle\n"
    assert bundle.inside("/existing").read_text() == "image\n"
    assert {entry["mode"] for entry in result.files.values()} == {0o755}


@pytest.mark.parametrize(
    ("destination", "source", "options"),
    [
        ("/m", "no-such-source", ["bind"]),
        ("/file", "dir", ["bind"]),
        ("/dir", "file", ["bind"]),
        pytest.param(
            "/m",
            "dir",
            ["bind", "size=1m"],
            marks=pytest.mark.ocirun_only("filesystem data of a bind mount is ignored"),
        ),
        pytest.param("/m", "", ["bind"], marks=pytest.mark.ocirun_only("an empty source is the bundle")),
    ],
)
def test_bind_that_cannot_be(
    runtime: RuntimeCommand,
    bundle: Bundle,
    destination: str,
    source: str,
    options: list[str],
) -> None:
    """A missing source, a file on a directory, the reverse, and filesystem data are refused."""
    (bundle.path / "dir").mkdir()
    (bundle.path / "file").write_text("")
    bundle.file("/file").dir("/dir").mount(destination, None, source, *options)
    runtime.run(bundle).refused()


def test_order_of_mounts(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Mounts are made in the listed order: a later one lies in or over an earlier one."""
    (bundle.path / "a").mkdir()
    (bundle.path / "a/file").write_text("a\n")
    bundle.mount("/m", "tmpfs", "tmpfs").mount("/m/inner", None, "a", "bind")
    bundle.mount("/over", None, "a", "bind").mount("/over", "tmpfs", "tmpfs", "mode=0700")
    bundle.seq(["read", "/m/inner/file"], ["ls", "/over"])
    result = runtime.run(bundle).ok()
    assert result.reads["/m/inner/file"] == "a\n"
    assert result.one("ls")["names"] == []


# ---- propagation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recursive", ["", "r"])
def test_propagation_options(runtime: RuntimeCommand, bundle: Bundle, source: Path, recursive: str) -> None:
    """private, shared, slave and unbindable are seen in mountinfo, the r-forms in submounts too."""
    words = ("private", "shared", "slave", "unbindable")
    for word in words:
        bundle.mount(f"/{word}", None, "tree", "rbind", recursive + word)
    mountinfo = runtime.report(bundle)["mountinfo"]
    for word in words:
        top = mount_at(mountinfo, f"/{word}").propagation
        assert word in top or (word == "slave" and top == "slave+shared"), (word, mountinfo)
        if recursive:
            below = mount_at(mountinfo, f"/{word}/sub").propagation
            assert word in below, (word, below)


def test_mounts_never_reach_the_host(runtime: RuntimeCommand, bundle: Bundle, source: Path) -> None:
    """S-23: with the bundle on a shared mount, nothing of the container appears on the host."""
    before = Path("/proc/self/mountinfo").read_text()
    assert "shared:" in before
    for propagation in ("shared", "slave", "private", None):
        bundle.again().linux(rootfsPropagation=propagation)
        bundle.spec["mounts"] = bundle.spec["mounts"][:3]
        bundle.mount("/m", "tmpfs", "tmpfs", "shared").mount("/t", None, "tree", "rbind", "rslave")
        container = runtime.create(bundle.seq("ready", "sleep")).start()
        container.line()
        assert Path("/proc/self/mountinfo").read_text() == before
        container.delete("--force").ok()
    bundle.again().mount("/bad", "nosuchfs", "x")
    runtime.run(bundle).refused()
    assert Path("/proc/self/mountinfo").read_text() == before


# ---- filesystems and their data ------------------------------------------------------------------


def test_filesystem_data(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Options that are not flags go to the filesystem."""
    bundle.mount("/m", "tmpfs", "tmpfs", "size=2m", "mode=0710", "uid=12", "gid=34", "nr_inodes=100", "ro")
    bundle.seq("report", ["stat", "/m"])
    result = runtime.run(bundle).ok()
    mount = mount_at(result.report["mountinfo"], "/m")
    assert {"size=2048k", "nr_inodes=100"} <= mount.data
    assert "ro" in mount.options
    entry = result.files["/m"]
    assert (entry["mode"], entry["uid"], entry["gid"]) == (0o710, 12, 34)


def test_options_with_odd_characters(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Source and destination may hold blanks, quotes and bytes beyond ASCII."""
    name = "a b\t\"'ž,\\n"
    (bundle.path / name).mkdir()
    (bundle.path / name / "file").write_text("odd\n")
    bundle.mount(f"/{name}", None, name, "bind").mount("/t", "tmpfs", "an odd source")
    bundle.seq(["read", f"/{name}/file"], "report")
    result = runtime.run(bundle).ok()
    assert result.reads[f"/{name}/file"] == "odd\n"
    assert mount_at(result.report["mountinfo"], "/t").source == "an odd source"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tmpfs", ["nosuchoption"]),
        ("tmpfs", ["size=abc"]),
        ("nosuchfs", []),
        ("tmpfs", ["mode=99999999"]),
    ],
)
def test_filesystem_that_cannot_be(runtime: RuntimeCommand, bundle: Bundle, kind: str, options: list[str]) -> None:
    """What the filesystem refuses is an error of create that names the mount."""
    runtime.run(bundle.mount("/mm", kind, "x", *options)).refused("/mm")


def test_default_filesystems(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """proc, sysfs, mqueue, devpts and shm mount as their own types."""
    bundle.mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid")
    bundle.mount("/dev/shm", "tmpfs", "shm", "mode=1777", "size=64k")
    bundle.seq("report", ["stat", "/proc", "/sys", "/dev/shm", "/dev/pts/ptmx"])
    result = runtime.run(bundle).ok()
    types = {m.target: m.type for m in mounts(result.report["mountinfo"])}
    assert types["/proc"] == "proc"
    assert types["/sys"] == "sysfs"
    assert types["/dev/mqueue"] == "mqueue"
    assert types["/dev/pts"] == "devpts"
    assert result.files["/proc"]["fs"] == 0x9FA0
    assert result.files["/sys"]["fs"] == 0x62656572
    assert result.files["/dev/shm"]["mode"] == 0o1777
    assert result.files["/dev/pts/ptmx"]["rdev"] == [5, 2]


@pytest.mark.peer_fails(crun="1.8.1 needs the member mounts")
def test_no_mounts_at_all(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The member mounts may be absent; the program then has an empty /proc."""
    if runtime.name == "runc":
        pytest.skip("peer: runc needs /proc in the container")
    bundle.patch({"mounts": None}).seq(["ls", "/proc"], ["lstat", "/dev/null"])
    result = runtime.run(bundle).ok()
    assert result.one("ls")["names"] == []


def test_tmpcopyup(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """tmpcopyup fills the tmpfs with what the directory held: files, links, modes, owners."""
    bundle.file("/data/file", "content\n", 0o640).dir("/data/dir", 0o711)
    bundle.file("/data/dir/inner", b"\0\xff", 0o4755).symlink("/data/link", "file")
    os.chown(bundle.inside("/data/file"), 11, 22)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "mode=0750")
    bundle.seq(
        ["lstat", "/data/file", "/data/dir", "/data/dir/inner", "/data/link", "/data"],
        ["read", "/data/file"],
        ["create", "/data/new", "x"],
    )
    result = runtime.run(bundle).ok()
    files = result.files
    assert result.reads["/data/file"] == "content\n"
    entry = files["/data/file"]
    assert (entry["mode"], entry["uid"], entry["gid"]) == (0o640, 11, 22)
    assert files["/data/dir"]["mode"] == 0o711
    assert files["/data/dir/inner"]["mode"] == 0o4755
    assert files["/data/link"]["target"] == "file"
    assert not bundle.inside("/data/new").exists()


@pytest.mark.parametrize(
    "options,expected",
    [((), (0o711, 11, 22)), (("mode=1770",), (0o1770, 11, 22)), (("uid=5", "gid=6"), (0o711, 5, 6)), (("mode=700", "gid=7"), (0o700, 0, 7))],
    ids=["none", "mode", "owner", "both"],
)
@pytest.mark.ocirun_only("runc and crun take the owner from the options or are root's, and differ on the mode")
def test_tmpcopyup_and_the_root_of_the_mount(
    runtime: RuntimeCommand, bundle: Bundle, options: tuple[str, ...], expected: tuple[int, int, int]
) -> None:
    """What the options say of the mount's own mode and owner is so; else they are those of what is covered."""
    bundle.dir("/data", 0o711).file("/data/file", "content")
    os.chown(bundle.inside("/data"), 11, 22)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup", *options).seq(["lstat", "/data", "/data/file"])
    files = runtime.run(bundle).ok().files
    assert (files["/data"]["mode"], files["/data"]["uid"], files["/data"]["gid"]) == expected
    assert "/data/file" in files


def test_remount(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """remount changes an earlier mount."""
    bundle.mount("/m", "tmpfs", "tmpfs", "size=1m")
    bundle.mount("/m", "tmpfs", "tmpfs", "remount", "ro", "nosuid", "size=2m")
    found = [m for m in mounts(runtime.report(bundle)["mountinfo"]) if m.target == "/m"]
    assert len(found) == 1
    assert {"ro", "nosuid"} <= found[0].options
    assert "size=2048k" in found[0].data


# ---- where a mount may be ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uptime", "meminfo", "stat", "cpuinfo", "loadavg"])
def test_lxcfs_files_below_proc(runtime: RuntimeCommand, bundle: Bundle, name: str) -> None:
    """The few files below /proc that engines replace may be mounted over."""
    (bundle.path / "fake").write_text("fake\n")
    bundle.mount(f"/proc/{name}", None, "fake", "bind", "ro").seq(["read", f"/proc/{name}"])
    assert runtime.run(bundle).ok().reads[f"/proc/{name}"] == "fake\n"


@pytest.mark.parametrize("path", ["/proc/self/attr", "/proc/sys", "/proc/1", "/proc/../proc/sys"])
def test_nothing_else_below_proc(runtime: RuntimeCommand, bundle: Bundle, path: str) -> None:
    """CVE-2019-16884: any other mount below /proc is refused."""
    (bundle.path / "fake").mkdir()
    runtime.run(bundle.mount(path, None, "fake", "bind")).refused("proc")


@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_proc_must_be_procfs(runtime: RuntimeCommand, bundle: Bundle, kind: str) -> None:
    """CVE-2019-16884: a volume in the place of /proc is refused."""
    (bundle.path / "fake").mkdir()
    bundle.without_mount("/proc")
    if kind == "bind":
        bundle.mount("/proc", None, "fake", "bind")
    else:
        bundle.mount("/proc", "tmpfs", "tmpfs")
    runtime.run(bundle).refused("proc")


def test_destination_is_the_root(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """A mount on / is refused, in whatever way it is written."""
    for destination in ("/", "/.", "/tmp/..", "//"):
        bundle.again()
        bundle.spec["mounts"] = [
            *bundle.spec["mounts"][:3],
            {"destination": destination, "type": "tmpfs"},
        ]
        runtime.run(bundle).refused()


@pytest.mark.parametrize("destination", ["relative/dir", "relative"])
def test_relative_destination(runtime: RuntimeCommand, bundle: Bundle, destination: str) -> None:
    """A relative destination is deprecated and means relative to the root."""
    bundle.mount(destination, "tmpfs", "tmpfs")
    mountinfo = runtime.report(bundle)["mountinfo"]
    assert mount_at(mountinfo, "/" + destination).type == "tmpfs"


def test_destinations_stay_inside_the_root(runtime: RuntimeCommand, bundle: Bundle, canary: Canary) -> None:
    """S-21: links in the image, absolute or with "..", lead to a place inside the root."""
    bundle.dir("/real").symlink("/abs", "/real").symlink("/rel", "real").symlink("/up", "../../../real")
    bundle.symlink("/out", str(canary.path)).symlink("/chain", "abs")
    bundle.symlink("/dangling", "/made/by/runtime")
    wanted = {
        "/abs/1": "/real/1",
        "/rel/2": "/real/2",
        "/up/3": "/real/3",
        "/chain/4": "/real/4",
        "/../../real/5": "/real/5",
        "/real/./6": "/real/6",
        "//real//7/": "/real/7",
        "/out/8": f"{canary.path}/8",
        "/a/../real/9": "/real/9",
    }
    for destination in wanted:
        bundle.mount(destination, "tmpfs", "tmpfs")
    result = runtime.run(bundle).ok()
    targets = {m.target for m in mounts(result.report["mountinfo"]) if m.type == "tmpfs"}
    assert set(wanted.values()) <= targets
    canary.assert_untouched()


@pytest.mark.parametrize(
    "prepare",
    [
        lambda b: b.symlink("/x", "x").mount("/x/d", "tmpfs", "tmpfs"),
        lambda b: b.symlink("/a", "b").symlink("/b", "a").mount("/a", "tmpfs", "tmpfs"),
        lambda b: b.file("/f").mount("/f/d", "tmpfs", "tmpfs"),
        lambda b: b.file("/f").mount("/f", "tmpfs", "tmpfs"),
        lambda b: b.fifo("/p").mount("/p/d", "tmpfs", "tmpfs"),
        lambda b: b.mount("/" + "n" * 256, "tmpfs", "tmpfs"),
        lambda b: b.mount("/" + "d/" * 2100, "tmpfs", "tmpfs"),
    ],
    ids=["self-link", "loop", "below-file", "on-file", "below-fifo", "long-name", "long-path"],
)
def test_destination_that_cannot_be(
    runtime: RuntimeCommand, bundle: Bundle, prepare: Callable[[Bundle], Bundle], canary: Canary
) -> None:
    """S-21: loops, files in the way and names that are too long are errors, not accidents."""
    runtime.run(prepare(bundle)).refused()
    canary.assert_untouched()


def test_setgid_parent(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-35: directories made below a set-group-ID directory inherit its group, as mkdir does."""
    bundle.dir("/shared")
    os.chown(bundle.inside("/shared"), 0, 4242)
    bundle.inside("/shared").chmod(0o2775)
    bundle.mount("/shared/a/b", "tmpfs", "tmpfs")
    runtime.run(bundle).ok()
    made = bundle.inside("/shared/a").stat()
    assert made.st_gid == 4242
    assert made.st_mode & 0o777 == 0o755


@pytest.mark.peer_fails(runc="makes directories with the caller's umask")
def test_made_directories_do_not_depend_on_the_umask(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-34: directories and files that the runtime makes are 0755 under any umask of the caller."""
    (bundle.path / "file").write_text("")
    bundle.mount("/x/y", "tmpfs", "tmpfs").mount("/x/f", None, "file", "bind")
    runtime.run(bundle, before_exec=lambda: os.umask(0o077)).ok()
    assert bundle.inside("/x").stat().st_mode & 0o7777 == 0o755
    assert bundle.inside("/x/y").stat().st_mode & 0o7777 == 0o755


def test_many_mounts(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Three hundred mounts work, without three hundred descriptors at a time."""
    import resource

    (bundle.path / "dir").mkdir()
    for number in range(300):
        bundle.mount(f"/m/{number}", None, "dir", "bind", "ro")

    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000))

    mountinfo = runtime.report(bundle, before_exec=few_descriptors)["mountinfo"]
    assert sum(m.target.startswith("/m/") for m in mounts(mountinfo)) == 300
