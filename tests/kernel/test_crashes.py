# SPDX-License-Identifier: Apache-2.0
"""R-01 and L4: the runtime killed, or a system call failing, at every point of every verb.

A spread of the points is tried; OCIRUN_SWEEP=all tries each one (minutes).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand, reap
from support.everything import everything, normalise
from support.native import FaultK
from support.oracle import HostSnapshot, remove_leftovers
from support.sweep import spread

pytestmark = [
    pytest.mark.root,
    pytest.mark.ocirun_only("runc and crun leave things behind (runc #4534)"),
]
MkBundle = Callable[..., Bundle]

CRITICAL = (
    "setgroups,setresgid,setresuid,capset,prctl,seccomp,mount,move_mount,mount_setattr,fsconfig,fsmount,"
    "open_tree,pivot_root,umount2,chdir,fchdir,getcwd,fstatfs,close_range,setsid,setns,unshare,"
    "sethostname,prlimit64,mknodat,symlinkat,write,fchmod,fchownat"
)
ERRNOS = (errno.EPERM, errno.ENOMEM, errno.EINVAL, errno.EIO, errno.ENOSYS, errno.EACCES)


class Cycle:
    """Brings a container into the state that a verb starts from, and checks what a crash left."""

    def __init__(self, runtime: RuntimeCommand, bundle: Bundle, oracle: HostSnapshot) -> None:
        self.runtime = runtime
        self.bundle = bundle
        self.oracle = oracle

    def prepare(self, verb: str) -> None:
        """Make a container for `verb`, under a new ID."""
        self.bundle.again().write()
        self.runtime.remember(self.bundle.id)
        if verb == "create":
            return
        container = self.runtime.create(self.bundle)
        if verb in ("delete", "kill", "pause", "resume"):
            container.start().line()
        if verb == "resume":
            self.runtime.call("pause", container.id).ok()
        if verb == "delete":
            container.kill(9).ok()
            container.wait()

    def words(self, verb: str) -> list[str]:
        """Return the arguments of the verb."""
        if verb == "create":
            return ["create", "--bundle", str(self.bundle.path), self.bundle.id]
        return [*verb.split(), self.bundle.id]

    def check(self) -> None:
        """Fail unless everything can be listed, removed and made again."""
        runtime, name = self.runtime, self.bundle.id
        state = runtime.call("state", name)
        if state.rc == 0:
            if json.loads(state.stdout)["status"] == "paused":
                runtime.call("resume", name).ok()
                assert runtime.state(name)["status"] == "running"
        else:
            state.refused("does not exist")
        json.loads(runtime.call("list", "--format", "json").ok().stdout)
        runtime.call("delete", "--force", name, orphans=True).ok()
        runtime.call("delete", "--force", name).ok()
        # a directory that delete had already renamed is nobody's container: gc removes it
        runtime.call("gc").ok()
        reap()
        runtime.call("create", "--bundle", str(self.bundle.path), name).ok()
        runtime.call("delete", "--force", name, orphans=True).ok()
        reap()


# only create has processes beside the command's own
SWEEPS = [
    *(("create", victim) for victim in ("parent", "init", "both")),
    *((verb, "parent") for verb in ("start", "kill", "delete", "delete --force", "pause", "resume")),
]


@pytest.mark.parametrize(("verb", "victim"), SWEEPS)
def test_kill_everywhere(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, verb: str, victim: str) -> None:
    """R-01: after SIGKILL at any call state and list work, delete --force leaves nothing, the ID is free.

    A container that is paused then can be resumed.
    """
    sweep(runtime, bundle.linux(resources={"pids": {"limit": 50}}), workdir, verb, victim)


@pytest.mark.userns
@pytest.mark.kernel("6.3")
@pytest.mark.parametrize("victim", ["parent", "init", "both"])
def test_kill_everywhere_with_a_mapped_mount(
    runtime: RuntimeCommand, bundle: Bundle, workdir: Path, victim: str
) -> None:
    """R-01: the process that holds a user namespace for the maps of a mount, and nodes made for one, are no leftovers."""
    maps = {f"{kind}Mappings": [{"containerID": 0, "hostID": 200000, "size": 10}] for kind in ("uid", "gid")}
    for name in ("a", "b"):
        bundle.dir(f"/{name}").mount(f"/{name}", "tmpfs", "tmpfs", "idmap")
    bundle.spec["mounts"][-1].update(maps)
    sweep(runtime, bundle.userns(), workdir, "create", victim)


def sweep(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, verb: str, victim: str) -> None:
    """Kill at some of the calls of a verb, and check after each."""
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"))
    bundle.seq("ready", "sleep")
    snapshot = HostSnapshot(runtime.root)
    cycle = Cycle(runtime, bundle, snapshot)
    cycle.prepare(verb)
    runtime.under(*faultk.count()).call(*cycle.words(verb)).ok()
    calls = faultk.calls()
    runtime.cleanup()
    failures = []
    for number in spread(len(calls)):
        cycle.prepare(verb)
        try:
            runtime.under(*faultk.kill(number, victim)).call(*cycle.words(verb))
            at = (faultk.calls() or ["?"])[-1]
            cycle.check()
            runtime.cleanup()
            snapshot.assert_clean()
        except AssertionError as error:
            failures.append(f"{verb}, {victim} killed at {number} ({at}): {error}")
            runtime.cleanup()
    assert not failures, "\n".join(failures)


def test_create_reports_the_death_of_init(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """When init alone is killed create fails with a message, and leaves nothing by itself."""
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"))
    snapshot = HostSnapshot(runtime.root)
    bundle.seq("ready", "sleep")
    runtime.under(*faultk.count()).try_create(bundle).ok()
    total = len(faultk.calls())
    runtime.cleanup()
    for number in spread(total):
        result = runtime.under(*faultk.kill(number, "init")).try_create(bundle.again())
        if result.rc == 0:
            # killed after create had seen it ready, or before there was an init
            runtime.call("delete", "--force", bundle.id, orphans=True).ok()
        else:
            result.refused()
            runtime.call("state", bundle.id).refused("does not exist")
        reap()
        snapshot.assert_clean()


@pytest.mark.parametrize("userns", [False, True])
def test_fails_closed(runtime: RuntimeCommand, mkbundle: MkBundle, workdir: Path, userns: bool) -> None:
    """L4: with any one critical call failing the program runs with all protections, or not at all."""
    bundle = everything(mkbundle(), userns)
    snapshot = HostSnapshot(runtime.root)
    baseline = normalise(runtime.run(bundle).ok())
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"), only=CRITICAL)
    runtime.under(*faultk.count()).run(bundle.again()).ok()
    calls = faultk.calls()
    failures = []
    for number in spread(len(calls)):
        error = ERRNOS[number % len(ERRNOS)]
        result = runtime.under(*faultk.fail(number, error)).run(bundle.again())
        what = f"{errno.errorcode[error]} at {number} ({(faultk.calls() or ['?'])[: number + 1][-1]})"
        try:
            if result.all("report"):
                assert normalise(result) == baseline, "the program ran with something missing"
            else:
                result.refused()
            runtime.call("delete", "--force", bundle.id, orphans=True).ok()
            reap()
            snapshot.assert_clean()
        except AssertionError as problem:
            failures.append(f"{what}: {str(problem)[:2000]}")
            runtime.cleanup()
            remove_leftovers()
    assert not failures, "\n".join(failures)
