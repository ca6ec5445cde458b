# SPDX-License-Identifier: Apache-2.0
"""ocirun-init as a whole with UBSan in it: undefined behaviour anywhere on the way kills it with SIGILL.

The product knows nothing of this: a copy of the installed package has the other program in it.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from native.building import NATIVE, REPOSITORY, build, compiler
from support.bundle import Bundle

import ocirun

pytestmark = pytest.mark.root
HERE = Path(__file__).resolve().parent
# With gcc before 13 the other spelling.
TRAPS = (("-fsanitize-trap=all",), ("-fsanitize-undefined-trap-on-error",))
# Each way through ocirun-init: one step and two, made and joined, every kind of mount, node, hook and filter.
EXAMPLES = ("minimal", "hello", "process", "userns", "time", "mounts", "devices", "sysctl", "limits", "seccomp", "hooks")


def build_settings() -> dict[str, Any]:
    """Return the constants of setup.py, which cannot be imported."""
    found = {}
    for node in ast.parse((REPOSITORY / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def accepts(*flags: str) -> bool:
    command = [*compiler(), "-Werror", *flags, "-x", "c", "-c", os.devnull, "-o", os.devnull]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for PYTHONPATH: the installed package with a sanitized ocirun-init."""
    settings = build_settings()
    trap = next(flags for flags in TRAPS if accepts("-fsanitize=undefined", *flags))
    flags = [flag for flag in settings["STATIC_FLAGS"] if accepts(flag)]
    sources = [NATIVE / name for name in settings["INIT_SOURCES"]]
    program = build("ubsan-init", sources, *flags, "-fsanitize=undefined", *trap, *settings["LINK_FLAGS"])
    listing = subprocess.run(["objdump", "-d", program], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"\t(ud2|brk)\b", listing)) > 100, "there are no checks in it"
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(Path(ocirun.__file__).parent, site / "ocirun", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(program, site / "ocirun/_native/ocirun-init")
    return site


def live(package: Path, workdir: Path, *bundles: Path) -> dict[str, object]:
    """Run a container of each bundle; returns how each ended, by the bundle's path."""
    done = subprocess.run(
        [sys.executable, "-P", str(HERE / "lives.py"), str(workdir / "state"), *map(str, bundles)],
        env={"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends: dict[str, object] = json.loads(done.stdout)
    assert ends.pop("package") == str(package / "ocirun")
    return ends


def _mkrootfs() -> Any:
    spec = importlib.util.spec_from_file_location("mkrootfs", REPOSITORY / "bundles/mkrootfs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_examples(package: Path, private_host: None, workdir: Path) -> None:
    """Every example bundle lives its whole life without undefined behaviour."""
    bundles = [_mkrootfs().prepare(name, workdir / name) for name in EXAMPLES]
    assert live(package, workdir, *bundles) == {str(path): 0 for path in bundles}


def test_failures(
    package: Path, private_host: None, workdir: Path, mkbundle: Callable[..., Bundle]
) -> None:
    """Neither do the ways out of it: what is refused is refused with a message, not with a signal."""
    bundles = {
        "not found": mkbundle().process(args=["nosuch"]),
        "exit status 3": mkbundle().args("exit", "3"),
        "EISDIR": mkbundle().mount("/dev/null", None, "/", "bind"),
        "ENAMETOOLONG": mkbundle().mount("/" + "x" * 300, "tmpfs", "tmpfs"),
        "setgroups": mkbundle().process(user={"uid": 0, "gid": 0, "additionalGids": list(range(70000))}),
        "root": mkbundle().mount("/../..", "tmpfs", "tmpfs"),
        "hook": mkbundle({"hooks": {"createContainer": [{"path": "/nosuch"}]}}),
        "long": mkbundle().process(args=["/probe", "exit", "0", "x" * 100000], env=["A=" + "y" * 100000]),
    }
    for bundle in bundles.values():
        bundle.write()
    ends = live(package, workdir, *(bundle.path for bundle in bundles.values()))
    assert "InitDied" not in str(ends)
    assert "signal" not in str(ends), json.dumps(ends, indent=1)
    assert ends[str(bundles["exit status 3"].path)] == 3
    assert ends[str(bundles["long"].path)] == 0
    for name in ("not found", "ENAMETOOLONG", "setgroups", "root", "hook"):
        assert isinstance(ends[str(bundles[name].path)], str), (name, ends)
