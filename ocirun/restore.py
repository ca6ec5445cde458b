# SPDX-License-Identifier: Apache-2.0
"""`restore`: a container whose processes CRIU makes from images, instead of an init that waits for `start`.

All else is as at create: the same gates, the same intent before anything exists, the same cgroups, limits and undoing.
CRIU is started in the container's cgroups, and makes the first process a child of ours.  Until we have answered its
last question nothing of the container has run; the record is complete before that.
"""

from __future__ import annotations

import os
import stat

from ocirun import _native, procfs
from ocirun.checkpoint import failure
from ocirun.create import Creation
from ocirun.criu.images import (
    EXTERNAL_NAMESPACES,
    JOINED_NAMESPACES,
    Directories,
    check_config,
    check_privileges,
    config_file,
    external_mounts,
    has_own_network,
    is_file,
    is_replaced,
)
from ocirun.criu.options import RestoreOptions
from ocirun.criu.rpc import CGROUP_MODES, EMPTY_NETWORK, RESTORE
from ocirun.criu.service import SOCKET, Service, check_criu, find_criu, program
from ocirun.errors import CriuError, KernelError, OcirunError
from ocirun.init.process import InitProcess, kill_child, wait_executed
from ocirun.init.protocol import AT_BARRIER
from ocirun.plan import ops
from ocirun.plan.restoration import ROOT, build_restoring
from ocirun.spec.cgroup_owner import cgroup_owner
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.state import hook_state
from ocirun.store import NOTIFY_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ocirun.criu.service import Handler
    from ocirun.host import HostFacts
    from ocirun.plan.plan import Plan
    from ocirun.spec.model import Config

_TIOCGPTN = 0x80045430
_END_S = 10.0


def check(config: Config, options: RestoreOptions, facts: HostFacts, open_init: Callable[[], int], root: str) -> None:
    """See that there is a CRIU that works, whose path the options have then, and that it can restore the container.

    Errors: UnsupportedFeature, InvalidConfig; nothing has been changed.
    """
    check_privileges(facts)
    options.criu = find_criu(options.criu)
    check_criu(options.criu, ["lazy_pages"] if options.request["lazy_pages"] else [], open_init, root)
    check_config(config)


class Restoration(Creation):
    """One restore, from its intent to `running`."""

    options: RestoreOptions

    _service: Service | None = None
    _directories: Directories | None = None
    _executed = False

    def _steps(self) -> None:
        self._check_rootfs()
        self._directories = Directories(self.options.image_path, self.options.work_path, make_images=False)
        descriptors = self._directories.read_descriptors()
        self._open_namespaces()
        self._save_intent()
        self.inputs.open_sockets(self.config.process, None)
        os.mkdir(NOTIFY_DIRECTORY, 0o755, dir_fd=self.entry.fd)
        self._undo.add(self._end_restored)
        self._make_birthplace()
        self._start_criu()
        self._restore(self._directories, descriptors)

    def _close(self) -> None:
        super()._close()
        if self._directories is not None:
            self._directories.close()

    def _open_namespaces(self) -> None:
        """Open those that CRIU is to leave as they are; their names were given to it at the checkpoint."""
        self._keep: list[int] = []
        self._inherited: list[dict[str, Any]] = []
        self._joined: list[dict[str, str]] = []
        for index, namespace in enumerate(self.linux.namespaces):
            if namespace.path is None:
                continue
            if namespace.type in JOINED_NAMESPACES:
                self._joined.append({"ns": JOINED_NAMESPACES[namespace.type], "ns_file": namespace.path})
                continue
            try:
                fd = self.inputs.own(os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError as error:
                pointer = f"/linux/namespaces/{index}/path"
                raise KernelError(error.errno or 0, "open", namespace.path, json_pointer=pointer) from error
            self._inherited.append({"key": EXTERNAL_NAMESPACES[namespace.type][1], "fd": SOCKET + 1 + len(self._keep)})
            self._keep.append(fd)

    def _start_criu(self) -> None:
        ours, theirs = _native.socketpair()
        self.inputs.own(theirs)
        try:
            plan = self._build_plan()
            self.warnings = plan.warnings
            self._init = init = InitProcess.spawn(
                plan,
                self.entry.id,
                executable=self.inputs.own(self._open_init()),
                fallback_directory=self.entry.path,
                stdio=self.inputs.stdio(),
                keep=[theirs, *self._keep],
                inputs=(),
                cgroup=self._birthplace(),
            )
        except BaseException:
            os.close(ours)
            raise
        self.inputs.own(init.sync)
        self._service = Service(ours, init.pid, os.dup(init.pidfd))
        self._undo.add(self._end_criu)
        init.drive({(AT_BARRIER, ops.BARRIER_CGROUP): self._place_criu}, self._deadline())
        wait_executed(init.sync, self.entry.id, self._deadline())
        self._executed = True

    def _build_plan(self) -> Plan:
        linux = self.linux
        maps = IdMaps(linux.uid_mappings, linux.gid_mappings, "/linux") if linux.uid_mappings else None
        self._cgroup_owner = cgroup_owner(self.config, maps)
        return build_restoring(
            self.config,
            self.bundle,
            self.entry.path,
            program(self.options.criu or ""),
            join_paths=self.cgroup.join_paths(),
            keep_count=1 + len(self._keep),
            own_session=not self.options.request["shell_job"],
        )

    def _place_criu(self) -> int:
        """Have CRIU in the cgroups, where what it makes will be; its mount namespace is complete by now."""
        assert self._directories is not None
        self._directories.reopen(self._init.pid)
        if not self._cgroup_early:
            self.cgroup.create()
        self.cgroup.place(self._init.pid, cloned=self._init.placed, joined=True)
        if self._rdt is not None:
            self._rdt.place(self._init.pid)
        return -1

    def _restore(self, directories: Directories, descriptors: Sequence[str]) -> None:
        assert self._service is not None
        request = {"type": RESTORE, "opts": self._request(directories, descriptors)}
        mode = self.options.request["manage_cgroups_mode"]
        # Properties from the images have the last word where they are asked for, else ours, when CRIU, which may need
        # more memory and processes than the container may have, has done its work.
        self._limits_first = mode in (CGROUP_MODES["full"], CGROUP_MODES["strict"])
        if self._limits_first:
            self._limit()
        answer = self._service.ask(request, self._notifications())
        if not answer.get("success"):
            self._know_pid(answer.get("restore", {}).get("pid", 0))
            raise failure(answer, directories, self.options.request["log_file"], "restore", self.entry.id)
        self._service.wait()
        self._service.close()
        if self.pidfd < 0:
            raise CriuError("criu restored a process and did not tell which", container_id=self.entry.id)
        os.close(self._init.pidfd)

    def _request(self, directories: Directories, descriptors: Sequence[str]) -> dict[str, Any]:
        hierarchies = self.cgroup.paths()
        mounts = {"/dev/null": "/dev/null"} | external_mounts(self.config, hierarchies)
        mounts[f"/run/{NOTIFY_DIRECTORY}"] = (
            mounts[f"/run/{NOTIFY_DIRECTORY}"] or f"{self.entry.path}/{NOTIFY_DIRECTORY}"
        )
        empty = self.options.request["empty_ns"]
        if not directories.has_network() and has_own_network(self.config):
            empty = EMPTY_NETWORK
        return {
            **self.options.request,
            "empty_ns": empty,
            "images_dir_fd": directories.images,
            "work_dir_fd": directories.work,
            "root": f"{self.entry.path}/{ROOT}",
            "config_file": config_file(self.config.annotations, self.rootfs),
            "external": [f"mnt[{name}]:{self._source(path)}" for name, path in mounts.items()],
            "inherit_fd": [*self._replaced(descriptors), *self._inherited],
            "join_ns": self._joined,
            "cg_root": _cgroups_of(self._init.pid),
        }

    def _replaced(self, descriptors: Sequence[str]) -> list[dict[str, Any]]:
        """Name ours of the standard descriptors that take the place of saved ones."""
        found: list[dict[str, Any]] = []
        for number, (descriptor, given) in enumerate(zip(descriptors, self.inputs.stdio(), strict=False)):
            if not is_replaced(descriptor):
                continue
            if is_file(descriptor) and not stat.S_ISREG(os.fstat(given).st_mode):
                # CRIU goes to where it was in the file, which no pipe can.
                raise OcirunError(f"descriptor {number} was a file at the checkpoint, and is none now", op="restore")
            found.append({"key": descriptor, "fd": number})
        return found

    def _source(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.bundle}/{path}"

    def _notifications(self) -> dict[str, Handler]:
        return {
            "setup-namespaces": self._at_namespaces,
            "orphan-pts-master": self._send_terminal,
            "post-restore": self._at_restored,
        }

    def _at_namespaces(self, pid: int, _rights: int) -> None:
        """The namespaces are there and empty: what engines do at createRuntime is to be done before the rest."""
        self._know_pid(pid)
        hooks = self.config.hooks
        if hooks is not None and (hooks.prestart or hooks.create_runtime):
            self._run_hooks()

    def _send_terminal(self, _pid: int, rights: int) -> None:
        import fcntl

        if not self.inputs.has("console") or rights < 0:
            return  # it is closed, and whoever reads it hears of the end, as without a terminal
        number = int.from_bytes(fcntl.ioctl(rights, _TIOCGPTN, b"\0" * 4), "little")
        (console,) = self.inputs.of(["console"])
        _native.send_text(console, f"/dev/pts/{number}".encode(), rights)

    def _at_restored(self, pid: int, _rights: int) -> None:
        """All processes are there, and none has run: what identifies the first goes into the record before they do."""
        self._know_pid(pid)
        if not self._limits_first:
            self._limit()
        self.entry.write_config(self.config_text)
        self._save_process(self.pid, [0, 0])

    def _know_pid(self, pid: int) -> None:
        """Hold the first process, which is a child of ours and stays what it is until we reap it."""
        if self.pidfd >= 0 or pid <= 0:
            return
        self.pidfd = os.pidfd_open(pid)
        self.pid = pid

    def _hook_state(self, status: str) -> bytes:
        return hook_state(self.entry.id, status, self.pid, self.bundle, self.config.annotations)

    # When it fails.

    def _end_criu(self) -> None:
        """It undoes what it has done when it hears that we have gone; before that it is ocirun-init."""
        assert self._service is not None
        if not self._executed:
            self._init.kill()
        self._service.close(kill=True)
        os.close(self._init.pidfd)

    def _end_restored(self) -> None:
        """CRIU kills what it has made when it fails; the first process is ours to reap."""
        if self.pidfd < 0:
            return
        kill_child(self.pid, self.pidfd)
        try:
            _native.wait(self.pidfd, _END_S)
        except TimeoutError:
            pass  # the removal of the cgroup will name it
        os.close(self.pidfd)
        self.pidfd = -1


def _cgroups_of(pid: int) -> list[dict[str, str]]:
    """Return where a process is in each hierarchy, as CRIU wants to be told what becomes of the saved places."""
    found = []
    for line in procfs.read(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        found.append({"ctrl": controllers, "path": path})
    return found
