# SPDX-License-Identifier: Apache-2.0
"""pack.py: a packed module is the module."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    if kind == "module":  # the stand-ins: what they have is another test's
        return kind, {"ocirun.cli.light_os": "os", "_stat": "stat"}.get(value.__name__, value.__name__)
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
    if name == "ocirun.cli.light_os":
        continue
    module = __import__(name, fromlist=["x"])
    assert (type(module.__loader__) is type(packed.Packed.__dict__) or module.__loader__ is packed.Packed) == (
        how == "packed"), name
    print(name, module.__file__, getattr(module, "__path__", None), module.__package__)
    for key, value in sorted(vars(module).items()):
        if key not in ("__doc__", "__loader__", "__spec__", "__cached__", "__builtins__", "annotations",
                       "__annotations__", "light_os"):
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


def test_stand_ins_take_the_place_of_what_they_stand_for() -> None:
    """`import os` is replaced at any depth, and nothing else is."""
    source = """
import os
import os.path, sys
import os as operating
from os import path
def f():
    import stat; import os
    return "import os"
"""
    assert pack.replace_imports(source) == """
from ocirun.cli import light_os as os
import os.path, sys
import os as operating
from os import path
def f():
    import _stat as stat; from ocirun.cli import light_os as os
    return "import os"
"""


def test_stand_ins_have_what_is_used_of_them() -> None:
    """Whatever a packed module takes from `os`, `os.path` or `stat` is there, also in a branch that no test enters."""
    import _stat

    from ocirun.cli import light_os

    package = pack.Package(os.path.dirname(ocirun.__file__))
    names = {name for roots in pack.PACKS.values() for name in package.closure(roots)} - {"ocirun.cli.light_os"}
    assert len(names) > 70
    used = set()
    for name in names:
        for node in ast.walk(ast.parse(package.source(name))):
            if isinstance(node, ast.Attribute):
                used.add(ast.unparse(node))
    stand_ins = {"os": light_os, "os.path": light_os.path, "stat": _stat}
    for each in sorted(used):
        base, _, attribute = each.rpartition(".")
        if base in stand_ins:
            assert hasattr(stand_ins[base], attribute), each


PATHS = st.text(st.sampled_from("/.ab"), max_size=12)


@given(PATHS, PATHS)
def test_light_paths_are_those_of_the_standard_library(one: str, other: str) -> None:
    """Same answers, for any path."""
    from ocirun.cli.light_os import path

    assert path.join(one, other, one) == os.path.join(one, other, one)
    for name in ("split", "dirname", "basename", "abspath", "exists", "isdir"):
        assert getattr(path, name)(one) == getattr(os.path, name)(one), name


def test_light_paths_on_what_is_there(tmp_path: Path) -> None:
    """Directories, other things, things that lead nowhere."""
    from ocirun.cli import light_os

    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in (".", "link", "file", "nothing", "file/below", "with\0nul"):
        for question in ("exists", "isdir"):
            place = f"{tmp_path}/{name}"
            assert getattr(light_os.path, question)(place) == getattr(os.path, question)(place), (question, name)
    light_os.makedirs(f"{tmp_path}/a/b/c/", 0o700, exist_ok=True)
    light_os.makedirs(f"{tmp_path}/a/b/c", exist_ok=True)
    assert os.stat(tmp_path / "a/b/c").st_mode & 0o777 == 0o700
    with pytest.raises(FileExistsError):
        light_os.makedirs(f"{tmp_path}/file", exist_ok=True)
    with pytest.raises(FileExistsError):
        light_os.makedirs(f"{tmp_path}/a")


def test_light_paths_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    """R-43: an absolute path needs no working directory."""
    code = (
        "import os, sys; from ocirun.cli.light_os import path\n"
        "os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); print(path.abspath('/a/../b'))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("/b\n", "")


def test_light_environment() -> None:
    """Variables, their defaults, and bytes that are no UTF-8."""
    code = (
        "import posix, sys; sys.path.append(sys.argv[1]); from ocirun.cli.light_os import environ, fsdecode, fsencode;"
        "assert environ.get('KNOWN') == 'ÿ\\udcff', ascii(environ.get('KNOWN'));"
        "assert environ.get('UNKNOWN') is None and environ.get('UNKNOWN', 'x') == 'x';"
        "assert fsencode('ÿ\\udcff') == 'ÿ'.encode() + b'\\xff' == fsencode(fsdecode(b'\\xc3\\xbf\\xff'))"
    )
    parent = os.path.dirname(os.path.dirname(ocirun.__file__))
    environment = {b"KNOWN": "ÿ".encode() + b"\xff"}
    subprocess.run([sys.executable, "-I", "-S", "-Xutf8", "-c", code, parent], env=environment, check=True)


def test_every_root_exists() -> None:
    """What is to be packed is there: a module that was renamed must be renamed in the table."""
    package = pack.Package(os.path.dirname(ocirun.__file__))
    for roots in pack.PACKS.values():
        for root in roots:
            assert package.path(root) is not None, root
