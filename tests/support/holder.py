# SPDX-License-Identifier: Apache-2.0
"""Processes that the tests need beside the container."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from support.report import Json, parse_lines


class Holder:
    """A probe in namespaces of its own, which stay open while the object is in use.

    `unshare` takes the long options of unshare(1), for example "--net".
    """

    def __init__(self, probe: Path, *unshare: str, verbs: tuple[str, ...] = ()) -> None:
        prefix = ["unshare", *unshare] if unshare else []
        if "--fork" in unshare:
            prefix.append("--kill-child")
        self._process = subprocess.Popen(
            [
                *prefix,
                str(probe),
                "seq",
                *verbs,
                *(["--"] if verbs else []),
                "ready",
                "--",
                "sleep",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self.said: list[Json] = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += parse_lines(line)
            if self.said and self.said[-1]["verb"] == "ready":
                break
        else:
            self.__exit__(None, None, None)
            raise AssertionError(f"{self._process.args} ended with {self._process.returncode} after {self.said}")
        self.pid = self._process.pid

    def ns(self, kind: str) -> str:
        """Return the path of one of its namespaces ("net", "pid_for_children", …)."""
        return f"/proc/{self.pid}/ns/{kind}"

    def inode(self, kind: str) -> int:
        """Return the inode number of one of its namespaces."""
        return Path(self.ns(kind)).stat().st_ino

    def __enter__(self) -> Holder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
