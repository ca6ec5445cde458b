# SPDX-License-Identifier: Apache-2.0
"""pack.py: a packed module is the module."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import ocirun
from ocirun.cli import pack

# Prints every module that is packed, and of what its namespace consists: as packed, or as it is.
DESCRIBE = """
import sys
from _frozen_importlib_external import SourceFileLoader

def describe(value):
    kind = type(value).__name__  # flags below: CO_NESTED, CO_FUTURE_ANNOTATIONS
    if kind == "function":
        code = value.__code__
        return (kind, code.co_name, code.co_qualname, code.co_varnames, code.co_names, code.co_flags & ~0x1000010,
                describe(value.__defaults__), describe(value.__kwdefaults__), value.__module__)
    if isinstance(value, type):
        inner = {n: describe(v) for n, v in vars(value).items()
                 if n not in ("__doc__", "__annotations__", "__dict__", "__weakref__", "__firstlineno__")}
        return kind, value.__module__, value.__qualname__, [b.__name__ for b in value.__mro__], sorted(inner.items())
    if kind == "module":
        return kind, value.__name__
    if isinstance(value, dict):
        return kind, sorted((repr(k), describe(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return kind, [describe(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(map(repr, value))
    if isinstance(value, (property, classmethod, staticmethod)):
        return kind, describe(getattr(value, "fget", None) or value.__func__)
    return (kind, repr(value)) if isinstance(value, (int, str, bytes, float, type(None))) else kind

how, parent, *path = sys.argv[1:]
sys.path += [parent, *path]
packed = type(sys)("packed")
SourceFileLoader("packed", parent + "/ocirun/cli/_packed_query.py").exec_module(packed)
names = sorted({*packed.MODULES, *packed.ELSEWHERE})
if how == "packed":
    packed.Packed.install(parent + "/ocirun/cli")
for name in names:
    module = __import__(name, fromlist=["x"])
    assert (type(module.__loader__) is type(packed.Packed.__dict__) or module.__loader__ is packed.Packed) == (
        how == "packed"), name
    print(name, module.__file__, getattr(module, "__path__", None), module.__package__)
    for key, value in sorted(vars(module).items()):
        if key not in ("__doc__", "__loader__", "__spec__", "__cached__", "__builtins__", "annotations",
                       "__annotations__"):
            print("   ", key, describe(value))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, packed."""
    parent = tmp_path_factory.mktemp("packed")
    shutil.copytree(Path(ocirun.__file__).parent, parent / "ocirun", ignore=shutil.ignore_patterns("__pycache__"))
    if not list((parent / "ocirun/_native").glob("_shim*.so")):
        pytest.skip("the package is not built")
    pack.main([str(parent / "ocirun")])
    return parent


def described(package: Path, how: str) -> list[str]:
    script = package / "describe.py"
    script.write_text(DESCRIBE)
    command = [sys.executable, "-I", "-S", "-W", "error", str(script), how, str(package), *filter(None, sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_packed_modules_are_the_modules(package: Path) -> None:
    """Every module that is packed has the same names, functions and classes either way."""
    plain = described(package, "plain")
    assert len(plain) > 500
    for one, other in zip(described(package, "packed"), plain, strict=True):
        assert one == other


def test_order_does_not_matter(package: Path) -> None:
    """A module of the last file can be the first to be imported."""
    code = (
        "import sys; from _frozen_importlib_external import SourceFileLoader as L; p = type(sys)('p');"
        f"L('p', {str(package)!r} + '/ocirun/cli/_packed_query.py').exec_module(p);"
        f"p.Packed.install({str(package)!r} + '/ocirun/cli');"
        "from ocirun.plan.ops import Op; print(Op.__module__, sys.modules['ocirun.plan.ops'].__file__)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ocirun.plan.ops", f"{package}/ocirun/plan/ops.py"]


SOURCES = {
    "nothing": "",
    "docstring alone": '"""Text."""\n',
    "docstrings": '''
        """Módule
        text."""
        from __future__ import annotations
        def f():
            """Only this."""
        class C:
            """Only
        this."""
        class D:
            """Text."""
            x = 1
    ''',
    "annotations": """
        from __future__ import annotations
        TYPE_CHECKING = False
        if TYPE_CHECKING:
            from nowhere import Nothing
        a: int = 1
        b: Nothing
        def f(x: Nothing = 2, *y: Nothing, z: dict[str, Nothing] = {"→": 3}, **w: Nothing) -> Nothing | None:
            v: Nothing = x
            u: Nothing
            return v
        class C:
            p: Nothing
            q: Nothing = 1
        c = f()
    """,
    "type checking with else": """
        TYPE_CHECKING = False
        if TYPE_CHECKING:
            from nowhere import Nothing
        else:
            Nothing = object
    """,
    "ways to bind": """
        import os.path, sys as system
        from os import path as p, sep
        for i, (j, *k) in [(1, (2, 3))]:
            pass
        with open(os.devnull) as w:
            pass
        try:
            raise ValueError
        except ValueError as gone:
            kept = gone
        (n := 5)
        a = b = 1
        a += 1
        c, [d] = 1, [2]
        squares = [x * x for x in range(3) if (last := x) is not None]
        match {"k": [1, 2, 3]}:
            case {"k": [first, *others]} as whole:
                pass
        del c
        x = 9
    """,
    "strings": '''
        TEXT = """one
        two
            three"""
        NUMBER = 3
        LINES = f"""{NUMBER}
        é {NUMBER:>4}
          end"""
        RAW = r"\\d" \\
            "more"
    ''',
    "scopes": """
        count = 0
        def up():
            global count
            count += 1
            def inner():
                return count
            return inner
        value = up()()
        class Base:
            def me(self):
                return self.__class__.__name__
        class Derived(Base):
            size = 2
            sizes = tuple(n for n in range(size))
            def me(self):
                return super().me() + str(count)
        name = Derived().me()
        functions = [lambda n=n: n + count for n in range(2)]
        results = [f() for f in functions]
        @staticmethod
        def decorated(): return value
    """,
}


def plain_values(namespace: dict[str, Any]) -> dict[str, Any]:
    skipped = ("__doc__", "__annotations__", "__builtins__", "annotations")
    return {
        name: value if isinstance(value, int | str | list | tuple | dict) else type(value).__name__
        for name, value in namespace.items()
        if name not in skipped
    }


@pytest.mark.parametrize("name", SOURCES)
def test_forms_of_python(name: str) -> None:
    """Whatever a module may be written like, its function leaves the same namespace."""
    source = textwrap.dedent(SOURCES[name])
    expected: dict[str, Any] = {"__name__": "m"}
    exec(source, expected)
    packed: dict[str, Any] = {}
    exec(pack.pack("a.m", source), packed)
    function = packed[pack.function_name("a.m")]
    found: dict[str, Any] = {"__name__": "m"}
    FunctionType(function.__code__, found)()
    if name == "scopes":
        for each in (expected, found):
            each["functions"] = len(each["functions"])
    assert plain_values(found) == plain_values(expected)


def test_every_root_exists() -> None:
    """What is to be packed is there: a module that was renamed must be renamed in the table."""
    package = pack.Package(os.path.dirname(ocirun.__file__))
    for roots in pack.PACKS.values():
        for root in roots:
            assert package.path(root) is not None, root
