# SPDX-License-Identifier: Apache-2.0
"""podman run: what comes out of a container, what goes into it, and how it ends."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest
from harness.engine import Engine, eventually
from harness.podman import background, in_log, inside, inspect, state, trapping

FD_3 = 'exec 3<"$0"; exec "$@"'


@pytest.mark.core
def test_hello(podman: Engine) -> None:
    """A container prints."""
    assert podman("run", "--rm", "busybox", "echo", "hello").ok().text == "hello"


def test_hello_debian(podman: Engine, debian: str) -> None:
    """A distribution's dynamic programs run."""
    assert podman("run", "--rm", debian, "bash", "-c", "echo hello $BASH_VERSINFO").ok().text.startswith("hello 5")


def test_info(podman: Engine, runtime_name: str) -> None:
    """podman knows the runtime, and its version."""
    runtime = podman("info", "--format", "json").ok().json["host"]["ociRuntime"]
    assert runtime["name"] == runtime_name
    assert runtime["version"].startswith(f"{runtime_name} version ")


def test_stdout_stderr(podman: Engine) -> None:
    """The two streams stay apart."""
    done = podman("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2").ok()
    assert (done.out, done.err) == ("out\n", "err\n")


def test_stdin(podman: Engine) -> None:
    """What is piped in arrives, with its end."""
    assert podman("run", "--rm", "-i", "busybox", "wc", "-c", stdin="x" * 100_000).ok().text == "100000"


def test_big_output(podman: Engine) -> None:
    """Megabytes come out complete."""
    done = podman("run", "--rm", "busybox", "sh", "-c", "seq 1 400000").ok()
    want = "".join(f"{n}\n" for n in range(1, 400_001))
    assert hashlib.sha256(done.out.encode()).digest() == hashlib.sha256(want.encode()).digest()


@pytest.mark.core
def test_exit_codes(podman: Engine) -> None:
    """The command's status is podman's."""
    for code in (0, 1, 2, 42, 255):
        assert podman("run", "--rm", "busybox", "sh", "-c", f"exit {code}").rc == code


def test_exit_127(podman: Engine) -> None:
    """No such command, by path and by name."""
    podman("run", "--rm", "busybox", "/nonexistent").fails(127, "no such file or directory")
    podman("run", "--rm", "busybox", "nonexistent").fails(127, "not found in $PATH")


def test_exit_126(podman: Engine) -> None:
    """What cannot be executed."""
    podman("run", "--rm", "busybox", "/etc").fails(126, "permission denied")
    podman("run", "--rm", "busybox", "/etc/passwd").fails(126, "permission denied")


def test_exit_126_127_nojson(podman: Engine) -> None:
    """The same, where podman does not know that the runtime can log as JSON, and reads its words."""
    podman("--runtime", "plain", "run", "--rm", "busybox", "/nonexistent").fails(127, "no such file or directory")
    podman("--runtime", "plain", "run", "--rm", "busybox", "nonexistent").fails(127, "not found in $PATH")
    podman("--runtime", "plain", "run", "--rm", "busybox", "/etc").fails(126, "permission denied")


def test_bad_format(podman: Engine, scratch: Path) -> None:
    """A file that is no program."""
    (scratch / "junk").write_bytes(b"\x7fJUNK" * 10)
    (scratch / "junk").chmod(0o755)
    podman("run", "--rm", "-v", f"{scratch}:/v", "busybox", "/v/junk").fails(words="exec format error")


def test_bad_workdir(podman: Engine) -> None:
    """A working directory that is not there, or is no directory."""
    podman("run", "--rm", "--workdir", "/nonexistent", "busybox", "true").fails(words="nonexistent")
    podman("run", "--rm", "--workdir", "/etc/passwd", "busybox", "true").fails(words="/etc/passwd")


def test_self_kill(podman: Engine) -> None:
    """A process of the container kills itself, under an init and under a shell."""
    podman("run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$").fails(137)
    assert podman("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; echo $?").ok().text == "137"


def test_kill_137(podman: Engine) -> None:
    """A killed container has the status of the signal."""
    background(podman)
    podman("kill", "one").ok()
    assert podman("wait", "one").ok().text == "137"
    assert state(podman)["ExitCode"] == 137


def test_detach_logs(podman: Engine) -> None:
    """The log keeps what a container in the background said."""
    podman("run", "--detach", "--name", "one", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3").ok()
    assert podman("wait", "one").ok().text == "3"
    logs = podman("logs", "one").ok()
    assert (logs.out, logs.err) == ("out\n", "err\n")


def test_create_start(podman: Engine) -> None:
    """create, start, start once more."""
    podman("create", "--name", "one", "busybox", "echo", "hello").ok()
    assert state(podman)["Status"] == "created"
    for _ in range(2):
        assert podman("start", "--attach", "one").ok().text == "hello"
    assert state(podman)["Status"] == "exited"


def test_init_state(podman: Engine) -> None:
    """`init` creates the container without its command; `start` starts the command; an unstarted one can be removed."""
    podman("create", "--name", "one", "busybox", "sh", "-c", "echo started; sleep 1000").ok()
    podman("init", "one").ok()
    found = state(podman)
    assert found["Status"] == "initialized"
    assert "sleep" not in Path(f"/proc/{found['Pid']}/cmdline").read_text()
    assert podman("logs", "one").ok().out == ""
    podman("start", "one").ok()
    in_log(podman, "started")
    assert state(podman)["Pid"] == found["Pid"]
    podman("create", "--name", "two", "busybox", "true").ok()
    podman("init", "two").ok()
    podman("rm", "--force", "--time", "0", "two").ok()


def test_rootfs_dir(podman: Engine, images: Path) -> None:
    """A directory in an image's place, with an overlay on it."""
    assert podman("run", "--rm", "--rootfs", f"{images}/busybox:O", "sh", "-c", "echo x >/new; cat /new").ok().text == "x"
    assert not (images / "busybox/new").exists()


def test_timeout_opt(podman: Engine) -> None:
    """--timeout ends a container that goes on."""
    podman("run", "--name", "one", "--timeout", "1", "busybox", "sleep", "1000").fails()
    assert state(podman)["Status"] == "exited"


def test_log_passthrough(podman: Engine, scratch: Path) -> None:
    """--log-driver passthrough gives the container podman's own descriptors."""
    out = scratch / "out"
    under = podman.under("sh", "-c", 'exec >"$0"; exec "$@"', out)
    under("run", "--rm", "--log-driver", "passthrough", "busybox", "sh", "-c", "stat -Lc %i /proc/self/fd/1").ok()
    assert out.read_text().strip() == str(out.stat().st_ino)


def test_preserve_fds(podman: Engine, scratch: Path) -> None:
    """--preserve-fds hands a descriptor on; without it, none."""
    (scratch / "file").write_text("from outside\n")
    under = podman.under("sh", "-c", FD_3, scratch / "file")
    assert under("run", "--rm", "--preserve-fds", "1", "busybox", "cat", "/proc/self/fd/3").ok().text == "from outside"
    under("run", "--rm", "busybox", "cat", "/proc/self/fd/3").fails()


def test_no_fd_leak(podman: Engine, scratch: Path) -> None:
    """A container and an exec have the three descriptors and no more, whatever podman was started with."""
    (scratch / "file").write_text("secret\n")
    script = 'exec 3<"$0" 4<"$0" 5<"$0" 9<"$0"; exec "$@"'
    under = podman.under("sh", "-c", script, scratch / "file")
    listing = ["sh", "-c", "ls /proc/$$/fd; true"]
    assert under("run", "--rm", "busybox", *listing).ok().lines == ["0", "1", "2"]
    background(podman)
    assert under("exec", "one", *listing).ok().lines == ["0", "1", "2"]


def test_listen_fds(podman: Engine) -> None:
    """A socket that a service manager passed is served from inside."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        script = f'exec 3<&{listening.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        under = podman.under("bash", "-c", script, "bash")
        show = 'echo "$LISTEN_FDS $LISTEN_PID"; stat -Lc %F /proc/self/fd/3'
        done = under("run", "--rm", "busybox", "sh", "-c", show, pass_fds=(listening.fileno(),)).ok()
    assert done.lines == ["1 1", "socket"]


@pytest.fixture
def notify(scratch: Path) -> tuple[socket.socket, str]:
    """A service manager's socket."""
    path = str(scratch / "notify")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(path)
    listening.settimeout(60)
    return listening, path


def test_sdnotify_container(podman: Engine, notify: tuple[socket.socket, str]) -> None:
    """The container itself says that it is ready, and the service manager hears it, and which process to watch."""
    listening, path = notify
    script = "/probe sdnotify READY=1; echo ready; sleep 1000"
    with listening, podman.under("env", f"NOTIFY_SOCKET={path}").session(
        "run", "--name", "one", "--sdnotify", "container", "busybox", "sh", "-c", script
    ) as session:
        heard = ""
        while "READY=1" not in heard or "MAINPID=" not in heard:
            heard += listening.recv(4096).decode() + "\n"
        session.expect("ready")
        main = next(line for line in heard.splitlines() if line.startswith("MAINPID="))
        assert int(main.removeprefix("MAINPID=")) == state(podman)["ConmonPid"]
        podman("rm", "--force", "--time", "0", "one").ok()


def test_sdnotify_runtime(podman: Engine, notify: tuple[socket.socket, str]) -> None:
    """podman itself says it when the runtime has started the container, which has no socket."""
    listening, path = notify
    under = podman.under("env", f"NOTIFY_SOCKET={path}")
    with listening:
        script = "echo socket=$NOTIFY_SOCKET; sleep 1000"
        under("run", "--detach", "--name", "one", "--sdnotify", "conmon", "busybox", "sh", "-c", script).ok()
        heard = ""
        while "READY=1" not in heard:
            heard += listening.recv(4096).decode() + "\n"
        assert f"MAINPID={state(podman)['ConmonPid']}" in heard
        in_log(podman, "socket=\n")


def test_proc_misc(podman: Engine) -> None:
    """Process 1 is the command: nothing of the runtime is seen in its /proc."""
    script = "tr '\\0' '\\n' </proc/1/environ; echo --; cat /proc/1/status; echo --; readlink /proc/1/exe; cat /proc/1/cmdline; true"
    done = podman("run", "--rm", "--env", "mine=1", "busybox", "sh", "-c", script).ok()
    environ, status, names = done.out.split("--\n", 2)
    assert {line.split("=")[0] for line in environ.splitlines()} <= {"PATH", "TERM", "container", "HOSTNAME", "HOME", "mine"}
    assert names.startswith("/bin/busybox\nsh")
    for line in ("SigBlk:\t0000000000000000", "PPid:\t0", "TracerPid:\t0"):
        assert line in status


def test_events(podman: Engine) -> None:
    """The life of a container, as events."""
    podman("run", "--name", "one", "busybox", "sh", "-c", "exit 4").fails(4)
    podman("rm", "one").ok()
    found = podman("events", "--stream=false", "--filter", "container=one", "--format", "json").ok().lines
    names = [json.loads(line)["Status"] for line in found]
    assert [name for name in names if name in ("create", "init", "start", "died", "remove")][-5:] == [
        "create",
        "init",
        "start",
        "died",
        "remove",
    ]


def test_env_entrypoint_workdir(podman: Engine, scratch: Path) -> None:
    """Variables, a file of them, an entry point, and a working directory that is made."""
    (scratch / "env").write_text("FROM_FILE=file\n")
    words = ("--env", "A=one two", "--env-file", scratch / "env", "--workdir", "/tmp", "--entrypoint", "sh")
    script = 'echo "$A|$FROM_FILE|$PWD|$0"'
    assert podman("run", "--rm", *words, "busybox", "-c", script, "zero").ok().text == "one two|file|/tmp|zero"


def test_annotations(podman: Engine) -> None:
    """An annotation is in the container's configuration, where the runtime and hooks read it."""
    background(podman, "--annotation", "org.example.one=two three")
    found = inspect(podman)
    assert found["Config"]["Annotations"]["org.example.one"] == "two three"
    config = json.loads(Path(found["OCIConfigPath"]).read_text())
    assert config["annotations"]["org.example.one"] == "two three"


def test_commit_cp_diff(podman: Engine, scratch: Path) -> None:
    """Files in and out, what changed, and an image of it."""
    trapping(podman, "mkdir /new; echo one >/new/file")
    assert "A /new/file" in podman("diff", "one").ok().out
    (scratch / "in").write_text("from outside\n")
    podman("cp", scratch / "in", "one:/new/in").ok()
    assert inside(podman, "cat", "/new/in") == "from outside"
    podman("cp", "one:/new/file", scratch / "out").ok()
    assert (scratch / "out").read_text() == "one\n"
    podman("commit", "one", "changed").ok()
    try:
        assert podman("run", "--rm", "changed", "cat", "/new/file", "/new/in").ok().out == "one\nfrom outside\n"
    finally:
        podman("rmi", "--force", "changed").ok()


def test_hooks(podman: Engine, images: Path, scratch: Path) -> None:
    """Hooks run at their points, in their order, with the container's state at their input."""
    order = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    # The probe, and where it writes, have the same path outside and inside: some hooks run there and some here.
    probe, log = images / "busybox/probe", scratch / "log"
    (scratch / "hooks").mkdir()
    for stage in order:
        hook = {"path": str(probe), "args": ["probe", "hook", str(log), "--tag", stage]}
        text = json.dumps({"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": [stage]})
        (scratch / "hooks" / f"{stage}.json").write_text(text)
    engine = Engine([*podman.argv, "--hooks-dir", str(scratch / "hooks")], podman.env)
    words = ("-v", f"{scratch}:{scratch}", "-v", f"{probe}:{probe}:ro")
    container = engine("run", "--rm", *words, "busybox", "hostname").ok().text
    ran = eventually(lambda: len(lines := log.read_text().splitlines()) == 6 and [json.loads(line) for line in lines])
    assert [one["tag"] for one in ran] == list(order)
    states = [json.loads(one["stdin"]) for one in ran]
    assert all(one["id"].startswith(container) for one in states)
    assert [one["status"] for one in states][4:] == ["running", "stopped"]
