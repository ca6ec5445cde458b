# SPDX-License-Identifier: Apache-2.0
"""Finds modules in the files that pack.py writes; a part of the first of them."""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FunctionType, ModuleType

    MODULES: dict[str, tuple[bool, FunctionType]] = {}  # module: is it a package?, what executes it
    ELSEWHERE: dict[str, str] = {}  # module: the file that has it, beside this one


class Packed:
    """A finder and loader in the sense of importlib."""

    directory = ""

    @classmethod
    def install(cls, directory: str) -> None:
        """Be asked before any directory is looked at.  *directory*: that of the package ocirun.cli."""
        cls.directory = directory
        sys.meta_path.insert(0, cls)

    @classmethod
    def find_spec(cls, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return how to load a module, None for what is not here."""
        if name in ELSEWHERE:
            MODULES.update(load(f"{cls.directory}/{ELSEWHERE[name]}").MODULES)
            for each in MODULES:
                ELSEWHERE.pop(each, None)
        if name not in MODULES:
            return None
        is_package = MODULES[name][0]
        place = f"{cls.directory.removesuffix('ocirun/cli')}{name.replace('.', '/')}"
        file = f"{place}/__init__.py" if is_package else f"{place}.py"
        spec = ModuleSpec(name, cls, origin=file, is_package=is_package)  # type: ignore[arg-type]  # has what it takes
        spec.has_location = True  # origin becomes __file__
        if is_package:
            spec.submodule_search_locations = [place]
        return spec

    @staticmethod
    def create_module(_spec: ModuleSpec) -> None:
        """Have an ordinary module made."""

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Execute the module's function in the module's namespace."""
        function = MODULES[module.__name__][1]
        type(function)(function.__code__, module.__dict__)()


def load(path: str) -> ModuleType:
    """Execute a file of packed modules; Python keeps its compiled form beside it as of any module."""
    module = type(sys)(path)
    SourceFileLoader(path, path).exec_module(module)
    return module
