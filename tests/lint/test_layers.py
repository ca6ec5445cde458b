# SPDX-License-Identifier: Apache-2.0
"""The architecture as a table, and an ast walk that holds every import of ocirun to it.  No list of exceptions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "ocirun"
GENERATED = ("_validator.py", "_libseccomp.py")

# The table of docs/architecture.md, lowest row first: a module imports only from rows below its own.  What only type
# checkers see is no import.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "version"),
    ("strict_json", "procfs", "_native", "subids", "undo", "closing"),
    ("spec", "host", "bundle", "engines"),
    ("plan", "cgroups", "store", "state_root", "notify", "netlink", "rdt", "rdt_stats", "identity"),
    ("init", "validate", "usage", "status"),
    ("hooks", "idmap", "preconditions", "inputs", "intent", "netdev", "update", "events"),
    ("create", "criu", "exec_options", "target"),
    ("execution", "dry_run", "mount_changes", "checkpoint", "features", "probe"),
    ("executor", "checkpointer", "restore"),
    ("container",),
    ("runtime",),
    ("cli",),
)
ROWS = {part: row for row, parts in enumerate(LAYERS) for part in parts}
# The faces of the package: `import ocirun` loads nothing by itself, `python -m ocirun` is the command.
FACES = {"__init__.py": len(LAYERS), "__main__.py": len(LAYERS)}

# Who may import what is not ours; the standard library's heavy modules have the test of imports per command.
FOREIGN = {
    "_cffi_backend": {"_native/_libseccomp.py"},
    "cffi": {"_native/build.py", "_native/build_libseccomp.py"},
    "jeepney": {"cgroups/systemd_bus.py"},
    "jsonschema": {"spec/schema.py"},
    "pyroute2": {"netlink.py"},
}
OURS_IN_C = {"_shim", "_libseccomp"}
# Only these parts of a plan come from C: the structs of abi.h, and libseccomp's tables.
NATIVE_IN_PLAN = {"plan/encode.py", "plan/seccomp_compile.py"}

# What a module of ours may load when it is loaded: free or needed anyway (design D10); the rest is imported where it is
# used, by what can afford it.  `import json` alone costs as much as the whole of `ocirun state`.
CHEAP = {
    "__future__", "_blake2", "_frozen_importlib", "_frozen_importlib_external", "_imp", "_json", "_stat", "builtins",
    "errno", "fcntl", "gc", "os", "posix", "select", "stat", "sys",
    "termios", "time",
}  # fmt: skip
# These run when the wheel is built, or only to explain a refusal.
NOT_IN_A_HURRY = {
    "cgroups/systemd_bus.py",  # waits for systemd anyway
    "_native/build.py", "_native/build_libseccomp.py", "spec/compile_schema.py", "cli/pack.py",
}  # fmt: skip

# Modules and calls that have no place in a library that lives in somebody else's process (design D3, D6).
FORBIDDEN_MODULES = {"subprocess", "multiprocessing", "ctypes", "pty", "asyncio", "threading", "concurrent", "logging"}
FORBIDDEN_CALLS = {
    "os": {
        "chdir", "chroot", "dup2", "execv", "execve", "execvp", "execvpe", "fork", "forkpty", "nice", "popen",
        "posix_spawn", "posix_spawnp", "putenv", "setegid", "seteuid", "setgid", "setgroups", "setpgid", "setregid",
        "setresgid", "setresuid", "setreuid", "setsid", "setuid", "spawnl", "spawnv", "system", "umask", "unsetenv",
        "wait", "wait3", "wait4", "waitpid",
    },
    "signal": {"alarm", "pthread_sigmask", "set_wakeup_fd", "setitimer", "siginterrupt", "signal"},
    "resource": {"setrlimit", "prlimit"},
    "shutil": {"rmtree"},
}  # fmt: skip
# The command is its own process: it may.  The library may not.
ONLY_THE_LIBRARY = {"chdir", "dup2", "posix_spawnp", "umask", "wait", "waitpid", "pthread_sigmask", "set_wakeup_fd", "setitimer", "signal"}


def sources() -> list[Path]:
    """Return the Python files of the package that people write."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name not in GENERATED)


def name_of(path: Path) -> str:
    """Return "plan/ops.py" for a file of the package."""
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the part of the package that a file belongs to: "plan" for plan/ops.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """Return the module that "from X import" names, relative ones resolved."""
    if node.level == 0:
        assert node.module is not None
        return node.module
    package = ["ocirun", *path.relative_to(PACKAGE).parent.parts]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


class Imported:
    """One import: the module, the line, and whether only type checkers see it."""

    def __init__(self, module: str, line: int, for_types: bool) -> None:
        self.module = module
        self.line = line
        self.for_types = for_types


def imports(path: Path) -> Iterator[Imported]:
    """Yield every import of a file, however deep, with names of submodules resolved."""
    yield from imports_of(path, ast.parse(path.read_bytes()))


def imports_of(path: Path, tree: ast.Module) -> Iterator[Imported]:

    def walk(node: ast.AST, for_types: bool) -> Iterator[Imported]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Imported(alias.name, node.lineno, for_types)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                is_module = is_ours(whole) and any(
                    (REPOSITORY / (whole.replace(".", "/") + end)).exists() for end in (".py", "/__init__.py")
                )
                yield Imported(whole if is_module else module, node.lineno, for_types)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for child in node.body:
                yield from walk(child, True)
            for child in node.orelse:
                yield from walk(child, for_types)
        else:
            for child in ast.iter_child_nodes(node):
                yield from walk(child, for_types)

    yield from walk(tree, False)


def is_ours(module: str) -> bool:
    return module == "ocirun" or module.startswith("ocirun.")


def row_of(path: Path) -> int:
    """Return the row that a file belongs to."""
    return FACES.get(name_of(path)) or ROWS[part_of(path)]


def test_every_module_has_a_place() -> None:
    """The table names each part of the package, and nothing else."""
    assert {part_of(path) for path in sources() if name_of(path) not in FACES} == set(ROWS)


def test_the_document_shows_this_table() -> None:
    """docs/architecture.md has the same rows."""
    text = (REPOSITORY / "docs/architecture.md").read_text()
    shown = {
        int(row): set(re.findall(r"`(\w+)`", parts))
        for row, parts in re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)
    }
    assert shown == {row: set(parts) for row, parts in enumerate(LAYERS)}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_imports_go_downwards(path: Path) -> None:
    """A module imports only what is in its own package or in a lower row."""
    wrong = []
    for each in imports(path):
        if each.for_types or not each.module.startswith("ocirun."):
            continue
        part = each.module.split(".")[1]
        if part != part_of(path) and ROWS[part] >= row_of(path):
            wrong.append(f"{name_of(path)}:{each.line}: must not import {each.module}")
    assert not wrong


def test_plan_names_no_type_from_above() -> None:
    """`plan`, `spec` and `cgroups` can be read without knowing what stands above them, types included."""
    wrong = [
        f"{name_of(path)}:{each.line}: {each.module}"
        for path in sources()
        if part_of(path) in ("plan", "spec", "cgroups", "host", "errors", "_native")
        for each in imports(path)
        if each.module.startswith("ocirun.") and ROWS[each.module.split(".")[1]] > row_of(path)
    ]
    assert not wrong


def test_foreign_modules_have_one_home() -> None:
    """Only `_native` knows of cffi's modules, only spec/schema.py of jsonschema."""
    found = []
    for path in sources():
        for each in imports(path):
            last = each.module.rsplit(".", 1)[-1]
            top = each.module.split(".")[0]
            if last in OURS_IN_C and part_of(path) != "_native":
                found.append(f"{name_of(path)}:{each.line}: {each.module}")
            if name_of(path) not in FOREIGN.get(top, {name_of(path)}):
                found.append(f"{name_of(path)}:{each.line}: {each.module}")
    assert not found


def test_plan_is_pure() -> None:
    """In `plan` only the encoder and the seccomp compiler reach into C."""
    users = {
        name_of(path)
        for path in sources()
        if part_of(path) == "plan"
        for each in imports(path)
        if each.module.startswith("ocirun._native")
    }
    assert users == NATIVE_IN_PLAN


def test_no_module_is_imported_that_starts_programs_or_threads() -> None:
    """No subprocess, multiprocessing, ctypes, threading or logging anywhere, and pyroute2 not at large."""
    found = [
        f"{name_of(path)}:{each.line}: {each.module}"
        for path in sources()
        for each in imports(path)
        if each.module.split(".")[0] in FORBIDDEN_MODULES
    ]
    assert not found


def test_nothing_changes_the_calling_process() -> None:
    """D3, D6: no os.fork, exec, umask, chdir, waitpid, signal handlers; the command may what the library may not."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.keyword) and node.arg == "preexec_fn":
                found.append(f"{name_of(path)}: preexec_fn")
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            module = {"posix": "os", "_signal": "signal"}.get(node.value.id, node.value.id)
            if node.attr not in FORBIDDEN_CALLS.get(module, ()):
                continue
            if part_of(path) == "cli" and node.attr in ONLY_THE_LIBRARY:
                continue
            found.append(f"{name_of(path)}:{node.lineno}: {module}.{node.attr}")
    assert not found


def test_loading_a_module_loads_little() -> None:
    """D10: at module level only modules that cost nothing."""
    found = []
    for path in sources():
        if name_of(path) in NOT_IN_A_HURRY:
            continue
        tree = ast.parse(path.read_bytes())
        for node in list(ast.walk(tree)):
            # Functions are for later, and an except clause for an interpreter that lacks the cheap module.
            if isinstance(node, ast.FunctionDef | ast.ExceptHandler):
                node.body = [ast.Pass()]
        found += [
            f"{name_of(path)}:{each.line}: {each.module}"
            for each in imports_of(path, tree)
            if not each.for_types and not is_ours(each.module) and each.module.split(".")[0] not in CHEAP
        ]
    assert not found


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_modules_and_functions_stay_small(path: Path) -> None:
    """A module has at most 500 lines, a function at most 60."""
    text = path.read_text()
    assert len(text.splitlines()) <= 500
    long = [
        f"{name_of(path)}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > 60
    ]
    assert not long


def test_no_module_is_named_for_nothing() -> None:
    """Glossary: no utils, helpers, misc or common."""
    forbidden = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not [name_of(path) for path in sources() if path.stem in forbidden or part_of(path) in forbidden]
