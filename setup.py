# SPDX-License-Identifier: Apache-2.0
"""What pyproject.toml cannot say: the shim, the two static programs, the schemas and the generated validator.

One wheel serves every CPython from 3.11 on: the shim is an abi3 extension, the programs know no Python.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from runpy import run_path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

HERE = os.path.dirname(os.path.abspath(__file__))
NATIVE = os.path.join("ocirun", "_native")
INIT_SOURCES = (
    "init.c", "plan.c", "text.c", "sync.c", "resolve.c", "copy_up.c",
    "ops_ns.c", "ops_mount.c", "ops_restrict.c", "ops_device.c", "ops_files.c", "ops_process.c", "ops_hook.c",
    "ops_seccomp.c", "wait_start.c",
)  # fmt: skip
LAUNCH_SOURCES = ("launch.c", "text.c")
#: Where the files for share/ of the prefix are made.
SHARE = os.path.join("build", "manual")

#: Warnings are errors in our C; the hardening that a program without libc can have (the guard is a global, because
#: there is no thread area); -fPIE with -static-pie and not one relocation, so that no start-up code is needed.
STATIC_FLAGS = [
    "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wstrict-prototypes",
    "-Wmissing-prototypes", "-Wvla", "-ffreestanding", "-fno-builtin", "-fPIE", "-fno-asynchronous-unwind-tables",
    "-fstack-protector-strong", "-mstack-protector-guard=global", "-fstack-clash-protection",
    "-ftrivial-auto-var-init=zero", "-fno-tree-loop-distribute-patterns", "-ffunction-sections",
]  # fmt: skip
LINK_FLAGS = ["-nostdlib", "-static-pie", "-s", "-Wl,-z,relro,-z,now,-z,noexecstack,--gc-sections,--build-id=none"]


def version() -> str:
    """Return the version, which is written once, in the package."""
    with open(os.path.join(HERE, "ocirun", "version.py"), encoding="utf-8") as file:
        found = re.search(r'^VERSION = "([^"]+)"', file.read(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def compiler_accepts(flag: str) -> bool:
    """Say whether the compiler knows a flag (clang lacks some of gcc's)."""
    command = [*compiler(), "-Werror", flag, "-x", "c", "-c", os.devnull, "-o", os.devnull]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def compiler() -> list[str]:
    """Return the C compiler as the environment names it."""
    return os.environ.get("CC", "cc").split()


def build_static(name: str, sources: tuple[str, ...], target_directory: str) -> None:
    """Compile one of the two programs that are neither Python nor linked to any library."""
    flags = [flag for flag in STATIC_FLAGS if compiler_accepts(flag)]
    os.makedirs(target_directory, exist_ok=True)
    paths = [os.path.join(HERE, NATIVE, source) for source in sources]
    subprocess.run(
        [*compiler(), *flags, *LINK_FLAGS, "-o", os.path.join(target_directory, name), *paths], check=True
    )


def write_manual(directory: str) -> None:
    """Write the manual pages and the completions, which come from the same table as the parser."""
    from ocirun.cli.completion import PLACES, script
    from ocirun.cli.man import pages

    texts = {f"share/man/man1/{name}": text for name, text in pages().items()}
    texts |= {place: script(shell) for shell, place in PLACES.items()}
    for name, text in texts.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def shared_files() -> list[tuple[str, Sequence[str]]]:
    """Return what `write_manual` will have written, as pairs of the directory below the prefix and files."""
    sys.path.insert(0, HERE)
    from ocirun.cli.completion import PLACES
    from ocirun.cli.table import COMMANDS

    names = ["ocirun", *(f"ocirun-{command.name}" for command in COMMANDS)]
    manual = [os.path.join(SHARE, "share/man/man1", f"{name}.1") for name in names]
    completions = [(os.path.dirname(place), [os.path.join(SHARE, place)]) for place in PLACES.values()]
    return [("share/man/man1", manual), *completions]


class BuildPrograms(Command):
    """Build ocirun-init and the launcher, and generate the modules that are made from data."""

    description = "build the static programs and the generated modules"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        assert self.build_lib is not None
        base = HERE if self.editable_mode else os.path.join(HERE, self.build_lib)
        build_static("ocirun-init", INIT_SOURCES, os.path.join(base, NATIVE))
        build_static("ocirun-launch", LAUNCH_SOURCES, os.path.join(HERE, "build"))
        sys.path.insert(0, HERE)
        from ocirun.spec.compile_schema import main as compile_schema

        write_manual(os.path.join(HERE, SHARE))
        compile_schema([os.path.join(base, "ocirun", "spec", "_validator.py")])
        # By path: the package `_native` cannot be imported before its extension is built.
        builder = run_path(os.path.join(HERE, NATIVE, "build_libseccomp.py"))["ffibuilder"]
        builder.emit_python_code(os.path.join(base, NATIVE, "_libseccomp.py"))
        if not self.editable_mode:
            # Last: it takes in what was generated.  An edited module in a tree must have effect.
            run_path(os.path.join(HERE, "ocirun", "cli", "pack.py"))["main"]([os.path.join(base, "ocirun")])


class Build(build):
    """The usual build, with our step in it."""

    sub_commands = [*build.sub_commands, ("build_programs", None)]


class BuildExtensions(build_ext):
    """Give our own sources the strict warnings that cffi's generated one would not pass."""

    def build_extensions(self) -> None:
        original = self.compiler._compile

        def compile_one(obj: str, src: str, ext: str, cc_args: list[str], postargs: list[str], opts: object) -> None:
            own = src.startswith(NATIVE + os.sep) and not src.endswith("_shim.c")
            extra = ["-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes"] if own else []
            original(obj, src, ext, cc_args, postargs + extra, opts)

        self.compiler._compile = compile_one
        super().build_extensions()


class BuildScripts(Command):
    """Put the launcher where scripts go: a program, so pip installs it as it is."""

    description = "place the launcher among the scripts"
    user_options: ClassVar[list[tuple[str, str | None, str]]] = []

    def initialize_options(self) -> None:
        self.build_dir: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_scripts", "build_dir"))

    def run(self) -> None:
        assert self.build_dir is not None
        build_static("ocirun", LAUNCH_SOURCES, self.build_dir)

    def get_source_files(self) -> list[str]:
        return [os.path.join(NATIVE, source) for source in LAUNCH_SOURCES]


setup(
    version=version(),
    packages=[
        "ocirun", "ocirun._native", "ocirun.spec", "ocirun.plan", "ocirun.cgroups", "ocirun.init", "ocirun.engines",
        "ocirun.criu", "ocirun.cli", "ocirun.schemas",
    ],
    package_dir={"ocirun": "ocirun", "ocirun.schemas": "schemas"},
    package_data={"ocirun": ["py.typed"], "ocirun.schemas": ["*.json"], "ocirun._native": ["*.pyi"]},
    data_files=shared_files(),
    scripts=["ocirun/_native/launch.c"],  # replaced by BuildScripts: what is installed is the program
    cffi_modules=["ocirun/_native/build.py:ffibuilder"],
    cmdclass={
        "build": Build,
        "build_ext": BuildExtensions,
        "build_programs": BuildPrograms,
        "build_scripts": BuildScripts,
    },
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    zip_safe=False,
)  # fmt: skip
