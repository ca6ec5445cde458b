# SPDX-License-Identifier: Apache-2.0
"""V-18: what the command imports is never the caller's, a bundle's or a container's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand


def shadow(directory: Path, marker: Path) -> None:
    """Fill a directory with a module for every name that somebody could import; each leaves a mark."""
    directory.mkdir(parents=True, exist_ok=True)
    names = {*sys.stdlib_module_names, "ocirun", "cffi", "_cffi_backend", "jsonschema", "pyroute2", "sitecustomize",
             "usercustomize", "referencing", "attr", "rpds"}  # fmt: skip
    for name in names:
        (directory / f"{name}.py").write_text(
            f"import builtins\nbuiltins.open({str(marker)!r}, 'a').write({name!r} + '\\n')\n"
        )


@pytest.mark.root
def test_shadows_are_never_imported(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """S-67: every command from a bundle full of modules, with every variable that leads Python there."""
    marker = workdir / "imported"
    home = workdir / "home"
    shadow(bundle.path, marker)
    shadow(bundle.rootfs, marker)
    shadow(home / f".local/lib/python3.{sys.version_info[1]}/site-packages", marker)
    startup = workdir / "startup.py"
    startup.write_text(f"open({str(marker)!r}, 'a').write('startup\\n')\n")
    bundle.seq("ready", "sleep").write()
    runtime.remember(bundle.id)
    env = {
        "PYTHONPATH": str(bundle.path),
        "PYTHONHOME": str(bundle.path),
        "PYTHONUSERBASE": str(home / ".local"),
        "PYTHONSTARTUP": str(startup),
        "PYTHONINSPECT": "1",
        "PYTHONPLATLIBDIR": str(bundle.path),
        "PYTHONPROFILEIMPORTTIME": "1",
        "PYTHONBREAKPOINT": "ocirun.x",
        "HOME": str(home),
    }
    for words in (
        ["--version"],
        ["--help"],
        ["validate"],
        ["plan"],
        ["features"],
        ["spec", "--file", "new.json"],
        ["list"],
        ["create", "--bundle", ".", bundle.id],
        ["start", bundle.id],
        ["state", bundle.id],
        ["list", "--format", "json"],
        ["kill", bundle.id, "KILL"],
        ["delete", "--force", bundle.id],
        ["gc"],
    ):
        result = runtime.call(*words, cwd=bundle.path, env=env).ok()
        assert result.stderr == "", words
    runtime.call("state", "nosuch", cwd=bundle.path, env=env).refused()
    (bundle.path / "config.json").write_text('{"ociVersion": 1}')
    assert runtime.call("validate", cwd=bundle.path, env=env).rc == 1  # by jsonschema
    assert not marker.exists(), marker.read_text()


@pytest.mark.root
def test_locale_does_not_matter(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """Names in config.json are UTF-8 whatever the caller's locale, and so are our messages."""
    if Path("/usr/share/i18n/locales/en_US").exists():  # else there is no such locale, and C is taken
        latin = workdir / "en_US.ISO-8859-1"
        subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(latin)], check=True)
    odd = bundle.path / "žluť"
    bundle.rootfs.rename(odd)
    bundle.rootfs = odd
    bundle.patch({"root": {"path": "žluť"}})
    for env in ({"LC_ALL": "en_US.ISO-8859-1", "LOCPATH": str(workdir)}, {"LC_ALL": "C"}, {"LC_ALL": "nosuch"}):
        assert runtime.report(bundle.again(), env=env)["pid"] == 1
        result = runtime.call("create", "--bundle", f"{odd}/nosuch", "a", env=env)
        result.refused("žluť/nosuch/config.json")


@pytest.mark.root
def test_directory_that_cannot_be_entered(ocirun: RuntimeCommand, as_nobody: Callable[[], None]) -> None:
    """The command runs from a directory that its user may not even enter."""
    hidden = ocirun.workdir / "hidden"
    hidden.mkdir(mode=0o700)

    def enter_and_drop() -> None:
        os.chdir(hidden)
        as_nobody()

    assert ocirun.call("--version", before_exec=enter_and_drop).ok().stdout.startswith(b"ocirun version")
