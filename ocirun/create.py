# SPDX-License-Identifier: Apache-2.0
"""`create`: from a validated bundle to an init that waits for `start`.

Everything that could be left behind is named in a record before it exists; whatever fails, the steps so far are undone
in reverse order (runtime.md, Errors: as if never attempted).
"""

from __future__ import annotations

import os
import stat

from ocirun import _native, procfs
from ocirun.cgroups import open_manager
from ocirun.errors import BundleError, HookError, OcirunError
from ocirun.init.process import InitProcess
from ocirun.init.protocol import AT_BARRIER, NEED_ID_MAPS
from ocirun.inputs import Inputs, write_pid_file
from ocirun.intent import new_record
from ocirun.plan import ops
from ocirun.plan.build import build, join_bundle
from ocirun.plan.circumstances import Circumstances
from ocirun.plan.mounts import cgroup_mounts
from ocirun.spec.cgroup_owner import cgroup_owner
from ocirun.spec.id_map_rules import why_groups_stay
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.state import hook_state, process_state
from ocirun.store import NOTIFY_DIRECTORY
from ocirun.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocirun.hooks import HookRunner
    from ocirun.host import HostFacts
    from ocirun.inputs import CreateOptions
    from ocirun.netdev import NetDevices
    from ocirun.plan.plan import Plan
    from ocirun.plan.seccomp import CompiledFilter
    from ocirun.rdt import RdtGroup
    from ocirun.spec.model import Config
    from ocirun.store import Entry, Record

#: How long init may take between two messages when no hook of its own keeps it busy.
INIT_DEADLINE_S = 60.0


class Creation:
    """One create, from its intent to `created`.

    Borrows the entry.  After `run`, `pid` and `pidfd` (owned by the caller from then on) are the container's.
    """

    def __init__(
        self,
        entry: Entry,
        bundle: str,
        config: Config,
        config_text: bytes,
        options: CreateOptions,
        *,
        facts: HostFacts,
        cgroup_manager: str,
        cgroup_optional: bool,
        open_init: Callable[[], int],
        seccomp: CompiledFilter | None,
    ) -> None:
        self.entry = entry
        self.bundle = bundle
        self.config = config
        self.config_text = config_text
        self.options = options
        self.facts = facts
        self._open_init = open_init
        self.seccomp = seccomp
        assert config.linux is not None
        assert config.root is not None
        self.linux = config.linux
        #: Some hierarchies may be out of reach, which the plan has to know.
        self._cgroup_early = cgroup_optional or facts.rootless
        self.rootfs = os.path.abspath(join_bundle(bundle, config.root.path))
        self.cgroup = open_manager(
            cgroup_manager,
            facts.cgroup_layout,
            entry.id,
            self.linux.cgroups_path,
            rootless=facts.rootless,
            optional=cgroup_optional,
            annotations=config.annotations,
            resources=self.linux.resources,
            proc=(facts.own_cgroups, facts.mountinfo) if cgroup_manager == "cgroupfs" else None,
        )
        self.hooks_ran = False
        self.pid, self.pidfd = 0, -1
        self.warnings: Sequence[str] = ()  # of the plan
        self.record: Record = {}
        self.inputs = Inputs(options)
        self._net_devices: NetDevices | None = None
        self._rdt: RdtGroup | None = None
        self._undo = Undo()

    def run(self) -> None:
        """Make the container, or leave nothing of it."""
        try:
            self._steps()
        except BaseException as error:
            if isinstance(error, HookError):
                self.hooks_ran = True
            self._undo.roll_back(error)
            raise
        finally:
            self._undo.forget()
            self._close()

    def _steps(self) -> None:
        self._check_rootfs()
        self._save_intent()
        self._open_inputs()
        self._make_birthplace()
        plan = self._build_plan()
        self._two_steps, self.warnings = plan.two_steps, plan.warnings
        init = self._spawn(plan)
        self._finish_cgroup_unless_forking()
        init.drive(self._handlers(), self._deadline())
        self.pid, self.pidfd = init.pid, init.pidfd

    def _close(self) -> None:
        self.cgroup.close()
        self.inputs.close()
        if self._net_devices is not None:
            self._net_devices.close()

    # The steps, in order.

    def _check_rootfs(self) -> None:
        try:
            mode = os.stat(self.rootfs).st_mode
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise BundleError(f"/root/path: {self.rootfs}: {text}", json_pointer="/root/path") from error
        if not stat.S_ISDIR(mode):
            raise BundleError(f"/root/path: {self.rootfs}: not a directory", json_pointer="/root/path")

    def _save_intent(self) -> None:
        self.record = new_record(
            self.entry.id,
            self.bundle,
            self.rootfs,
            self.config,
            self.cgroup,
            self.options,
        )
        if self.linux.net_devices:
            from ocirun.netdev import NetDevices

            self._net_devices = NetDevices(self.linux)
            self.record["netDevices"] = self._net_devices.record()
        if self.linux.intel_rdt is not None:
            from ocirun.rdt import RdtGroup

            self._rdt = RdtGroup(self.facts.resctrl, self.linux.intel_rdt, self.entry.id)
            self.record["intelRdt"] = self._rdt.record()
        self.entry.write_record(self.record)

    def _open_inputs(self) -> None:
        self.inputs.open_start(self.entry)
        self.inputs.open_sockets(self.config.process, self.seccomp)
        if self.options.notify_socket is not None:
            os.mkdir(NOTIFY_DIRECTORY, 0o755, dir_fd=self.entry.fd)

    def _make_birthplace(self) -> None:
        """Make the cgroup that init is born in; those of version 1 are made while it works."""
        if self._rdt is not None:
            self._undo.add(self._rdt.undo)
            self._rdt.make(self._save_rdt)
        self._undo.add(lambda: self.cgroup.remove(keep_existing=True))
        self.cgroup.create_birthplace()
        if self._cgroup_early:
            self.cgroup.create()

    def _save_rdt(self) -> None:
        assert self._rdt is not None
        self.record["intelRdt"] = self._rdt.record()
        self.entry.write_record(self.record)

    def _spawn(self, plan: Plan) -> InitProcess:
        birthplace = self._birthplace()
        for number, maps in enumerate(plan.maps):
            from ocirun.idmap import make_user_namespace

            self.inputs.add(f"idmap{number}", make_user_namespace(maps, self._open_init, self.entry.path))
        self._executable = self.inputs.own(self._open_init())
        init = InitProcess.spawn(
            plan,
            self.entry.id,
            executable=self._executable,
            fallback_directory=self.entry.path,
            stdio=self.inputs.stdio(),
            keep=self.options.pass_fds,
            inputs=self.inputs.of(plan.inputs[1:]),
            cgroup=birthplace,
        )
        self._undo.add(lambda: os.close(init.pidfd))
        self._undo.add(init.kill)
        self._init = init
        self.inputs.own(init.sync)
        return init

    def _birthplace(self) -> int:
        """Return a descriptor of the cgroup that init is born in, -1 where it joins all by itself."""
        fd = self.cgroup.clone_into()
        return -1 if fd is None else self.inputs.own(fd)

    def _build_plan(self) -> Plan:
        unified = self.facts.cgroup_layout == "unified"
        joined_maps = self._joined_maps()
        linux = self.linux
        maps = IdMaps(linux.uid_mappings, linux.gid_mappings, "/linux") if linux.uid_mappings else joined_maps
        self._cgroup_owner = cgroup_owner(self.config, maps)
        notify = self.options.notify_socket is not None
        return build(
            self.config,
            Circumstances(
                self.bundle,
                self.entry.id,
                available_capabilities=self._available_capabilities(),
                last_capability=self.facts.cap_last_cap,
                in_user_namespace=self.facts.in_user_namespace,
                privileged=self.facts.euid == 0,
                unified=unified,
                cgroups=[] if unified else cgroup_mounts(self.cgroup.paths()),
                join_paths=self.cgroup.join_paths(),
                seccomp=self.seccomp,
                keep_count=len(self.options.pass_fds),
                listen_fds=self.options.listen_fds,
                no_pivot=self.options.no_pivot,
                new_keyring=not self.options.no_new_keyring,
                notify_directory=f"{self.entry.path}/{NOTIFY_DIRECTORY}" if notify else None,
                joined_maps=joined_maps,
                may_set_groups=(
                    not why_groups_stay(linux, self.facts) if joined_maps is None else joined_maps.may_set_groups
                ),
                may_clone_mounts=self.facts.may_clone_mounts,
                has_cgroup=bool(self.cgroup.paths()),
            ),
        )

    def _joined_maps(self) -> IdMaps | None:
        for index, each in enumerate(self.linux.namespaces):
            if each.type == "user" and each.path is not None:
                from ocirun.idmap import open_user_namespace, read_maps

                pointer = f"/linux/namespaces/{index}/path"
                # Once: the path may lead elsewhere when init joins (/proc/PID/ns/user of a process that moves on).
                namespace = open_user_namespace(each.path, pointer)
                self.inputs.add("user", namespace)
                return read_maps(namespace, each.path, pointer, self._open_init, self.entry.path)
        return None

    def _available_capabilities(self) -> int:
        in_own = any(each.type == "user" for each in self.linux.namespaces)
        return self.facts.available_capabilities(in_user_namespace=in_own)

    def _finish_cgroup_unless_forking(self) -> None:
        """In one step init mounts while this goes on, and waits for it at BARRIER_CGROUP if it is quicker."""
        if not self._two_steps:
            self._finish_cgroup()
            if not self._limits_wait():
                self._limit()
                self._init.answer_ahead((AT_BARRIER, ops.BARRIER_CGROUP))
        self.entry.write_config(self.config_text)

    def _at_cgroup(self) -> int:
        if self._two_steps:
            self._finish_cgroup()
        elif self._limits_wait():
            self._limit()
        return -1

    def _limits_wait(self) -> bool:
        """Say whether init is in a cgroup already that will filter its devices: then it first mounts and makes nodes.

        In version 1 it joins such a cgroup at the barrier.
        """
        return self._init.placed and "devices" not in self.facts.legacy_controllers

    def _finish_cgroup(self) -> None:
        if not self._cgroup_early:
            self.cgroup.create()
        self.cgroup.place(self._init.pid, cloned=self._init.placed, joined=True)
        if self._rdt is not None:
            self._rdt.place(self._init.pid)

    def _at_limits(self) -> int:
        """Init is forked: limits may be set (pids.limit may be 0, which only a process that is born minds)."""
        self._limit()
        return -1

    def _limit(self) -> None:
        # With power over the host a container in a user namespace has device nodes of its own: they are filtered too.
        self.cgroup.apply(self.linux.resources, self.facts.rootless)
        if self._cgroup_owner is not None and not self.facts.rootless:
            from ocirun.cgroups.delegation import delegate

            delegate(self.cgroup.paths(), self._cgroup_owner)

    def _handlers(self) -> dict[tuple[int, int], Callable[[], int]]:
        return {
            (NEED_ID_MAPS, 0): self._write_maps,
            (AT_BARRIER, ops.BARRIER_CGROUP): self._at_cgroup,
            (AT_BARRIER, ops.BARRIER_LIMITS): self._at_limits,
            (AT_BARRIER, ops.BARRIER_NETWORK): self._move_net_devices,
            (AT_BARRIER, ops.BARRIER_CREATE_RUNTIME): self._run_hooks,
            (AT_BARRIER, ops.BARRIER_CREATED): self._save_created,
        }

    def _write_maps(self) -> int:
        from ocirun.idmap import write_maps

        maps = IdMaps(self.linux.uid_mappings, self.linux.gid_mappings, "/linux")
        write_maps(self._init.pid, maps, self.facts, self._open_init, self.entry.path)
        return -1

    def _move_net_devices(self) -> int:
        assert self._net_devices is not None
        # Its socket keeps the namespace alive: what was moved can be brought back when init is gone.
        self._undo.add(self._net_devices.bring_back)
        self._net_devices.depart()
        self.entry.write_record(self.record)
        self._net_devices.move(self._init.received)
        return -1

    def _run_hooks(self) -> int:
        hooks = self.config.hooks
        assert hooks is not None
        state = self._hook_state("creating")
        self.hooks_ran = True
        runner = self._hook_runner()
        runner.run_all(hooks.prestart, "prestart", state)
        runner.run_all(hooks.create_runtime, "createRuntime", state)
        return -1

    def _save_created(self) -> int:
        """Init is ready: what identifies it goes into the record before anybody hears of success."""
        init = self._init
        executable = os.fstat(self._executable)
        self._save_process(init.pid, [executable.st_dev, executable.st_ino])
        self.inputs.send_pidfd(init.pidfd, b"standard")
        if self.seccomp is not None and self.seccomp.notify:
            # What the agent is told, by init, when `start` has come to the filter.
            text = process_state(init.pid, self.seccomp.listener_metadata, self._hook_state("created"))
            return self.inputs.own(_native.plan_file(text, self.entry.path))
        return -1

    def _save_process(self, pid: int, executable: list[int]) -> None:
        """Write down what identifies the container's process from here on, for us and for who asked for a pid file."""
        process = procfs.process_stat(pid)
        if process is None:
            raise OcirunError("the container's process vanished", container_id=self.entry.id)
        self.record["init"] = {"pid": pid, "startTime": process[1], "executable": executable}
        self.record["cgroup"] = self.cgroup.record()
        self.entry.write_record(self.record)
        if self.options.pid_file is not None:
            write_pid_file(self.options.pid_file, pid)
            self._undo.remove(self.options.pid_file)

    # What the steps need.

    def _deadline(self) -> float | None:
        """Return how long init may keep silent: its own hooks may take their time."""
        limit = INIT_DEADLINE_S if self.options.timeout is None else self.options.timeout
        for hook in self.config.hooks.create_container if self.config.hooks else ():
            if not hook.timeout:
                return self.options.timeout
            limit += hook.timeout
        return limit

    def _hook_runner(self) -> HookRunner:
        from ocirun.hooks import HookRunner

        return HookRunner(self.entry.id, self.bundle, self._open_init, os.path.dirname(self.entry.path))

    def _hook_state(self, status: str) -> bytes:
        return hook_state(self.entry.id, status, self._init.pid, self.bundle, self.config.annotations)

    def run_poststop(self, error: BaseException) -> None:
        """Run the poststop hooks of a creation that failed, if others have run; call it when the entry is removed.

        runtime.md#lifecycle, steps 3 to 5: a failed hook continues at "the container is destroyed", and poststop.
        """
        hooks = self.config.hooks
        if self.hooks_ran and hooks is not None:
            state = hook_state(self.entry.id, "stopped", 0, self.bundle, self.config.annotations)
            for failed in self._hook_runner().run_each(hooks.poststop, "poststop", state):
                error.add_note(str(failed))
