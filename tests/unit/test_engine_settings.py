# SPDX-License-Identifier: Apache-2.0
"""What is proposed to each engine, and how its file is changed."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocirun.engines import NAMES, EngineConfigError, Request, containerd, crio, docker, podman
from ocirun.engines.config_file import ConfigFile

MODULES = {"podman": podman, "docker": docker, "containerd": containerd, "crio": crio}
FILES = {
    "podman": "etc/containers/containers.conf.d/50-ocirun.conf",
    "docker": "etc/docker/daemon.json",
    "containerd": "etc/containerd/config.toml",
    "crio": "etc/crio/crio.conf.d/50-ocirun.conf",
}
CRI = "io.containerd.grpc.v1.cri"
PATH = "/usr/bin/ocirun"

Json = Any


class Image:
    """A directory that stands for "/"."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(self, path: str, text: str, mode: int = 0o644) -> Path:
        place = self.directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)
        return place

    def read(self, engine: str) -> Json:
        """What the engine's file says now."""
        text = (self.directory / FILES[engine]).read_text()
        return json.loads(text) if engine == "docker" else tomllib.loads(text)

    def write(self, engine: str, name: str = "ocirun", command: str = PATH, **options: Any) -> str | None:
        """Do what is proposed; returns the backup, "" if there was nothing to do."""
        proposal = MODULES[engine].propose(Request(name, command, sysroot=str(self.directory), **options))
        text = proposal.file.edited(proposal.settings)
        return "" if text == proposal.file.text else proposal.file.replace(text)

    def notes(self, engine: str, **options: Any) -> list[str]:
        return MODULES[engine].propose(Request("ocirun", PATH, sysroot=str(self.directory), **options)).notes

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every file with its content and mode."""
        return {
            str(path.relative_to(self.directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
            for path in self.directory.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


@pytest.mark.parametrize("engine", NAMES)
def test_twice_is_once(image: Image, engine: str) -> None:
    """The second time there is nothing to do; a new path is one change, with a backup of what was there."""
    assert image.write(engine) is None
    first = image.files()
    assert image.write(engine) == ""
    assert image.files() == first
    backup = image.write(engine, command="/opt/ocirun")
    assert backup is not None
    assert Path(backup).read_bytes() == first[FILES[engine]][0]
    assert image.write(engine, command="/opt/ocirun") == ""


@pytest.mark.parametrize("engine", NAMES)
def test_new_files_can_be_read(image: Image, engine: str) -> None:
    """With a strict umask too: podman reads its files as the user who calls it."""
    before = os.umask(0o077)
    try:
        image.write(engine)
    finally:
        os.umask(before)
    path = image.directory / FILES[engine]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


# ---- podman ------------------------------------------------------------------------------------------


def test_podman_keeps_its_defaults(image: Image) -> None:
    """The lists have podman's defaults and ocirun, under both spellings; the list about KVM is left alone."""
    image.write("podman")
    engine = image.read("podman")["engine"]
    assert engine["runtimes"] == {"ocirun": [PATH]}
    assert {"crun", "runc", "kata", "runsc", "krun", "youki", "ocijail", "ocirun"} == set(engine["runtime_supports_json"])
    assert engine["runtime_supports_nocgroups"] == engine["runtime_supports_nocgroup"] == ["crun", "krun", "ocirun"]
    assert "runtime" not in engine
    assert "runtime_supports_kvm" not in engine
    image.write("podman", is_default=True)
    assert image.read("podman")["engine"] == {**engine, "runtime": "ocirun"}


def test_podman_keeps_the_lists_of_other_files(image: Image) -> None:
    """Files that podman reads before replace its defaults, or add to them, and we add to those."""
    image.put("usr/share/containers/containers.conf", '[engine]\nruntime_supports_json = ["vendor"]\n')
    image.put("etc/containers/containers.conf", '[engine]\nruntime_supports_nocgroups = ["mine", {append=true}]\n')
    image.put("etc/containers/containers.conf.d/10-a.conf", '[engine]\nruntime_supports_json = ["ten", { append = true }]\n')
    image.put("etc/containers/containers.conf.d/10-a.conf.old", "[engine\n")  # podman reads *.conf alone
    image.write("podman")
    engine = image.read("podman")["engine"]
    assert engine["runtime_supports_json"] == ["vendor", "ten", "ocirun"]
    assert engine["runtime_supports_nocgroups"] == ["crun", "krun", "mine", "ocirun"]


def test_podman_keeps_the_names_of_its_own_file(image: Image) -> None:
    """Whom somebody has added to our file stays there; files that are read later speak for themselves."""
    image.put(FILES["podman"], '[engine]\nruntime_supports_json = ["added"]\n')
    image.put("etc/containers/containers.conf.d/60-b.conf", '[engine]\nruntime_supports_json = ["later"]\n')
    image.write("podman")
    names = image.read("podman")["engine"]["runtime_supports_json"]
    assert names == [*podman.SUPPORTS_JSON, "added", "ocirun"]


def test_podman_of_a_user(image: Image) -> None:
    """A user's file is read after those of the machine, and its lists replace theirs."""
    image.put("usr/share/containers/containers.conf", '[engine]\nruntime_supports_json = ["vendor"]\n')
    image.put("etc/containers/containers.conf.d/60-z.conf", '[engine]\nruntime_supports_nocgroups = ["admin"]\n')
    image.write("podman", config_home="/home/u/.config")
    path = image.directory / "home/u/.config/containers/containers.conf.d/50-ocirun.conf"
    engine = tomllib.loads(path.read_text())["engine"]
    assert engine["runtime_supports_json"] == ["vendor", "ocirun"]
    assert engine["runtime_supports_nocgroups"] == ["admin", "ocirun"]


def test_podman_says_what_is_read_later(image: Image) -> None:
    """A file after ours that takes our settings back is named."""
    image.put("etc/containers/containers.conf.d/60-b.conf", '[engine]\nruntime = "crun"\nruntime_supports_json = ["crun"]\n')
    assert len(image.notes("podman", is_default=True)) == 2
    assert len(image.notes("podman")) == 1
    image.put("etc/containers/containers.conf.d/60-b.conf", '[engine]\nruntime = "ocirun"\n')
    assert image.notes("podman", is_default=True) == []


# ---- docker ------------------------------------------------------------------------------------------


def test_docker_keeps_what_is_there(image: Image) -> None:
    """Keys, other runtimes, our own arguments, mode, order and indentation."""
    text = '{\n  "log-level": "warn",\n  "runtimes": {"kata": {"path": "/k"}, "ocirun": {"path": "/old", "runtimeArgs": ["--debug"]}},\n  "dns": []\n}\n'
    path = image.put("etc/docker/daemon.json", text, 0o600)
    backup = image.write("docker", is_default=True)
    assert image.read("docker") == {
        "log-level": "warn",
        "runtimes": {"kata": {"path": "/k"}, "ocirun": {"path": PATH, "runtimeArgs": ["--debug"]}},
        "dns": [],
        "default-runtime": "ocirun",
    }
    assert list(image.read("docker")) == ["log-level", "runtimes", "dns", "default-runtime"]
    assert path.read_text().startswith('{\n  "log-level"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert backup == f"{path}.~1~"
    assert Path(backup).read_text() == text
    assert stat.S_IMODE(Path(backup).stat().st_mode) == 0o600


def test_docker_with_an_empty_file(image: Image) -> None:
    """dockerd takes an empty file for an empty object."""
    image.put("etc/docker/daemon.json", "\n")
    image.write("docker")
    assert image.read("docker") == {"runtimes": {"ocirun": {"path": PATH}}}


def test_docker_runtime_that_is_a_shim(image: Image) -> None:
    """dockerd refuses a runtime with a path and a runtimeType, so we refuse to write one."""
    image.put("etc/docker/daemon.json", '{"runtimes": {"ocirun": {"runtimeType": "io.containerd.runsc.v1"}}}')
    with pytest.raises(EngineConfigError, match=r"etc/docker/daemon\.json: .*runtimeType"):
        image.write("docker")


# ---- containerd --------------------------------------------------------------------------------------

CONTAINERD = """\
# ours
version = 2
imports = ["/etc/containerd/conf.d/*.toml"]

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "pause:3.9" # pinned
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"  # for now
      snapshotter = "overlayfs"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
          SystemdCgroup = true
# the end
"""


def test_containerd_file_is_changed_by_lines(image: Image) -> None:
    """Every line stays but the one that names the default; cgroups are made as for runc in the same file."""
    image.put("etc/containerd/config.toml", CONTAINERD)
    image.write("containerd", is_default=True)
    text = (image.directory / FILES["containerd"]).read_text()
    assert text.startswith(
        CONTAINERD.replace('default_runtime_name = "runc"  # for now', 'default_runtime_name = "ocirun"  # for now')
    )
    service = image.read("containerd")["plugins"][CRI]["containerd"]
    assert service["runtimes"]["ocirun"] == {
        "runtime_type": "io.containerd.runc.v2",
        "options": {"BinaryName": PATH, "SystemdCgroup": True},
    }
    assert set(service["runtimes"]) == {"runc", "ocirun"}
    assert image.write("containerd", is_default=True, systemd_cgroup=False) != ""
    assert image.read("containerd")["plugins"][CRI]["containerd"]["runtimes"]["ocirun"]["options"]["SystemdCgroup"] is False
    assert image.write("containerd", is_default=True) == ""  # and is not taken from runc again


def test_what_is_right_stays_to_the_letter(image: Image) -> None:
    """A setting that has its value already is not written anew, however it is written."""
    table = f'[plugins."{CRI}".containerd.runtimes.ocirun]\n  runtime_type = \'io.containerd.runc.v2\'\n'
    text = f'version = 2\n{table}[plugins."{CRI}".containerd.runtimes.ocirun.options]\n  BinaryName = "/old"\n'
    image.put("etc/containerd/config.toml", text)
    image.write("containerd")
    assert (image.directory / FILES["containerd"]).read_text() == text.replace("/old", PATH)


def test_containerd_keeps_runc(image: Image) -> None:
    """containerd 1.x has its own entry for runc only as long as the file has no runtimes."""
    image.put("etc/containerd/config.toml", 'version = 2\n[plugins."io.containerd.internal.v1.opt"]\n  path = "/opt"\n')
    image.write("containerd")
    runtimes = image.read("containerd")["plugins"][CRI]["containerd"]["runtimes"]
    assert runtimes["runc"] == {"runtime_type": "io.containerd.runc.v2"}


@pytest.mark.parametrize(("version", "plugin"), [(2, CRI), (3, "io.containerd.cri.v1.runtime"), (4, "io.containerd.cri.v1.runtime")])
def test_containerd_versions(image: Image, version: int, plugin: str) -> None:
    """Each version of the file has its own name for the service."""
    image.put("etc/containerd/config.toml", f"version = {version}\n")
    image.write("containerd")
    assert list(image.read("containerd")["plugins"]) == [plugin]
    assert image.read("containerd")["version"] == version


@pytest.mark.parametrize("text", ["root = '/x'\n", "version = 1\n", "version = 5\n", "version = '2'\n", "version = true\n"])
def test_containerd_versions_that_are_not_known(image: Image, text: str) -> None:
    """A file whose names we would have to guess is refused."""
    image.put("etc/containerd/config.toml", text)
    with pytest.raises(EngineConfigError, match=r"config\.toml: a file .*version") as caught:
        image.write("containerd")
    assert "config migrate" in (caught.value.hint or "")


def test_containerd_with_only_comments(image: Image) -> None:
    """Such a file says nothing of a version yet; the comments stay."""
    image.put("etc/containerd/config.toml", "# nothing here\n")
    image.write("containerd")
    assert image.read("containerd")["version"] == 2
    assert "# nothing here" in (image.directory / FILES["containerd"]).read_text()


def test_containerd_with_cri_switched_off(image: Image) -> None:
    """Docker's packages switch the service off: what we write would have no effect, and that is said."""
    image.put("etc/containerd/config.toml", 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    assert "disabled_plugins" in image.notes("containerd")[0]


def test_containerd_inline_table(image: Image) -> None:
    """What cannot be changed by lines is left to people, and the file as it is."""
    text = f'version = 2\nplugins = {{ "{CRI}" = {{}} }}\n'
    image.put("etc/containerd/config.toml", text)
    with pytest.raises(EngineConfigError, match=r"config\.toml: .*without touching"):
        image.write("containerd")
    assert image.files() == {FILES["containerd"]: (text.encode(), 0o644)}


# ---- CRI-O -------------------------------------------------------------------------------------------


def test_crio_handler(image: Image) -> None:
    """What the machine's own runtime has to know of it ours has to know too; CRI-O reads whatever lies in its directory."""
    image.put(
        "etc/crio/crio.conf.d/10-crio.conf",
        '[crio.runtime]\ndefault_runtime = "crun"\n[crio.runtime.runtimes.crun]\nruntime_path = "/usr/libexec/crio/crun"\n'
        'runtime_root = "/run/crun"\nmonitor_path = "/usr/libexec/crio/conmon"\nallowed_annotations = ["io.x"]\n',
    )
    image.write("crio", is_default=True)
    assert image.read("crio")["crio"]["runtime"] == {
        "default_runtime": "ocirun",
        "runtimes": {
            "ocirun": {
                "runtime_path": PATH,
                "runtime_type": "oci",
                "runtime_root": "/run/ocirun",
                "monitor_path": "/usr/libexec/crio/conmon",
                "allowed_annotations": ["io.x"],
            }
        },
    }
    assert image.write("crio", is_default=True) == ""
    image.write("crio", command="/new")
    assert sorted(os.listdir(image.directory / "etc/crio/crio.conf.d")) == ["10-crio.conf", "50-ocirun.conf"]
    assert sorted(os.listdir(image.directory / "etc/crio")) == ["50-ocirun.conf.~1~", "crio.conf.d"]


def crio_file(default: str | None = None, **monitors: str) -> str:
    """Return a file of CRI-O's with a default runtime, and where conmon is for each of some."""
    lines = [] if default is None else [f'[crio.runtime]\ndefault_runtime = "{default}"\n']
    return "".join([*lines, *(f'[crio.runtime.runtimes.{name}]\nmonitor_path = "{path}"\n' for name, path in monitors.items())])


@pytest.mark.parametrize(
    ("files", "monitor"),
    [
        ([crio_file("kata", crun="/crun", kata="/kata")], "/kata"),
        ([crio_file("crun", crun="/first", runc="/runc"), crio_file(crun="/last")], "/last"),
        ([crio_file("crun", crun="/crun", runc="/runc"), crio_file("runc")], "/runc"),
        ([crio_file("ocirun", ocirun="/stale", runc="/runc")], "/runc"),
        ([crio_file("nobody", kata="/kata")], None),
    ],
)
def test_crio_knows_the_machine_from_its_default(image: Image, files: list[str], monitor: str | None) -> None:
    """What the file says that was read last counts; of ocirun itself there is nothing to learn."""
    for number, text in enumerate(files):
        image.put(f"etc/crio/crio.conf.d/1{number}-a.conf", text)
    image.write("crio")
    assert image.read("crio")["crio"]["runtime"]["runtimes"]["ocirun"].get("monitor_path") == monitor


def test_crio_says_what_is_read_later(image: Image) -> None:
    """A file after ours that names another default is named; one before it has no say."""
    image.put("etc/crio/crio.conf.d/10-crio.conf", crio_file("crun"))
    assert image.notes("crio", is_default=True) == []
    image.put("etc/crio/crio.conf.d/60-late.conf", crio_file("runc"))
    (note,) = image.notes("crio", is_default=True)
    assert "60-late.conf" in note
    assert image.notes("crio") == []


# ---- files -------------------------------------------------------------------------------------------

BROKEN = {
    "podman": ("[engine\n", "line 1"),
    "docker": ('{\n  "dns": [1,\n}\n', "line 3"),
    "containerd": ("version = 2\nversion = 2\n", "line 2"),
    "crio": ("[crio]\na = \n", "line 2"),
}


@pytest.mark.parametrize("engine", NAMES)
def test_what_cannot_be_understood_is_left_alone(image: Image, engine: str) -> None:
    """The message has the file, the line and the reason, and nothing is written."""
    text, line = BROKEN[engine]
    image.put(FILES[engine], text)
    before = image.files()
    with pytest.raises(EngineConfigError) as caught:
        image.write(engine)
    assert str(image.directory / FILES[engine]) in str(caught.value)
    assert line in str(caught.value)
    assert image.files() == before


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("docker", '{"runtimes": []}'),
        ("docker", '{"runtimes": {"a": {}, "a": {}}}'),
        ("docker", '{"default-runtime": {}}'),
        ("docker", "[]"),
        ("docker", "{} {}"),
        ("docker", '{"a": NaN}'),
        ("podman", "engine = 1\n"),
        ("podman", "[[engine]]\n"),
        ("crio", "[crio]\nruntime = []\n"),
        ("containerd", "version = 2\nplugins = 3\n"),
    ],
)
def test_what_has_another_shape_is_left_alone(image: Image, engine: str, text: str) -> None:
    """A setting where a table should be, a key that is given twice, more than one document: no guess is made."""
    image.put(FILES[engine], text)
    before = image.files()
    with pytest.raises(EngineConfigError, match=FILES[engine].rpartition("/")[2]):
        image.write(engine, is_default=True)
    assert image.files() == before


def test_other_kinds_of_files(image: Image) -> None:
    """A directory, a FIFO, what is no text and what is far too large are refused; nobody waits for a FIFO."""
    path = image.directory / FILES["docker"]
    path.mkdir(parents=True)
    with pytest.raises(EngineConfigError, match="no regular file"):
        image.write("docker")
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(EngineConfigError, match="no regular file"):
        image.write("docker")
    path.unlink()
    path.write_bytes(b'{"a": 1,\n"\xff": 2}')
    with pytest.raises(EngineConfigError, match="line 2 is not UTF-8"):
        image.write("docker")
    path.write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(EngineConfigError, match="larger than 1 MiB"):
        image.write("docker")


def test_links(image: Image) -> None:
    """A link stays, and what it leads to is changed; one that leads out of an image is refused."""
    target = image.put("srv/daemon.json", "{}")
    path = image.directory / FILES["docker"]
    path.parent.mkdir(parents=True)
    path.symlink_to("../../srv/daemon.json")
    backup = image.write("docker")
    assert path.is_symlink()
    assert "ocirun" in target.read_text()
    assert backup == f"{target}.~1~"
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(EngineConfigError, match="leads out of"):
        image.write("docker")


def test_backups_are_kept(image: Image) -> None:
    """None is ever written over."""
    for number in range(1, 4):
        image.put(FILES["docker"], f'{{"max-concurrent-downloads": {number}}}')
        assert image.write("docker") == str(image.directory / f"{FILES['docker']}.~{number}~")
    for number in range(1, 4):
        kept = json.loads((image.directory / f"{FILES['docker']}.~{number}~").read_text())
        assert kept == {"max-concurrent-downloads": number}


def test_ownership_is_kept(image: Image) -> None:
    """A file of somebody else stays theirs."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path = image.put(FILES["docker"], "{}", 0o640)
    os.chown(path, 1234, 4321)
    image.write("docker")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)


@pytest.mark.parametrize("before", [None, "{}", '{"mtu": 9}'], ids=["new", "longer", "as long"])
def test_changes_of_others_are_not_lost(image: Image, before: str | None) -> None:
    """A file that was changed or made since it was read is not replaced, and nothing of ours stays."""
    path = image.directory / FILES["docker"]
    if before is not None:
        os.utime(image.put(FILES["docker"], before), ns=(1, 1))  # the kernel's clock has long ticks
    file = ConfigFile(f"/{FILES['docker']}", docker.json_text, sysroot=str(image.directory))
    image.put(FILES["docker"], '{"mtu": 8}')
    with pytest.raises(EngineConfigError, match="meanwhile"):
        file.replace("{}\n")
    assert image.files() == {FILES["docker"]: (path.read_bytes(), 0o644)}
    assert path.read_text() == '{"mtu": 8}'


@pytest.mark.parametrize("call", ["fsync", "fchmod", "link", "rename"])
def test_a_failure_changes_nothing(image: Image, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whatever fails on the way, the file is as it was and nothing lies beside it."""
    image.put(FILES["docker"], "{}")
    before = image.files()

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            image.write("docker")
    assert image.files() == before


def test_written_before_it_is_named(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is whole and on the disk before it takes the old one's name, and the directory after that."""
    image.put(FILES["docker"], "{}")
    seen: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            what = "directory" if name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else ""
            seen.append(f"{name} {what}".strip())
            return original(*arguments, **options)

        return call

    for name in ("fchmod", "fsync", "link", "rename"):
        monkeypatch.setattr(os, name, noting(name))
    image.write("docker")
    assert seen == ["fchmod", "fsync", "link", "rename", "fsync directory"]
