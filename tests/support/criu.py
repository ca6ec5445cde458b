# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with a CRIU that works here."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from support.bundle import Bundle
from support.command import Container, Result, RuntimeCommand

FINDER = Path(__file__).resolve().parent.parent / "criu"


def find_working_criu() -> str | None:
    """Return the path of a CRIU that works on this kernel, None where there is none to be had."""
    found = subprocess.run([FINDER], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() or None


class Checkpoints:
    """checkpoint and restore of one container, with directories of their own."""

    def __init__(self, runtime: RuntimeCommand, criu: str, directory: Path) -> None:
        self.runtime = runtime
        self.options = ("--criu", criu)
        self.images = directory / "images"
        self.work = directory / "work"

    def _paths(self) -> tuple[str, ...]:
        return "--image-path", str(self.images), "--work-path", str(self.work)

    def save(self, container: Container | str, *words: str) -> Result:
        """`checkpoint`; the result is not checked."""
        name = container if isinstance(container, str) else container.id
        return self.runtime.call("checkpoint", *self._paths(), *words, name, options=self.options, timeout=60)

    def restore(self, bundle: Bundle, *words: str, **keywords: Any) -> Container:
        """`restore --detach`, which must succeed; the container's stdout is a new pipe."""
        words = (*self._paths(), "--detach", *words)
        return self.runtime.create(bundle, *words, verb="restore", options=self.options, **keywords)

    def try_restore(self, bundle: Bundle, *words: str, **keywords: Any) -> Result:
        """`restore`; the result is not checked."""
        bundle.write()
        self.runtime.remember(bundle.id)
        words = ("--bundle", str(bundle.path), *self._paths(), *words)
        return self.runtime.call("restore", *words, bundle.id, options=self.options, timeout=60, **keywords)

    def log(self, name: str) -> str:
        """Return one of CRIU's logs."""
        return (self.work / name).read_text(errors="replace")
