# SPDX-License-Identifier: Apache-2.0
"""The linters, as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "ocirun"

#: The rows of docs/architecture.md: a module imports only from rows below its own, or from its own package.
LAYERS = (
    {"errors", "version"},
    {"strict_json", "procfs", "_native"},
    {"spec", "host", "bundle"},
    {"plan", "cgroups", "idmap", "store", "notify"},
    {"init"},
    {"hooks", "status"},
    {"create", "container", "validate", "features"},
    {"dry_run"},
    {"runtime"},
    {"cli"},
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_ruff() -> None:
    """ruff finds nothing in what we ship."""
    run(sys.executable, "-m", "ruff", "check", "ocirun", "setup.py", "benchmarks", "bundles")


def test_mypy() -> None:
    """mypy --strict finds nothing."""
    run(sys.executable, "-m", "mypy")


def test_clang_format() -> None:
    """The C is formatted as .clang-format says."""
    sources = [str(path) for path in (PACKAGE / "_native").glob("*.c") if path.name not in ("_shim.c", "bpf.c")]
    run("clang-format", "--dry-run", "-Werror", *sources)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("_validator.py", "_libseccomp.py"))


def imports_at_load(tree: ast.Module) -> list[str]:
    """Names of ocirun's modules that a module imports anywhere but for type checking."""
    found = []
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for below in node.body:
                skipped.update(ast.walk(below))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ocirun"):
            names = [alias.name for alias in node.names]
            found.extend([f"ocirun.{name}" for name in names] if node.module == "ocirun" else [node.module])
        elif isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names if alias.name.startswith("ocirun"))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    """A module imports only from rows below its own."""
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for name in imports_at_load(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if len(parts) > 1 and parts[1] != own and parts[1] in ROW:
            assert ROW[parts[1]] < ROW[own], f"{path.name} imports {name}"


def test_nobody_forks() -> None:
    """No module of the package forks, or starts a program in a way that runs Python after fork."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in ("fork", "forkpty", "system", "popen"), path
            if isinstance(node, ast.keyword):
                assert node.arg != "preexec_fn", path


def test_programs_of_ours_have_no_loader_and_no_relocation() -> None:
    """ocirun-init is position independent without a dynamic loader, relocations or undefined symbols."""
    import ocirun

    program = str(Path(ocirun.__file__).parent / "_native" / "ocirun-init")
    shown = subprocess.run(["readelf", "-lrW", program], capture_output=True, text=True, check=True).stdout
    assert "INTERP" not in shown
    assert "no relocations" in shown
    assert "GNU_RELRO" in shown
    assert "DYN" in subprocess.run(["readelf", "-h", program], capture_output=True, text=True, check=True).stdout
    assert Path(program).stat().st_size < 65536
