# SPDX-License-Identifier: Apache-2.0
"""setup: what makes an engine use ocirun."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import RuntimeCommand

ENGINES = ("podman", "docker", "containerd", "crio")


@pytest.fixture
def image(workdir: Path) -> str:
    """An empty directory that stands for "/"."""
    path = workdir / "image"
    path.mkdir()
    return str(path)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_printed_is_what_is_written(ocirun: RuntimeCommand, image: str, engine: str) -> None:
    """Standard output has the settings alone, a document by itself; --write puts just that into a file."""
    shown = ocirun.call("setup", engine, "--sysroot", image).ok()
    assert not list(Path(image).iterdir()), "nothing is written unasked"
    written = ocirun.call("setup", engine, "--write", "--sysroot", image).ok().stdout.decode()
    path = Path(written.partition(":")[0])
    assert path.read_bytes() == shown.stdout
    assert str(path) in shown.stderr
    again = ocirun.call("setup", engine, "--write", "--sysroot", image).ok()
    assert b"not changed" in again.stdout
    changed = ocirun.call("setup", engine, "--write", "--sysroot", image, "--path", "/elsewhere/ocirun").ok()
    backup = Path(changed.stdout.decode().rpartition(": ")[2].strip())
    assert backup.read_bytes() == shown.stdout


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_are_told_of_the_installed_command(ocirun: RuntimeCommand, image: str, engine: str, workdir: Path) -> None:
    """The path is that of the command itself, however it was called, and it works."""
    link = workdir / "called"
    link.symlink_to(os.path.realpath(ocirun.argv[0]))
    shown = RuntimeCommand("ocirun", (str(link),), workdir).call("setup", engine, "--sysroot", image).ok()
    text = shown.stdout.decode()
    document = json.loads(text) if engine == "docker" else tomllib.loads(text)
    ends: list[str] = []

    def find(node: object) -> None:
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            find(child)
        if isinstance(node, str) and node.endswith("/ocirun") and node != "/run/ocirun":
            ends.append(node)

    find(document)
    assert len(ends) == 1
    assert b"ocirun version" in RuntimeCommand("ocirun", tuple(ends), workdir).call("--version").ok().stdout


def test_setup_refuses(ocirun: RuntimeCommand, image: str) -> None:
    """What cannot be meant, by name."""
    ocirun.call("setup", "lxc").refused("podman, docker, containerd, crio")
    ocirun.call("setup").refused("ENGINE")
    ocirun.call("setup", "docker", "--runtime-name", "a b").refused("--runtime-name")
    ocirun.call("setup", "docker", "--runtime-name", "../a").refused("--runtime-name")
    ocirun.call("setup", "docker", "--path", "ocirun").refused("--path")
    ocirun.call("setup", "docker", "--path", "/nosuch/ocirun").refused("no program")
    ocirun.call("setup", "docker", "--sysroot", "/nosuch").refused("no directory")
    ocirun.call("setup", "podman", "--systemd-cgroup").refused("at each call")
    ocirun.call("setup", "docker", "--sysroot", image, "--config", "here.json").refused("--config")


def test_setup_of_a_broken_file(ocirun: RuntimeCommand, image: str) -> None:
    """The file, the line and why; in a log as one record."""
    path = Path(image) / "etc/docker/daemon.json"
    path.parent.mkdir(parents=True)
    path.write_text('{\n  "dns": ["1.1.1.1"]\n  "mtu": 9000\n}\n')
    result = ocirun.call("setup", "docker", "--write", "--sysroot", image)
    result.refused(f"{path}: ")
    assert "line 3" in result.stderr
    record = json.loads(ocirun.call("--log-format", "json", "setup", "docker", "--sysroot", image).stderr)
    assert (record["level"], record["code"]) == ("error", "engine_config")
    assert path.read_text().startswith('{\n  "dns"')


def test_setup_of_another_file(ocirun: RuntimeCommand, workdir: Path) -> None:
    """--config names it, from the working directory on; the name decides nothing about what is in it."""
    (workdir / "settings").write_text('{"mtu": 9000}')
    ocirun.call("setup", "docker", "--write", "--config", "settings", "--runtime-name", "mine", cwd=workdir).ok()
    document = json.loads((workdir / "settings").read_text())
    assert document["mtu"] == 9000
    assert list(document["runtimes"]) == ["mine"]


def test_setup_of_containerd_for_systemd(ocirun: RuntimeCommand, image: str) -> None:
    """The one engine where it is a setting of the runtime."""
    for options, wanted in (([], None), (["--systemd-cgroup"], True), (["--systemd-cgroup=false"], False)):
        text = ocirun.call("setup", "containerd", "--sysroot", image, *options).ok().stdout.decode()
        service = tomllib.loads(text)["plugins"]["io.containerd.grpc.v1.cri"]["containerd"]
        assert service["runtimes"]["ocirun"]["options"].get("SystemdCgroup") is wanted


@pytest.mark.root
@pytest.mark.parametrize("engine", ENGINES[:3])
def test_setup_as_an_ordinary_user(
    ocirun: RuntimeCommand, as_nobody: Callable[[], None], engine: str, workdir: Path
) -> None:
    """The user's own configuration, where XDG has it; and what he may not write is said plainly."""
    if os.environ.get("OCIRUN_TEST_USER"):
        pytest.skip("needs root to become nobody")
    home = workdir / "home"
    home.mkdir()
    for path in (workdir, *workdir.parents):
        if path.stat().st_mode & 0o5 != 0o5:
            path.chmod(path.stat().st_mode | 0o5)
    os.chown(home, 65534, 65534)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(home / "xdg")}
    result = ocirun.call("setup", engine, "--write", env=env, before_exec=as_nobody).ok()
    assert result.stdout.decode().startswith(str(home / "xdg"))
    assert any((home / "xdg").rglob("*ocirun*" if engine == "podman" else "*.*"))
    shutil.rmtree(home / "xdg")
    os.chown(home, 0, 0)
    refused = ocirun.call("setup", engine, "--write", env=env, before_exec=as_nobody)
    refused.refused("EACCES")
    assert not list(home.iterdir())


@pytest.mark.root
def test_an_image_has_no_user(ocirun: RuntimeCommand, as_nobody: Callable[[], None], image: str) -> None:
    """--sysroot means the whole machine of an image, whoever asks: not the asking user's own configuration."""
    if os.environ.get("OCIRUN_TEST_USER"):
        pytest.skip("needs root to become nobody")
    for path in (Path(image), *Path(image).parents):
        if path.stat().st_mode & 0o5 != 0o5:
            path.chmod(path.stat().st_mode | 0o5)
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent/xdg"}
    shown = ocirun.call("setup", "docker", "--sysroot", image, env=env, before_exec=as_nobody).ok()
    assert f"{image}/etc/docker/daemon.json" in shown.stderr
