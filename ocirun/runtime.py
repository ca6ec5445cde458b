# SPDX-License-Identifier: Apache-2.0
"""The library: a Runtime makes, finds and lists containers.

Nothing of the calling process is changed (design D6): everything of that kind happens in ocirun-init.
"""

from __future__ import annotations

import builtins
import os

from ocirun import status
from ocirun.closing import Closing
from ocirun.errors import Busy, ContainerNotFound, CorruptState, OcirunError
from ocirun.spec.state import UNKNOWN, State
from ocirun.store import SECCOMP_CACHE, Store, remove_leftover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Unpack

    from ocirun.container import Container
    from ocirun.criu.options import RestoreChanges, RestoreOptions
    from ocirun.execution import ExecProcess
    from ocirun.hooks import HookRunner
    from ocirun.inputs import CreateOptions
    from ocirun.plan.plan import Plan
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.store import Entry, Record


class Runtime(Closing):
    """Containers under one state root.

    `root` is the directory of the state root (None: see `ocirun.state_root`); `cgroup_manager` is "cgroupfs", "systemd"
    or "disabled"; `rootless` says whether a container that asks for no cgroup may go without one where none can be made
    (None: where the caller is not root of the host).  Thread-safe.  Owns one descriptor of the sealed ocirun-init once
    a container was created; close() or the end of a `with` block gives it up.
    `warnings` collects what is no error: failed poststop hooks, capabilities that the kernel does not know, and so on.
    """

    def __init__(
        self, root: str | None = None, *, cgroup_manager: str = "cgroupfs", rootless: bool | None = None
    ) -> None:
        #: Process -> its descriptor of the sealed ocirun-init: a fork of the host process must not rely on ours.
        self._inits: dict[int, int] = {}
        if root is None:
            from ocirun.state_root import default_root

            self.store = Store(*default_root())
        else:
            self.store = Store(root)
        self.cgroup_manager = cgroup_manager
        self.rootless = rootless
        self.warnings: list[str] = []
        #: What `Container.exec` has started and nobody has waited for yet.
        self.unreaped: set[ExecProcess] = set()

    def close(self) -> None:
        """Give up the descriptor of ocirun-init."""
        fd = self._inits.pop(os.getpid(), -1)
        if fd >= 0:
            os.close(fd)

    def create(
        self,
        container_id: str,
        bundle: str,
        *,
        config_path: str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        console_socket: str | None = None,
        console_fd: int | None = None,
        pid_file: str | None = None,
        preserve_fds: int = 0,
        pass_fds: Sequence[int] = (),
        listen_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        pidfd_socket: str | None = None,
        notify_socket: str | None = None,
        timeout: float | None = None,
    ) -> Container:
        """Create a container from a bundle; its process waits for `Container.start`.

        stdin, stdout, stderr: borrowed descriptors for the process; None is the caller's own 0, 1, 2.
        console_socket: path of a unix socket that gets the terminal; console_fd: a connected one, borrowed.
        preserve_fds: keep the caller's descriptors 3 to 2 + N; pass_fds: these instead, as 3 and up.
        listen_fds: tell the process that so many of them come from socket activation (sd_listen_fds(3)).
        pidfd_socket: path of a unix socket that gets a pidfd of init.
        notify_socket: the caller's NOTIFY_SOCKET; the process gets one of its own at /run/notify.
        timeout: seconds that init may take between two steps.

        The process is a child of the caller, as with subprocess; `wait` or `delete` reap it.
        Errors: InvalidConfig, BundleError, ContainerExists, InvalidContainerId, InitError, HookError, CgroupError,
        KernelError, DeadlineExceeded; after any of them nothing is left.
        Spec: runtime.md#create
        """
        from ocirun.inputs import CreateOptions

        options = CreateOptions(
            stdio=(stdin, stdout, stderr),
            console_socket=console_socket,
            console_fd=console_fd,
            pid_file=pid_file,
            pass_fds=pass_fds or range(3, 3 + preserve_fds),
            listen_fds=listen_fds,
            no_pivot=no_pivot,
            no_new_keyring=no_new_keyring,
            pidfd_socket=pidfd_socket,
            notify_socket=notify_socket,
            timeout=timeout,
        )
        return self._create(container_id, os.path.abspath(bundle), config_path, options)

    def restore(
        self,
        container_id: str,
        bundle: str,
        image_path: str,
        *,
        config_path: str | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        console_socket: str | None = None,
        console_fd: int | None = None,
        pid_file: str | None = None,
        no_pivot: bool = False,
        **changes: Unpack[RestoreChanges],
    ) -> Container:
        """Make a container whose processes go on from where `Container.checkpoint` has saved them.

        The bundle's root has to hold the files that it held then.  stdin, stdout and stderr take the place of pipes
        that the container was created with.  prestart and createRuntime hooks run, others do not.  The container gets
        the limits of config.json.
        changes: `ocirun.criu.options.RestoreChanges`; the other parameters are those of `create`, whose errors this
        has too.  Errors: UnsupportedFeature where there is no CRIU or it does not work; InvalidConfig for what it
        cannot restore; CriuError when it fails; after any of them nothing is left but CRIU's log.
        """
        from ocirun.criu.options import RestoreOptions

        options = RestoreOptions(
            image_path,
            stdio=(stdin, stdout, stderr),
            console_socket=console_socket,
            console_fd=console_fd,
            pid_file=pid_file,
            no_pivot=no_pivot,
            **changes,
        )
        return self._create(container_id, os.path.abspath(bundle), config_path, options, restoring=options)

    def _create(
        self,
        container_id: str,
        bundle: str,
        config_path: str | None,
        options: CreateOptions,
        restoring: RestoreOptions | None = None,
    ) -> Container:
        from ocirun.inputs import fill_stdio
        from ocirun.store import check_id

        check_id(container_id)
        placeholders = fill_stdio()
        try:
            return self._create_checked(container_id, bundle, config_path, options, restoring)
        finally:
            for fd in placeholders:
                os.close(fd)

    def _create_checked(
        self,
        container_id: str,
        bundle: str,
        config_path: str | None,
        options: CreateOptions,
        restoring: RestoreOptions | None,
    ) -> Container:
        from ocirun.bundle import check_path, read_config
        from ocirun.container import Container
        from ocirun.create import Creation
        from ocirun.host import HostFacts
        from ocirun.inputs import check_descriptors
        from ocirun.validate import validate_document

        facts = HostFacts()
        check_path(bundle)
        text = read_config(bundle, config_path)
        config = validate_document(text, facts, self.cgroup_manager)
        check_descriptors(options.pass_fds)
        seccomp = None
        kind = Creation
        if restoring is not None:
            from ocirun.restore import Restoration, check

            check(config, restoring, facts, self.open_init, self.store.root)
            kind = Restoration
        else:
            seccomp = self.compile_seccomp(config.linux.seccomp if config.linux and config.process else None)
        entry = self.store.create(container_id)
        creation: Creation | None = None
        try:
            creation = kind(
                entry,
                bundle,
                config,
                text,
                options,
                facts=facts,
                cgroup_manager=self.cgroup_manager,
                cgroup_optional=facts.rootless if self.rootless is None else self.rootless,
                open_init=self.open_init,
                seccomp=seccomp,
            )
            try:
                creation.run()
            finally:
                for warning in creation.warnings:
                    self.warn(f"{container_id}: {warning}")
        except BaseException as error:
            try:
                entry.remove()
            except (OSError, OcirunError) as failure:
                error.add_note(f"while undoing: {failure}")  # never in place of the first error
            if creation is not None:
                creation.run_poststop(error)
            raise
        finally:
            entry.close()
        return Container(self, container_id, bundle, creation.pid, creation.pidfd)

    def compile_seccomp(self, profile: Mapping[str, Any] | None) -> CompiledFilter | None:
        """Return the filter of a profile, None where there is none; compiled once, then from the cache."""
        if profile is None:
            return None
        from ocirun.plan.seccomp import compile_profile

        return compile_profile(profile, cache_dir=os.path.join(self.store.root, SECCOMP_CACHE))

    def open_init(self) -> int:
        """Return a descriptor of ocirun-init for one start of it, owned by the caller.

        One sealed file serves all starts (a fork of the host process makes its own).  Where there are no seals each
        start gets a file of its own: what ran first could have kept a way to write to it (CVE-2019-5736).
        """
        known = self._inits.get(os.getpid(), -1)
        if known >= 0:
            return os.dup(known)
        from ocirun import _native

        self.store.make_root()
        fd, is_sealed = _native.open_init(self.store.root)
        if is_sealed and self._inits.setdefault(os.getpid(), fd) == fd:
            return os.dup(fd)
        return fd  # another thread was quicker, or it is for one start

    def plan(self, bundle: str, config_path: str | None = None) -> Plan:
        """Return what `create` would do with a bundle, without doing anything; works without root.

        Errors: InvalidConfig, BundleError.
        """
        from ocirun.bundle import read_config
        from ocirun.dry_run import plan_document

        bundle = os.path.abspath(bundle)
        return plan_document(read_config(bundle, config_path), bundle, cgroup_manager=self.cgroup_manager)

    def load(self, container_id: str) -> Container:
        """Return an existing container.  Errors: ContainerNotFound, CorruptState."""
        from ocirun.container import Container

        entry = self.store.open(container_id)
        try:
            record = entry.read_record()
        finally:
            entry.close()
        pid = record["init"]["pid"] if record["init"] else 0
        return Container(self, container_id, record["bundle"], pid, -1)

    def state(self, container_id: str) -> State:
        """Return the state of one container.  Errors: ContainerNotFound, CorruptState."""
        entry = self.store.open(container_id)
        try:
            return status.state_of(entry, entry.read_record())
        finally:
            entry.close()

    def list(self) -> list[State]:
        """Return the states of all containers; one whose record cannot be read has the status "unknown"."""
        states = []
        for container_id in self.store.ids():
            try:
                entry = self.store.open(container_id)
            except OcirunError:
                continue  # removed meanwhile, or no id of ours
            try:
                states.append(status.state_of(entry, entry.read_record()))
            except ContainerNotFound:
                continue
            except (CorruptState, KeyError, TypeError) as error:
                states.append(State(container_id, UNKNOWN, error=str(error)))
            finally:
                entry.close()
        return states

    def delete(self, container_id: str, *, force: bool = False) -> None:
        """Delete a container by id; with `force` one that does not exist, or hardly does, is no error."""
        from ocirun.container import Container

        container = Container(self, container_id, "", 0, -1)
        try:
            container.delete(force=force)
        except ContainerNotFound:
            if not force:
                raise

    def gc(self) -> builtins.list[str]:
        """Remove what interrupted operations left behind; returns the ids.

        That is: containers whose creator died before they were created, and directories that were being removed.
        """
        removed = []
        for path in self.store.leftovers():
            name = os.path.basename(path)
            if remove_leftover(path):
                removed.append(name[1:].rsplit(".", 1)[0])
        removed += [each for each in self.store.ids() if self._remove_abandoned(each)]
        return removed

    def _remove_abandoned(self, container_id: str) -> bool:
        """Remove a container that nobody is creating any more; says whether it was one.

        Judged and removed under one lock.  Whoever holds it now is at work on the container: nothing is abandoned.
        """
        from ocirun.container import Container

        try:
            entry = self.store.open(container_id)
        except OcirunError:
            return False
        try:
            entry.lock(0)
            if not _is_abandoned(entry):
                return False
            container = Container(self, container_id, "", 0, -1)
            record = container.delete_locked(entry, force=True)
        except (Busy, ContainerNotFound, CorruptState):
            return False
        finally:
            entry.close()
        if record is None:
            return False  # there was a directory and no container yet
        container.run_poststop(record)
        return True

    def hook_runner(self, container_id: str, bundle: str) -> HookRunner:
        """Return what runs hooks in the runtime namespace."""
        from ocirun.hooks import HookRunner

        return HookRunner(container_id, bundle, self.open_init, self.store.root)

    def fetch_net_devices(self, record: Record, pids: Sequence[int]) -> None:
        """Fetch the network devices of a create that was interrupted while processes keep their namespace alive."""
        from ocirun.netdev import fetch_devices, visit

        root = self.store.root
        paths = [f"/proc/{pid}/ns/net" for pid in pids]
        fetch_devices(record["netDevices"], paths, lambda path: visit(path, self.open_init, root))

    def return_net_devices(self, record: Record) -> None:
        """Return the network devices of a create that was interrupted; what could not be is a warning."""
        from ocirun.netdev import return_devices, visit

        root = self.store.root
        for lost in return_devices(record["netDevices"], lambda path: visit(path, self.open_init, root)):
            self.warn(lost)

    def warn(self, problem: object) -> None:
        """Note something that is no error."""
        self.warnings.append(str(problem))


def _is_abandoned(entry: Entry) -> bool:
    """Say whether the creator of a container, whose lock we hold, died before it was created."""
    try:
        record = entry.read_record()
    except ContainerNotFound:
        return True  # no intent yet, and a creator would hold the lock
    return record["init"] is None and not status.is_creator_alive(record)
