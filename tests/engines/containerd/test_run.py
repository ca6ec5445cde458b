# SPDX-License-Identifier: Apache-2.0
"""ctr run: what a container prints, reads and returns."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.containerd import IMAGE, Ctr
from harness.engine import eventually


@pytest.mark.core
def test_hello(ctr: Ctr) -> None:
    """A container prints."""
    assert ctr.run("--rm", IMAGE, "hello", "echo", "hello").ok().out == "hello\n"


def test_hello_debian(ctr: Ctr, debian: str) -> None:
    """A whole distribution runs: its loader, its shell, its package manager."""
    shown = ctr.run("--rm", debian, "debian", "bash", "-c", "dpkg --version | head -1 && id -un").ok()
    assert shown.lines[0].startswith("Debian 'dpkg'")
    assert shown.lines[1] == "root"


@pytest.mark.core
def test_stdin(ctr: Ctr) -> None:
    """What is piped in arrives, and so does its end, which ctr 1.6 misses when it comes before the container runs."""
    text = "".join(f"line {number}\n" for number in range(5000))
    with ctr.talk("--rm", IMAGE, "stdin", "sh", "-c", "cat; echo the end") as pipe:
        pipe.write(text)
        assert pipe.expect("line 4999\n") == text
        pipe.end_input()
        assert pipe.wait() == 0
        assert pipe.seen == "the end\n"


def test_stdout_stderr(ctr: Ctr) -> None:
    """The two outputs stay apart."""
    done = ctr.run("--rm", IMAGE, "outputs", "sh", "-c", "echo out; echo err >&2").ok()
    assert (done.out, done.err) == ("out\n", "err\n")


def test_big_output(ctr: Ctr) -> None:
    """Eight megabytes come whole."""
    done = ctr.run("--rm", IMAGE, "big", "sh", "-c", "yes 0123456789abcde | head -c 8388608").ok()
    assert len(done.out) == 8388608
    assert set(done.lines) == {"0123456789abcde"}


@pytest.mark.core
def test_exit_codes(ctr: Ctr) -> None:
    """What the process returns is what ctr returns."""
    for status in (0, 1, 42, 255):
        assert ctr.run("--rm", IMAGE, f"exit{status}", "sh", "-c", f"exit {status}").rc == status
    assert ctr.run("--rm", IMAGE, "immune", "sh", "-c", "kill -9 $$; exit 3").rc == 3  # the first process is, from inside
    assert ctr.run("--rm", IMAGE, "term", "sh", "-c", "trap 'exit 9' TERM; kill -TERM $$").rc == 9


@pytest.mark.core
def test_not_found(ctr: Ctr, scratch: Path) -> None:
    """A command that is not there, one that may not be run and one of no known format are told apart, and nothing is left."""
    ctr.run("--rm", IMAGE, "missing", "no-such-command").fails(words="not found in $PATH")
    ctr.run("--rm", IMAGE, "path", "/no/such/command").fails(words="no such file or directory")
    ctr.run("--rm", IMAGE, "data", "/etc/passwd").fails(words="permission denied")
    (scratch / "text").write_text("no format\n")
    (scratch / "text").chmod(0o755)
    bind = f"type=bind,src={scratch},dst=/mnt,options=rbind:ro"
    ctr.run("--rm", "--mount", bind, IMAGE, "format", "/mnt/text").fails(words="exec format error")
    assert ctr("task", "ls", "--quiet").ok().text == ""


def test_null_io(ctr: Ctr, scratch: Path) -> None:
    """With --null-io the three descriptors are the null device."""
    bind = f"type=bind,src={scratch},dst=/mnt,options=rbind:rw"
    script = "for i in 0 1 2; do stat -L -c %t:%T /proc/self/fd/$i; done >/mnt/seen; echo lost"
    done = ctr.run("--rm", "--null-io", "--mount", bind, IMAGE, "null", "sh", "-c", script).ok()
    assert done.out == ""
    seen = (scratch / "seen").read_text().split()
    assert (seen[0], seen[2]) == ("1:3", "1:3")  # the second is the file


def test_log_uri(ctr: Ctr, scratch: Path) -> None:
    """The shim writes both outputs into a file."""
    log = scratch / "log"
    ctr.start("--log-uri", f"file://{log}", IMAGE, "logged", "sh", "-c", "echo out; echo err >&2")
    ctr.ends("logged")
    assert eventually(lambda: sorted(log.read_text().split()) == ["err", "out"])


def test_user_env_cwd(ctr: Ctr) -> None:
    """The environment, the working directory, and for exec the user are what was asked for."""
    words = ("--env", "FOO=a b", "--env", "EMPTY=", "--cwd", "/home", "--label", "x=y")
    done = ctr.run("--rm", *words, IMAGE, "env", "sh", "-c", 'pwd; echo "<$FOO><${EMPTY-unset}>"; echo $PATH; hostname').ok()
    assert done.lines[:2] == ["/home", "<a b><>"]
    assert "/usr/bin" in done.lines[2]
    ctr.start(IMAGE, "users", "sleep", "1000")
    assert ctr("task", "exec", "--exec-id", "a", "--user", "1000:1001", "--cwd", "/tmp", "users", "sh", "-c", "id; pwd").ok().lines == [
        "uid=1000(user) gid=1001(more) groups=1001(more)",
        "/tmp",
    ]
    assert ctr.run("--rm", "--cwd", "/made/for/it", IMAGE, "cwd", "pwd").ok().text == "/made/for/it"


def test_read_only(ctr: Ctr) -> None:
    """The root file system cannot be written, /dev can."""
    script = "touch /etc/new; echo $?; mkdir /tmp/new; echo $?; touch /dev/shm/new; echo $?"
    done = ctr.run("--rm", "--read-only", IMAGE, "readonly", "sh", "-c", script).ok()
    assert done.text.split() == ["1", "1", "0"]
    assert done.err.lower().count("read-only file system") == 2


def test_mounts(ctr: Ctr, scratch: Path) -> None:
    """Bind mounts, read-only and writable, a file, and a tmpfs with a size."""
    for name in ("ro", "rw"):
        (scratch / name).mkdir()
    (scratch / "file").write_text("one file")
    mounts = [
        f"type=bind,src={scratch}/ro,dst=/ro,options=rbind:ro",
        f"type=bind,src={scratch}/rw,dst=/a/new/place,options=rbind:rw",
        f"type=bind,src={scratch}/file,dst=/etc/file,options=bind:ro",
        "type=tmpfs,src=tmpfs,dst=/scratch,options=size=1m:nosuid:noexec",
    ]
    words = [word for mount in mounts for word in ("--mount", mount)]
    script = """
touch /ro/x; echo $?
echo made >/a/new/place/x; echo $?
cat /etc/file; echo
stat -f -c %T /scratch; grep ' /scratch ' /proc/mounts
head -c 2000000 /dev/zero >/scratch/big; echo $?
"""
    done = ctr.run("--rm", *words, IMAGE, "mounts", "sh", "-c", script).ok()
    assert done.lines[:4] == ["1", "0", "one file", "tmpfs"]
    options = done.lines[4].split()[3].split(",")
    assert {"rw", "nosuid", "noexec", "size=1024k"} <= set(options)
    assert done.lines[5] == "1"
    assert (scratch / "rw/x").read_text() == "made\n"
    assert not list((scratch / "ro").iterdir())
    missing = f"type=bind,src={scratch}/missing,dst=/mnt,options=rbind"
    ctr.run("--rm", "--mount", missing, IMAGE, "missing", "true").fails(words="no such file or directory")


def test_custom_spec(ctr: Ctr, scratch: Path, images: Path) -> None:
    """A config.json of one's own is what runs."""
    namespaces = [{"type": name} for name in ("pid", "mount", "uts", "ipc", "network")]
    copy(images / "busybox", scratch / "rootfs")
    config = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 1000, "gid": 1000}, "args": ["/bin/sh", "-c", "hostname; id -u; exit 7"], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": str(scratch / "rootfs"), "readonly": True},
        "hostname": "made-by-hand",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": namespaces},
    }
    (scratch / "config.json").write_text(json.dumps(config))
    done = ctr.run("--rm", "--config", scratch / "config.json", "custom").fails(7)
    assert done.text.split() == ["made-by-hand", "1000"]


def test_rootfs(ctr: Ctr, scratch: Path, images: Path) -> None:
    """A directory is the root file system."""
    copy(images / "busybox", scratch / "rootfs")
    ctr.run("--rm", "--rootfs", scratch / "rootfs", "rootfs", "/bin/sh", "-c", "echo here >/made").ok()
    assert (scratch / "rootfs/made").read_text() == "here\n"


def test_no_pivot(ctr: Ctr) -> None:
    """Without pivot_root the root is still the container's, and nothing of the host is to be seen."""
    done = ctr.run("--rm", "--no-pivot", IMAGE, "nopivot", "sh", "-c", "ls -d /probe /bin; cat /proc/1/comm; ls /proc/1/root/var").ok()
    assert done.lines == ["/bin", "/probe", "sh"]


def test_rootfs_propagation(ctr: Ctr, scratch: Path) -> None:
    """A mount that is made later passes from the host to the container, to the host, or not at all, as was asked for."""
    for kind, arrives, returns in (("private", False, False), ("slave", True, False), ("shared", True, True)):
        place = scratch / kind
        for name in ("given", "taken"):
            (place / name).mkdir(parents=True)
        bind = f"type=bind,src={place},dst=/mnt,options=rbind:r{kind}"
        ctr.start("--rootfs-propagation", kind, "--cap-add", "CAP_SYS_ADMIN", "--mount", bind, IMAGE, kind, "sleep", "1000")
        subprocess.run(["mount", "-t", "tmpfs", "given", place / "given"], check=True)
        try:
            assert (ctr.exec(kind, "grep", "-q", " /mnt/given ", "/proc/mounts").rc == 0) == arrives, kind
            ctr.exec(kind, "mount", "-t", "tmpfs", "taken", "/mnt/taken").ok()
            assert os.path.ismount(place / "taken") == returns, kind
        finally:
            subprocess.run(["umount", place / "given"], check=True)
            if os.path.ismount(place / "taken"):
                subprocess.run(["umount", place / "taken"], check=True)
        ctr("task", "rm", "--force", kind)


def copy(source: Path, target: Path) -> None:
    """Copy a root file system."""
    subprocess.run(["cp", "-a", source, target], check=True)
