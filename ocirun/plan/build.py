# SPDX-License-Identifier: Apache-2.0
"""From a Config to a Plan: the one place where the order of things is written.

The order, and why:

 1. namespaces            paths are opened first, so that they mean the runtime's files; what needs the caller's
                          power over host objects (bind sources, the host's device nodes, a lower OOM score, higher
                          limits) comes before a user namespace takes that power away
 2. session, keyring, names, loopback, network devices
                          belong to namespaces, need nothing else; devices before the hooks and sysctls that use them
 3. propagation, root, mounts, devices, links, terminal, directory
                          all below the verified root descriptor, while the host's root is still the current one
 4. cgroup, its namespace as late as the first mount that shows it, because the parent makes the cgroup while we mount;
                          before a user namespace takes the power to join it; init joins version 1 by itself
 5. prestart and createRuntime hooks (parent), createContainer hooks (init)
                          config.md#posix-platform-hooks: after the namespaces and mounts, before pivot_root
 6. sysctl, masked and read-only paths
                          after the hooks, which may add network devices and files; before pivot_root, so that the
                          host's /dev/null and our procfs need no lookup in the image
 7. pivot_root, then what concerns the root mount as a whole
 8. the process           stdio, personality, scheduling, limits, labels: see `process.build_process`
 9. identity              bounding set, groups, gid, uid, directory, capability sets
10. args[0] is looked up as that user, so that `create` can say what is wrong with it
11. created               the parent saves the state; from now on only `start` counts
12. startContainer hooks  programs of the image: each with no_new_privs and the filter that the process will have
13. descriptors closed, no_new_privs, filter, execve
"""

from __future__ import annotations

from ocirun.plan import ops
from ocirun.plan.devices import DeviceNodes, build_links
from ocirun.plan.labels import build_keyring
from ocirun.plan.left_out import left_out
from ocirun.plan.mapped_mounts import MappedMounts
from ocirun.plan.mounts import SEVERED, MountBuilder, normalize
from ocirun.plan.namespaces import CLONE_FLAGS, Namespaces, UserEntry
from ocirun.plan.plan import Plan
from ocirun.plan.process import (
    CapabilitySets,
    build_hook_confinement,
    build_last_steps,
    build_limits,
    build_process,
)
from ocirun.plan.slots import Slots
from ocirun.spec.id_map_rules import KEEP_GROUPS
from ocirun.spec.id_maps import IdMaps
from ocirun.spec.mount_options import (
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    NODEV,
    NOEXEC,
    NOSUID,
    PROPAGATION,
    RDONLY,
    parse_options,
)
from ocirun.spec.state import state_around_pid
from ocirun.spec.sysctl import sysctl_path
from ocirun.strict_json import pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocirun.plan.circumstances import Circumstances
    from ocirun.plan.ops import Op
    from ocirun.spec.model import Config, Hook, Linux, Process


def build(config: Config, circumstances: Circumstances) -> Plan:
    """Return the plan that creates and starts this container.  Pure: reads nothing but its arguments."""
    return _Builder(config, circumstances).build()


class _Builder:
    def __init__(self, config: Config, circumstances: Circumstances) -> None:
        assert config.linux is not None  # the rules gate asks for it
        assert config.root is not None
        self.config = config
        self.linux: Linux = config.linux
        self.root_path = join_bundle(circumstances.bundle, config.root.path)
        self.circumstances = circumstances
        self.namespaces = Namespaces(config.linux)
        self.slots = Slots()
        self.start_slot = self.slots.input("start")
        self.console_slot = self._input("console", config.process is not None and config.process.terminal)
        notify = circumstances.seccomp is not None and circumstances.seccomp.notify
        self.agent_slot = self._input("agent", notify)
        self.namespaces.user = self._input("user", circumstances.joined_maps is not None)
        self.maps = self._user_namespace_maps()
        self.mapped = MappedMounts(config.mounts, self.maps, self.slots)
        self.text_slot = self.slots.new() if notify else ops.NO_SLOT
        self.process: Process | None = config.process
        sets = config.process.capabilities if config.process is not None else None
        self.capabilities = CapabilitySets(sets, circumstances.available_capabilities)
        self.env = self._environment()
        self.user_namespace = self.namespaces.has("user")
        self.set_groups = circumstances.may_set_groups and KEEP_GROUPS not in config.annotations
        self.entry = UserEntry(
            self.maps.first_ids if self.maps is not None else (0, 0),
            set_groups=self.set_groups,
            # The files of /proc of a process that is not dumpable belong to root.
            hidden=circumstances.privileged,
            clones_outside=circumstances.may_clone_mounts,
        )
        #: Open the root and bind sources before anything else: a user namespace hides the way to host paths, and
        #: where mounts are to be shared with the host, the sources must be cloned before "/" stops being shared.
        shared = PROPAGATION.get(config.linux.rootfs_propagation or "", 0) & MS_SHARED
        self.early = self.user_namespace or bool(shared)
        self.mounts = MountBuilder(
            circumstances.bundle,
            self.slots,
            self.mapped,
            early=self.early,
            user_namespace=self.user_namespace,
            cgroups=circumstances.cgroups,
            unified=circumstances.unified,
            own_cgroup_namespace=self.namespaces.has("cgroup"),
            borrow_cgroups=not self.namespaces.has("cgroup")
            and (self.user_namespace or circumstances.in_user_namespace or not circumstances.privileged),
            has_cgroup=circumstances.has_cgroup,
            foreign=self.namespaces.foreign(in_user_namespace=circumstances.in_user_namespace),
            label=config.linux.mount_label,
        )
        self.devices = self._device_nodes()
        self.operations: list[Op] = []

    def _user_namespace_maps(self) -> IdMaps | None:
        """Return the maps of the container's user namespace; empty ones where nobody knows them."""
        linux = self.linux
        if "user" in self.namespaces.created:
            return IdMaps(linux.uid_mappings, linux.gid_mappings, "/linux")
        if "user" in self.namespaces.joined:
            pointer = f"/linux/namespaces/{self.namespaces.joined['user']}/path"
            return self.circumstances.joined_maps or IdMaps((), (), pointer)
        return None

    def _input(self, name: str, wanted: bool) -> int:
        return self.slots.input(name) if wanted else ops.NO_SLOT

    def build(self) -> Plan:
        below_root = self._below_root()
        before_user, sources = self._before_user(), self._sources()
        add = self.operations.extend
        add(self.namespaces.build(self.linux, self.slots, before_user, sources, self.entry))
        add(self._names())
        add(below_root)
        add(self._hooks_before_pivot())
        add(self._restrictions())
        add(self._pivot())
        add(self._process())
        return Plan(
            self.operations,
            self.slots,
            clone_flags=self.namespaces.spawn_flags,
            keep_count=self.circumstances.keep_count,
            two_steps=self.namespaces.in_two_steps,
            makes_user_namespace="user" in self.namespaces.created,
            maps=self.mapped.maps,
            warnings=[
                *left_out(self.config, self.capabilities, self.circumstances.seccomp),
                *self.mounts.warnings,
            ],
        )

    def _before_user(self) -> list[Op]:
        """What needs the caller's own power over the host."""
        result = self._join_cgroups() if self._joins_early else []
        process = self.process
        if process is not None and process.oom_score_adj is not None:
            result.append(
                ops.write_proc(
                    "self/oom_score_adj", str(process.oom_score_adj), "/process/oomScoreAdj", self.entry.dumpable
                )
            )
        if self.user_namespace and process is not None:
            result.extend(build_limits(process, raise_only=True))
        return result

    def _sources(self) -> list[Op]:
        """The root and all else of the host's files, where the way to them may be hidden later."""
        if not self.early:
            return []
        root = ops.open_tree(self.root_slot, self.root_path, True, "/root/path")
        return [root, *self.mounts.before_user, *self.devices.before_user]

    def _names(self) -> list[Op]:
        result = [ops.setsid()]
        if self.circumstances.new_keyring:
            result.extend(build_keyring("_ses." + self.circumstances.container_id, self.process))
        result.extend(self.namespaces.build_network())
        if self.config.hostname is not None:
            result.append(ops.hostname(self.config.hostname))
        if self.config.domainname is not None:
            result.append(ops.domainname(self.config.domainname))
        return result

    def _below_root(self) -> list[Op]:
        """The root, the mounts in their order, and what goes into /dev."""
        propagation = self.linux.rootfs_propagation
        wanted = PROPAGATION.get(propagation or "", 0) & ~MS_REC
        # An unbindable tree could not even be cloned.
        first = (wanted if wanted in (MS_SHARED, MS_PRIVATE) else MS_SLAVE) | MS_REC
        result = [ops.propagation(first, "/linux/rootfsPropagation" if propagation else "")]
        self.root_slot = self.slots.new()
        if not self.early:
            result.append(ops.open_tree(self.root_slot, self.root_path, True, "/root/path"))
        own = MS_SLAVE if wanted in (MS_SLAVE, MS_SHARED) else MS_PRIVATE
        if self.user_namespace:
            own = SEVERED
        top = MS_PRIVATE if wanted == MS_SHARED else MS_SLAVE
        result.append(ops.rootfs(self.root_slot, self.root_path, own, top, self.devices.slot))
        own_view = self._into_cgroup()
        for index, mount in enumerate(self.config.mounts):
            if mount.type == "cgroup" and own_view:
                result.extend(own_view)
                own_view = []
            result.extend(self.mounts.build(mount, f"/mounts/{index}"))
        result.extend(self._notify_socket())
        result.extend(self.devices.below_root)
        result.extend(build_links() if self.devices.below_root else [])
        result.extend(self._terminal())
        if self.process is not None:
            result.append(ops.directory(self.process.cwd, "/process/cwd"))
        result.extend(own_view)
        return result

    def _into_cgroup(self) -> list[Op]:
        """Be in the cgroup, and see it as the root of a new cgroup namespace.

        In one step the parent makes the cgroup while we mount; in two it was done before the fork.
        """
        result = []
        if not self._joins_early:
            result.extend(self._join_cgroups())
        if "cgroup" in self.namespaces.created:
            index = self.namespaces.created["cgroup"]
            result.append(ops.unshare(CLONE_FLAGS["cgroup"], f"/linux/namespaces/{index}"))
        return result

    @property
    def _joins_early(self) -> bool:
        """Before a fork, and before sources are opened that may be cgroups."""
        return self.namespaces.in_two_steps or self.early

    def _join_cgroups(self) -> list[Op]:
        return [
            ops.barrier(ops.BARRIER_CGROUP),
            *(ops.join_cgroup(path) for path in self.circumstances.join_paths),
        ]

    def _notify_socket(self) -> list[Op]:
        """sd_notify: the directory with our socket appears at /run/notify, as with runc and crun."""
        directory = self.circumstances.notify_directory
        if directory is None:
            return []
        slot = self.slots.new()
        opened = ops.open_tree(slot, directory, False, "")
        # A socket can be written to all the same; the container must not fill our state root, nor stand in its way.
        bound = ops.bind(
            slot,
            "/run/notify",
            "",
            set_attributes=RDONLY | NOSUID | NODEV | NOEXEC,
            propagation=SEVERED if self.user_namespace else 0,
        )
        if self.early:
            self.mounts.before_user.append(opened)
            return [bound]
        return [opened, bound]

    def _device_nodes(self) -> DeviceNodes:
        """How nodes come to be: by our own power, or from the host; none where the host's own /dev is bound."""
        for mount in self.config.mounts:
            if normalize(mount.destination) == "/dev" and (
                mount.type == "bind" or parse_options(mount.options).bind
            ):
                return DeviceNodes()
        circumstances = self.circumstances
        if circumstances.in_user_namespace or not circumstances.privileged:
            return DeviceNodes.borrow(self.linux, self.slots, early=self.user_namespace)
        if self.maps is not None:
            return DeviceNodes.make_outside(self.linux, self.slots, self.maps)
        return DeviceNodes.make(self.linux)

    def _terminal(self) -> list[Op]:
        process = self.process
        if process is None or not process.terminal:
            return []
        size = process.console_size
        return [
            ops.console(
                self.console_slot,
                size.height if size else 0,
                size.width if size else 0,
                process.user.uid,
                ops.BIND_CONSOLE,
            )
        ]

    def _hooks_before_pivot(self) -> list[Op]:
        hooks = self.config.hooks
        if hooks is None:
            return []
        result = []
        if hooks.prestart or hooks.create_runtime:
            result.append(ops.barrier(ops.BARRIER_CREATE_RUNTIME))
        result.extend(self._container_hooks(hooks.create_container, "createContainer", "creating", ()))
        return result

    def _container_hooks(
        self, hooks: Sequence[Hook], kind: str, status: str, confinement: Sequence[Op]
    ) -> list[Op]:
        if not hooks:
            return []
        before_pid, after_pid = state_around_pid(
            self.circumstances.container_id,
            status,
            self.circumstances.bundle,
            self.config.annotations,
        )
        result = []
        for index, hook in enumerate(hooks):
            run = ops.hook(
                hook.path,
                hook.args or (hook.path,),
                hook.env,
                before_pid + after_pid,
                len(before_pid.encode()),
                (hook.timeout or 0) * 1000,
                f"/hooks/{kind}/{index}",
                len(confinement),
            )
            result += [run, *confinement]
        return result

    def _restrictions(self) -> list[Op]:
        linux = self.linux
        result = [
            ops.sysctl(sysctl_path(key), value, "/linux/sysctl/" + pointer_token(key))
            for key, value in linux.sysctl.items()
        ]
        for index, path in enumerate(linux.readonly_paths):
            base, below = self.mounts.find_base(path)
            result.append(ops.readonly(below, f"/linux/readonlyPaths/{index}", base))
        for index, path in enumerate(linux.masked_paths):
            base, below = self.mounts.find_base(path)
            result.append(ops.mask(below, f"/linux/maskedPaths/{index}", base, linux.mount_label))
        return result

    def _pivot(self) -> list[Op]:
        root = self.config.root
        assert root is not None
        result = [ops.pivot(ops.NO_PIVOT if self.circumstances.no_pivot else 0)]
        # The root mount alone, whatever the word: each other mount has what its own options say.
        propagation = PROPAGATION.get(self.linux.rootfs_propagation or "", 0) & ~MS_REC
        if propagation:
            result.append(ops.root_attributes(0, propagation, "/linux/rootfsPropagation"))
        if root.readonly:
            # Last, since everything above may have had to make directories.
            result.append(ops.root_attributes(RDONLY, 0, "/root/readonly"))
        return result

    def _process(self) -> list[Op]:
        process = self.process
        if process is None:
            # Legal until start (runtime.md#start: "an error if the process was not set").
            lost = [ops.wait_start(self.start_slot), ops.find_executable("", None)]
            return [ops.barrier(ops.BARRIER_CREATED), *lost, ops.execute(("",), (), 0, "/process")]
        seccomp = self.circumstances.seccomp
        result = build_process(
            process,
            self.linux,
            self.capabilities,
            self.env,
            last_capability=self.circumstances.last_capability,
            hold_admin=seccomp is not None and not process.no_new_privileges,
            set_groups=self.set_groups,
        )
        result.append(ops.barrier(ops.BARRIER_CREATED, self.text_slot))
        result.append(ops.wait_start(self.start_slot))
        if self.config.hooks is not None:
            confinement = build_hook_confinement(process, self.capabilities, seccomp)
            hooks = self.config.hooks.start_container
            result.extend(self._container_hooks(hooks, "startContainer", "created", confinement))
        result.extend(
            build_last_steps(
                process, self.capabilities, self.env, seccomp, self.agent_slot, self.text_slot
            )
        )
        return result

    def _environment(self) -> tuple[str, ...]:
        if self.process is None:
            return ()
        env = list(self.process.env)
        if self.circumstances.listen_fds:
            # sd_listen_fds(3): the process is told that they are for it, and it is 1 in its namespace.
            env.append(f"LISTEN_FDS={self.circumstances.listen_fds}")
            env.append("LISTEN_PID=1")
        if self.circumstances.notify_directory is not None:
            env.append("NOTIFY_SOCKET=/run/notify/notify.sock")
        return tuple(env)


def join_bundle(bundle: str, path: str) -> str:
    """Return a host path of config.json: relative ones are below the bundle."""
    return path if path.startswith("/") else f"{bundle}/{path}"

