# SPDX-License-Identifier: Apache-2.0
"""How exec was called: the process that was asked for, and how it is started.

The process is put together as a document, so that all of it passes the gates that config.json passes.
"""

from __future__ import annotations

from ocirun.errors import CgroupError, InvalidConfig, Problem
from ocirun.inputs import SpawnOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    JsonObject = dict[str, Any]

    class ProcessChanges(TypedDict, total=False):
        """What exec changes of a process; what is None or empty changes nothing.

        env, additional_gids and capabilities are added to what is there, and capabilities to the bounding, effective
        and permitted sets, to the ambient one where they are inheritable, and never to that (CVE-2022-29162).  `user`
        is (uid, gid); without a gid it stays what it was.  `console_size` is (rows, columns).
        """

        cwd: str | None
        env: Sequence[str]
        user: tuple[int, int | None] | None
        additional_gids: Sequence[int]
        capabilities: Sequence[str]
        no_new_privileges: bool | None
        apparmor_profile: str | None
        selinux_label: str | None
        terminal: bool | None
        console_size: tuple[int, int] | None


class ExecOptions(SpawnOptions):
    """How a process is executed in a container; the parameters of `Container.exec`, which documents them.

    `subgroups` maps controllers to paths below the container's cgroup; "" stands for all of them.
    """

    __slots__ = ("ignore_paused", "subgroups")

    def __init__(
        self,
        *,
        stdio: tuple[int | None, int | None, int | None] = (None, None, None),
        console_socket: str | None = None,
        console_fd: int | None = None,
        pid_file: str | None = None,
        pass_fds: Sequence[int] = (),
        pidfd_socket: str | None = None,
        cgroups: Sequence[str] = (),
        ignore_paused: bool = False,
        timeout: float | None = None,
    ) -> None:
        super().__init__(stdio, console_socket, console_fd, pid_file, pass_fds, pidfd_socket, timeout)
        self.subgroups = parse_subgroups(cgroups)
        self.ignore_paused = ignore_paused


def parse_subgroups(words: Sequence[str]) -> dict[str, str]:
    """Return controller -> path of words such as "cpu,cpuacct:below" or "below", which is for all of them.

    Errors: CgroupError
    """
    found: dict[str, str] = {}
    for word in words:
        controllers, colon, path = word.partition(":")
        for controller in controllers.split(",") if colon else ("",):
            if colon and not controller:
                raise CgroupError(f"cgroup {word!r}: the name of a controller is missing", op="exec")
            if controller in found or (found and "" in (controller, *found)):
                raise CgroupError(f"cgroup {word!r}: there is a path for the same hierarchy already", op="exec")
            found[controller] = path if colon else word
    return found


#: What a process document may leave out: then it is as for the container's own process (as with runc and crun).
_AS_THE_CONTAINERS = (
    "apparmorProfile",
    "capabilities",
    "execCPUAffinity",
    "ioPriority",
    "oomScoreAdj",
    "rlimits",
    "scheduler",
    "selinuxLabel",
)


def describe_process(
    own: JsonObject | None, given: JsonObject | None, args: Sequence[str], changes: ProcessChanges
) -> tuple[JsonObject, str]:
    """Return the document of the process to execute, and the pointer to it in messages.

    *own* is `process` of the container's config.json; *given*, which has passed the schema, replaces it, and what it
    leaves out comes from there.  The result has yet to pass the gates.  Errors: InvalidConfig
    """
    own = {"cwd": "/"} if own is None else own
    if given is not None:
        document, pointer = _complete(given, own), ""
    elif args:
        # Whether there is a terminal is for each process to say, and its size is that of another one.
        document, pointer = {**own, "terminal": False}, "/process"
        document.pop("consoleSize", None)
    else:
        raise InvalidConfig([Problem("rule", "/process/args", "exec needs a program, or a process document")])
    if args:
        document["args"] = list(args)
    _change(document, changes)
    _refuse_nul(document, pointer)
    return document, pointer


def _complete(given: JsonObject, own: JsonObject) -> JsonObject:
    result = dict(given)
    for name in _AS_THE_CONTAINERS:
        # An empty object is none: no capabilities, for instance.
        if result.get(name) in (None, "", []) and own.get(name) is not None:
            result[name] = own[name]
    umask = (own.get("user") or {}).get("umask")
    user = result.get("user") or {}
    if umask is not None and user.get("umask") is None:
        result["user"] = {"uid": 0, "gid": 0, **user, "umask": umask}
    return result


def _change(document: JsonObject, changes: ProcessChanges) -> None:
    values: JsonObject = {
        "cwd": changes.get("cwd"),
        "terminal": changes.get("terminal"),
        "noNewPrivileges": changes.get("no_new_privileges"),
        "apparmorProfile": changes.get("apparmor_profile"),
        "selinuxLabel": changes.get("selinux_label"),
    }
    size = changes.get("console_size")
    if size is not None:
        values["consoleSize"] = {"height": size[0], "width": size[1]}
    document.update({name: value for name, value in values.items() if value is not None})
    if env := changes.get("env"):
        document["env"] = [*(document.get("env") or ()), *env]
    user, gids = changes.get("user"), changes.get("additional_gids")
    if user is not None or gids:
        document["user"] = _change_user(document.get("user") or {}, user, gids or ())
    if names := changes.get("capabilities"):
        document["capabilities"] = _add_capabilities(document.get("capabilities") or {}, names)


def _change_user(
    before: JsonObject, user: tuple[int, int | None] | None, additional_gids: Sequence[int]
) -> JsonObject:
    result = {"uid": 0, "gid": 0, **before}
    if user is not None:
        uid, gid = user
        result["uid"] = uid
        if gid is not None:
            result["gid"] = gid
    if additional_gids:
        result["additionalGids"] = [*(before.get("additionalGids") or ()), *additional_gids]
    return result


def _add_capabilities(before: JsonObject, names: Sequence[str]) -> JsonObject:
    result = dict(before)
    inheritable = before.get("inheritable") or ()
    added = dict.fromkeys(("bounding", "effective", "permitted"), names)
    added["ambient"] = [name for name in names if name in inheritable]
    for kind, more in added.items():
        known = result.get(kind) or ()
        result[kind] = [*known, *(name for name in dict.fromkeys(more) if name not in known)]
    return result


def _refuse_nul(document: JsonObject, pointer: str) -> None:
    """Refuse what only a caller of the library can say: JSON was looked at, and no command line holds it."""
    texts = [
        *(("/args", each) for each in document.get("args") or ()),
        *(("/env", each) for each in document.get("env") or ()),
        *((f"/{name}", document.get(name)) for name in ("cwd", "apparmorProfile", "selinuxLabel")),
    ]
    problems = [
        Problem("json", pointer + where, "must not contain NUL")
        for where, text in texts
        if isinstance(text, str) and "\0" in text
    ]
    if problems:
        raise InvalidConfig(problems)
