# SPDX-License-Identifier: Apache-2.0
"""Container.add_mounts and remove_mounts in a program: what may happen meanwhile, and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.bundle import Bundle, unique

from ocirun import ContainerNotFound, ContainerNotRunning, InvalidConfig, OcirunError, Runtime
from ocirun.target import Target

pytestmark = pytest.mark.root
TMPFS = {"destination": "/t", "type": "tmpfs"}


@pytest.fixture
def bundle_in_a_user_namespace(mkbundle: Callable[..., Bundle]) -> str:
    """A bundle whose program does not end by itself, in whose user namespace only some ids are there."""
    bundle = mkbundle().seq("ready", "sleep").namespaces("user")
    ids = [{"containerID": 5, "hostID": 100000, "size": 10}]
    bundle.linux(uidMappings=ids, gidMappings=ids).process(user={"uid": 5, "gid": 5}, capabilities={})
    os.chown(bundle.rootfs, 100000, 100000)
    bundle.spec["mounts"] = bundle.spec["mounts"][:2]  # devpts wants an id 0
    bundle.write()
    return str(bundle.path)


@pytest.mark.parametrize("step", ["__init__", "open_namespaces", "first_ids", "open_root"])
def test_container_that_stops_meanwhile(
    library: Runtime, bundle_in_a_user_namespace: str, step: str
) -> None:
    """At whatever step its process dies, that is what is said: the container is there, and does not run."""
    container = library.create(unique(), bundle_in_a_user_namespace, stdout=2, no_pivot=step == "open_root")
    container.start()
    original = getattr(Target, step)

    def die(target: Target, *arguments: Any) -> Any:
        container.kill(signal.SIGKILL)
        container.wait(60)
        return original(target, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Target, step, die)
        with pytest.raises(ContainerNotRunning, match="container not running"):
            container.add_mounts([TMPFS])
    container.delete()
    with pytest.raises(ContainerNotFound):
        container.add_mounts([TMPFS])
    container.close()


def test_root_that_is_not_mapped(library: Runtime, bundle_in_a_user_namespace: str) -> None:
    """A user namespace need not have an id 0: mounts are added as the first that it has, to whom they belong."""
    with library.create(unique(), bundle_in_a_user_namespace, stdout=2) as container:
        container.start()
        container.add_mounts([TMPFS])
        found = os.stat(f"/proc/{container.pid}/root/t")
        assert (found.st_uid, found.st_gid) == (100000, 100000)
        container.remove_mounts([TMPFS])


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_maps_of_a_joined_user_namespace(library: Runtime, mkbundle: Callable[..., Bundle], option: str) -> None:
    """The option alone means the container's own maps: with those of a namespace that it has joined it is refused."""
    first, second = (mkbundle().userns().seq("ready", "sleep") for _ in range(2))
    for bundle in (first, second):
        os.chown(bundle.rootfs, 100000, 100000)
    with library.create(unique(), str(first.write().path), stdout=2) as owner:
        for namespace in second.spec["linux"]["namespaces"]:
            if namespace["type"] == "user":
                namespace["path"] = f"/proc/{owner.pid}/ns/user"
        second.patch({"linux": {"uidMappings": None, "gidMappings": None}}).write()
        with library.create(unique(), str(second.path), stdout=2) as container:
            with pytest.raises(InvalidConfig, match="has joined its user namespace") as caught:
                container.add_mounts([TMPFS, {"destination": "/v", "source": "/usr", "options": ["rbind", option]}])
            assert [(each.gate, each.pointer) for each in caught.value.problems] == [("rule", "/1/options")]


def test_nothing_is_kept_open(library: Runtime, sleeping: str) -> None:
    """Of whatever comes of it: neither a descriptor nor a child is left to the program."""
    with library.create(unique(), sleeping, stdout=2) as container:
        container.start()
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(2):
            container.add_mounts([TMPFS, {"destination": "/v", "source": "/usr", "options": ["rbind", "ro"]}])
            container.remove_mounts([TMPFS, {"destination": "/v"}])
            for wrong in ({"destination": "/proc/x", "type": "tmpfs"}, {"destination": "/x", "type": "tmpfs", "options": ["size=many"]}):
                with pytest.raises(OcirunError):
                    container.add_mounts([TMPFS, wrong])
            with pytest.raises(InvalidConfig):
                container.remove_mounts([TMPFS])
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert not children() - {str(container.pid)}


def children() -> set[str]:
    """Return the pids of our children."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(file.read().split())
