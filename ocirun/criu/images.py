# SPDX-License-Identifier: Apache-2.0
"""The directories of a checkpoint, and what of config.json CRIU is told about both at the checkpoint and the restore.

CRIU leaves alone what is *external*: it saves a name, and at the restore is told what has that name now.  Our names are
those that runc gives, so that either can restore what the other has saved.
"""

from __future__ import annotations

import os
import stat

from ocirun.errors import InvalidConfig, KernelError, OcirunError, Problem, UnsupportedFeature
from ocirun.plan.devices import DEFAULT_DEVICES
from ocirun.plan.mounts import CGROUP_ROOT, cgroup_mounts, normalize
from ocirun.spec.mount_options import parse_options
from ocirun.store import NOTIFY_DIRECTORY
from ocirun.strict_json import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocirun.cgroups.hierarchies import Hierarchy
    from ocirun.host import HostFacts
    from ocirun.spec.model import Config, Linux

DESCRIPTORS = "descriptors.json"
CONFIG_ANNOTATION = "org.criu.config"
CONFIG_FILES = ("/etc/criu/ocirun.conf", "/etc/criu/runc.conf")
#: The specification's word -> CRIU's; those of another container or of the engine stay what they are.
EXTERNAL_NAMESPACES = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
#: Those that CRIU enters by their path before it restores what is in them.
JOINED_NAMESPACES = {"ipc": "ipc", "uts": "uts", "time": "time"}

#: Of a new network namespace.
_KERNEL_DEVICES = frozenset(
    (
        "lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6gretap0",
        "teql0",
    )
)  # fmt: skip
_MAX_LINKS = 40
_MAX_DESCRIPTORS = 1 << 16


def check_privileges(facts: HostFacts) -> None:
    """Errors: UnsupportedFeature unless the caller is root of the host, whose powers CRIU uses."""
    if facts.rootless or facts.in_user_namespace:
        raise UnsupportedFeature(
            "checkpoint and restore take root of the host: CRIU saves and makes processes of any user",
            op="criu",
        )


def check_config(config: Config) -> None:
    """Refuse a container of which CRIU would lose something without a word.  Errors: InvalidConfig with all of it."""
    assert config.linux is not None
    problems = [Problem("host", pointer, text) for pointer, text in _losses(config, config.linux)]
    if problems:
        raise InvalidConfig(problems)


def _losses(config: Config, linux: Linux) -> Iterator[tuple[str, str]]:
    for index, mount in enumerate(config.mounts):
        if mount.uid_mappings or parse_options(mount.options).idmap:
            yield f"/mounts/{index}", "CRIU cannot restore an id-mapped mount"
    for index, namespace in enumerate(linux.namespaces):
        if namespace.path is not None and namespace.type not in (*EXTERNAL_NAMESPACES, *JOINED_NAMESPACES):
            yield f"/linux/namespaces/{index}/path", f"CRIU cannot restore into this {namespace.type} namespace"
    if linux.net_devices:
        yield "/linux/netDevices", "CRIU cannot restore a device of the host in a network namespace"
    if linux.seccomp is not None and linux.seccomp.get("listenerPath"):
        yield "/linux/seccomp/listenerPath", "CRIU cannot restore the connection to a seccomp agent"


class Directories:
    """The directories of the images and of CRIU's log.  Owns a descriptor of each; close() gives them up."""

    def __init__(self, image_path: str, work_path: str | None, *, make_images: bool) -> None:
        """Errors: OSError"""
        self._made: list[str] = []
        self.image_path = os.path.abspath(image_path)
        self.work_path = os.path.abspath(work_path) if work_path is not None else self.image_path
        self.images = self.work = -1
        try:
            if make_images:
                self._make(self.image_path)
            self.images = os.open(self.image_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._make(self.work_path)
            self.work = os.open(self.work_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            self.close(undo=True)
            raise

    def _make(self, path: str) -> None:
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for each in reversed(missing):
            os.mkdir(each, 0o700)  # memory of the container will be in it
            self._made.append(each)

    def reopen(self, pid: int) -> None:
        """Open them once more as a process sees them that is in another mount namespace of the host.

        CRIU changes its directory to the one of our descriptor, and mounts there, which the kernel only does in a
        mount namespace to which the directory's own mount belongs (EINVAL).  Errors: OSError, OcirunError
        """
        for name, path in (("images", self.image_path), ("work", self.work_path)):
            # Without links: absolute ones would lead back to our mounts.
            fd = os.open(f"/proc/{pid}/root{os.path.realpath(path)}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            old = getattr(self, name)
            setattr(self, name, fd)
            is_same = os.path.sameopenfile(fd, old)
            os.close(old)
            if not is_same:
                raise OcirunError(f"{path}: lies below a mount of the container, where criu cannot reach it", op="criu")

    def has_network(self) -> bool:
        """Say whether there is an image of a network namespace."""
        return any(name.startswith("netns-") for name in os.listdir(self.images))

    def log(self, name: str) -> str:
        """Return the path of a log of CRIU's."""
        return os.path.join(self.work_path, name)

    def close(self, *, undo: bool = False) -> None:
        """Close them; with *undo* remove those that were made, if nothing is in them."""
        for fd in (self.images, self.work):
            if fd >= 0:
                os.close(fd)
        self.images = self.work = -1
        for path in reversed(self._made if undo else ()):
            try:
                os.rmdir(path)
            except OSError:
                break  # CRIU's log tells what went wrong

    def write_descriptors(self, descriptors: Sequence[str]) -> None:
        """Save what the standard descriptors lead to; a pipe among them is replaced at the restore."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(DESCRIPTORS, flags, 0o600, dir_fd=self.images)
        try:
            os.write(fd, dumps(list(descriptors)).encode())
        finally:
            os.close(fd)

    def read_descriptors(self) -> list[str]:
        """Return what was saved so.  Errors: OcirunError, KernelError"""
        try:
            fd = os.open(DESCRIPTORS, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.images)
        except OSError as error:
            place = f"{self.image_path}/{DESCRIPTORS}"
            raise KernelError(error.errno or 0, "open", place, hint="is it the directory of a checkpoint?") from error
        try:
            content = os.read(fd, _MAX_DESCRIPTORS) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        finally:
            os.close(fd)
        found = loads(content, what=DESCRIPTORS)
        if not isinstance(found, list) or len(found) > 3 or not all(isinstance(each, str) for each in found):
            raise OcirunError(f"{self.image_path}/{DESCRIPTORS}: not an array of at most three strings", op="restore")
        return found


def stdio_of(pid: int, recorded: Sequence[str]) -> list[str]:
    """Return the names that CRIU has for what the standard descriptors of a container lead to, or the paths of it.

    That are the pipes that it was created with; and what the process has now in place of others, of which a regular
    file has such a name if it is one of the host's.
    """
    mounts = {line.split()[0] for line in _lines(f"/proc/{pid}/mountinfo")}
    return [
        (recorded[number] if number < len(recorded) else "") or _descriptor_of(f"/proc/{pid}", number, mounts)
        for number in range(3)
    ]


def _descriptor_of(process: str, number: int, mounts: set[str]) -> str:
    try:
        target = os.readlink(f"{process}/fd/{number}")
        status = os.stat(f"{process}/fd/{number}")
        mount = next(
            words[1] for line in _lines(f"{process}/fdinfo/{number}") if (words := line.split())[0] == "mnt_id:"
        )
    except OSError:
        return ""  # the process has closed it
    if stat.S_ISREG(status.st_mode) and mount not in mounts:
        return f"file[{int(mount):x}:{status.st_ino:x}]"
    return target.encode("utf-8", "replace").decode()


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().splitlines()


def is_replaced(descriptor: str) -> bool:
    """Say whether a saved descriptor is one that CRIU is given another for."""
    if descriptor.startswith("pipe:["):
        return descriptor[6:-1].isdigit() and descriptor.endswith("]")
    return is_file(descriptor)


def is_file(descriptor: str) -> bool:
    """Say whether a saved descriptor is a file of the host's."""
    allowed = set("0123456789abcdef:")
    return descriptor.startswith("file[") and descriptor.endswith("]") and allowed.issuperset(descriptor[5:-1])


def has_own_network(config: Config) -> bool:
    """Say whether the container was created with a network namespace of its own."""
    assert config.linux is not None
    return any(each.type == "network" and each.path is None for each in config.linux.namespaces)


def has_foreign_devices(pid: int) -> bool:
    """Say whether there is more in a process's network namespace than what the kernel puts there.

    Such devices lead outside: whoever has put them there does so again.  It is what runc assumes of all containers,
    which takes the loopback device from those without any.
    """
    names = [line.partition(":")[0].strip() for line in _lines(f"/proc/{pid}/net/dev")[2:]]
    return not _KERNEL_DEVICES.issuperset(names)


def external_mounts(config: Config, hierarchies: Sequence[Hierarchy]) -> dict[str, str]:
    """Return destination -> path on the host of the mounts that are the host's own, as config.json has them.

    *hierarchies* are the container's cgroups.  Masked files are not among them: all of them are the host's /dev/null.
    """
    assert config.linux is not None
    found: dict[str, str] = {}
    own_cgroups = any(each.type == "cgroup" for each in config.linux.namespaces)
    for mount in config.mounts:
        destination = normalize(mount.destination)
        options = parse_options(mount.options)
        if not options.remount and (options.bind or mount.type == "bind"):
            found[destination] = mount.source or ""
        elif mount.type == "cgroup" and not own_cgroups:
            legacy = cgroup_mounts(hierarchies)
            found |= {f"{destination}/{each.name}": each.path for each in legacy}
            if not legacy:
                found[destination] = CGROUP_ROOT
    for path in (*DEFAULT_DEVICES, *(each.path for each in config.linux.devices)):
        found.setdefault(normalize(path), path)
    found.setdefault(f"/run/{NOTIFY_DIRECTORY}", "")
    return found


def resolve_inside(root: str, path: str) -> str | None:
    """Return where a path leads below *root*, which is /proc/PID/root, as text; None where nothing is there.

    The text is a name that CRIU looks for among the mount points; no file is opened by it.  Symbolic links are followed
    one by one, since absolute ones would lead the kernel out of the root.
    """
    links = 0
    done: list[str] = []
    left = [each for each in reversed(path.split("/")) if each not in ("", ".")]
    while left:
        name = left.pop()
        if name == "..":
            del done[-1:]
            continue
        here = "/".join((root, *done, name))
        try:
            target = os.readlink(here)
        except OSError:
            if not os.path.lexists(here):
                return None
            done.append(name)
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        if target.startswith("/"):
            done.clear()
        left.extend(each for each in reversed(target.split("/")) if each not in ("", "."))
    return "/" + "/".join(done)


def config_file(annotations: Mapping[str, str], rootfs: str) -> str | None:
    """Return the file of options that has the last word, None for none: of the annotation, or of /etc/criu.

    What is in it can make CRIU run programs, so nobody but root may have written it, and it is none of the image's.
    Errors: UnsupportedFeature for another that the annotation names.
    """
    named = annotations.get(CONFIG_ANNOTATION)
    if named is None:
        found = [each for each in CONFIG_FILES if os.path.exists(each)]
        return found[0] if found else None
    if not named:
        return None
    pointer = f"/annotations/{CONFIG_ANNOTATION}"
    if not named.startswith("/"):
        raise UnsupportedFeature(f"{pointer}: {named!r} is not an absolute path", op="criu", json_pointer=pointer)
    path = os.path.normpath(named)
    while True:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None  # as CRIU has it
        is_link = stat.S_ISLNK(status.st_mode)
        is_sticky = stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid != 0 or is_link or (status.st_mode & 0o022 and not is_sticky) or path == rootfs:
            text = f"{pointer}: {path} is a link, in the image, or not only root's to change"
            raise UnsupportedFeature(text, op="criu", json_pointer=pointer)
        if path == "/":
            return named
        path = os.path.dirname(path)
