# SPDX-License-Identifier: Apache-2.0
"""runtime.md: the state document, the operations, what they refuse, and what they leave."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context, unique

SEMVER = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"


@case("bundle-config-json")
def bundle_without_config(c: Context) -> None:
    """A bundle without config.json cannot be created."""
    (c.bundle / "config.json").unlink()
    done = c.runtime.call("create", "--bundle", str(c.bundle), c.id)
    c.error("create without config.json", done)
    c.equal("there is no such container", c.runtime.exists(c.id), False)


@case("operations-supported", "scope-same-entity")
def all_operations(c: Context) -> None:
    """One caller can create, query, start, kill and delete a container."""
    container = c.running()
    c.ok("kill", container.kill("KILL"))
    container.wait()
    c.equal("status", container.wait_status("stopped"), "stopped")
    c.ok("delete", container.delete())


# -- state -------------------------------------------------------------------------------------------------------------


@case("state-returns", "state-oci-version")
def state_oci_version(c: Context) -> None:
    """ociVersion of the state is a version."""
    seen = c.create().state().get("ociVersion")
    c.true("ociVersion is a SemVer version", isinstance(seen, str) and re.fullmatch(SEMVER, seen), seen)


@case("state-id")
def state_id(c: Context) -> None:
    """The state has the ID."""
    c.equal("id", c.create().state().get("id"), c.id)


@case("state-pid")
def state_pid_created(c: Context) -> None:
    """The state of a created container has the pid of its process."""
    container = c.create()
    seen = container.state().get("pid")
    c.equal("pid", seen, container.pid)
    c.true("the process is there", container.alive())
    c.true(
        "it is in a pid namespace of its own",
        os.stat(f"/proc/{seen}/ns/pid").st_ino != os.stat("/proc/self/ns/pid").st_ino,
    )


@case("state-pid")
def state_pid_running(c: Context) -> None:
    """The state of a running container has the pid of the program."""
    container = c.running()
    seen = container.state().get("pid")
    c.equal("pid", seen, container.pid)
    c.equal("the program of that process", os.readlink(f"/proc/{seen}/exe").rpartition("/")[2], "probe")


@case("state-bundle")
def state_bundle(c: Context) -> None:
    """The state has the absolute path of the bundle."""
    c.equal("bundle", c.create().state().get("bundle"), os.path.realpath(c.bundle))


@case("state-bundle")
def state_bundle_relative(c: Context) -> None:
    """The path is absolute where create was given a relative one."""
    c.write()
    done = c.runtime.call("create", "--bundle", "bundle", c.id, cwd=c.place)
    c.ok("create with a relative path of the bundle", done)
    c.equal("bundle", c.runtime.state(c.id).get("bundle"), os.path.realpath(c.bundle))


@case("state-annotations", "annotations-value")
def state_annotations(c: Context) -> None:
    """The state has the annotations, an empty value as well."""
    wanted = {"com.example.key": "value", "com.example.empty": "", "com.example.ü": "ü \" \\ \n"}
    c.set({"annotations": wanted})
    seen = c.create().state().get("annotations") or {}
    c.equal("annotations", {name: seen.get(name) for name in wanted}, wanted)


@case("state-annotations")
def state_without_annotations(c: Context) -> None:
    """Without annotations the state has none, or an object."""
    seen = c.create().state().get("annotations")
    c.true("annotations are absent or an object", seen is None or isinstance(seen, dict), seen)


@case("state-schema", each={"created": "created", "running": "running", "stopped": "stopped"})
def state_schema(c: Context, status: str) -> None:
    """The members of the state have the types of the schema, whatever the status."""
    container = c.create() if status == "created" else c.running()
    if status == "stopped":
        container.kill("KILL")
        container.wait()
        container.wait_status("stopped")
    state = container.state()
    types = {"ociVersion": str, "id": str, "status": str, "bundle": str}
    wrong = {name: state.get(name) for name, kind in types.items() if not isinstance(state.get(name), kind)}
    c.equal("strings that are missing or something else", wrong, {})
    if status != "stopped":
        c.true("pid is a number above 0", type(state.get("pid")) is int and state["pid"] > 0, state.get("pid"))
    elif "pid" in state:
        c.true("pid is a number", type(state["pid"]) is int and state["pid"] >= 0, state["pid"])


@case("state-status", "state-status-new")
def state_statuses(c: Context) -> None:
    """created, running and stopped follow each other."""
    container = c.probe("ready", "wait-signal").create()
    seen = [container.status]
    container.start()
    container.line()
    seen.append(container.status)
    container.kill("TERM")
    container.wait()
    seen.append(container.wait_status("stopped"))
    c.equal("statuses", seen, ["created", "running", "stopped"])


@case("state-without-id")
def state_without_id(c: Context) -> None:
    """state needs an ID."""
    c.error("state without an ID", c.runtime.call("state"))


@case("state-unknown")
def state_of_nothing(c: Context) -> None:
    """state of a container that is not there is an error."""
    c.error("state of no container", c.runtime.call("state", unique("none")))


# -- create ------------------------------------------------------------------------------------------------------------


@case("create-needs-arguments", "errors-no-trace")
def create_without_id(c: Context) -> None:
    """create needs an ID."""
    c.error("create without an ID", c.runtime.call("create", "--bundle", str(c.bundle)))


@case("create-needs-arguments")
def create_with_empty_id(c: Context) -> None:
    """An empty ID is none."""
    c.error("create with an empty ID", c.runtime.call("create", "--bundle", str(c.bundle), ""))


@case("create-needs-arguments", "errors-no-trace")
def create_without_bundle(c: Context) -> None:
    """A path where no bundle is is an error."""
    done = c.runtime.call("create", "--bundle", str(c.place / "nothing"), c.id)
    c.error("create without a bundle", done)
    c.equal("there is no such container", c.runtime.exists(c.id), False)


@case("create-id-taken", "state-id-unique")
def create_twice(c: Context) -> None:
    """A second container with the same ID is an error, and the first is as it was."""
    container = c.create()
    before = container.state()
    c.error("a second create with this ID", c.try_create())
    c.equal("the state of the first", container.state(), before)
    c.true("its process is there", container.alive())
    c.equal("exit status of its program", container.start().finish().status, 0)


@case("create-id-taken", "state-id-unique")
def create_twice_while_stopped(c: Context) -> None:
    """The ID of a stopped container is taken until it is deleted."""
    container = c.probe(["exit", "3"]).create().start()
    container.wait()
    c.equal("status", container.wait_status("stopped"), "stopped")
    c.error("a second create with this ID", c.try_create())
    c.equal("status of the first", container.status, "stopped")


@case("create-makes-container", "create-status")
def create_status(c: Context) -> None:
    """After create the status is created."""
    c.equal("status", c.create().status, "created")


@case("lifecycle-program-not-run", "create-not-args")
def create_does_not_run(c: Context) -> None:
    """The program does not run before start."""
    container = c.probe(["create", "/tmp/ran", "x"]).create()
    c.equal("the program's file is there after create", (c.rootfs / "tmp/ran").exists(), False)
    container.start().finish()
    c.equal("the program's file is there after start", (c.rootfs / "tmp/ran").exists(), True)


@case("create-applies-all", "lifecycle-environment", "lifecycle-program-not-run")
def create_applies_all(c: Context) -> None:
    """Mounts, namespaces, the read-only root and limits are there before start."""
    c.need_controller("pids")
    c.mount("/m", "tmpfs", "tmpfs", "nosuid").set({"root": {"readonly": True}})
    c.file("/etc/secret", "x")
    c.linux(resources={"pids": {"limit": 77}}, maskedPaths=["/etc/secret"])
    container = c.create()
    entries = {entry.target: entry for entry in machine.mounts(Path(f"/proc/{container.pid}/mountinfo").read_text())}
    c.true("the configured mount is there", "/m" in entries, sorted(entries))
    c.true("with its options", "nosuid" in entries["/m"].options, entries["/m"].line)
    c.true("the path is masked", "/etc/secret" in entries, sorted(entries))
    c.true("the root is read-only", "ro" in entries["/"].options | entries["/"].data, entries["/"].line)
    limit = machine.cgroup_of(container.pid, "pids") / "pids.max"
    c.equal("the limit is set", limit.read_text().strip(), "77")


@case("lifecycle-config-changes")
def config_changes_after_create(c: Context) -> None:
    """What config.json says after create does not count."""
    container = c.probe(["exit", "3"]).process(cwd="/tmp").create()
    c.probe(["exit", "4"]).process(cwd="/").set({"hooks": {"poststart": [{"path": "/nothing"}]}})
    c.write()
    c.equal("exit status of the program", container.start().finish().status, 3)


@case("lifecycle-config-changes")
def config_gone_after_create(c: Context) -> None:
    """config.json is not needed after create."""
    container = c.probe(["exit", "3"]).create()
    (c.bundle / "config.json").unlink()
    c.equal("exit status of the program", container.start().finish().status, 3)


IMPOSSIBLE = {
    "mount-source": {"mounts": [{"destination": "/m", "type": "none", "source": "/no/such/thing", "options": ["bind"]}]},
    "file-system": {"mounts": [{"destination": "/m", "type": "nosuchfs", "source": "none"}]},
    "mount-data": {"mounts": [{"destination": "/m", "type": "tmpfs", "source": "t", "options": ["size=nonsense"]}]},
    "root": {"root": {"path": "nowhere"}},
    "namespace": {"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/no/such/thing"}]}},
    "sysctl": {"linux": {"sysctl": {"net.no.such.thing": "1"}}},
    "hook": {"hooks": {"createRuntime": [{"path": "/no/such/program"}]}},
    "resource": {"linux": {"resources": {"cpu": {"cpus": "9999"}}}},
}


@case("create-cannot-apply", "lifecycle-environment-error", "errors-no-trace", each=IMPOSSIBLE)
def create_impossible(c: Context, patch: dict[str, object]) -> None:
    """What cannot be applied is an error of create, and nothing is left."""
    if "resources" in str(patch):
        c.need_controller("cpuset")
    c.set(patch)
    c.refused(why="a configuration that cannot be applied")


# -- start -------------------------------------------------------------------------------------------------------------


@case("start-without-id")
def start_without_id(c: Context) -> None:
    """start needs an ID."""
    c.error("start without an ID", c.runtime.call("start"))


@case("start-not-created")
def start_of_nothing(c: Context) -> None:
    """start of a container that is not there is an error."""
    c.error("start of no container", c.runtime.call("start", unique("none")))


@case("lifecycle-run-program", "start-runs")
def start_runs_program(c: Context) -> None:
    """start runs the program, which ends with its own status."""
    output = c.run(["echo", "hello"], ["exit", "42"])
    c.equal("output", output.out, b"hello\n")
    c.within("exit status", output.status, (42, -1))


@case("start-status")
def start_status(c: Context) -> None:
    """After start the status is running."""
    c.equal("status", c.running().status, "running")


@case("start-not-created")
def start_twice(c: Context) -> None:
    """start of a running container is an error, and it runs on."""
    container = c.running()
    c.error("a second start", container.try_start())
    c.equal("status", container.status, "running")
    c.true("its process is there", container.alive())


@case("start-not-created")
def start_stopped(c: Context) -> None:
    """start of a stopped container is an error, and it stays stopped."""
    container = c.probe(["create", "/tmp/ran", "x"]).create().start()
    container.wait()
    container.wait_status("stopped")
    (c.rootfs / "tmp/ran").unlink()
    c.error("start of a stopped container", container.try_start())
    c.equal("status", container.status, "stopped")
    c.equal("the program ran again", (c.rootfs / "tmp/ran").exists(), False)


@case("start-without-process", "process-required")
def start_without_process(c: Context) -> None:
    """A container without process cannot be started."""
    c.set({"process": None})
    c.refused(why="a container without process is not started", late=True)


# -- kill --------------------------------------------------------------------------------------------------------------


@case("kill-without-id")
def kill_without_id(c: Context) -> None:
    """kill needs an ID."""
    c.error("kill without an ID", c.runtime.call("kill"))


@case("kill-wrong-status")
def kill_of_nothing(c: Context) -> None:
    """kill of a container that is not there is an error."""
    c.error("kill of no container", c.runtime.call("kill", unique("none"), "KILL"))


SIGNALS = {"TERM": 15, "HUP": 1, "USR1": 10, "15": 15, "34": 34}


@case("kill-sends", each={name: (name, number) for name, number in SIGNALS.items()})
def kill_sends_signal(c: Context, name: str, number: int) -> None:
    """kill sends the signal that it was given, and no other one."""
    container = c.probe("wait-signal").create().start()
    container.line()
    c.ok("kill", container.kill(name))
    c.equal("the signal that came", container.line()["signal"], number)


@case("kill-sends", "kill-stopped")
def kill_created(c: Context) -> None:
    """A created container can be killed, and is stopped then."""
    container = c.create()
    c.ok("kill of a created container", container.kill("KILL"))
    container.wait()
    c.equal("status", container.wait_status("stopped"), "stopped")


@case("kill-wrong-status")
def kill_stopped(c: Context) -> None:
    """kill of a stopped container is an error."""
    container = c.probe(["exit", "0"]).create().start()
    container.wait()
    container.wait_status("stopped")
    c.error("kill of a stopped container", container.kill("KILL"))
    c.equal("status", container.status, "stopped")



@case("kill-stopped", each={"exits": "exit", "is-killed": "kill", "is-killed-by-others": "outside"})
def stopped_however_it_ends(c: Context, how: str) -> None:
    """The status is stopped once the process has ended, whatever ended it."""
    container = c.probe(["exit", "5"]).create().start() if how == "exit" else c.running()
    if how == "kill":
        c.ok("kill", container.kill("KILL"))
    elif how == "outside":
        os.kill(container.pid, signal.SIGKILL)
    container.wait()
    c.equal("status", container.wait_status("stopped"), "stopped")


# -- delete ------------------------------------------------------------------------------------------------------------


@case("delete-without-id")
def delete_without_id(c: Context) -> None:
    """delete needs an ID."""
    c.error("delete without an ID", c.runtime.call("delete"))


@case("delete-not-stopped")
def delete_of_nothing(c: Context) -> None:
    """delete of a container that is not there is an error."""
    c.error("delete of no container", c.runtime.call("delete", unique("none")))


@case("delete-not-stopped")
def delete_running(c: Context) -> None:
    """delete of a running container is an error, and it runs on."""
    container = c.running()
    c.error("delete of a running container", container.delete())
    c.equal("status", container.status, "running")
    c.true("its process is there", container.alive())


@case("delete-not-stopped")
def delete_created(c: Context) -> None:
    """delete of a created container is an error, and it can still be started."""
    container = c.probe(["exit", "3"]).create()
    c.error("delete of a created container", container.delete())
    c.equal("status", container.status, "created")
    c.equal("exit status", container.start().finish().status, 3)


@case("delete-removes", "lifecycle-undo")
def delete_removes_all(c: Context) -> None:
    """After delete the container, its cgroups, mounts and processes are gone."""
    before = set(machine.own_mounts())
    path = unique("cg")
    c.linux(cgroupsPath=f"/{path}/inner").mount("/m", "tmpfs", "tmpfs")
    container = c.running(["fork", "2"])
    container.kill("KILL")
    container.wait()
    container.wait_status("stopped")
    c.ok("delete", container.delete())
    c.error("state after delete", c.runtime.call("state", c.id))
    c.nothing_left(before)
    left = [str(found) for found in machine.cgroups_named(path) if found.name == "inner"]
    c.equal("cgroups that are left", left, [])


@case("delete-only-own")
def delete_keeps_files(c: Context) -> None:
    """delete keeps the bundle, and what was bound into the container."""
    source = c.place / "source"
    source.mkdir()
    (source / "kept").write_text("x")
    c.mount("/m", "none", str(source), "rbind").run(["create", "/m/made", "y"])
    names = sorted(path.name for path in source.iterdir())
    c.equal("files of the bound directory", names, ["kept", "made"])
    c.true("the bundle is there", (c.bundle / "config.json").exists() and (c.rootfs / "probe").exists())


@case("delete-only-own")
def delete_keeps_cgroup_of_others(c: Context) -> None:
    """delete keeps a cgroup that was there before."""
    c.need_controller("pids")
    parent = unique("cg")
    roots = set(machine.hierarchies().values())
    for root in roots:
        path = root / parent
        path.mkdir()
        c.at_the_end(path.rmdir)
        if machine.PURE:
            for name in (root / "cgroup.controllers").read_text().split():
                try:
                    (root / "cgroup.subtree_control").write_text(f"+{name}")
                    (path / "cgroup.subtree_control").write_text(f"+{name}")
                except OSError:
                    pass
        elif (path / "cpuset.cpus").exists():
            for name in ("cpuset.cpus", "cpuset.mems"):
                (path / name).write_text((root / name).read_text())
    c.linux(cgroupsPath=f"/{parent}/own").run(["exit", "0"])
    c.equal("cgroups that are gone", [str(root) for root in roots if not (root / parent).exists()], [])
    c.equal("cgroups that are left", [str(root) for root in roots if (root / parent / "own").exists()], [])


@case("delete-only-own")
def delete_keeps_joined_namespace(c: Context) -> None:
    """delete keeps a namespace that the container only joined."""
    if shutil.which("unshare") is None:
        c.need(False, "no unshare(1)")
    from .namespaces import Holder

    with Holder(c, "--net") as holder:
        before = os.stat(holder.ns("net")).st_ino
        c.namespace("network", holder.ns("net")).run(["exit", "0"])
        c.equal("the namespace", os.stat(holder.ns("net")).st_ino, before)


@case("delete-id-again")
def id_again(c: Context) -> None:
    """The ID of a deleted container can be used again."""
    c.equal("exit status", c.run(["exit", "3"]).status, 3)
    c.equal("exit status of the second", c.run(["exit", "4"]).status, 4)


# -- runtime-linux.md --------------------------------------------------------------------------------------------------


@case("fds-only-stdio")
def no_other_descriptors(c: Context) -> None:
    """A descriptor that the caller left open does not reach the program."""
    extra = os.open("/", os.O_RDONLY)
    try:
        report = c.run("report", pass_fds=(extra,)).report
    finally:
        os.close(extra)
    c.equal("descriptors of the program", [entry["fd"] for entry in report["fds"]], [0, 1, 2])


LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


@case("dev-links", each={name: (name, target) for name, target in LINKS.items()})
def dev_links(c: Context, name: str, target: str) -> None:
    """The links of /dev lead to the descriptors."""
    entry = c.run(["lstat", f"/dev/{name}"]).files()[f"/dev/{name}"]
    c.equal(f"/dev/{name}", (entry.get("type"), entry.get("target")), ("link", target))
