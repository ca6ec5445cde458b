# SPDX-License-Identifier: Apache-2.0
"""The same containers on kernels that lack system calls, or forbid them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from errno import EIO
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.canary import SECRET, Canary
from support.cgroup import until
from support.command import RuntimeCommand
from support.everything import everything, normalise
from support.native import MASKS, FaultK, compat, without
from support.oracle import descendants
from support.report import Json, mount_at, mounts

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("about our own fallbacks")]
MkBundle = Callable[..., Bundle]
MODES = [(mask, error) for mask in MASKS for error in ("ENOSYS", "EPERM")]
# For these there is a safe way without; for the others a clean refusal is as good.
MUST_WORK = {
    "openat2",
    "close_range",
    "pidfd",
    "clone3",
    "memfd_create",
    "execveat",
    "statx",
    "fchmodat2",
}


@pytest.fixture(scope="module")
def baselines() -> dict[bool, Any]:
    """What the container says when nothing is missing, by whether it has a user namespace."""
    return {}


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize(("mask", "error"), MODES)
def test_same_container(
    runtime: RuntimeCommand,
    mkbundle: MkBundle,
    baselines: dict[bool, Any],
    mask: str,
    error: str,
    userns: bool,
) -> None:
    """With system calls missing or forbidden the container is the same in every respect, or refused."""
    if userns not in baselines:
        result = runtime.run(everything(mkbundle(), userns)).ok()
        baselines[userns] = normalise(result)
        assert result.reads["/secret"] == ""
        assert result.report["seccomp"] == {"mode": 2, "filters": 1}
    result = runtime.under(*compat(mask, error)).run(everything(mkbundle(), userns))
    if result.rc != 0 and mask not in MUST_WORK:
        result.refused()
        return
    result.ok()
    assert normalise(result) == baselines[userns]
    assert result.report["seccomp"] == {"mode": 2, "filters": 2}


HARD = [(mask, error) for mask in ("openat2", "open_tree", "fsopen", "all") for error in ("ENOSYS", "EPERM")]


@pytest.mark.parametrize(("mask", "error"), HARD)
def test_links_stay_inside(runtime: RuntimeCommand, bundle: Bundle, canary: Canary, mask: str, error: str) -> None:
    """S-21: without openat2 the component walk keeps destinations inside the root."""
    bundle.dir("/real").symlink("/abs", "/real").symlink("/up", "../../../../real")
    bundle.symlink("/out", str(canary.path)).symlink("/a", "abs").dir("/real/sub").symlink("/real/sub/b", "../../a")
    wanted = {
        "/abs/1": "/real/1",
        "/up/2": "/real/2",
        "/out/3": f"{canary.path}/3",
        "/real/sub/b/4": "/real/4",
        "/../..//real/./5/": "/real/5",
    }
    for destination in wanted:
        bundle.mount(destination, "tmpfs", "tmpfs")
    result = runtime.under(*compat(mask, error)).run(bundle)
    canary.assert_untouched()
    if result.rc == 0:
        targets = {m.target for m in mounts(result.report["mountinfo"])}
        assert set(wanted.values()) <= targets
    else:
        assert mask != "openat2", result
        result.refused()


@pytest.mark.parametrize(("mask", "error"), HARD)
@pytest.mark.parametrize(
    "kind", ["proc-link", "proc-file", "dev-link", "null-link", "loop", "destination-link-to-proc"]
)
def test_hostile_images_are_refused_or_harmless(
    runtime: RuntimeCommand, bundle: Bundle, canary: Canary, mask: str, error: str, kind: str
) -> None:
    """S-13, S-25, S-29: what an image puts in the way is as harmless without the new system calls."""
    bundle.file("/secret", SECRET).linux(maskedPaths=["/secret"])
    bundle.seq(["read", "/secret"], ["stat", "/proc"])
    if kind == "proc-link":
        bundle.remove("/proc").symlink("/proc", str(canary.path))
    elif kind == "proc-file":
        bundle.remove("/proc").file("/proc")
    elif kind == "dev-link":
        bundle.remove("/dev").symlink("/dev", str(canary.path)).without_mount("/dev")
    elif kind == "null-link":
        bundle.without_mount("/dev").symlink("/dev/null", str(canary.file))
    elif kind == "loop":
        bundle.symlink("/x", "y").symlink("/y", "x").mount("/x/z", "tmpfs", "tmpfs")
    else:
        bundle.symlink("/p", "/proc/self").mount("/p/attr", "tmpfs", "tmpfs")
    result = runtime.under(*compat(mask, error)).run(bundle)
    canary.assert_untouched()
    if result.rc == 0:
        assert kind in ("null-link", "dev-link")
        assert result.reads["/secret"] == ""
        assert result.files["/proc"]["fs"] == 0x9FA0
    else:
        result.refused()


@pytest.mark.parametrize(("mask", "error"), [(m, e) for m in ("pidfd", "all") for e in ("ENOSYS", "EPERM")])
def test_lifecycle(runtime: RuntimeCommand, bundle: Bundle, mask: str, error: str) -> None:
    """Without pidfds the operations work on the right process."""
    poor = runtime.under(*compat(mask, error))
    container = poor.create(bundle.seq("ready", "sleep"))
    container.start().line()
    assert container.status() == "running"
    poor.call("delete", bundle.id).refused()
    container.kill(9).ok()
    container.wait()
    assert container.status() == "stopped"
    container.delete().ok()


@pytest.fixture
def tree(bundle: Bundle) -> Iterator[Path]:
    """A directory of the bundle with a tmpfs on its "sub", and one on that one's."""
    path = bundle.path / "tree"
    (path / "sub").mkdir(parents=True)
    os.system(f"mount -t tmpfs tree '{path}/sub' && mkdir '{path}/sub/deep' && mount -t tmpfs deep '{path}/sub/deep'")
    for directory in (path, path / "sub", path / "sub/deep"):
        (directory / "file").write_text("there\n")
    yield path
    os.system(f"umount -R '{path}/sub'")


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("calls", [("open_tree",), ("open_tree", "move_mount", "fsopen", "mount_setattr")], ids=len)
def test_bind_is_no_rbind(
    runtime: RuntimeCommand, bundle: Bundle, tree: Path, calls: tuple[str, ...], error: str, userns: bool
) -> None:
    """Without open_tree a bind brings no submounts along, an rbind all of them."""
    bundle.dir("/bind").dir("/rbind").mount("/bind", None, tree, "bind").mount("/rbind", None, tree, "rbind", "ro")
    if userns:
        bundle.userns()
    bundle.seq(
        "report", *(["read", f"/{kind}{place}/file"] for kind in ("bind", "rbind") for place in ("", "/sub", "/sub/deep"))
    )
    result = runtime.under(*without(error, *calls)).run(bundle)
    if userns and result.rc != 0:
        result.refused()
        return
    result.ok()
    assert result.reads == {
        "/bind/file": "there\n",
        "/bind/sub/file": ("ENOENT",),
        "/bind/sub/deep/file": ("ENOENT",),
        "/rbind/file": "there\n",
        "/rbind/sub/file": "there\n",
        "/rbind/sub/deep/file": "there\n",
    }
    targets = [mount.target for mount in mounts(result.report["mountinfo"])]
    assert [target for target in targets if target.startswith("/bind")] == ["/bind"]


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("calls", [("mount_setattr",), ("mount_setattr", "open_tree", "move_mount", "fsopen")], ids=len)
def test_readonly_paths_are_never_half_done(
    runtime: RuntimeCommand, bundle: Bundle, tree: Path, calls: tuple[str, ...], error: str
) -> None:
    """Without mount_setattr a path with mounts below it is refused: they would stay writable."""
    poor = runtime.under(*without(error, *calls))
    bundle.dir("/plain").mount("/v", None, tree, "rbind")
    bundle.linux(readonlyPaths=["/plain", "/v/sub/deep", "/proc/sys"])
    verbs = [["create", "/plain/x", "x"], ["create", "/v/sub/deep/x", "x"], ["create", "/v/sub/x", "x"]]
    result = poor.run(bundle.seq("report", *verbs)).ok()
    assert result.outcomes("create") == {"/plain/x": "EROFS", "/v/sub/deep/x": "EROFS", "/v/sub/x": "ok"}
    assert "ro" in mount_at(result.report["mountinfo"], "/proc/sys").options
    for path in ("/v", "/v/sub"):
        bundle.again().linux(readonlyPaths=["/plain", path])
        error_text = poor.run(bundle).refused("/linux/readonlyPaths/1", path, "mount_setattr").stderr
        assert "5.12" in error_text
    assert runtime.run(bundle.again()).ok().outcomes("create")["/v/sub/deep/x"] == "EROFS"


@pytest.fixture
def guarded(bundle: Bundle) -> Iterator[Path]:
    """A file system of the host with every restriction that a mount can have."""
    path = bundle.path / "guarded"
    path.mkdir()
    os.system(f"mount -t tmpfs -o nosuid,nodev,noexec,nosymfollow guarded '{path}'")
    yield path
    os.system(f"umount '{path}'")


def test_remounts_lose_nothing(runtime: RuntimeCommand, bundle: Bundle, guarded: Path, workdir: Path) -> None:
    """A remount in the place of mount_setattr repeats what the mount had; where nobody says what, it is not done."""
    keeps = {"ro", "nosuid", "nodev", "noexec", "nosymfollow"}
    bundle.mount("/v", None, guarded, "bind", "ro").patch({"root": {"readonly": True}}).args("report")
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"), only="fstatfs")
    poor = without("EPERM", "mount_setattr")
    result = runtime.under(*poor, *faultk.count()).run(bundle).ok()
    assert keeps <= mount_at(result.report["mountinfo"], "/v").options
    assert "ro" in mount_at(result.report["mountinfo"], "/").options
    calls = faultk.calls()
    refusals = ""
    for number, call in enumerate(calls):
        result = runtime.under(*poor, *faultk.fail(number, EIO)).run(bundle.again())
        if result.rc == 0:
            assert keeps <= mount_at(result.report["mountinfo"], "/v").options, call
        else:
            refusals += result.refused().stderr
    assert "/mounts/" in refusals
    assert "/root/readonly" in refusals


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_hook_without_pidfds(runtime: RuntimeCommand, bundle: Bundle, error: str) -> None:
    """S-60: without pidfd_send_signal a hook that hangs is ended as well, with what it started."""
    args = ["probe", "hook", str(bundle.path / "log"), "--tag", "x", "--hang"]
    hook = {"path": str(bundle.rootfs / "probe"), "args": args, "timeout": 1}
    bundle.patch({"hooks": {"createRuntime": [hook]}})
    runtime.under(*compat("pidfd", error)).run(bundle).refused("timed out")
    until(lambda: "probe" not in descendants().values(), "what the hook started is gone")


def test_report_is_complete(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """The comparison above would see a lost protection: masks, flags, ids, filter and limits differ."""
    bundle = everything(mkbundle())
    first = normalise(runtime.run(bundle).ok())
    bundle.again().linux(maskedPaths=[])
    assert normalise(runtime.run(bundle).ok()) != first
    report: Json = runtime.run(everything(mkbundle())).ok().report
    assert Path(report["raw_cwd"]) == Path("/tmp")
