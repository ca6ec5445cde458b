# SPDX-License-Identifier: Apache-2.0
"""Errors are objects (design D9): a class, a code, a place, an errno; after each of them nothing is left."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle, unique
from support.oracle import HostSnapshot

import ocirun
from ocirun import Runtime, errors

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]


def failing(library: Runtime, bundle: Bundle, expected: type[errors.OcirunError], **keywords: Any) -> Any:
    """Create a container that cannot be, and return the error; nothing may be left."""
    bundle.write()
    snapshot = HostSnapshot(Path(library.store.root))
    name = unique()
    with pytest.raises(expected) as info:
        library.create(name, str(bundle.path), **keywords)
    assert type(info.value) is expected
    assert library.list() == []
    with pytest.raises(errors.ContainerNotFound):
        library.state(name)
    snapshot.assert_clean()
    return info.value


# class -> (code, what it also is)
FAMILY: dict[str, tuple[str, type[BaseException]]] = {
    "OcirunError": ("error", Exception),
    "BundleError": ("invalid_bundle", ValueError),
    "InvalidConfig": ("invalid_config", ValueError),
    "UnsupportedFeature": ("unsupported", ValueError),
    "StateError": ("state", errors.OcirunError),
    "InvalidContainerId": ("invalid_id", ValueError),
    "ContainerExists": ("exists", FileExistsError),
    "ContainerNotFound": ("not_found", LookupError),
    "InvalidStatus": ("invalid_status", errors.StateError),
    "ContainerNotRunning": ("not_running", errors.InvalidStatus),
    "Busy": ("busy", TimeoutError),
    "CorruptState": ("corrupt_state", ValueError),
    "KernelError": ("syscall", OSError),
    "InitError": ("init", errors.KernelError),
    "InitDied": ("init_died", errors.OcirunError),
    "DeadlineExceeded": ("timeout", TimeoutError),
    "HookError": ("hook", errors.OcirunError),
    "CgroupError": ("cgroup", errors.OcirunError),
    "CriuError": ("criu", errors.OcirunError),
    "InternalError": ("internal", errors.OcirunError),
}


def test_family() -> None:
    """Every error has a code of its own, is an OcirunError, and what a caller would expect besides; all are exported."""
    classes = {name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert set(classes) == set(FAMILY)
    codes = []
    for name, (code, base) in FAMILY.items():
        assert issubclass(classes[name], errors.OcirunError)
        assert issubclass(classes[name], base)
        assert getattr(ocirun, name) is classes[name]
        codes.append(classes[name].code)
        assert classes[name].code == code
    assert len(set(codes)) == len(codes)


def test_invalid_config(library: Runtime, bundle: Bundle) -> None:
    """All problems at once, each with its gate and pointer."""
    bundle.spec["process"]["cwd"] = "not/absolute"
    bundle.spec["linux"]["namespaces"].append({"type": "pid"})
    error = failing(library, bundle, errors.InvalidConfig)
    found = {(each.gate, each.pointer) for each in error.problems}
    assert found == {("rule", "/process/cwd"), ("rule", "/linux/namespaces/6/type")}
    assert error.json_pointer == error.problems[0].pointer
    assert len(str(error).splitlines()) == 2


def test_failed_start_leaves_a_stopped_container(library: Runtime, mkbundle: MkBundle) -> None:
    """From the moment that the error is known: engines delete it then, and without force."""
    bundle = mkbundle().file("/bad", "no program\n", 0o755).process(args=["/bad"])
    bundle.write()
    for _ in range(50):
        container = library.create(unique(), str(bundle.path))
        with pytest.raises(errors.InitError) as info:
            container.start()
        assert info.value.errno == errno.ENOEXEC
        assert container.state().status == "stopped"
        container.delete()
        container.close()


def test_init_error(library: Runtime, mkbundle: MkBundle) -> None:
    """What the kernel refuses inside: the call, its errno, the pointer, the container."""
    bundle = mkbundle().mount("/data", "tmpfs", "tmpfs", "size=lots")
    error = failing(library, bundle, errors.InitError)
    index = len(bundle.spec["mounts"]) - 1
    assert (error.errno, error.op, error.json_pointer) == (errno.EINVAL, "fsconfig", f"/mounts/{index}")
    error = failing(library, mkbundle().process(args=["/nosuch"]), errors.InitError)
    assert (error.errno, error.json_pointer) == (errno.ENOENT, "/process/args/0")
    assert error.container_id is not None


def test_bundle_errors(library: Runtime, bundle: Bundle, workdir: Path) -> None:
    """A bundle without config.json, without rootfs, or that cannot be named."""
    for path in (workdir, workdir / "nosuch"):
        with pytest.raises(errors.BundleError) as info:
            library.create(unique(), str(path))
        assert str(path) in str(info.value)
    bundle.patch({"root": {"path": "nosuch"}})
    assert failing(library, bundle, errors.BundleError).json_pointer == "/root/path"
    bundle.patch({"root": {"path": "config.json"}})
    assert "not a directory" in str(failing(library, bundle, errors.BundleError))


def test_a_path_that_is_no_text(library: Runtime, bundle: Bundle, workdir: Path) -> None:
    """R-21: the state document is JSON, which cannot hold every path: such a bundle is refused, by name."""
    bundle.write()
    strange = os.fsdecode(os.fsencode(workdir) + b"/\xff\xfe")
    os.rename(bundle.path, strange)
    with pytest.raises(errors.BundleError) as info:
        library.create(unique(), strange)
    assert str(info.value).isprintable()
    assert library.list() == []


@pytest.mark.parametrize("name", ["new\nline", "\u202e\"%s'ü\\", "x" * 255])
def test_strange_paths(library: Runtime, bundle: Bundle, workdir: Path, name: str) -> None:
    """R-21: quotes, line ends and other scripts in the bundle's path come back as they were."""
    bundle.args("exit", "0").write()
    strange = str(workdir / name)
    os.rename(bundle.path, strange)
    with library.create(unique(), strange) as container:
        assert container.state().bundle == strange
        assert library.list()[0].bundle == strange
        container.start()
        assert container.wait(60) == 0
        container.delete()


def test_hook_error(library: Runtime, mkbundle: MkBundle) -> None:
    """Kind, index and pointer of the hook that failed, outside and inside."""
    hooks = {"createRuntime": [{"path": "/bin/true"}, {"path": "/bin/false"}]}
    error = failing(library, mkbundle({"hooks": hooks}), errors.HookError)
    assert (error.kind, error.index, error.json_pointer) == ("createRuntime", 1, "/hooks/createRuntime/1")
    hooks = {"createContainer": [{"path": "/nosuch"}]}
    error = failing(library, mkbundle({"hooks": hooks}), errors.HookError)
    assert (error.kind, error.index, error.json_pointer) == ("createContainer", 0, "/hooks/createContainer/0")


def test_deadline(library: Runtime, mkbundle: MkBundle) -> None:
    """A hook inside that hangs without a timeout of its own is ended by create's."""
    hooks = {"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "60"]}]}
    error = failing(library, mkbundle({"hooks": hooks}), errors.DeadlineExceeded, timeout=0.5)
    assert "0.5 s" in str(error)


def test_init_died(library: Runtime, mkbundle: MkBundle) -> None:
    """A process that is killed before it could say anything is an error of its own."""
    # The hook reads the state; pid 1 of a pid namespace can be killed from outside only.
    script = "kill -9 $(sed 's/.*\"pid\"://;s/,.*//')"
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]}
    error = failing(library, mkbundle({"hooks": hooks}), errors.InitDied)
    assert "signal 9" in str(error)


def test_unsupported(library: Runtime, bundle: Bundle) -> None:
    """S-49: more mounts than a plan may have are refused by that limit."""
    bundle.spec["mounts"] += [{"destination": f"/m{number}", "type": "tmpfs"} for number in range(70000)]
    error = failing(library, bundle, errors.UnsupportedFeature)
    assert "65536" in str(error)


def test_ids(library: Runtime, ready: str) -> None:
    """An id that is none, one that is taken, one that is not there."""
    with pytest.raises(errors.InvalidContainerId):
        library.create("../x", ready)
    with library.create(unique(), ready) as container:
        with pytest.raises(errors.ContainerExists) as taken:
            library.create(container.id, ready)
        assert taken.value.container_id == container.id
        container.delete(force=True)
    for call in (library.load, library.state, library.delete, container.state, container.start, container.delete):
        with pytest.raises(errors.ContainerNotFound, match="container does not exist"):
            call(*(() if call in (container.state, container.start, container.delete) else (container.id,)))
    library.delete(container.id, force=True)


def test_statuses(library: Runtime, sleeping: str) -> None:
    """What the present status does not allow says which that is."""
    with library.create(unique(), sleeping) as container:
        container.start()
        with pytest.raises(errors.InvalidStatus) as info:
            container.start()
        assert (info.value.status, info.value.code) == ("running", "invalid_status")
        with pytest.raises(errors.InvalidStatus) as info:
            container.delete()
        assert info.value.status == "running"
        with pytest.raises(errors.InvalidStatus) as info:
            container.resume()
        assert info.value.status == "running"
        container.kill(signal.SIGKILL)
        assert container.wait(60) == 137
        with pytest.raises(errors.ContainerNotRunning) as stopped:
            container.kill(signal.SIGTERM)
        assert stopped.value.status == "stopped"
        with pytest.raises(errors.InvalidStatus):
            container.start()
        container.delete()
        assert container.wait() == 137


def test_wait_deadline(library: Runtime, sleeping: str) -> None:
    """A wait that is not over at its deadline is a plain TimeoutError: the container is fine."""
    with library.create(unique(), sleeping) as container:
        container.start()
        with pytest.raises(TimeoutError) as info:
            container.wait(0.05)
        assert not isinstance(info.value, errors.OcirunError)
        assert container.state().status == "running"
        container.delete(force=True)


def test_busy(library: Runtime, ready: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who holds the lock for ever makes the verbs fail in time; readers need no lock."""
    monkeypatch.setattr("ocirun.store.LOCK_DEADLINE_S", 0.1)
    monkeypatch.setattr("ocirun.store.Entry.lock.__defaults__", (0.1,))
    with library.create(unique(), ready) as container:
        holder = os.open(f"{library.store.root}/{container.id}", os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(holder, fcntl.LOCK_EX)
        for call in (container.start, container.delete, container.pause):
            with pytest.raises(errors.Busy) as info:
                call()
            assert isinstance(info.value, TimeoutError)
        assert container.state().status == "created"
        os.close(holder)
        container.delete()


def test_corrupt_state(library: Runtime, ready: str) -> None:
    """A record that cannot be read is named; the others are not affected."""
    with library.create(unique(), ready) as good, library.create(unique(), ready) as bad:
        record = Path(library.store.root, bad.id, "state.json")
        content = record.read_bytes()
        record.write_bytes(content[: len(content) // 2])
        for call in (bad.state, bad.start, bad.delete):
            with pytest.raises(errors.CorruptState) as info:
                call()
            assert str(record) in str(info.value)
        states = {state.id: state for state in library.list()}
        assert states[good.id].status == "created"
        assert states[bad.id].status == "unknown"
        assert states[bad.id].error is not None
        record.write_bytes(content)
        good.delete()
        bad.delete()


def test_kernel_error(library: Runtime, bundle: Bundle, workdir: Path) -> None:
    """A socket that nobody listens at: the call, its errno, and where."""
    bundle.process(terminal=True)
    error = failing(library, bundle, errors.KernelError, console_socket=str(workdir / "nosuch"))
    assert (error.errno, error.op) == (errno.ENOENT, "connect")
    assert str(workdir / "nosuch") in str(error)


def test_descriptors_that_are_not_open(library: Runtime, bundle: Bundle) -> None:
    """preserve-fds beyond what is open is refused before anything happens."""
    error = failing(library, bundle, errors.OcirunError, pass_fds=[1000000])
    assert "1000000" in str(error)


def test_an_error_is_one_line_for_people(library: Runtime, mkbundle: MkBundle) -> None:
    """Whatever is wrong, the text has no traceback in it and the class does not matter to read it."""
    for bundle in (mkbundle().process(args=["/nosuch"]), mkbundle().mount("/x", "nosuchfs", "x")):
        bundle.write()
        with pytest.raises(errors.OcirunError) as info:
            library.create(unique(), str(bundle.path))
        assert len(str(info.value).splitlines()) == 1
        assert repr(info.value).startswith(type(info.value).__name__)
