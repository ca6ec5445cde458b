# SPDX-License-Identifier: Apache-2.0
"""Finds modules in the files that pack.py writes, and starts the command; a part of the first of them."""

from __future__ import annotations

import _imp
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader, spec_from_file_location

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FunctionType, ModuleType
    from typing import NoReturn

    #: Module: is it a package?, what executes it, which packed modules it imports as it loads.
    MODULES: dict[str, tuple[bool, FunctionType, tuple[str, ...]]] = {}
    ELSEWHERE: dict[str, str] = {}  # module: the file that has it, beside this one

#: What is compiled and has a known place: the path finder would list four directories for them.
EXTENSIONS = ("_cffi_backend", "ocirun._native._shim")


class Packed:
    """A finder and loader in the sense of importlib."""

    directory = ""
    parent = ""

    @classmethod
    def install(cls, directory: str) -> None:
        """Be asked before any directory is looked at.  *directory*: that of the package ocirun.cli."""
        cls.directory = directory
        cls.parent = directory.removesuffix("ocirun/cli")
        sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return how to load a module, None for what is not here."""
        if name in ELSEWHERE:
            MODULES.update(load(f"{cls.directory}/{ELSEWHERE[name]}").MODULES)
            for each in MODULES:
                ELSEWHERE.pop(each, None)
        place = f"{cls.parent}{name.replace('.', '/')}"
        if name not in MODULES:
            return _find_extension(name, place) if name in EXTENSIONS else None
        is_package = MODULES[name][0]
        file = f"{place}/__init__.py" if is_package else f"{place}.py"
        spec = ModuleSpec(name, cls, origin=file, is_package=is_package)  # type: ignore[arg-type]  # has what it takes
        spec.has_location = True  # origin becomes __file__
        if is_package:
            spec.submodule_search_locations = [place]
        return spec

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        """Have an ordinary module made."""

    @classmethod
    def exec_module(cls, module: ModuleType) -> None:
        """Execute the module's function in the module's namespace, after the modules that it imports.

        Those are loaded right here: importlib takes 40 us for each, and `run` needs seventy.
        """
        _, function, needed = MODULES[module.__name__]
        for name in needed:
            if name not in sys.modules:
                cls._load(name)
        type(function)(function.__code__, module.__dict__)()

    @classmethod
    def _load(cls, name: str) -> None:
        """Do what importlib does, short of its locks: nobody has started a thread."""
        spec = cls.find_spec(name)
        assert spec is not None
        module = sys.modules[name] = type(sys)(name)
        module.__spec__, module.__loader__, module.__package__ = spec, cls, spec.parent  # type: ignore[assignment]
        module.__file__ = spec.origin
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        try:
            cls.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)


def _find_extension(name: str, place: str) -> ModuleSpec | None:
    for suffix in _imp.extension_suffixes():
        try:
            posix.stat(place + suffix)
        except FileNotFoundError:
            continue
        found: ModuleSpec | None = spec_from_file_location(name, place + suffix)
        return found
    return None


def load(path: str) -> ModuleType:
    """Execute a file of packed modules; Python keeps its compiled form beside it as of any module."""
    module = type(sys)(path)
    SourceFileLoader(path, path).exec_module(module)
    return module


class Elsewhere:
    """Asked last for a module: now it is worth 10 ms to learn where else the interpreter has any.

    A distribution's cffi beside an ocirun in /usr/local, for example.
    """

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Have `site` look, and ask the path finder again."""
        sys.meta_path.remove(cls)
        import site

        site.main()
        return sys.meta_path[-1].find_spec(name, path, target)  # type: ignore[arg-type]


def main(directory: str) -> NoReturn:
    """Run the command; *directory*: that of the package ocirun.cli."""
    sys.setdlopenflags(1)  # RTLD_LAZY: of what an extension could call, little is called
    Packed.install(directory)
    # Behind the standard library: the directory that holds ocirun and, as a rule, what it needs.
    sys.path.append(directory.removesuffix("/ocirun/cli"))
    sys.meta_path.append(Elsewhere)
    from ocirun.cli import main as run

    # All is written and closed; taking the interpreter apart would be a tenth of the time.
    posix._exit(run(sys.argv[1:]))
