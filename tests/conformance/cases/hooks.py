# SPDX-License-Identifier: Apache-2.0
"""config.md: hooks, each kind at its time, in its namespaces, and what its failure does."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from conformance.harness import machine
from conformance.harness.case import Failed, case
from conformance.harness.context import Context
from conformance.harness.runtime import parse_lines

EARLY = ("prestart", "createRuntime", "createContainer")
KINDS = (*EARLY, "startContainer", "poststart", "poststop")
RUNTIME_NAMESPACE = {"prestart": "prestart", "createRuntime": "create-runtime", "poststart": "poststart",
                     "poststop": "poststop"}  # fmt: skip
INSIDE = "/tmp/hooks"


class Hooks:
    """Hooks that write down what they see."""

    def __init__(self, c: Context) -> None:
        self.c = c
        self.file = c.place / "hooks"
        self.inside = c.rootfs / INSIDE.lstrip("/")

    def add(self, kind: str, tag: str | None = None, *options: str, **members: Any) -> Hooks:
        """Add a hook of this kind."""
        in_container = kind == "startContainer"
        path = "/probe" if in_container else str(self.c.probe_path)
        record = INSIDE if in_container else str(self.file)
        entry = {"path": path, "args": ["probe", "hook", record, "--tag", tag or kind, *options]} | members
        self.c.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)
        return self

    def records(self) -> list[dict[str, Any]]:
        """Return what the hooks wrote, in the order of time."""
        found = []
        for path in (self.file, self.inside):
            if path.exists():
                found += parse_lines(path.read_bytes())
        return sorted(found, key=lambda record: int(record["clocks"]["monotonic"]))

    def tags(self) -> list[str]:
        """Return the names of those that ran, in order."""
        return [record["tag"] for record in self.records()]

    def one(self, tag: str) -> dict[str, Any]:
        """Return what one of them wrote."""
        found = [record for record in self.records() if record["tag"] == tag]
        if len(found) != 1:
            raise Failed(f"the hook {tag} ran once", 1, self.tags())
        return found[0]


@case("hooks-order", each={kind: kind for kind in KINDS})
def hooks_in_order(c: Context, kind: str) -> None:
    """Three hooks of a kind run in the listed order."""
    hooks = Hooks(c).add(kind, "one").add(kind, "two").add(kind, "three")
    c.run(["exit", "0"])
    c.equal("hooks that ran", hooks.tags(), ["one", "two", "three"])


@case("prestart-first", "create-container-after")
def hooks_kinds_in_order(c: Context) -> None:
    """The kinds run in the order of the life of a container, whatever the order in the file."""
    hooks = Hooks(c)
    for kind in reversed(KINDS):
        hooks.add(kind)
    c.run(["exit", "0"])
    c.equal("hooks that ran", hooks.tags(), list(KINDS))


WHEN = {"prestart": "prestart-when", "createRuntime": "create-runtime-when", "createContainer": "create-container-when"}
LIFE = {"prestart": "lifecycle-prestart", "createRuntime": "lifecycle-create-runtime",
        "createContainer": "lifecycle-create-container"}  # fmt: skip


def early_hook(c: Context, kind: str) -> None:
    """The hook has run when create returns."""
    hooks = Hooks(c).add(kind)
    container = c.probe(["exit", "0"]).create()
    c.equal("hooks that ran in create", hooks.tags(), [kind])
    container.start().finish()
    c.equal("hooks that ran at all", hooks.tags(), [kind])


for _kind in EARLY:
    case(WHEN[_kind], LIFE[_kind], each={_kind: _kind})(early_hook)


def environment_is_there(c: Context, kind: str) -> None:
    """The container's mounts are made when the hook runs, and its root is not changed yet."""
    record = c.place / "seen"
    # Runs on the host: looks at the mounts of the process that the state names.
    script = (
        "import json,os,sys\n"
        "pid=json.load(sys.stdin)['pid']\n"
        f"open({str(record)!r},'w').write(json.dumps({{'mounts':open(f'/proc/{{pid}}/mountinfo').read(),"
        "'root':os.stat(f'/proc/{pid}/root').st_ino}))\n"
    )
    c.set({"hooks": {kind: [{"path": sys.executable, "args": ["python3", "-I", "-S", "-c", script]}]}})
    c.mount("/m", "tmpfs", "only-here")
    c.probe(["exit", "0"]).create()
    seen = json.loads(record.read_text())
    sources = [entry.source for entry in machine.mounts(seen["mounts"])]
    c.true("the mount is there", "only-here" in sources, sources)
    c.equal("the root directory of the process is the host's", seen["root"], os.stat("/").st_ino)


for _kind in ("prestart", "createRuntime"):
    case(WHEN[_kind], each={_kind: _kind})(environment_is_there)


@case("create-container-when")
def create_container_before_pivot(c: Context) -> None:
    """When a createContainer hook runs, the mounts are made and the root directory is still the host's."""
    hooks = Hooks(c).add("createContainer")
    c.mount("/m", "tmpfs", "only-here").probe(["exit", "0"]).create()
    record = hooks.one("createContainer")
    sources = [entry.source for entry in machine.mounts(record["mountinfo"] or "")]
    c.true("the mount is there", "only-here" in sources, sources)
    c.equal("root directory", record["root"]["ino"], os.stat("/").st_ino)


@case("create-container-when")
def create_container_reaches_mounts(c: Context) -> None:
    """A createContainer hook finds the container's mounts where the state and the configuration say that its root is."""
    source = c.place / "source"
    source.mkdir()
    c.mount("/m", "none", str(source), "bind")
    tool = source / "tool"
    tool.write_bytes(c.probe_path.read_bytes())
    tool.chmod(0o755)
    hook = {"path": str(c.rootfs / "m/tool"), "args": ["probe", "exit", "0"]}
    c.set({"hooks": {"createContainer": [hook]}})
    done = c.try_create()
    c.ok("create with a hook whose program is in a mount of the container", done)


@case("start-container-when", "lifecycle-start-container")
def start_container_before_program(c: Context) -> None:
    """A startContainer hook runs in start, before the program."""
    hooks = Hooks(c).add("startContainer")
    container = c.probe("report").create()
    c.equal("hooks that ran in create", hooks.tags(), [])
    output = container.start().finish()
    c.equal("hooks that ran", hooks.tags(), ["startContainer"])
    hook, program = hooks.one("startContainer")["clocks"]["monotonic"], output.report["clocks"]["monotonic"]
    c.true("the hook ran before the program", hook < program, (hook, program))


@case("poststart-when", "lifecycle-poststart")
def poststart_before_start_returns(c: Context) -> None:
    """A poststart hook runs before start returns, when the program was executed."""
    hooks = Hooks(c).add("poststart")
    container = c.probe("report", "sleep").create()
    c.equal("hooks that ran in create", hooks.tags(), [])
    container.start()
    c.equal("hooks that ran when start returned", hooks.tags(), ["poststart"])
    state = json.loads(hooks.one("poststart")["stdin"])
    c.equal("status that the hook saw", state.get("status"), "running")


@case("poststop-when", "lifecycle-poststop")
def poststop_in_delete(c: Context) -> None:
    """A poststop hook runs in delete and not before."""
    hooks = Hooks(c).add("poststop")
    container = c.probe(["exit", "0"]).create().start()
    container.wait()
    container.wait_status("stopped")
    c.equal("hooks that ran before delete", hooks.tags(), [])
    c.ok("delete", container.delete())
    c.equal("hooks that ran when delete returned", hooks.tags(), ["poststop"])


@case("poststop-when")
def poststop_after_deletion(c: Context) -> None:
    """When a poststop hook runs, the container's cgroup is gone."""
    c.need_controller("pids")
    record = c.place / "seen"
    c.probe("sleep")
    script = f"import os,sys\nopen({str(record)!r},'w').write(str(os.path.exists(sys.argv[1])))\n"
    args = ["python3", "-I", "-S", "-c", script]
    path = f"/{c.id}cgroup"
    place = str((machine.CGROUP if machine.PURE else machine.hierarchies()["pids"]) / path.lstrip("/"))
    c.set({"hooks": {"poststop": [{"path": sys.executable, "args": [*args, place]}]}})
    c.linux(cgroupsPath=path, resources={"pids": {"limit": 50}})
    container = c.create().start()
    c.true("the cgroup is where cgroupsPath says", os.path.exists(place), place)
    container.kill("KILL")
    container.wait()
    container.wait_status("stopped")
    c.ok("delete", container.delete())
    c.equal("the cgroup is there while the hook runs", record.read_text(), "False")


# -- namespaces --------------------------------------------------------------------------------------------------------


def in_runtime_namespace(c: Context, kind: str) -> None:
    """The hook runs in all namespaces of the runtime, and its program is the host's."""
    hooks = Hooks(c).add(kind)
    c.namespace("cgroup").run(["exit", "0"])
    seen = hooks.one(kind)["namespaces"]
    names = [name for name, _ in machine.NAMESPACES.values() if os.path.exists(f"/proc/self/ns/{name}")]
    other = [name for name in names if seen.get(name) != os.stat(f"/proc/self/ns/{name}").st_ino]
    c.equal("namespaces that are not the runtime's", other, [])


for _kind, _word in RUNTIME_NAMESPACE.items():
    case(f"{_word}-namespace", f"{_word}-path", each={_kind: _kind})(in_runtime_namespace)


def in_container_namespace(c: Context, kind: str) -> None:
    """The hook runs in the container's namespaces."""
    hooks = Hooks(c).add(kind)
    container = c.running()
    seen = hooks.one(kind)["namespaces"]
    names = ("mnt", "net", "uts", "ipc", "pid")
    other = [name for name in names if seen.get(name) != os.stat(f"/proc/{container.pid}/ns/{name}").st_ino]
    c.equal("namespaces that are not the container's", other, [])


case("create-container-namespace", each={"createContainer": "createContainer"})(in_container_namespace)
case("start-container-namespace", each={"startContainer": "startContainer"})(in_container_namespace)


@case("create-container-path")
def create_container_path_on_host(c: Context) -> None:
    """The program of a createContainer hook is the one of the host where both have one of that path."""
    host = c.place / "tool"
    host.write_bytes(c.probe_path.read_bytes())
    host.chmod(0o755)
    c.file(str(host), "#!/nothing\n", 0o755)
    hooks = Hooks(c).add("createContainer", path=str(host))
    c.probe(["exit", "0"]).create()
    c.equal("hooks that ran", hooks.tags(), ["createContainer"])


@case("start-container-path")
def start_container_path_inside(c: Context) -> None:
    """The program of a startContainer hook is found in the container."""
    c.file("/only/inside", c.probe_path.read_bytes(), 0o755)
    hooks = Hooks(c).add("startContainer", path="/only/inside")
    c.run(["exit", "0"])
    c.equal("hooks that ran", hooks.tags(), ["startContainer"])


# -- what they are given -----------------------------------------------------------------------------------------------

STATUSES = {
    "prestart": ("creating", "created"),
    "createRuntime": ("creating", "created"),
    "createContainer": ("creating", "created"),
    "startContainer": ("created",),
    "poststart": ("running",),
    "poststop": ("stopped",),
}


@case("hooks-state", each={kind: kind for kind in KINDS})
def hooks_get_state(c: Context, kind: str) -> None:
    """A hook gets the state document, with the status of that moment."""
    c.set({"annotations": {"com.example.key": "value"}})
    hooks = Hooks(c).add(kind)
    c.run(["exit", "0"])
    text = hooks.one(kind)["stdin"]
    try:
        state = json.loads(text)
    except ValueError:
        raise Failed("standard input of the hook is JSON", "a state document", text) from None
    c.equal("id", state.get("id"), c.id)
    c.equal("bundle", state.get("bundle"), os.path.realpath(c.bundle))
    c.equal("annotations", (state.get("annotations") or {}).get("com.example.key"), "value")
    c.true("ociVersion is there", isinstance(state.get("ociVersion"), str), state)
    c.within("status", state.get("status"), STATUSES[kind])


@case("state-pid-hook-runtime", "hooks-state", each={kind: kind for kind in ("prestart", "createRuntime", "poststart")})
def hooks_pid_of_runtime(c: Context, kind: str) -> None:
    """The pid in the state of a hook on the host is that of the container's process there."""
    hooks = Hooks(c).add(kind)
    container = c.running()
    c.equal("pid", json.loads(hooks.one(kind)["stdin"]).get("pid"), container.pid)


@case("state-pid-hook-container", each={kind: kind for kind in ("createContainer", "startContainer")})
def hooks_pid_of_container(c: Context, kind: str) -> None:
    """The pid in the state of a hook in the container is the one that it sees there."""
    hooks = Hooks(c).add(kind)
    c.running()
    c.equal("pid", json.loads(hooks.one(kind)["stdin"]).get("pid"), 1)


@case("hook-args", each={kind: kind for kind in ("createRuntime", "createContainer", "startContainer")})
def hooks_args(c: Context, kind: str) -> None:
    """The arguments of a hook are the configured ones."""
    hooks = Hooks(c).add(kind, "tag", "two words", "", "ü")
    c.run(["exit", "0"])
    seen = hooks.one("tag")["argv"]
    c.equal("arguments", seen[0:2] + seen[5:], ["probe", "hook", "two words", "", "ü"])


@case("hook-env", each={kind: kind for kind in ("createRuntime", "createContainer", "startContainer", "poststart")})
def hooks_env(c: Context, kind: str) -> None:
    """The environment of a hook is the configured one."""
    wanted = ["ONE=1", "EMPTY=", "TWO=a=b"]
    hooks = Hooks(c).add(kind, env=wanted)
    c.run(["exit", "0"])
    c.equal("environment", sorted(hooks.one(kind)["environ"]), sorted(wanted))


# -- failures ----------------------------------------------------------------------------------------------------------


@case("hook-path-absolute", each={kind: kind for kind in KINDS})
def hook_path_relative(c: Context, kind: str) -> None:
    """A relative path of a hook is an error."""
    path = os.path.relpath(c.probe_path, c.bundle) if kind != "startContainer" else "probe"
    c.set({"hooks": {kind: [{"path": path, "args": ["probe", "exit", "0"]}]}})
    c.refused(why="a hook with a relative path", late=kind in ("startContainer", "poststart"))


@case("hook-timeout-positive", each={"zero": 0, "negative": -1})
def hook_timeout_not_positive(c: Context, timeout: int) -> None:
    """A timeout that is not above 0 is an error."""
    Hooks(c).add("createRuntime", timeout=timeout)
    c.refused(why=f"a timeout of {timeout}")


@case("hook-timeout", each={"createRuntime": "createRuntime", "createContainer": "createContainer"})
def hook_timeout(c: Context, kind: str) -> None:
    """A hook that hangs is ended when its time is over, and create fails."""
    Hooks(c).add(kind, "hang", "--hang", timeout=1)
    c.refused(why="a hook that runs longer than its timeout")


def early_hook_fails(c: Context, kind: str) -> None:
    """A hook that fails is an error of create, and nothing of the container is left."""
    hooks = Hooks(c).add(kind, "bad", "--fail", "3")
    c.refused(why="a hook that exits with 3")
    c.equal("hooks that ran", hooks.tags(), ["bad"])


for _kind in EARLY:
    case(LIFE[_kind], "errors-no-trace", each={_kind: _kind})(early_hook_fails)


@case("lifecycle-prestart", each={"signal": ("--signal", "9"), "no-program": ()})
def early_hook_fails_otherwise(c: Context, *options: str) -> None:
    """A hook that dies of a signal, or cannot be executed, has failed."""
    if options:
        Hooks(c).add("prestart", "bad", *options)
    else:
        Hooks(c).add("prestart", path="/no/such/program")
    c.refused(why="a hook that does not end well")


@case("lifecycle-start-container")
def start_container_hook_fails(c: Context) -> None:
    """A startContainer hook that fails is an error of start, and the program never runs."""
    Hooks(c).add("startContainer", "bad", "--fail", "3")
    container = c.probe(["create", "/tmp/ran", "x"]).create()
    c.error("start with a hook that fails", container.try_start())
    container.wait()
    c.equal("the program ran", (c.rootfs / "tmp/ran").exists(), False)


@case("lifecycle-start-container", "lifecycle-undo")
def start_container_hook_failure_destroys(c: Context) -> None:
    """A startContainer hook that fails destroys the container, and its poststop hooks run."""
    hooks = Hooks(c).add("startContainer", "bad", "--fail", "3").add("poststop")
    container = c.probe(["exit", "0"]).create()
    c.error("start with a hook that fails", container.try_start())
    c.equal("the container is there", c.runtime.exists(c.id), False)
    c.equal("hooks that ran", hooks.tags(), ["bad", "poststop"])


@case("lifecycle-poststart-failure")
def poststart_hook_fails(c: Context) -> None:
    """A poststart hook that fails is an error of start, and the process is ended."""
    Hooks(c).add("poststart", "bad", "--fail", "3")
    container = c.probe("sleep").create()
    c.error("start with a hook that fails", container.try_start())
    container.wait()


@case("lifecycle-poststart-failure", "lifecycle-undo")
def poststart_hook_failure_destroys(c: Context) -> None:
    """A poststart hook that fails destroys the container, and its poststop hooks run."""
    hooks = Hooks(c).add("poststart", "bad", "--fail", "3").add("poststop")
    container = c.probe("sleep").create()
    c.error("start with a hook that fails", container.try_start())
    c.equal("the container is there", c.runtime.exists(c.id), False)
    c.equal("hooks that ran", hooks.tags(), ["bad", "poststop"])


@case("lifecycle-poststop", each={kind: kind for kind in EARLY})
def poststop_after_failed_create(c: Context, kind: str) -> None:
    """When create fails because of a hook, the poststop hooks run."""
    hooks = Hooks(c).add(kind, "bad", "--fail", "3").add("poststop")
    c.refused(why="a hook that fails")
    c.equal("hooks that ran", hooks.tags(), ["bad", "poststop"])


@case("lifecycle-poststop-failure", "warnings-go-on")
def poststop_hook_fails(c: Context) -> None:
    """A poststop hook that fails stops neither the others nor delete."""
    hooks = Hooks(c).add("poststop", "bad", "--fail", "3").add("poststop", "good")
    container = c.probe(["exit", "0"]).create().start()
    container.wait()
    container.wait_status("stopped")
    c.ok("delete", container.delete())
    c.equal("hooks that ran", hooks.tags(), ["bad", "good"])
    c.equal("the container is there", c.runtime.exists(c.id), False)


@case("lifecycle-poststop-failure")
def poststop_hook_failure_is_told(c: Context) -> None:
    """A poststop hook that fails is a warning, on standard error or in the log."""
    Hooks(c).add("poststop", "bad", "--fail", "3")
    container = c.probe(["exit", "0"]).create().start()
    container.wait()
    container.wait_status("stopped")
    log = c.place / "log"
    done = c.runtime.call("--log", str(log), "delete", c.id)
    c.ok("delete", done)
    told = done.err + (log.read_text() if log.exists() else "")
    c.true("something is said", told.strip())



