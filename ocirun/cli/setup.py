# SPDX-License-Identifier: Apache-2.0
"""setup: the settings that make an engine use ocirun."""

from __future__ import annotations

import os
import sys

from ocirun.cli import encode, print_text
from ocirun.cli.parser import UsageError
from ocirun.engines import NAMES, Request
from ocirun.errors import OcirunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirun.cli.parser import Invocation
    from ocirun.engines import Proposal

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class NotInstalledError(OcirunError):
    """There is no command that an engine could be told of."""

    code = "not_installed"


def setup(invocation: Invocation) -> int:
    """The command `setup`: prints the settings, or writes them; what else there is to say goes to standard error."""
    engine = invocation.arguments[0]
    if engine not in NAMES:
        raise UsageError(f"{engine!r} is none of the engines: {', '.join(NAMES)}")
    request = _request(invocation, engine)
    module = __import__(f"ocirun.engines.{engine}", fromlist=["propose"])
    proposal: Proposal = module.propose(request)
    if not invocation.has("write"):
        print_text(proposal.file.fragment(proposal.settings))
        _say(f"this belongs into {proposal.file.path}; --write puts it there")
    elif not _write(proposal):
        return 0
    for note in proposal.notes:
        _say(f"note: {note}")
    if not request.sysroot:
        if proposal.restart is not None:
            _say(f"then: {proposal.restart}")
        _say(f"to see whether it is known: {proposal.check}")
    return 0


def _write(proposal: Proposal) -> bool:
    """Say what was done, and whether anything was."""
    file = proposal.file
    text = file.edited(proposal.settings)
    where = file.path if file.path == file.real else f"{file.path} (a link to {file.real})"
    if text == file.text:
        print_text(f"{where}: has it all, not changed\n")
        return False
    backup = file.replace(text)
    print_text(f"{where}: {'written' if backup is None else f'changed; as it was: {backup}'}\n")
    return True


def _say(text: str) -> None:
    os.write(2, encode(f"{text}\n"))


def _request(invocation: Invocation, engine: str) -> Request:
    name = invocation.value("runtime-name") or "ocirun"
    if not _NAME_CHARACTERS.issuperset(name) or not name[0].isalnum():
        raise UsageError(f"--runtime-name {name!r}: letters, digits and . _ - only")
    systemd_cgroup = invocation.switch("systemd-cgroup")
    if systemd_cgroup is not None and engine != "containerd":
        raise UsageError(f"--systemd-cgroup: {engine} says at each call which cgroup manager it wants")
    sysroot = invocation.value("sysroot")
    sysroot = "" if sysroot is None else os.path.abspath(sysroot).rstrip("/")
    if sysroot and not os.path.isdir(sysroot):
        raise UsageError(f"--sysroot {sysroot}: no directory")
    config = invocation.value("config")
    if config is not None and sysroot and not config.startswith("/"):
        raise UsageError("--config with --sysroot: a path in the image begins with /")
    return Request(
        name,
        _command(invocation.value("path"), sysroot),
        is_default=invocation.has("default"),
        systemd_cgroup=systemd_cgroup,
        sysroot=sysroot,
        config=None if config is None else os.path.abspath(config),
        config_home=None if sysroot or os.geteuid() == 0 else _config_home(),
    )


def _command(path: str | None, sysroot: str) -> str:
    """Return the command that engines shall start: this one, unless another one is named."""
    if path is None:
        return _installed_command()
    if not path.startswith("/"):
        raise UsageError(f"--path {path}: engines want a path from the root on")
    if not sysroot and not _is_program(path):
        raise UsageError(f"--path {path}: no program")
    return path


def _installed_command() -> str:
    """Return the launcher beside this package: PREFIX/bin for PREFIX/lib/pythonX.Y/site-packages/ocirun/cli.

    Of an editable installation only the interpreter lies beside it.
    """
    prefix = os.path.abspath(__file__).rsplit("/", 6)[0]
    for path in (f"{prefix}/bin/ocirun", f"{os.path.dirname(sys.executable)}/ocirun"):
        if _is_program(path):
            return path
    raise NotInstalledError("cannot find out where the command is installed", hint="--path PATH says it")


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _config_home() -> str:
    named = os.environ.get("XDG_CONFIG_HOME", "")
    return named if named.startswith("/") else os.path.expanduser("~/.config")
