# SPDX-License-Identifier: Apache-2.0
"""spec, features, validate, plan: commands that change nothing but, with spec, one file."""

from __future__ import annotations

import os

from ocirun.cli.parser import UsageError
from ocirun.cli.report import print_text
from ocirun.errors import OcirunError
from ocirun.strict_json import dumps, dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.cli.report import Reporter
    from ocirun.runtime import Runtime


def spec(invocation: Invocation, runtime: Runtime | None, reporter: Reporter) -> int:
    """The command `spec`: writes config.json, and never over one that is there."""
    from ocirun.spec.default_config import default_config

    bundle = invocation.value("bundle", ".") or "."
    path = os.path.join(bundle, "config.json")
    document = default_config(rootless=invocation.has("rootless"), uid=os.geteuid(), gid=os.getegid())
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise OcirunError(
            f"{path} exists already", hint="remove it, or write to another directory with --bundle"
        ) from None
    try:
        os.write(fd, (dumps_pretty(document) + "\n").encode())
    finally:
        os.close(fd)
    return 0


def features(invocation: Invocation, runtime: Runtime | None, reporter: Reporter) -> int:
    """The command `features`."""
    from ocirun.features import features_document

    print_text(dumps_pretty(features_document()) + "\n")
    return 0


def validate(invocation: Invocation, runtime: Runtime | None, reporter: Reporter) -> int:
    """The command `validate`: exit status 1 where there are problems."""
    from ocirun.validate import validate_bundle

    wanted = _format(invocation)
    bundle = invocation.arguments[0] if invocation.arguments else "."
    config = invocation.value("config")
    problems = validate_bundle(
        bundle, config_path=os.path.join(bundle, config) if config is not None else None
    )
    if wanted == "json":
        documents = [
            {"gate": each.gate, "pointer": each.pointer, "message": each.message} for each in problems
        ]
        print_text(dumps_pretty({"valid": not problems, "problems": documents}) + "\n")
    else:
        print_text("".join(f"{each}\n" for each in problems))
    return 1 if problems else 0


def plan(invocation: Invocation, runtime: Runtime | None, reporter: Reporter) -> int:
    """The command `plan`."""
    from ocirun.bundle import read_config
    from ocirun.dry_run import plan_document

    wanted = _format(invocation)
    bundle = os.path.abspath(invocation.arguments[0] if invocation.arguments else ".")
    made = plan_document(read_config(bundle, invocation.value("config")), bundle)
    print_text(dumps(made.to_json()) + "\n" if wanted == "json" else made.explain())
    return 0


def _format(invocation: Invocation) -> str:
    wanted = invocation.value("format", "text") or "text"
    if wanted not in ("text", "json"):
        raise UsageError(f"--format is text or json, not {wanted!r}")
    return wanted
