# SPDX-License-Identifier: Apache-2.0
"""The rules gate: what config.json must obey beyond its schema, on any host.

One function per rule, each yields the problems that it finds.  Most rules are a MUST of the
specification; the others refuse what the kernel is certain to refuse later with less explanation,
or what would reach the host instead of the container.

Not a problem, because engines write it: capabilities that the kernel does not know, ambient
capabilities that are not inheritable (podman), a device that is listed twice with the same numbers,
an architecture that is listed twice.
"""

from __future__ import annotations

from ocirun.errors import Problem
from ocirun.spec.linux_rules import LINUX_RULES, check_id_ranges
from ocirun.spec.ranges import LAST_CPU, parse_ranges
from ocirun.spec.seccomp_rules import uses_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocirun.spec.model import Config, IdMapping, Linux, Process

_NO_ID = 4294967295  # (uid_t)-1, by which system calls mean "leave as it is"
_LONGEST_UTS_NAME = 64
_LAST_IO_PRIORITY = 7
# sched(7), sched_setattr(2): what the kernel takes.
_REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
_HIGHEST_PRIORITY = 99
_SHORTEST_RUNTIME = 1024

RLIMITS = frozenset(
    f"RLIMIT_{name}"
    for name in (
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    )
)


def check(config: Config) -> list[Problem]:
    """Return all problems of the gate "rule" in a configuration that has passed the schema."""
    problems: list[Problem] = []
    for rule in _RULES:
        problems += rule(config)
    if config.process is not None:
        problems += check_process(config.process)
    if config.linux is not None:
        for linux_rule in LINUX_RULES:
            problems += linux_rule(config.linux)
    return problems


def check_process(process: Process, pointer: str = "/process") -> list[Problem]:
    """Return all problems of a process; *pointer* is where it stands in its document."""
    problems: list[Problem] = []
    for rule in _PROCESS_RULES:
        problems += [_below(pointer, problem) for problem in rule(process)]
    return problems


def check_joining(process: Process, linux: Linux, pointer: str = "") -> list[Problem]:
    """Return all problems of a process that is to run in a container; *pointer* is where it stands in its document."""
    problems = check_process(process, pointer)
    notifies = linux.seccomp is not None and uses_notify(linux.seccomp)
    problems += _check_deadline(process, (("SCMP_ACT_NOTIFY", notifies),), pointer)
    problems += _check_mapped_ids(process, linux, pointer)
    return problems


def _below(pointer: str, problem: Problem) -> Problem:
    return Problem(problem.gate, pointer + problem.pointer, problem.message)


def _problem(pointer: str, message: str) -> Problem:
    return Problem("rule", pointer, message)


# The whole document


def _version(config: Config) -> Iterator[Problem]:
    version = config.oci_version
    if not _is_semantic_version(version):
        message = f'"{version}" is not a version in the form of semver.org, such as "1.3.0"'
        yield _problem("/ociVersion", message)
    elif not version.startswith("1."):
        yield _problem("/ociVersion", f"version {version} is not supported, 1.x is")


def _is_semantic_version(version: str) -> bool:
    release, plus, build = version.partition("+")
    numbers, dash, before = release.partition("-")
    identifiers = before.split(".") if dash else []
    numeric = numbers.split(".")
    return (
        version.isascii()
        and len(numeric) == 3
        and all(number.isdigit() for number in numeric)
        and not any(_has_leading_zero(part) for part in numeric + identifiers)
        and all(part.replace("-", "0").isalnum() for part in identifiers)
        and (not plus or all(part.replace("-", "0").isalnum() for part in build.split(".")))
    )


def _has_leading_zero(part: str) -> bool:
    return len(part) > 1 and part[0] == "0" and part.isdigit()


def _root(config: Config) -> Iterator[Problem]:
    if config.root is None:
        yield _problem("/root", "missing; every container on Linux has a root filesystem")
    elif not config.root.path:
        yield _problem("/root/path", "must not be empty")


def _annotations(config: Config) -> Iterator[Problem]:
    if "" in config.annotations:
        yield _problem("/annotations/", "the name of an annotation must not be empty")


def _uts_names(config: Config) -> Iterator[Problem]:
    namespaces = config.linux.namespaces if config.linux is not None else ()
    own = any(namespace.type == "uts" for namespace in namespaces)
    for pointer, name in (("/hostname", config.hostname), ("/domainname", config.domainname)):
        if name is None:
            continue
        if not own:
            yield _problem(pointer, "needs a uts namespace, or it would be the host's")
        if len(name.encode()) > _LONGEST_UTS_NAME:
            yield _problem(pointer, f"must not be longer than {_LONGEST_UTS_NAME} bytes")


def _hooks(config: Config) -> Iterator[Problem]:
    if config.hooks is None:
        return
    for kind, hooks in (
        ("prestart", config.hooks.prestart),
        ("createRuntime", config.hooks.create_runtime),
        ("createContainer", config.hooks.create_container),
        ("startContainer", config.hooks.start_container),
        ("poststart", config.hooks.poststart),
        ("poststop", config.hooks.poststop),
    ):
        for index, hook in enumerate(hooks):
            pointer = f"/hooks/{kind}/{index}"
            if not hook.path.startswith("/"):
                yield _problem(f"{pointer}/path", f'"{hook.path}" is not an absolute path')
            yield from _check_env(hook.env, f"{pointer}/env")


def _deadline_scheduler(config: Config) -> Iterator[Problem]:
    """A process of SCHED_DEADLINE cannot fork, sched(7), and init becomes one before these."""
    if config.process is None:
        return
    seccomp = config.linux.seccomp if config.linux is not None else None
    forks = (
        ("startContainer hooks", config.hooks is not None and bool(config.hooks.start_container)),
        ("SCMP_ACT_NOTIFY", seccomp is not None and uses_notify(seccomp)),
    )
    yield from _check_deadline(config.process, forks, "/process")


def _check_deadline(process: Process, forks: Sequence[tuple[str, bool]], pointer: str) -> Iterator[Problem]:
    scheduler = process.scheduler
    if scheduler is None or scheduler.policy != "SCHED_DEADLINE":
        return
    if "SCHED_FLAG_RESET_ON_FORK" in scheduler.flags:
        return
    for what, is_wanted in forks:
        if is_wanted:
            message = f"{what} with SCHED_DEADLINE need SCHED_FLAG_RESET_ON_FORK"
            yield _problem(f"{pointer}/scheduler/flags", message)


def _check_env(env: Sequence[str], pointer: str) -> Iterator[Problem]:
    for index, entry in enumerate(env):
        if entry.find("=") < 1:
            yield _problem(f"{pointer}/{index}", "must have the form NAME=value")


# Mounts


def _mount_places(config: Config) -> Iterator[Problem]:
    # A relative destination is deprecated, and means relative to the container's root.
    for index, mount in enumerate(config.mounts):
        if not mount.destination:
            yield _problem(f"/mounts/{index}/destination", "must not be empty")
        bind = mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options
        if bind and mount.source is None and "remount" not in mount.options:
            yield _problem(f"/mounts/{index}/source", "missing; a bind mount needs a source")


def _mount_propagation(config: Config) -> Iterator[Problem]:
    for index, mount in enumerate(config.mounts):
        kinds = {_PROPAGATION[option] for option in mount.options if option in _PROPAGATION}
        # A mount can be shared and slave at once, see mount_namespaces(7).
        if len(kinds) > 1 and kinds != {"shared", "slave"}:
            message = f"{' and '.join(sorted(kinds))} contradict each other"
            yield _problem(f"/mounts/{index}/options", message)


_PROPAGATION = {
    prefix + kind: kind
    for prefix in ("", "r")
    for kind in ("private", "shared", "slave", "unbindable")
}


def _mount_mappings(config: Config) -> Iterator[Problem]:
    namespaces = config.linux.namespaces if config.linux is not None else ()
    in_user_namespace = any(namespace.type == "user" for namespace in namespaces)
    for index, mount in enumerate(config.mounts):
        if not mount.uid_mappings and not mount.gid_mappings:
            if not in_user_namespace and not _IDMAP.isdisjoint(mount.options):
                message = "idmap and ridmap need mappings, of the mount or of a user namespace"
                yield _problem(f"/mounts/{index}/options", message)
            continue
        pointer = f"/mounts/{index}"
        if not mount.uid_mappings or not mount.gid_mappings:
            missing = "gidMappings" if mount.uid_mappings else "uidMappings"
            yield _problem(f"{pointer}/{missing}", "uidMappings and gidMappings need each other")
        yield from check_id_ranges(mount.uid_mappings, f"{pointer}/uidMappings")
        yield from check_id_ranges(mount.gid_mappings, f"{pointer}/gidMappings")


_IDMAP = frozenset(("idmap", "ridmap"))


# The process


def _program(process: Process) -> Iterator[Problem]:
    if not process.args:
        yield _problem("/args", "must name a program")
    if not process.cwd.startswith("/"):
        yield _problem("/cwd", f'"{process.cwd}" is not an absolute path')


def _env(process: Process) -> Iterator[Problem]:
    yield from _check_env(process.env, "/env")


def _rlimits(process: Process) -> Iterator[Problem]:
    seen = set()
    for index, rlimit in enumerate(process.rlimits):
        pointer = f"/rlimits/{index}"
        if rlimit.type not in RLIMITS:
            yield _problem(f"{pointer}/type", f"{rlimit.type} is not a resource that Linux limits")
        if rlimit.type in seen:
            yield _problem(f"{pointer}/type", f"{rlimit.type} is limited already")
        seen.add(rlimit.type)
        if rlimit.soft > rlimit.hard:
            message = f"must not be above the hard limit {rlimit.hard}, is {rlimit.soft}"
            yield _problem(f"{pointer}/soft", message)


def _user(process: Process) -> Iterator[Problem]:
    user = process.user
    ids = [("/user/uid", user.uid), ("/user/gid", user.gid)]
    ids += [(f"/user/additionalGids/{i}", gid) for i, gid in enumerate(user.additional_gids)]
    for pointer, number in ids:
        if number == _NO_ID:
            yield _problem(pointer, f"{_NO_ID} is not an id, the kernel takes it for none")


def _scheduler(process: Process) -> Iterator[Problem]:
    scheduler = process.scheduler
    if scheduler is None:
        return
    policy = scheduler.policy
    if scheduler.nice is not None and not -20 <= scheduler.nice <= 19:
        yield _problem("/scheduler/nice", f"must be from -20 to 19, not {scheduler.nice}")
    if policy in _REAL_TIME:
        if not 1 <= (scheduler.priority or 0) <= _HIGHEST_PRIORITY:
            message = f"{policy} needs a priority from 1 to {_HIGHEST_PRIORITY}"
            yield _problem("/scheduler/priority", message)
    elif scheduler.priority:
        yield _problem("/scheduler/priority", f"{policy} has no priorities")
    if policy == "SCHED_DEADLINE":
        runtime, deadline = scheduler.runtime or 0, scheduler.deadline or 0
        if not _SHORTEST_RUNTIME <= runtime <= deadline <= (scheduler.period or deadline):
            message = f"SCHED_DEADLINE needs {_SHORTEST_RUNTIME} <= runtime <= deadline <= period"
            yield _problem("/scheduler", message)
        return
    for name, value in (
        ("runtime", scheduler.runtime),
        ("deadline", scheduler.deadline),
        ("period", scheduler.period),
    ):
        if value:
            yield _problem(f"/scheduler/{name}", f"{policy} has none, only SCHED_DEADLINE has")


def _exec_cpu_affinity(process: Process) -> Iterator[Problem]:
    affinity = process.exec_cpu_affinity
    if affinity is None:
        return
    for name, cpus in (("initial", affinity.initial), ("final", affinity.final)):
        try:
            if cpus is not None:
                parse_ranges(cpus, LAST_CPU)
        except ValueError as error:
            yield _problem(f"/execCPUAffinity/{name}", str(error))


def _io_priority(process: Process) -> Iterator[Problem]:
    priority = process.io_priority.priority if process.io_priority is not None else None
    if priority is not None and not 0 <= priority <= _LAST_IO_PRIORITY:
        yield _problem(
            "/ioPriority/priority", f"must be from 0 to {_LAST_IO_PRIORITY}, not {priority}"
        )


def _mapped_ids(config: Config) -> Iterator[Problem]:
    if config.process is not None and config.linux is not None:
        yield from _check_mapped_ids(config.process, config.linux, "/process")


def _check_mapped_ids(process: Process, linux: Linux, pointer: str) -> Iterator[Problem]:
    # With a joined namespace the mappings are the namespace's own, whatever the file says.
    if not any(n.type == "user" and n.path is None for n in linux.namespaces):
        return
    user = process.user
    ids = [("uid", user.uid, linux.uid_mappings), ("gid", user.gid, linux.gid_mappings)]
    ids += [
        (f"additionalGids/{index}", gid, linux.gid_mappings)
        for index, gid in enumerate(user.additional_gids)
    ]
    for name, number, mappings in ids:
        if mappings and not _is_mapped(number, mappings):
            yield _problem(f"{pointer}/user/{name}", f"{number} is not mapped into the user namespace")


def _is_mapped(number: int, mappings: Sequence[IdMapping]) -> bool:
    return any(m.container_id <= number < m.container_id + m.size for m in mappings)


_RULES = (
    _version,
    _root,
    _annotations,
    _uts_names,
    _mount_places,
    _mount_propagation,
    _mount_mappings,
    _hooks,
    _deadline_scheduler,
    _mapped_ids,
)
_PROCESS_RULES = (
    _program,
    _env,
    _rlimits,
    _user,
    _scheduler,
    _exec_cpu_affinity,
    _io_priority,
)
