# SPDX-License-Identifier: Apache-2.0
"""Hooks of the runtime namespace: prestart, createRuntime, poststart, poststop.

Spec: config.md#posix-platform-hooks
"""

from __future__ import annotations

from ocirun.errors import HookError, OcirunError
from ocirun.init.process import describe_status
from ocirun.init.program import ProgramRunner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.spec.model import Hook


class HookRunner:
    """Runs hooks for one container.  `open_init` is `Runtime.open_init`, called for each of them."""

    __slots__ = ("_bundle", "_id", "_programs")

    def __init__(
        self, container_id: str, bundle: str, open_init: Callable[[], int], fallback_directory: str
    ) -> None:
        self._id = container_id
        self._bundle = bundle
        self._programs = ProgramRunner(open_init, fallback_directory)

    def run_all(self, hooks: Sequence[Hook], kind: str, state: bytes) -> None:
        """Run hooks in order; the first failure ends it.  Errors: HookError."""
        for index, hook in enumerate(hooks):
            self._run(hook, kind, index, state)

    def run_each(self, hooks: Sequence[Hook], kind: str, state: bytes) -> list[HookError]:
        """Run all hooks in order, whatever they do, and return the failures (poststop: runtime.md step 13)."""
        failures = []
        for index, hook in enumerate(hooks):
            try:
                self._run(hook, kind, index, state)
            except HookError as error:
                failures.append(error)
        return failures

    def _run(self, hook: Hook, kind: str, index: int, state: bytes) -> None:
        try:
            finished = self._programs.run(
                hook.path,
                hook.args or (hook.path,),
                hook.env,
                directory=self._bundle,
                stdin=state,
                timeout_s=hook.timeout,
                origin=f"/hooks/{kind}/{index}",
            )
        except OcirunError as error:
            raise self._failure(hook, kind, index, str(error)) from error
        if finished.timed_out:
            raise self._failure(hook, kind, index, f"timed out after {hook.timeout} s and was killed")
        # None: the host process reaped it, before Linux 6.15; there is nothing to judge by.
        if finished.status:
            text = f", output: {finished.text}" if finished.text else ""
            raise self._failure(hook, kind, index, f"ended {describe_status(finished.status)}{text}")

    def _failure(self, hook: Hook, kind: str, index: int, what: str) -> HookError:
        return HookError(
            f"/hooks/{kind}/{index}: {kind} hook {hook.path}: {what}",
            kind=kind,
            index=index,
            container_id=self._id,
        )

