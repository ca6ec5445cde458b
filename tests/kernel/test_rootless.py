# SPDX-License-Identifier: Apache-2.0
"""An ordinary user's containers: user namespaces, ids and groups, the life of a container, the state root.

Spec: config-linux.md#user-namespace-mappings; Kernel: user_namespaces(7); newuidmap(1)
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.user import FIRST_SUBORDINATE, GID, SUBORDINATES, UID, User, is_kept, single, subordinate

pytestmark = [pytest.mark.root, pytest.mark.userns]
MkBundle = Callable[..., Bundle]
ONLY_OURS = pytest.mark.ocirun_only("about our own messages")
MAPS = ["read", "/proc/self/uid_map"], ["read", "/proc/self/gid_map"], ["read", "/proc/self/setgroups"]
ALL = f"{0:>10} {UID:>10} {1:>10}\n{1:>10} {FIRST_SUBORDINATE:>10} {SUBORDINATES:>10}\n"


def one(inside: int, outside: int) -> str:
    """Return a map of one line as the kernel prints it."""
    return f"{inside:>10} {outside:>10} {1:>10}\n"


# ---- ids ---------------------------------------------------------------------------------------


def test_own_id_alone(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """One mapping, of the caller's own ids, needs no program; the kernel wants setgroups denied for it."""
    result = rootless.run(own_bundle.seq("report", *MAPS)).ok()
    assert result.report["uids"] == [0] * 4
    assert result.report["gids"] == [0] * 4
    assert result.reads == {
        "/proc/self/uid_map": one(0, UID),
        "/proc/self/gid_map": one(0, GID),
        "/proc/self/setgroups": "deny\n",
    }


def test_subordinate_ids(rootless: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """More mappings are written by newuidmap and newgidmap; files of the container belong to the ids on the host."""
    subordinate(bundle).seq("report", *MAPS, ["create", "/tmp/made", "x"]).process(user={"uid": 1000, "gid": 1000})
    result = rootless.run(user.own(bundle)).ok()
    assert result.report["uids"] == [1000] * 4
    assert result.reads == {
        "/proc/self/uid_map": ALL,
        "/proc/self/gid_map": ALL,
        "/proc/self/setgroups": "allow\n",
    }
    made = bundle.inside("/tmp/made").stat()
    assert (made.st_uid, made.st_gid) == (FIRST_SUBORDINATE + 999, FIRST_SUBORDINATE + 999)


@pytest.mark.peer_fails(runc="needs root inside")
def test_without_root_inside(rootless: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """The container's root need not be mapped: init works as whoever is."""
    single(bundle, inside=1000).process(user={"uid": 1000, "gid": 1000})
    report = rootless.report(user.own(bundle))
    assert report["uids"] == [1000] * 4
    assert report["gids"] == [1000] * 4


@ONLY_OURS
def test_programs_are_not_run_without_need(runtime: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """Neither for one's own id nor by root, and never what PATH says."""
    fakes = user.home / "bin"
    fakes.mkdir()
    for name in ("newuidmap", "newgidmap"):
        (fakes / name).write_text(f"#!/bin/sh\ntouch {user.home}/ran; exit 1\n")
        (fakes / name).chmod(0o755)
    user.home.chmod(0o777)
    path = f"PATH={fakes}:/usr/bin:/bin"
    rootless = user.runtime(runtime, *user.words(env=[path]))
    try:
        rootless.run(user.own(subordinate(bundle))).ok()
        rootless.run(user.own(single(bundle.again()))).ok()
        assert not (user.home / "ran").exists()
        cover = f'for p in newuidmap newgidmap; do mount --bind {fakes}/$p /usr/bin/$p; done; exec "$@"'
        covered = ("unshare", "-m", "sh", "-c", cover, "sh")
        for other in (
            user.runtime(runtime, *user.words(before=covered)),
            runtime.under(*covered),
        ):
            other.run(user.own(single(bundle.again()))).ok()
            assert not (user.home / "ran").exists()
        other = user.runtime(runtime, *user.words(before=covered))
        other.run(user.own(subordinate(bundle.again()))).refused("/linux/uidMappings")
        assert (user.home / "ran").exists()
    finally:
        rootless.cleanup()


@ONLY_OURS
@pytest.mark.parametrize("name", ["newuidmap", "newgidmap"])
def test_program_that_fails(
    runtime: RuntimeCommand, user: User, bundle: Bundle, workdir: Path, name: str
) -> None:
    """Its exit status and its words are in the error, and nothing is left."""
    fake = workdir / "fake"
    fake.write_text("#!/bin/sh\necho these are my words >&2\nexit 3\n")
    fake.chmod(0o755)
    before = ("unshare", "-m", "sh", "-c", f'mount --bind {fake} /usr/bin/{name}; exec "$@"', "sh")
    rootless = user.runtime(runtime, *user.words(before=before))
    result = rootless.run(user.own(subordinate(bundle)))
    pointer = "/linux/uidMappings" if name == "newuidmap" else "/linux/gidMappings"
    result.refused(pointer, f"/usr/bin/{name} ended with exit status 3: these are my words", "hint:")
    assert not (rootless.root / bundle.id).exists()


@ONLY_OURS
def test_without_the_programs(runtime: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """Without newuidmap a user can map its own id; the refusal says so."""
    hide = 'for p in newuidmap newgidmap; do mount --bind /dev/null /usr/bin/$p; done; exec "$@"'
    before = ("unshare", "-m", "sh", "-c", hide, "sh")
    rootless = user.runtime(runtime, *user.words(before=before))
    rootless.run(user.own(subordinate(bundle))).refused(
        "/linux/uidMappings", "newuidmap is not installed", "/linux/gidMappings", f"its own: {UID}"
    )
    rootless.run(user.own(single(bundle.again()))).ok()
    rootless.cleanup()


RANGES = {
    "one-too-many": (FIRST_SUBORDINATE, SUBORDINATES + 1),
    "one-before": (FIRST_SUBORDINATE - 1, 10),
    "another-user": (0, 1),
    "beyond": (FIRST_SUBORDINATE + SUBORDINATES, 1),
}


@pytest.mark.parametrize("first,size", RANGES.values(), ids=RANGES)
def test_ids_of_others(rootless: RuntimeCommand, user: User, bundle: Bundle, first: int, size: int) -> None:
    """What /etc/subuid does not give is refused before anything happens, with the place and what it does give."""
    subordinate(bundle)
    for name in ("uidMappings", "gidMappings"):
        bundle.spec["linux"][name] = [
            bundle.spec["linux"][name][0],
            {"containerID": 1, "hostID": first, "size": size},
        ]
    result = rootless.run(user.own(bundle))
    assert result.rc != 0
    if rootless.name == "ocirun":
        end = FIRST_SUBORDINATE + SUBORDINATES - 1
        result.refused("/linux/uidMappings/1/hostID", f"/etc/subuid has {FIRST_SUBORDINATE} to {end}", str(UID))
        result.refused("/linux/gidMappings/1/hostID", "/etc/subgid")
    assert not (rootless.root / bundle.id).exists()


@pytest.mark.peer_fails(crun="makes one by itself")
def test_a_user_namespace_is_needed(rootless: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """Without one nothing can be done, which is said rather than tried."""
    result = rootless.run(user.own(bundle))
    result.refused()
    if rootless.name == "ocirun":
        result.refused("/linux/namespaces", "spec --rootless")


# ---- groups ------------------------------------------------------------------------------------


@pytest.mark.peer_fails(runc="sets no groups for users at all")
def test_groups_with_subordinate_ids(rootless: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """newgidmap lets setgroups be, so the list is exactly the configured one."""
    subordinate(bundle).process(user={"uid": 0, "gid": 0, "additionalGids": [7, 5]})
    assert rootless.report(user.own(bundle))["groups"] == [5, 7]


@ONLY_OURS
def test_groups_that_cannot_be_set(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """With one's own id alone setgroups is denied: a list is refused."""
    own_bundle.process(user={"uid": 0, "gid": 0, "additionalGids": [0]})
    rootless.run(own_bundle).refused("/process/user/additionalGids", "setgroups is denied", "/etc/subgid")


@pytest.mark.peer_fails(runc="does not know the annotation")
def test_groups_are_kept_on_demand(runtime: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """run.oci.keep_original_groups: what the caller's groups may do, the container may."""
    secret = user.home / "shared"
    secret.write_text("for the group")
    secret.chmod(0o640)
    os.chown(secret, 0, 61900)
    user.home.chmod(0o755)
    rootless = user.runtime(runtime, *user.words(groups=[61900]))
    subordinate(bundle).mount("/shared", "bind", secret, "bind").seq("report", ["read", "/shared"])
    bundle.dir("/tmp").file("/shared")
    assert rootless.run(user.own(bundle)).ok().outcomes("read") == {"/shared": "EACCES"}
    bundle.again().patch({"annotations": {"run.oci.keep_original_groups": "1"}})
    result = rootless.run(bundle).ok()
    assert result.outcomes("read") == {"/shared": "ok"}
    assert result.report["groups"] == [65534]
    rootless.cleanup()


# ---- life --------------------------------------------------------------------------------------


@pytest.mark.vm
def test_life(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """All commands of a container's life work without root."""
    container = rootless.create(own_bundle.seq("ready", ["wait-signal", "TERM"]))
    assert container.status() == "created"
    assert own_bundle.id in rootless.call("list", "-q").ok().stdout.decode().split()
    container.start()
    assert container.line()["verb"] == "ready"
    container.line()  # a signal that comes before it is waited for is lost on the first process of a pid namespace
    assert container.status() == "running"
    container.kill("TERM").ok()
    container.rest()
    container.wait()
    assert container.status() == "stopped"
    container.delete().ok()
    rootless.call("state", own_bundle.id).refused("does not exist")


def test_kill_and_forced_delete(rootless: RuntimeCommand, mkrootless: MkBundle) -> None:
    """Without a cgroup too the end of init is the end of all that share its pid namespace."""
    for force in (False, True):
        bundle = mkrootless().seq("ready", ["sleep", 1000])
        container = rootless.create(bundle).start()
        container.line()
        if force:
            container.delete("--force").ok()
            assert container.wait() in (137, -1)
        else:
            container.kill("KILL").ok()
            assert container.wait() in (137, -1)
            container.delete().ok()


def test_exec(rootless: RuntimeCommand, mkrootless: MkBundle, user: User, bundle: Bundle) -> None:
    """Another process comes into the container's user namespace and into all others, with a cgroup and without."""
    for each in (mkrootless(), user.own(subordinate(bundle))):
        container = rootless.create(each.seq("ready", ["sleep", 1000])).start()
        container.line()
        report = rootless.call("exec", each.id, "/probe", "report").ok().report
        assert report["uids"] == [0] * 4
        for kind in ("user", "pid", "mnt", "net"):
            assert f"{kind}:[{report['namespaces'][kind]}]" == os.readlink(f"/proc/{container.pid}/ns/{kind}")
        container.delete("--force").ok()
        container.wait()


def test_exec_as_other_users(rootless: RuntimeCommand, user: User, bundle: Bundle) -> None:
    """Who is executed is one of the container's ids, with a home and groups there and no capabilities; no other id."""
    container = rootless.create(user.own(subordinate(bundle)).seq("ready", ["sleep", 1000])).start()
    container.line()
    report = rootless.call("exec", "--user", "5:6", bundle.id, "/probe", "report").ok().report
    assert (report["uids"], report["gids"]) == ([5] * 4, [6] * 4)
    assert report["caps"]["effective"] == report["caps"]["permitted"] == 0
    rootless.call("exec", "--user", "70000", bundle.id, "/probe", "report").refused("uid")
    rootless.call("exec", "--user", "5:70000", bundle.id, "/probe", "report").refused("gid")
    container.delete("--force").ok()
    container.wait()


def test_what_is_executed_ends_with_the_container(
    rootless: RuntimeCommand, user: User, bundle: Bundle, mkrootless: MkBundle
) -> None:
    """Of a user who has no cgroup the kernel ends it, with the pid namespace."""
    for each in (user.own(subordinate(bundle)), mkrootless()):
        container = rootless.create(each.seq("ready", ["sleep", 1000])).start()
        container.line()
        pid_file = rootless.root.parent / f"{each.id}.pid"
        rootless.call("exec", "--detach", "--pid-file", str(pid_file), each.id, "/probe", "sleep", "1000").ok()
        executed = os.pidfd_open(int(pid_file.read_text()))
        try:
            container.kill("KILL").ok()
            os.waitid(os.P_PIDFD, executed, os.WEXITED)  # init is gone when all others of its namespace are reaped
        finally:
            os.close(executed)
        assert container.wait() in (137, -1)
        container.delete().ok()


@ONLY_OURS
def test_failed_create_leaves_nothing(rootless: RuntimeCommand, own_bundle: Bundle) -> None:
    """And gc finds nothing to do."""
    rootless.run(own_bundle.args("/probe").process(args=["/not-there"])).refused("no such file")
    assert rootless.call("list", "-q").ok().stdout == b""
    assert rootless.call("gc").ok().stdout == b""


# ---- the state root ------------------------------------------------------------------------------


def command(runtime: RuntimeCommand, *words: str) -> list[str]:
    """Return a command line without --root."""
    return [*runtime.wrapper, *runtime.argv, *words]


@ONLY_OURS
def test_default_state_root(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """XDG_RUNTIME_DIR/ocirun, for the user alone, with the sticky bit that keeps cleaners away."""
    own_bundle.write()
    subprocess.run(
        command(rootless, "create", "--bundle", str(own_bundle.path), own_bundle.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=True,
    )  # fmt: skip
    root = user.runtime_directory / "ocirun"
    assert is_kept(root)
    assert (root / own_bundle.id / "state.json").exists()
    listed = subprocess.run(command(rootless, "list", "-q"), capture_output=True, timeout=60, check=True)
    assert listed.stdout.decode().split() == [own_bundle.id]
    subprocess.run(command(rootless, "delete", "--force", own_bundle.id), timeout=60, check=True)
    assert list(root.iterdir()) == []


@ONLY_OURS
def test_no_state_root(rootless: RuntimeCommand, runtime: RuntimeCommand, user: User, workdir: Path) -> None:
    """A directory that is missing, another's or open to others is not used, and the error says which it is."""
    foreign, opened, link = workdir / "foreign", workdir / "open", workdir / "file"
    foreign.mkdir(mode=0o700)
    opened.mkdir()
    os.chown(opened, UID, GID)
    opened.chmod(0o770)
    link.write_text("")
    for value, words in {
        "": "XDG_RUNTIME_DIR is not set",
        "relative": "is not an absolute path",
        str(workdir / "missing"): "no such file or directory",
        str(foreign): f"belongs to uid 0, and the caller is {UID}",
        str(opened): "others may write to",
        str(link): "is not a directory",
    }.items():
        other = user.runtime(runtime, *user.words(env=[f"XDG_RUNTIME_DIR={value}"]))
        done = subprocess.run(command(other, "list"), capture_output=True, timeout=60, check=False)
        assert done.returncode == 1
        assert words in done.stderr.decode()
        assert "--root" in done.stderr.decode()


@ONLY_OURS
def test_spec_rootless_runs_as_it_is(rootless: RuntimeCommand, own_bundle: Bundle, user: User) -> None:
    """What `spec --rootless` writes needs a terminal, and nothing else."""
    target = user.home / "spec"
    target.mkdir()
    os.chown(target, UID, GID)
    subprocess.run(command(rootless, "spec", "--rootless", "--bundle", str(target)), timeout=60, check=True)
    document = json.loads((target / "config.json").read_text())
    assert (target / "config.json").stat().st_uid == UID
    assert document["linux"]["uidMappings"] == [{"containerID": 0, "hostID": UID, "size": 1}]
    document["process"]["terminal"] = False
    document["process"]["args"] = ["/probe", "report"]
    own_bundle.raw = json.dumps(document).encode()
    report = rootless.report(own_bundle)
    assert report["uids"] == [0] * 4


@ONLY_OURS
def test_pid_file_and_log_belong_to_the_user(rootless: RuntimeCommand, user: User, own_bundle: Bundle) -> None:
    """Files that the command makes are the user's."""
    pid_file, log = user.home / "pid", user.home / "log"
    container = rootless.create(own_bundle, "--pid-file", str(pid_file))
    assert int(pid_file.read_text()) == container.pid
    rootless.call("start", "nobody", options=["--log", str(log)]).refused()
    assert [path.stat().st_uid for path in (pid_file, log)] == [UID, UID]
    container.delete("--force").ok()


def test_many_at_once(rootless: RuntimeCommand, mkrootless: MkBundle) -> None:
    """Several containers of one user live beside each other."""
    containers = [rootless.create(mkrootless().seq("ready", ["sleep", 1000])).start() for _ in range(3)]
    for container in containers:
        container.line()
    listed = rootless.call("list", "-q").ok().stdout.decode().split()
    assert sorted(listed) == sorted(container.id for container in containers)
    for container in containers:
        container.delete("--force").ok()
