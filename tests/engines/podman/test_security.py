# SPDX-License-Identifier: Apache-2.0
"""Users, capabilities, seccomp, and what is hidden."""

from __future__ import annotations

import json
from pathlib import Path

from harness.engine import Engine
from harness.podman import fields

CAP_CHOWN, CAP_NET_ADMIN = 0, 12


def status(podman: Engine, *words: str) -> dict[str, str]:
    """Return /proc/self/status of a container with these options."""
    return fields(podman("run", "--rm", *words, "busybox", "cat", "/proc/self/status").ok().out)


def test_user(podman: Engine) -> None:
    """By number and by name, with the groups of the image and of the user."""
    script = "id -u; id -g; id -G; echo $HOME"
    assert podman("run", "--rm", "--user", "1000:1001", "busybox", "sh", "-c", script).ok().lines == ["1000", "1001", "1001", "/home"]
    done = podman("run", "--rm", "--user", "user", "--group-add", "1234", "busybox", "sh", "-c", script).ok().lines
    assert done[:2] == ["1000", "1000"]
    assert set(done[2].split()) == {"1000", "1001", "1234"}
    podman("run", "--rm", "--user", "nobody-knows", "busybox", "true").fails(words="nobody-knows")


def test_umask(podman: Engine) -> None:
    """--umask, and the default."""
    assert podman("run", "--rm", "--umask", "0077", "busybox", "sh", "-c", "umask").ok().text == "0077"
    assert podman("run", "--rm", "busybox", "sh", "-c", "umask").ok().text == "0022"


def test_caps(podman: Engine) -> None:
    """Added, dropped, and none for an ordinary user."""
    default = status(podman)
    assert default["CapEff"] == default["CapPrm"] == default["CapBnd"] == "00000000a80425fb" or int(default["CapEff"], 16)
    assert int(default["CapEff"], 16) & 1 << CAP_CHOWN
    assert not int(default["CapEff"], 16) & 1 << CAP_NET_ADMIN
    added = status(podman, "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN")
    assert int(added["CapEff"], 16) == int(default["CapEff"], 16) & ~(1 << CAP_CHOWN) | 1 << CAP_NET_ADMIN
    none = status(podman, "--cap-drop", "all")
    assert {int(none[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    user = status(podman, "--user", "1000")
    assert int(user["CapEff"], 16) == 0
    assert user["CapBnd"] == default["CapBnd"]
    podman("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "1", "/tmp").fails(words="operation not permitted")


def test_privileged(podman: Engine) -> None:
    """--privileged: every capability, no seccomp, devices, writable /proc/sys and /sys, and mounts."""
    script = "cat /proc/self/status; mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted"
    done = podman("run", "--rm", "--privileged", "busybox", "sh", "-c", script).ok()
    found = fields(done.out)
    assert found["CapEff"] == fields(Path("/proc/self/status").read_text())["CapBnd"]
    assert found["Seccomp"] == "0"
    assert done.lines[-1] == "mounted"
    script = "test -c /dev/net/tun && test -c /dev/fuse && echo 1 >/proc/sys/net/ipv4/ip_forward && test -w /sys"
    podman("run", "--rm", "--privileged", "busybox", "sh", "-c", script).ok()


def test_read_only(podman: Engine) -> None:
    """A root that cannot be written, with and without file systems in memory."""
    podman("run", "--rm", "--read-only", "busybox", "touch", "/new").fails(words="read-only file system")
    podman("run", "--rm", "--read-only", "busybox", "touch", "/tmp/new", "/run/new", "/dev/shm/new").ok()
    done = podman("run", "--rm", "--read-only", "--read-only-tmpfs=false", "busybox", "touch", "/tmp/new")
    done.fails(words="read-only file system")


def test_seccomp_default(podman: Engine) -> None:
    """podman's filter holds, with its error numbers."""
    assert status(podman)["Seccomp"] == "2"
    # swapon is refused by a rule of its own, add_key because no rule has it; without a filter both would fault.
    words = ("/probe", "seq", "syscall", "swapon", "1", "0", "--", "syscall", "add_key", "1", "1", "0", "0", "0")
    for option, want in ((), ["EPERM", "ENOSYS"]), (("--security-opt", "seccomp=unconfined"), ["EFAULT", "EFAULT"]):
        done = podman("run", "--rm", "--cap-add", "SYS_ADMIN", *option, "busybox", *words).ok()
        assert [json.loads(line)["errno"] for line in done.lines] == want


def profile(path: Path, *calls: str, errno: int = 77) -> Path:
    """Write a seccomp profile that allows all but these calls."""
    rule = {"names": list(calls), "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]}))
    return path


def test_seccomp_profile(podman: Engine, scratch: Path) -> None:
    """A profile of the user's, with its error number; exec has it too."""
    option = f"seccomp={profile(scratch / 'profile.json', 'mkdir', 'mkdirat')}"
    podman("run", "--rm", "--security-opt", option, "busybox", "mkdir", "/new").fails(words="file descriptor in bad state")
    podman("run", "--detach", "--name", "one", "--security-opt", option, "busybox", "sleep", "1000").ok()
    podman("exec", "one", "mkdir", "/new").fails(words="file descriptor in bad state")
    podman("exec", "one", "touch", "/new").ok()


def test_seccomp_unconfined(podman: Engine) -> None:
    """No filter."""
    assert status(podman, "--security-opt", "seccomp=unconfined")["Seccomp"] == "0"


def test_no_new_privs(podman: Engine) -> None:
    """--security-opt no-new-privileges, and not without."""
    assert status(podman, "--security-opt", "no-new-privileges")["NoNewPrivs"] == "1"
    assert status(podman)["NoNewPrivs"] == "0"


def test_masked_paths(podman: Engine, scratch: Path) -> None:
    """What the kernel would tell or let be changed is hidden or read-only; the user can say otherwise."""
    script = "wc -c </proc/timer_list; ls /proc/acpi 2>/dev/null; echo 1 >/proc/sys/kernel/hostname || echo refused; touch /sys/x || echo refused"
    done = podman("run", "--rm", "busybox", "sh", "-c", script).ok()
    assert done.lines == ["0", "refused", "refused"]
    (scratch / "file").write_text("secret\n")
    words = ("run", "--rm", "-v", f"{scratch}:/v")
    assert podman(*words, "--security-opt", "mask=/v/file", "busybox", "cat", "/v/file").ok().out == ""
    podman(*words, "--security-opt", "mask=/v", "busybox", "cat", "/v/file").fails()
    open_it = "head -c 1 /proc/timer_list | wc -c; echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start && echo written"
    assert podman("run", "--rm", "--security-opt", "unmask=ALL", "busybox", "sh", "-c", open_it).ok().lines == ["1", "written"]


def test_keyring(podman: Engine, scratch: Path) -> None:
    """A session keyring of its own, which is not the host's; none where containers.conf says so."""
    words = ("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "/probe", "keyctl", "describe", "-3")
    own = json.loads(podman(*words).ok().lines[-1])["description"]
    assert own.split(";")[-1] not in ("", "_ses", "_uid_ses.0", "_uid.0")
    conf = scratch / "containers.conf"
    conf.write_text(Path(podman.env["CONTAINERS_CONF"]).read_text().replace("[containers]", "[containers]\nkeyring = false"))
    shared = json.loads(podman(*words, env={"CONTAINERS_CONF": str(conf)}).ok().lines[-1])
    assert shared["description"] != own
