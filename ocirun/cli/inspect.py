# SPDX-License-Identifier: Apache-2.0
"""spec, validate, plan, features, help: commands that change nothing, but for the one file that spec writes."""

from __future__ import annotations

import os

from ocirun.cli import FAILURE, cgroup_manager, print_text
from ocirun.cli.parser import UsageError
from ocirun.errors import BundleError
from ocirun.strict_json import dumps, dumps_pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation


def spec(invocation: Invocation) -> int:
    """The command `spec`: writes config.json, and never over one that is there."""
    from ocirun.host import HostFacts
    from ocirun.spec.default_config import default_config

    document = default_config(
        rootless=invocation.has("rootless"),
        uid=os.geteuid(),
        gid=os.getegid(),
        unified=HostFacts().cgroup_layout == "unified",
    )
    path = os.path.join(invocation.value("bundle") or "", invocation.value("file") or "config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise BundleError(
            f"File {path} exists. Remove it first",
            hint="or write to another place with --bundle or --file",
        ) from None
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(dumps_pretty(document) + "\n")
    except OSError:
        os.unlink(path)  # half a file is worse than none
        raise
    return 0


def validate(invocation: Invocation) -> int:
    """The command `validate`: status 1 where there are problems, one a line."""
    from ocirun.validate import validate_bundle

    bundle = _bundle(invocation)
    config = invocation.value("config")
    problems = validate_bundle(
        bundle,
        config_path=None if config is None else os.path.join(bundle, config),
        cgroup_manager=cgroup_manager(invocation),
    )
    if invocation.value("format") == "json":
        found = [{"gate": each.gate, "pointer": each.pointer, "message": each.message} for each in problems]
        print_text(dumps_pretty({"valid": not found, "problems": found}) + "\n")
    else:
        print_text("".join(f"{each}\n" for each in problems))
    return FAILURE if problems else 0


def plan(invocation: Invocation) -> int:
    """The command `plan`."""
    from ocirun.bundle import read_config
    from ocirun.dry_run import plan_document

    bundle = os.path.abspath(_bundle(invocation))
    text = read_config(bundle, invocation.value("config"))
    made = plan_document(text, bundle, cgroup_manager=cgroup_manager(invocation))
    is_json = invocation.value("format") == "json"
    print_text(dumps(made.to_json()) + "\n" if is_json else made.explain())
    return 0


def _bundle(invocation: Invocation) -> str:
    return invocation.arguments[0] if invocation.arguments else "."


def features(invocation: Invocation) -> int:
    """The command `features`: the document of the specification; with --probe what this host can do as well."""
    from ocirun.features import features_document

    document = features_document()
    if invocation.has("probe"):
        from ocirun.probe import probe_document

        document["host"] = probe_document()
    if invocation.value("format") == "text":
        from ocirun.probe import render

        print_text(render(document))
    else:
        print_text(dumps_pretty(document) + "\n")
    return 0


def help_(invocation: Invocation) -> int:
    """The command `help`."""
    from ocirun.cli.help import help_text
    from ocirun.cli.table import find_command

    name = invocation.arguments[0] if invocation.arguments else None
    command = None if name is None else find_command(name)
    if name is not None and command is None:
        raise UsageError(f"unknown command {name!r}", hint="`ocirun help` lists the commands")
    print_text(help_text(command))
    return 0
