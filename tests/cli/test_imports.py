# SPDX-License-Identifier: Apache-2.0
"""Design D10: what the commands import.  Engines start them several times for each container."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand, reap

#: What none of the frequent commands may load, each for its price.
FORBIDDEN = frozenset(
    (
        "argparse", "collections", "contextlib", "ctypes", "dataclasses", "enum", "functools", "hashlib", "inspect",
        "json", "jsonschema", "logging", "pathlib", "pyroute2", "re", "site", "socket", "subprocess", "tempfile",
        "threading", "typing", "cffi", "importlib", "shutil", "signal", "traceback", "warnings", "os", "stat",
        "_collections_abc",
    )
)  # fmt: skip
#: What a question needs no part of.
NOT_FOR_QUESTIONS = ("_cffi_backend", "ocirun._native", "ocirun.container", "ocirun.cgroups", "ocirun.plan", "select")


#: Starts the command as the launcher does, and says which modules there are when it ends.
TRACE = """
import posix, sys
boot, before, end = sys.argv.pop(1), set(sys.modules), posix._exit
def tell(status):
    names = [name for name in sys.modules if name not in before]
    posix.write(2, ("".join(f"imported: {name}\\n" for name in names)).encode())
    end(status)
posix._exit = tell
with open(boot) as file:
    exec(compile(file.read(), boot, "exec"), {"__name__": "__main__", "__file__": boot})
"""


class Traced:
    """The installed command as the launcher starts it, telling what it imports."""

    def __init__(self, runtime: RuntimeCommand, interpreter: tuple[str, str]) -> None:
        python, packages = interpreter
        boot = f"{packages}/ocirun/cli/boot.py"
        self._runtime = RuntimeCommand("ocirun", (python, "-I", "-S", "-c", TRACE, boot), runtime.workdir)

    def call(self, *words: str, rc: int = 0) -> list[str]:
        """Run a command, return the names of the modules that it loaded itself, in order."""
        result = self._runtime.call(*words)
        assert result.rc == rc, repr(result)
        return re.findall(r"^imported: ([\w.]+)$", result.stderr, re.MULTILINE)


@pytest.fixture
def traced(ocirun: RuntimeCommand, interpreter: tuple[str, str]) -> Traced:
    """The command under observation, for what needs no root."""
    return Traced(ocirun, interpreter)


def check(names: list[str]) -> None:
    top = {name.partition(".")[0] for name in names}
    assert not top & FORBIDDEN, sorted(top & FORBIDDEN)


def check_packed(names: list[str], packed: dict[str, str]) -> None:
    stray = {name for name in names if name.startswith("ocirun.")} - packed.keys()
    stray -= {"ocirun._native._shim", "ocirun._native._shim.lib"}
    assert not stray, f"to be added to pack.py: {sorted(stray)}"


def packed_modules(interpreter: tuple[str, str]) -> dict[str, str]:
    """Return the modules that pack.py has put into files, each with its file."""
    code = (
        "import sys; from _frozen_importlib_external import SourceFileLoader as L; p = type(sys)('p');"
        f"L('p', {interpreter[1]!r} + '/ocirun/cli/_packed_query.py').exec_module(p);"
        "print(*(f'{name}=first' for name in p.MODULES), *map('='.join, p.ELSEWHERE.items()))"
    )
    printed = subprocess.check_output([interpreter[0], "-I", "-S", "-c", code], text=True)
    return dict(each.split("=") for each in printed.split())


@pytest.mark.parametrize("words", [("list",), ("list", "-q"), ("list", "-f", "json"), ("state", "nosuch")])
def test_questions(traced: Traced, words: tuple[str, ...]) -> None:
    """state and list need neither the shim nor anything that acts."""
    names = traced.call(*words, rc=1 if words[0] == "state" else 0)
    check(names)
    assert not [name for name in names if name.startswith(NOT_FOR_QUESTIONS)]


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_version_and_help(traced: Traced, word: str) -> None:
    """dockerd asks for the version often."""
    names = traced.call(word)
    check(names)
    assert "ocirun.runtime" not in names


@pytest.mark.root
def test_life_of_a_container(
    runtime: RuntimeCommand, sleeper: Bundle, interpreter: tuple[str, str]
) -> None:
    """create, state, start, kill and delete load what they need, from few files, and nothing else."""
    traced = Traced(runtime, interpreter)
    sleeper.write()
    runtime.remember(sleeper.id)
    process = sleeper.path / "process.json"
    process.write_text('{"cwd": "/", "args": ["/probe", "exit", "0"]}')
    packed = packed_modules(interpreter)
    for words in (  # what exec leaves is reaped before each of them: delete waits for it
        ("create", "--bundle", str(sleeper.path), sleeper.id),
        ("state", sleeper.id),
        ("start", sleeper.id),
        ("exec", sleeper.id, "/probe", "exit", "0"),
        ("exec", "--detach", "--process", str(process), sleeper.id),
        ("kill", sleeper.id, "USR1"),
        ("pause", sleeper.id),
        ("resume", sleeper.id),
        ("ps", "--format", "json", sleeper.id),
        ("events", "--stats", sleeper.id),
        ("delete", "--force", sleeper.id),
        ("run", "--detach", "--bundle", str(sleeper.path), sleeper.id),
        ("delete", "--force", sleeper.id),
    ):
        reap()
        names = traced.call(*words)
        check(names)
        check_packed(names, packed)
        if words[0] == "state":
            assert not [name for name in names if name.startswith(NOT_FOR_QUESTIONS)]
        if words[0] == "exec":
            assert not [name for name in names if name in ("ocirun.create", "ocirun.plan.build", "ocirun.plan.mounts")]
        if words[0] in ("start", "kill", "delete", "pause", "resume", "ps", "events"):
            assert not [name for name in names if name.startswith(("ocirun.plan.build", "ocirun.create", "ocirun.spec.model"))]
            # Reading a file costs by its size, whatever of it is used.
            large = {packed[name] for name in ("ocirun.create", "ocirun.execution", "ocirun.spec.model")}
            assert not [name for name in names if packed.get(name) in large]


@pytest.mark.root
def test_run_in_the_foreground(
    runtime: RuntimeCommand, bundle: Bundle, interpreter: tuple[str, str]
) -> None:
    """run needs a little more, but none of the expensive modules."""
    bundle.args("exit", "0").write()
    runtime.remember(bundle.id)
    names = Traced(runtime, interpreter).call("run", "--bundle", str(bundle.path), bundle.id)
    check(names)
    check_packed(names, packed_modules(interpreter))


def test_nothing_of_ours_is_compiled_at_every_start(ocirun: RuntimeCommand, interpreter: tuple[str, str]) -> None:
    """All modules but boot.py have their compiled form beside them, and it is current."""
    package = Path(interpreter[1]) / "ocirun"
    tag = f"cpython-{Path(interpreter[0]).name.removeprefix('python').replace('.', '')}"
    for path in sorted(package.rglob("*.py")):
        compiled = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
        assert compiled.exists(), f"{path} is not compiled"
        recorded = int.from_bytes(compiled.read_bytes()[8:12], "little")
        assert recorded == int(os.stat(path).st_mtime), f"{compiled} is stale"


def test_the_library_is_as_frugal() -> None:
    """`import ocirun` alone loads nothing: programs that only want the errors do not pay for the rest."""
    code = (
        "import sys; before = set(sys.modules); import ocirun; ocirun.OcirunError;"
        "print(*sorted(n for n in set(sys.modules) - before if n.startswith('ocirun')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ocirun", "ocirun.errors"]
