# SPDX-License-Identifier: Apache-2.0
"""The command line as data: the parser, the help of every command, and later man pages and completions come from it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option:
    """An option: long name, optional short one, the name of its value (None for a switch), and help."""

    __slots__ = ("default", "help", "name", "short", "value")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        short: str | None = None,
        value: str | None = None,
        default: str | None = None,
    ) -> None:
        self.name = name
        self.help = help
        self.short = short
        self.value = value
        self.default = default


class Command:
    """A command: its options, and the least and most arguments it takes, named in `arguments`."""

    __slots__ = ("arguments", "help", "least", "module", "most", "name", "options")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002
        module: str,
        arguments: str,
        least: int,
        most: int,
        options: Sequence[Option] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.module = module
        self.arguments = arguments
        self.least = least
        self.most = most
        self.options = tuple(options)


GLOBAL_OPTIONS = (
    Option("root", "directory of the state of containers", value="DIR"),
    Option("log", "append messages to FILE as well", value="FILE"),
    Option("log-format", "text or json", value="FORMAT", default="text"),
    Option("log-level", "error, warning, info or debug", value="LEVEL", default="warning"),
    Option("debug", "say more, with tracebacks of errors of ocirun itself"),
    Option("cgroup-manager", "cgroupfs or disabled", value="MANAGER", default="cgroupfs"),
    Option("systemd-cgroup", "use systemd for cgroups (not in this build)"),
    Option("rootless", "true, false or auto; accepted for the sake of engines", value="MODE"),
    Option("version", "print the version", short="v"),
    Option("help", "print this help", short="h"),
)

_HELP = Option("help", "print this help", short="h")

_CREATE_OPTIONS = (
    Option("bundle", "directory of the bundle (default: the working directory)", short="b", value="DIR"),
    Option("config", "another config.json, relative to the bundle", short="f", value="FILE"),
    Option("console-socket", "unix socket that gets the terminal", value="PATH"),
    Option("pidfd-socket", "unix socket that gets a pidfd of the container's init", value="PATH"),
    Option("pid-file", "write the pid of the container's init to FILE", short="p", value="FILE"),
    Option("no-pivot", "chroot instead of pivot_root, for an initramfs"),
    Option("no-new-keyring", "leave the container in the caller's session keyring"),
    Option("preserve-fds", "keep N descriptors from 3 on", value="N", default="0"),
)
_REGEX = Option("regex", "ID is a regular expression for the ids of several containers", short="r")

COMMANDS = (
    Command("create", "create a container from a bundle", "lifecycle", "ID", 1, 1, _CREATE_OPTIONS),
    Command("start", "execute the process of a created container", "lifecycle", "ID", 1, 1),
    Command("state", "print the state of a container as JSON", "listing", "ID", 1, 1),
    Command(
        "kill",
        "send a signal (default: SIGTERM) to the process of a container",
        "lifecycle",
        "ID [SIGNAL]",
        1,
        2,
        (Option("all", "to all processes of the container", short="a"), _REGEX),
    ),
    Command(
        "delete",
        "remove a stopped container",
        "lifecycle",
        "ID",
        1,
        1,
        (Option("force", "kill it first; no error if there is none", short="f"), _REGEX),
    ),
    Command(
        "run",
        "create and start a container",
        "run",
        "ID",
        1,
        1,
        (
            *_CREATE_OPTIONS,
            Option("detach", "return when it runs", short="d"),
            Option("keep", "do not delete it when it ends"),
            Option("no-subreaper", "do not adopt orphans of the container"),
        ),
    ),
    Command(
        "list",
        "list the containers",
        "listing",
        "",
        0,
        0,
        (
            Option("format", "table or json", short="f", value="FORMAT", default="table"),
            Option("quiet", "print the ids alone", short="q"),
        ),
    ),
    Command(
        "spec",
        "write a config.json to start from",
        "inspect",
        "",
        0,
        0,
        (
            Option("bundle", "directory to write it to", short="b", value="DIR", default="."),
            Option("rootless", "for a user who is not root"),
        ),
    ),
    Command("features", "print what this build supports as JSON", "inspect", "", 0, 0),
    Command(
        "validate",
        "print everything that is wrong with a bundle",
        "inspect",
        "[BUNDLE]",
        0,
        1,
        (
            Option("format", "text or json", value="FORMAT", default="text"),
            Option("config", "another config.json, relative to the bundle", short="f", value="FILE"),
        ),
    ),
    Command(
        "plan",
        "print what create would do with a bundle",
        "inspect",
        "[BUNDLE]",
        0,
        1,
        (
            Option("format", "text or json", value="FORMAT", default="text"),
            Option("config", "another config.json, relative to the bundle", short="f", value="FILE"),
        ),
    ),
    Command("gc", "remove what interrupted operations left behind", "lifecycle", "", 0, 0),
)


def find_command(name: str) -> Command | None:
    """Return the command of this name."""
    for command in COMMANDS:
        if command.name == name:
            return command
    return None


def options_of(command: Command) -> tuple[Option, ...]:
    """Return the options of a command, help included."""
    return (*command.options, _HELP)
