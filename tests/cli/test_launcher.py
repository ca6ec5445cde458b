# SPDX-License-Identifier: Apache-2.0
"""The program `ocirun`: which interpreter and which package it finds, and what it hands on to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from support.command import RuntimeCommand

VERSION = f"python3.{sys.version_info.minor}"
# In the place of boot.py: says what it was given.
BOOT = """
import json, os, posix, sys
print(json.dumps({
    "file": __file__,
    "argv": [os.fsencode(word).hex() for word in sys.argv[1:]],
    "executable": os.path.realpath(sys.executable),
    "isolated": sys.flags.isolated, "no_site": sys.flags.no_site, "utf8": sys.flags.utf8_mode,
    "path": sys.path,
    "environment": {k.hex(): v.hex() for k, v in posix.environ.items()},
}))
"""


class Tree:
    """An installation made for a test: the launcher, an interpreter, and a package that reports."""

    def __init__(self, prefix: Path, launcher: Path) -> None:
        self.prefix = prefix
        self.bin = prefix / "bin"
        self.bin.mkdir(parents=True)
        self.command = self.bin / "ocirun"
        shutil.copy2(launcher, self.command)

    def interpreter(self, name: str = VERSION) -> None:
        """Put an interpreter beside the launcher."""
        (self.bin / name).symlink_to(os.path.realpath(sys.executable))

    def package(self, place: str = f"lib/{VERSION}/site-packages") -> Path:
        """Put a package somewhere, return its boot.py."""
        boot = self.prefix / place / "ocirun/cli/boot.py"
        boot.parent.mkdir(parents=True)
        boot.write_text(BOOT)
        return boot

    def run(self, *words: str | bytes, command: Path | str | None = None, **options: Any) -> Any:
        """Start the launcher; return what the package says."""
        done = subprocess.run([command or self.command, *words], capture_output=True, check=False, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fail(self) -> str:
        """Start the launcher, which must fail; return its message."""
        done = subprocess.run([self.command, "list"], capture_output=True, check=False, text=True)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        return done.stderr


@pytest.fixture
def tree(ocirun: RuntimeCommand, workdir: Path) -> Tree:
    """An installation without interpreter and package."""
    return Tree(workdir / "prefix", Path(os.path.realpath(ocirun.argv[0])))


def test_what_is_handed_on(tree: Tree) -> None:
    """Words and environment arrive as they are; Python runs isolated, without site, in UTF-8 mode."""
    tree.interpreter()
    boot = tree.package()
    words = ("", "--root", "a b", "é", b"\xff\xfe", "-c", "--", "-S")
    environment = {b"PYTHONPATH": b"/nowhere", b"LC_ALL": b"xx_XX.ISO-8859-1", b"ODD": b"\xff=\n", b"EMPTY": b""}
    told = tree.run(*words, env=environment)
    assert told["argv"] == [os.fsencode(word).hex() for word in words]
    assert told["environment"] == {key.hex(): value.hex() for key, value in environment.items()}
    assert (told["isolated"], told["no_site"], told["utf8"]) == (1, 1, 1)
    assert told["file"] == str(boot)
    assert told["executable"] == os.path.realpath(sys.executable)
    assert "/nowhere" not in told["path"]


@pytest.mark.parametrize(
    "place",
    [
        f"lib/{VERSION}/site-packages",
        f"lib/{VERSION}/dist-packages",
        f"lib64/{VERSION}/site-packages",
    ],
)
def test_places_of_the_package(tree: Tree, place: str) -> None:
    """pip, Debian's pip and Fedora put it in different directories."""
    tree.interpreter()
    boot = tree.package(place)
    assert tree.run()["file"] == str(boot)


def test_package_of_a_distribution(tree: Tree) -> None:
    """Debian's own packages serve all versions, run by whatever python3 is."""
    tree.interpreter("python3")
    boot = tree.package("lib/python3/dist-packages")
    (tree.prefix / f"lib/{VERSION}").mkdir()  # the standard library has a directory of its own there
    assert tree.run()["file"] == str(boot)


@pytest.mark.parametrize("kind", ["link", "link to a link", "relative link", "by name", "relative"])
def test_ways_to_call_it(tree: Tree, workdir: Path, kind: str) -> None:
    """It finds its installation however it was called, also where it stands in for /usr/bin/runc."""
    tree.interpreter()
    boot = tree.package()
    other = workdir / "sbin"
    other.mkdir()
    environment = dict(os.environ)
    command: Path | str = other / "runc"
    cwd = workdir
    if kind == "link":
        os.symlink(tree.command, command)
    elif kind == "link to a link":
        (other / "ocirun").symlink_to(tree.command)
        os.symlink("ocirun", command)
    elif kind == "relative link":
        os.symlink("../prefix/bin/ocirun", command)
    elif kind == "by name":
        command, environment["PATH"] = "ocirun", str(tree.bin)
    else:
        command, cwd = "./ocirun", tree.bin
    assert tree.run("list", command=command, cwd=cwd, env=environment)["file"] == str(boot)


def test_newest_version_that_can_run(tree: Tree) -> None:
    """Of several versions the newest one counts that has an interpreter, and never one that is too old."""
    tree.interpreter()
    boot = tree.package()
    for name in ("python3.99", "python3.10", "python3.9", "python3.x", "python3.11.bak", "python2.7"):
        if name != VERSION:
            tree.package(f"lib/{name}/site-packages")
    tree.package("lib/python3/dist-packages")
    (tree.bin / "python3.10").symlink_to("/bin/false")
    (tree.bin / "python3.98").write_text("not executable")
    tree.package("lib/python3.98/site-packages")
    assert tree.run()["file"] == str(boot)


def test_version_with_three_digits(tree: Tree) -> None:
    """3.100 is newer than 3.11."""
    tree.interpreter()
    tree.package()
    tree.interpreter("python3.100")
    newer = tree.package("lib/python3.100/site-packages")
    assert tree.run()["file"] == str(newer)


def test_no_package(tree: Tree) -> None:
    """A launcher that was copied away says what it misses, on one line."""
    assert str(tree.bin) in tree.fail()
    tree.package()
    if not any(os.path.exists(f"/usr/{place}{VERSION}") for place in ("local/bin/", "bin/")):
        assert "Python" in tree.fail()  # the package alone does not do


def test_virtual_environment(tree: Tree, workdir: Path) -> None:
    """In a virtual environment it is the environment's package that runs, and no activation is needed."""
    venv.create(workdir / "v", symlinks=True)
    environment = Tree.__new__(Tree)
    environment.prefix, environment.bin = workdir / "v", workdir / "v/bin"
    environment.command = workdir / "v/bin/ocirun"
    shutil.copy2(tree.command, environment.command)
    boot = environment.package()
    told = environment.run()
    assert told["file"] == str(boot)
    assert told["executable"] == os.path.realpath(sys.executable)


def test_editable_installation(tree: Tree, workdir: Path) -> None:
    """Where site-packages only points to the sources, the interpreter finds them."""
    venv.create(workdir / "v", symlinks=True)
    command = workdir / "v/bin/ocirun"
    shutil.copy2(tree.command, command)
    source = workdir / "source/ocirun"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("")
    (source / "__main__.py").write_text(BOOT)
    (workdir / f"v/lib/{VERSION}/site-packages/editable.pth").write_text(f"{source.parent}\n")
    told = tree.run("list", "a", command=command)
    assert told["file"] == str(source / "__main__.py")
    assert told["argv"] == [b"list".hex(), b"a".hex()]
    assert (told["isolated"], told["no_site"]) == (1, 0)


def test_dependencies_elsewhere(workdir: Path, interpreter: tuple[str, str]) -> None:
    """A module that is neither in the standard library nor beside ocirun is looked for where site would, once."""
    venv.create(workdir / "v", symlinks=True)
    (workdir / f"v/lib/{VERSION}/site-packages/far_away.py").write_text("PLACE = __file__")
    package = workdir / "p/ocirun/cli"
    package.mkdir(parents=True)
    shutil.copy2(f"{interpreter[1]}/ocirun/cli/boot.py", package)
    finder = Path(f"{interpreter[1]}/ocirun/cli/packed.py").read_text()
    (package / "_packed_query.py").write_text(f"{finder}\nMODULES = {{}}\nELSEWHERE = {{}}\n")  # nothing is packed
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text(
        "import os, sys\n"
        "def main(words):\n"
        "    assert 'site' not in sys.modules\n"
        "    import far_away\n"
        "    try:\n"
        "        import nowhere\n"
        "    except ModuleNotFoundError:\n"
        "        os.write(1, far_away.PLACE.encode())\n"
        "    return len(words)\n"
    )
    done = subprocess.run(
        [workdir / "v/bin/python3", "-I", "-S", package / "boot.py", "a", "b"], capture_output=True, check=False
    )
    assert done.stderr == b""
    assert done.returncode == 2
    assert done.stdout.decode() == str(workdir / f"v/lib/{VERSION}/site-packages/far_away.py")


def test_without_proc(tree: Tree, workdir: Path) -> None:
    """Without /proc it says so: nothing of a runtime works there."""
    if os.geteuid() != 0:
        pytest.skip("not root")
    root = workdir / "root"
    root.mkdir()
    shutil.copy2(tree.command, root / "ocirun")
    done = subprocess.run(["chroot", root, "/ocirun", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/proc" in done.stderr
