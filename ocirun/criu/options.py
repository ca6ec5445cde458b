# SPDX-License-Identifier: Apache-2.0
"""How checkpoint and restore are called; `Container.checkpoint` and `Runtime.restore` document the rest."""

from __future__ import annotations

import os

from ocirun.criu.rpc import CGROUP_MODES, EMPTY_NETWORK, NETWORK_LOCKS
from ocirun.errors import OcirunError
from ocirun.inputs import CreateOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict, Unpack

    class CriuChanges(TypedDict, total=False):
        """What is asked of CRIU in both directions; what was set at the checkpoint mostly has to be at the restore.

        criu: the program, a path or a name in $PATH (None: "criu").
        work_path: directory for logs and statistics; that of the images by default.
        tcp_established: keep TCP connections.  ext_unix_sk: and unix sockets whose other end is outside.
        shell_job: the session leader is outside.  file_locks: keep locks of files.
        manage_cgroups_mode: what CRIU does about cgroups below the container's, and their properties: "soft", "full",
        "strict" or "ignore".
        network_lock: how packets are kept out meanwhile: "iptables", "nftables" or "skip".
        empty_network: leave the network namespace without interfaces, for others to fill.
        auto_dedup: give back the space of pages that newer images have.
        lazy_pages: processes run before their memory is there.
        """

        criu: str | None
        work_path: str | None
        tcp_established: bool
        ext_unix_sk: bool
        shell_job: bool
        file_locks: bool
        manage_cgroups_mode: str
        network_lock: str | None
        empty_network: bool
        auto_dedup: bool
        lazy_pages: bool

    class CheckpointChanges(CriuChanges, total=False):
        """What can be asked of a checkpoint.

        leave_running: the container goes on, and is not deleted.  pre_dump: it goes on, and only memory is saved, so
        that the next image, whose parent this one is, has little left to do.
        parent_path: the image before this one, relative to the directory of this one.
        tcp_skip_in_flight: leave out connections that are not accepted yet.  link_remap: keep files that were unlinked.
        page_server: (address, port) of who stores or fetches pages.
        status_fd: gets a zero byte when pages can be fetched (lazy_pages), borrowed.
        """

        leave_running: bool
        pre_dump: bool
        parent_path: str | None
        tcp_skip_in_flight: bool
        link_remap: bool
        page_server: tuple[str, int] | None
        status_fd: int | None

    class RestoreChanges(CriuChanges, total=False):
        """What can be asked of a restore.

        tcp_close: connections come back closed.  lsm_profile: "apparmor:PROFILE" or "selinux:LABEL" instead of what was
        saved; lsm_mount_context: the same for mounts.
        """

        tcp_close: bool
        lsm_profile: str | None
        lsm_mount_context: str | None


class CriuOptions:
    """What is asked of CRIU in both directions."""

    def __init__(
        self,
        *,
        criu: str | None = None,
        work_path: str | None = None,
        tcp_established: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        file_locks: bool = False,
        manage_cgroups_mode: str = "soft",
        network_lock: str | None = None,
        empty_network: bool = False,
        auto_dedup: bool = False,
        lazy_pages: bool = False,
    ) -> None:
        self.criu = criu
        self.work_path = work_path
        #: The options of CRIU's request, by their names there.
        self.request: dict[str, Any] = {
            "log_level": 4,
            "notify_scripts": True,
            "manage_cgroups": True,  # versions before the mode was invented look at nothing else
            "manage_cgroups_mode": _choose(CGROUP_MODES, manage_cgroups_mode, "manage_cgroups_mode"),
            "orphan_pts_master": True,
            "tcp_established": tcp_established,
            "ext_unix_sk": ext_unix_sk,
            "shell_job": shell_job,
            "file_locks": file_locks,
            "auto_dedup": auto_dedup,
            "lazy_pages": lazy_pages,
            "empty_ns": EMPTY_NETWORK if empty_network else 0,
        }
        if network_lock is not None:
            self.request["network_lock"] = _choose(NETWORK_LOCKS, network_lock, "network_lock")


class CheckpointOptions(CriuOptions):
    """What is asked of a checkpoint.  Errors: OcirunError for what cannot be meant."""

    def __init__(
        self,
        *,
        leave_running: bool = False,
        pre_dump: bool = False,
        parent_path: str | None = None,
        tcp_skip_in_flight: bool = False,
        link_remap: bool = False,
        page_server: tuple[str, int] | None = None,
        status_fd: int | None = None,
        **others: Unpack[CriuChanges],
    ) -> None:
        super().__init__(**others)
        self.leave_running = leave_running
        self.pre_dump = pre_dump
        self.parent_path = parent_path
        self.status_fd = status_fd
        self.request |= {
            "log_file": "dump.log",
            "leave_running": leave_running,
            "tcp_skip_in_flight": tcp_skip_in_flight,
            "link_remap": link_remap,
        }
        if page_server is not None:
            self.request["ps"] = {"address": page_server[0], "port": page_server[1]}
        if parent_path is not None:
            if os.path.isabs(parent_path):
                raise OcirunError(f"the parent path {parent_path} is not relative to the image path", op="criu")
            self.request["parent_img"] = parent_path
        if parent_path is not None or pre_dump:
            self.request["track_mem"] = True
        if status_fd is not None:
            _check_writable(status_fd)

    @property
    def features(self) -> list[str]:
        """What the kernel has to have for it."""
        wanted = ["mem_track"] if self.pre_dump else []
        return [*wanted, "lazy_pages"] if self.request["lazy_pages"] else wanted


class RestoreOptions(CreateOptions, CriuOptions):
    """What is asked of a restore: how the container is made, and how CRIU makes its processes."""

    def __init__(
        self,
        image_path: str,
        *,
        console_socket: str | None = None,
        console_fd: int | None = None,
        pid_file: str | None = None,
        stdio: tuple[int | None, int | None, int | None] = (None, None, None),
        no_pivot: bool = False,
        tcp_close: bool = False,
        lsm_profile: str | None = None,
        lsm_mount_context: str | None = None,
        **others: Unpack[CriuChanges],
    ) -> None:
        CreateOptions.__init__(
            self,
            stdio=stdio,
            console_socket=console_socket,
            console_fd=console_fd,
            pid_file=pid_file,
            no_pivot=no_pivot,
        )
        CriuOptions.__init__(self, **others)
        self.image_path = image_path
        self.request |= {
            "log_file": "restore.log",
            "evasive_devices": True,
            "rst_sibling": True,
            "tcp_close": tcp_close or None,
            "lsm_profile": lsm_profile,
            "lsm_mount_context": lsm_mount_context,
        }


def _choose(choices: dict[str, int], word: str, name: str) -> int:
    if word not in choices:
        raise OcirunError(f"{name}: {word!r} is none of {', '.join(choices)}", op="criu")
    return choices[word]


def _check_writable(fd: int) -> None:
    import fcntl

    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError as error:
        raise OcirunError(f"status_fd: descriptor {fd} is not open", op="criu") from error
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise OcirunError(f"status_fd: descriptor {fd} cannot be written to", op="criu")
