# SPDX-License-Identifier: Apache-2.0
"""The command line as data: the parser, the help of every command, and later man pages and completions come from it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option:
    """An option.

    name: the long name; short: letters for it, of which the help shows the first; value: what the value is called,
    None for a switch; choices: the values that are accepted, all where empty; default: for the help; help: a phrase,
    None for what is accepted for the sake of others and not shown; is_repeatable: whether all values count.
    """

    __slots__ = ("choices", "default", "help", "is_repeatable", "name", "short", "value")

    def __init__(
        self,
        name: str,
        help: str | None,  # noqa: A002  # the word for it
        *,
        short: str = "",
        value: str | None = None,
        choices: tuple[str, ...] = (),
        default: str | None = None,
        is_repeatable: bool = False,
    ) -> None:
        self.is_repeatable = is_repeatable
        self.name = name
        self.help = help
        self.short = short
        self.value = value
        self.choices = choices
        self.default = default


class Command:
    """A command: the module and function that run it, and the arguments that it takes, optional ones in brackets.

    After one that ends with "...]" everything behind the first argument belongs to another program.
    `needs_root` says whether it works on the containers of a state root, `failure` what the exit status is when the
    command fails.
    """

    __slots__ = ("arguments", "failure", "function", "help", "module", "name", "needs_root", "options")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002
        module: str,
        arguments: tuple[str, ...] = (),
        options: Sequence[Option] = (),
        *,
        function: str | None = None,
        needs_root: bool = True,
        failure: int = 1,
    ) -> None:
        self.failure = failure
        self.name = name
        self.help = help
        self.module = module
        self.arguments = arguments
        self.options = tuple(options)
        self.function = function or name
        self.needs_root = needs_root


HELP = Option("help", "print this help", short="h?")
TEXT_OR_JSON = ("text", "json")

GLOBAL_OPTIONS = (
    Option("root", "directory of the containers' state (default: /run/ocirun)", value="DIR"),
    Option("log", "append messages to FILE as well; or syslog:NAME, journald:NAME", value="FILE"),
    Option("log-format", "how to write messages", value="FORMAT", choices=TEXT_OR_JSON, default="text"),
    Option(
        "log-level",
        "the least of what is worth a message",
        value="LEVEL",
        choices=("error", "warning", "info", "debug"),
        default="warning",
    ),
    Option("debug", "as --log-level debug, and say where ocirun itself failed"),
    Option(
        "cgroup-manager",
        "who makes cgroups",
        value="NAME",
        choices=("cgroupfs", "disabled", "systemd"),
        default="cgroupfs",
    ),
    Option("systemd-cgroup", "as --cgroup-manager systemd"),
    Option("rootless", None, value="BOOL", choices=("true", "false", "auto")),
    Option("criu", "the program that checkpoint and restore run (default: criu)", value="PATH"),
    Option("version", "print the version", short="vV"),
    Option("usage", None),
    HELP,
)

_BUNDLE = Option(
    "bundle", "directory of the bundle (default: the working directory)", short="b", value="DIR"
)
_CONFIG = Option("config", "another config.json, relative to the bundle", short="f", value="FILE")
_FORMAT = Option("format", "how to print it", value="FORMAT", choices=TEXT_OR_JSON, default="text")
_CONSOLE_SOCKET = Option("console-socket", "unix socket that gets the main side of the terminal", value="PATH")
_PID_FILE = Option("pid-file", "write the pid of the container's process to FILE", value="FILE")
_REGEX = Option("regex", "ID is a regular expression, for all containers it matches", short="r")

_CREATE_OPTIONS = (
    _BUNDLE,
    _CONFIG,
    _CONSOLE_SOCKET,
    Option("pidfd-socket", "unix socket that gets a pidfd of the container's process", value="PATH"),
    _PID_FILE,
    Option("no-pivot", "change the root without pivot_root(2), for use on a ramdisk"),
    Option("no-new-keyring", "stay in the caller's session keyring"),
    Option("preserve-fds", "pass N descriptors on, from 3", value="N", default="0"),
    Option("no-subreaper", "do not adopt orphans of the container (run)"),
)

_UPDATE_OPTIONS = (
    Option(
        "resources",
        "an object linux.resources instead of options, from FILE or standard input: -",
        short="r",
        value="FILE",
    ),
    Option("memory", "memory limit, such as 512m; -1 for none", value="BYTES"),
    Option("memory-reservation", "memory that is protected (v2) or reclaimed down to (v1)", value="BYTES"),
    Option("memory-swap", "limit of memory and swap together; -1 for none", value="BYTES"),
    Option("pids-limit", "number of processes and threads; -1 for no limit", value="N"),
    Option("cpu-share", "weight against other containers; the default is 1024", value="N"),
    Option("cpu-quota", "CPU time in each period; -1 for no limit", value="MICROSECONDS"),
    Option("cpu-period", "length of a period", value="MICROSECONDS"),
    Option("cpu-burst", "unused time that may be saved for later", value="MICROSECONDS"),
    Option("cpu-idle", "1: run only when nothing else does", value="0|1"),
    Option("cpu-rt-runtime", "real-time CPU time in each period (v1)", value="MICROSECONDS"),
    Option("cpu-rt-period", "length of a real-time period (v1)", value="MICROSECONDS"),
    Option("cpuset-cpus", "CPUs that may be used, such as 0-3,7", value="LIST"),
    Option("cpuset-mems", "memory nodes that may be used", value="LIST"),
    Option("blkio-weight", "weight of block I/O, from 10 to 1000", value="N"),
    Option("l3-cache-schema", "L3 line of the container's class of service", value="SCHEMA"),
    Option("mem-bw-schema", "MB line of the container's class of service", value="SCHEMA"),
    Option("kernel-memory", None, value="BYTES"),
    Option("kernel-memory-tcp", None, value="BYTES"),
)

#: Of checkpoint and restore.
_CRIU_OPTIONS = (
    Option("image-path", "directory of the images (default: checkpoint)", value="DIR"),
    Option("work-path", "directory of CRIU's log (default: that of the images)", value="DIR"),
    Option("tcp-established", "keep TCP connections"),
    Option("ext-unix-sk", "keep unix sockets whose other end is outside"),
    Option("shell-job", "the leader of the session is outside"),
    Option("file-locks", "keep locks of files"),
    Option(
        "manage-cgroups-mode",
        "what becomes of cgroups of its own",
        value="MODE",
        choices=("soft", "full", "strict", "ignore"),
        default="soft",
    ),
    Option(
        "network-lock",
        "how packets are kept out meanwhile",
        value="METHOD",
        choices=("iptables", "nftables", "skip"),
    ),
    Option("empty-ns", "leave this namespace without what is in it", value="KIND", choices=("network",)),
    Option("auto-dedup", "give back the space of pages that a newer image has"),
    Option("lazy-pages", "bring the memory later, by criu lazy-pages"),
)

COMMANDS = (
    Command("create", "create a container", "lifecycle", ("ID",), _CREATE_OPTIONS),
    Command("start", "execute the process of a created container", "lifecycle", ("ID",)),
    Command("state", "print the state of a container", "listing", ("ID",)),
    Command(
        "kill",
        "send a signal (default: TERM) to the process of a container",
        "lifecycle",
        ("ID", "[SIGNAL]"),
        (Option("all", "send it to all processes of the container", short="a"), _REGEX),
    ),
    Command(
        "delete",
        "remove a stopped container",
        "lifecycle",
        ("ID",),
        (Option("force", "kill it first; without a container do nothing", short="f"), _REGEX),
    ),
    Command(
        "run",
        "create and start a container, and delete it when its process ends",
        "run",
        ("ID",),
        (
            *_CREATE_OPTIONS,
            Option("detach", "return as soon as the process runs", short="d"),
            Option("keep", "do not delete the container when its process ends"),
        ),
    ),
    Command(
        "exec",
        "execute another process in a container",
        "exec",
        ("ID", "[PROGRAM ARGUMENT...]"),
        (
            Option("process", "a JSON file that describes the process", short="p", value="FILE"),
            _CONSOLE_SOCKET,
            Option("pidfd-socket", "unix socket that gets a pidfd of the process", value="PATH"),
            Option("pid-file", "write the pid of the process to FILE", value="FILE"),
            Option("detach", "return as soon as the process runs", short="d"),
            Option("tty", "give it a terminal", short="t"),
            Option("cwd", "its working directory", value="DIR"),
            Option("env", "add to its environment; repeatable", short="e", value="NAME=VALUE", is_repeatable=True),
            Option("user", "its user, and group", short="u", value="UID[:GID]"),
            Option("additional-gids", "add a group; repeatable", short="g", value="GID", is_repeatable=True),
            Option("cap", "add a capability; repeatable", short="c", value="CAP", is_repeatable=True),
            Option("no-new-privs", "keep it from gaining privileges"),
            Option("apparmor", "its AppArmor profile", value="PROFILE"),
            Option("process-label", "its SELinux label", value="LABEL"),
            Option("preserve-fds", "pass N descriptors on, from 3", value="N", default="0"),
            Option("cgroup", "a cgroup below the container's; repeatable on version 1", value="[CONTROLLER:]PATH",
                   is_repeatable=True),
            Option("ignore-paused", "also in a paused container: wait until it is resumed"),
        ),
        function="execute",
        failure=255,
    ),
    Command(
        "list",
        "list the containers",
        "listing",
        (),
        (
            Option(
                "format",
                "how to print them",
                short="f",
                value="FORMAT",
                choices=("table", "json"),
                default="table",
            ),
            Option("quiet", "print the IDs alone", short="q"),
        ),
        function="list_",
    ),
    Command(
        "spec",
        "write a config.json to begin with",
        "inspect",
        (),
        (
            _BUNDLE,
            Option("file", "write it to FILE instead", short="f", value="FILE"),
            Option("rootless", "for a user other than root"),
        ),
        needs_root=False,
    ),
    Command(
        "validate",
        "print everything that is wrong with a bundle",
        "inspect",
        ("[BUNDLE]",),
        (_CONFIG, _FORMAT),
        needs_root=False,
    ),
    Command(
        "plan",
        "print what create would do with a bundle",
        "inspect",
        ("[BUNDLE]",),
        (_CONFIG, _FORMAT),
        needs_root=False,
    ),
    Command("update", "change the limits of a container", "update", ("ID",), _UPDATE_OPTIONS),
    Command(
        "mounts",
        "add mounts to a container that runs, or remove what was added",
        "mounts",
        ("add|remove", "ID", "FILE"),
    ),
    Command("wait", "wait for the process of a container to end, and print its exit status", "lifecycle", ("ID",)),
    Command("pause", "freeze the processes of a container", "lifecycle", ("ID",)),
    Command("resume", "let the processes of a paused container go on", "lifecycle", ("ID",)),
    Command(
        "ps",
        "list the processes of a container",
        "processes",
        ("ID", "[PS OPTION...]"),
        (
            Option(
                "format",
                "what ps(1) prints of them, or an array of pids",
                short="f",
                value="FORMAT",
                choices=("table", "json"),
                default="table",
            ),
        ),
    ),
    Command(
        "events",
        "print what happens to a container, one JSON object a line",
        "events",
        ("ID",),
        (
            Option("interval", "time between statistics, such as 500ms or 1m30s", value="TIME", default="5s"),
            Option("stats", "print statistics once"),
        ),
    ),
    Command(
        "features",
        "print what ocirun supports",
        "inspect",
        (),
        (
            Option("probe", "add what this host can do, and why not"),
            Option("format", "how to print it", value="FORMAT", choices=TEXT_OR_JSON, default="json"),
        ),
        needs_root=False,
    ),
    Command(
        "setup",
        "print or write the settings that make podman, docker, containerd or crio use ocirun",
        "setup",
        ("ENGINE",),
        (
            Option("write", "write them into the engine's configuration, and keep what was there"),
            Option("default", "for containers that ask for no runtime too"),
            Option("runtime-name", "what the engine shall call it", value="NAME", default="ocirun"),
            Option("path", "the command (default: this one)", value="PATH"),
            Option("config", "the engine's configuration (default: the usual place)", value="FILE"),
            Option("sysroot", "the directory of an image instead of /", value="DIR"),
        ),
        needs_root=False,
    ),
    Command(
        "checkpoint",
        "save the processes of a container with CRIU, and delete it",
        "migration",
        ("ID",),
        (
            *_CRIU_OPTIONS,
            Option("leave-running", "let it go on instead", short="R"),
            Option("pre-dump", "let it go on, and save its memory only"),
            Option("parent-path", "the images before these, relative to --image-path", value="DIR"),
            Option("tcp-skip-in-flight", "leave out TCP connections that nobody has accepted yet"),
            Option("link-remap", "keep files that were unlinked, by a name beside them"),
            Option("page-server", "who stores the memory, or is asked for it", value="ADDRESS:PORT"),
            Option("status-fd", "descriptor that gets a zero byte when memory can be asked for", value="N"),
        ),
    ),
    Command(
        "restore",
        "make a container again from what checkpoint has saved",
        "migration",
        ("ID",),
        (
            _BUNDLE,
            _CONFIG,
            *_CRIU_OPTIONS,
            Option("detach", "return as soon as the processes run", short="d"),
            _CONSOLE_SOCKET,
            _PID_FILE,
            Option("no-pivot", "the container was created with --no-pivot"),
            Option("no-subreaper", "do not adopt orphans of the container"),
            Option("tcp-close", "have TCP connections come back closed"),
            Option("lsm-profile", "its label instead of the saved one", value="apparmor:PROFILE|selinux:LABEL"),
            Option("lsm-mount-context", "the SELinux context of its mounts instead of the saved one", value="CONTEXT"),
        ),
    ),
    Command("gc", "remove what interrupted commands left behind", "lifecycle"),
    Command(
        "completion",
        "print a script that completes the command line in a shell",
        "completion",
        ("bash|zsh|fish",),
        needs_root=False,
    ),
    Command("help", "print the help of a command", "inspect", ("[COMMAND]",), needs_root=False, function="help_"),
)


def find_command(name: str) -> Command | None:
    """Return the command of this name."""
    for command in COMMANDS:
        if command.name == name:
            return command
    return None
