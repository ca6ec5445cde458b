# SPDX-License-Identifier: Apache-2.0
"""buildah run, as root."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.engine import Engine, Result

Run = Callable[..., Result]

CHOWN, SYS_ADMIN = 1 << 0, 1 << 21


@pytest.mark.core
def test_run_hello(run: Run) -> None:
    """A container prints."""
    assert run("echo", "hello").ok().text == "hello"


@pytest.mark.core
def test_run_exit_codes(run: Run) -> None:
    """buildah's status is the program's."""
    run("true").ok()
    for code in (1, 42, 255):
        run("sh", "-c", f"exit {code}").fails(code)


@pytest.mark.core
def test_run_not_found(run: Run) -> None:
    """A program that is not there, or that cannot be executed, is an error that names it."""
    run("nosuch").fails(words="nosuch")
    run("/etc/passwd").fails(words="permission denied")


def test_run_killed(run: Run) -> None:
    """A program that a signal ends is a failure."""
    # Number 1 of a pid namespace cannot kill itself.
    run("sh", "-c", "sh -c 'kill -9 $$'; exit $?").fails(137)
    run("/probe", "abort").fails()


def test_run_stdin(run: Run) -> None:
    """What is written to buildah is read in the container, in full; without, it ends at once."""
    assert run("wc", "-l", stdin="line\n" * 50_000).ok().text == "50000"
    assert run("cat").ok().out == ""


@pytest.mark.core
def test_run_stdout_stderr(run: Run) -> None:
    """The streams stay apart, and large output is whole."""
    done = run("sh", "-c", "echo out; echo trouble >&2; seq 100000").ok()
    assert done.lines == ["out", *map(str, range(1, 100_001))]
    assert "trouble\n" in done.err


@pytest.mark.core
def test_run_tty(buildah: Engine, container: str, options: tuple[str, ...]) -> None:
    """A terminal: its name, its owner, its size and what is typed."""
    words = (*options, "--network", "none", "-t", container, "--", "sh", "-c")
    with buildah.session(*words, "tty; stat -c %u:%g $(tty); read a; echo got $a; exit 5", size=(33, 101)) as going:
        going.expect("/dev/pts/0")
        going.expect("0:5")
        going.write("words\n")
        going.expect("got words")
        assert going.wait() == 5


def test_run_user_env_workdir(run: Run) -> None:
    """A user with his groups, variables and a directory that is made."""
    options = ("--user", "user", "--env", "A=b c", "--workingdir", "/made/here")
    done = run("sh", "-c", 'id -u; id -G; echo "$A"; pwd; echo $HOME', options=options).ok()
    assert done.lines == ["1000", "1000 1001", "b c", "/made/here", "/home"]
    assert run("sh", "-c", "id -u; id -g", options=("--user", "5:6")).ok().lines == ["5", "6"]


def test_run_volume(run: Run, scratch: Path) -> None:
    """Directories of the host, read-only and not, and a tmpfs."""
    options = ("-v", f"{scratch}:/rw", "-v", f"{scratch}:/ro:ro", "--mount", "type=tmpfs,destination=/scratch,tmpfs-size=1048576")
    script = "echo in >/rw/file; touch /ro/file || echo refused; cat /ro/file; df -k /scratch | tail -n 1"
    done = run("sh", "-c", script, options=options).ok().lines
    assert done[:2] == ["refused", "in"] and done[2].split()[1] == "1024"
    assert (scratch / "file").read_text() == "in\n"


def test_run_caps(run: Run) -> None:
    """buildah's own set, one more and one less."""

    def effective(*options: str) -> int:
        return int(run("grep", "CapEff", "/proc/self/status", options=options).ok().text.split()[1], 16)

    assert effective() & (CHOWN | SYS_ADMIN) == CHOWN
    assert effective("--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN") & (CHOWN | SYS_ADMIN) == SYS_ADMIN
    run("sh", "-c", "chown 5 /tmp", options=("--cap-drop", "CAP_CHOWN")).fails(words="not permitted")


def test_run_persist(run: Run, buildah: Engine, container: str) -> None:
    """What one command leaves in the files the next one finds, and so does the image."""
    run("sh", "-c", "echo kept >/kept; mkdir -m 711 /dir").ok()
    assert run("sh", "-c", "cat /kept; stat -c %a /dir").ok().lines == ["kept", "711"]
    buildah("commit", "-q", container, "made").ok()
    again = buildah("from", "--pull-never", "made").ok().text
    mounted = Path(buildah("mount", again).ok().text)
    assert (mounted / "kept").read_text() == "kept\n"
    assert sorted(path.name for path in (mounted / "dev").iterdir()) == []
    buildah("umount", again).ok()
    buildah("rm", again).ok()
    buildah("rmi", "made").ok()


def test_run_seccomp(run: Run) -> None:
    """A filter by default, which refuses what it does not have."""
    assert run("grep", "^Seccomp:", "/proc/self/status").ok().text.split()[1] == "2"
    assert "errno" in run("/probe", "syscall", "personality", "4").ok().out


def test_run_netns(run: Run, buildah: Engine, container: str, options: tuple[str, ...]) -> None:
    """Without a network there is a loopback that is up; with the host's, the namespace is the host's."""
    assert run("sh", "-c", "ls /sys/class/net; ping -c 1 -W 9 127.0.0.1 >/dev/null && echo up").ok().lines == ["lo", "up"]
    done = buildah(*options, "--network", "host", container, "--", "readlink", "/proc/self/ns/net").ok()
    assert done.text == os.readlink("/proc/self/ns/net")


def test_run_bridge(buildah: Engine, container: str, options: tuple[str, ...]) -> None:
    """By default a bridge is made, and the container reaches its host."""
    script = "gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); ping -c 1 -W 9 $gateway >/dev/null && ls /sys/class/net"
    assert buildah(*options, container, "--", "sh", "-c", script).ok().lines == ["eth0", "lo"]


def test_run_hostname(run: Run) -> None:
    """A host name of its own, and a namespace that is the host's."""
    assert run("hostname", options=("--hostname", "box")).ok().text == "box"
    assert run("hostname", options=("--uts", "host")).ok().text == os.uname().nodename


def test_run_pid_ns(run: Run) -> None:
    """Number 1 of its own, or the processes of the host."""
    assert run("sh", "-c", "echo $$").ok().text == "1"
    assert run("readlink", "/proc/self/ns/pid", options=("--pid", "host")).ok().text == os.readlink("/proc/self/ns/pid")
    run("test", "-d", f"/proc/{os.getpid()}", options=("--pid", "host")).ok()


def test_run_userns(buildah: Engine, options: tuple[str, ...], scratch: Path) -> None:
    """A container with id maps: root inside is somebody else outside."""
    maps = ("--userns-uid-map", "0:200000:65536", "--userns-gid-map", "0:300000:65536")
    container = buildah("from", "--pull-never", *maps, "busybox").ok().text
    scratch.chmod(0o777)
    script = "id -u; cat /proc/self/uid_map; touch /tmp/file"
    words = (*options, "--network", "none", "-v", f"{scratch}:/tmp", container, "--", "sh", "-c", script)
    assert [line.split() for line in buildah(*words).ok().lines] == [["0"], ["0", "200000", "65536"]]
    made = (scratch / "file").stat()
    assert (made.st_uid, made.st_gid) == (200000, 300000)


@pytest.mark.core
def test_run_parallel(buildah: Engine, options: tuple[str, ...]) -> None:
    """Eight working containers at once: each prints its own."""

    def work(number: int) -> str:
        container = buildah("from", "--pull-never", "--name", f"work{number}", "busybox").ok().text
        return buildah(*options, "--network", "none", container, "--", "sh", "-c", f"echo {number}; exit {number}").fails(number).text

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(1, 9))) == [str(number) for number in range(1, 9)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: signal.Signals(number).name.lower())
def test_run_signal(buildah: Engine, container: str, options: tuple[str, ...], number: signal.Signals) -> None:
    """A signal to buildah ends the container, and nothing stays."""
    words = (*options, "--network", "none", container, "--", "sh", "-c", "for i in $(seq 10); do sleep 0.2; echo tick $i; done; exec sleep 1000")
    with buildah.session(*words) as going:
        going.expect("tick 10")  # buildah takes signals a moment after its container has started
        going.process.send_signal(number)
        assert going.wait() != 0


def test_run_devices(run: Run) -> None:
    """The devices that every container has work, and no others are allowed."""
    script = "for each in null zero full random urandom tty; do [ -c /dev/$each ] && echo $each; done; head -c 2 /dev/zero | od -An -tx1"
    assert run("sh", "-c", script).ok().lines == ["null", "zero", "full", "random", "urandom", "tty", " 00 00"]
    script = "mknod /dev/x b 7 0 && : </dev/x"
    run("sh", "-c", script, options=("--cap-add", "CAP_MKNOD")).fails(words="not permitted")


def test_run_volume_of_the_image(buildah: Engine, container: str, run: Run) -> None:
    """A volume that the image declares: what a command leaves there is not kept."""
    run("sh", "-c", "mkdir /data; echo first >/data/file").ok()
    buildah("config", "--volume", "/data", container).ok()
    run("sh", "-c", "echo second >/data/file").ok()
    assert run("cat", "/data/file").ok().text in ("first", "second")  # versions of buildah differ; that it is there counts


def test_run_no_pivot(run: Run) -> None:
    """--no-pivot, for a root that cannot be pivoted from."""
    assert run("sh", "-c", "pwd; ls -d /probe", options=("--no-pivot",)).ok().lines == ["/", "/probe"]
