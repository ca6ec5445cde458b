# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: propagation, masked and read-only paths, personality, memory policy, sysctl, RDT, labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from conformance.harness import machine
from conformance.harness.case import case
from conformance.harness.context import Context

from .mounts import entry

# -- rootfsPropagation -------------------------------------------------------------------------------------------------

WORDS = {
    "private": ("private",),
    "slave": ("slave", "slave+shared"),
    "shared": ("shared", "slave+shared"),
    "unbindable": ("unbindable",),
}


@case("rootfs-propagation", each={name: (name, words) for name, words in WORDS.items()})
def rootfs_propagation(c: Context, word: str, wanted: tuple[str, ...]) -> None:
    """The root mount has the propagation."""
    c.linux(rootfsPropagation=word)
    c.within("propagation of /", entry(c.report()["mountinfo"], "/").propagation, wanted)


@case("rootfs-propagation", each={"slave": ("slave", True), "private": ("private", False), "shared": ("shared", None)})
def rootfs_propagation_from_host(c: Context, word: str, arrives: bool | None) -> None:
    """What the host mounts later arrives in a slave, and not in a private root."""
    (c.rootfs / "mnt").mkdir()
    container = c.linux(rootfsPropagation=word).create()
    machine.mount("later", c.rootfs / "mnt", "tmpfs", 0, "mode=755")
    places = [mount.target for mount in machine.mounts(Path(f"/proc/{container.pid}/mountinfo").read_text())]
    if arrives is not None:
        c.equal("the host's mount is there", "/mnt" in places, arrives)


@case("rootfs-propagation", each={name: name for name in WORDS})
def rootfs_propagation_to_host(c: Context, word: str) -> None:
    """No mount of the container reaches the host."""
    before = set(machine.own_mounts())
    c.linux(rootfsPropagation=word).mount("/m", "tmpfs", "tmpfs").create()
    new = [target for target in set(machine.own_mounts()) - before if str(c.rootfs) in target]
    c.equal("mounts of the container on the host", new, [])


@case("invalid-values", each={"word": "nonsense", "recursive-word": "rnonsense"})
def rootfs_propagation_unknown(c: Context, word: str) -> None:
    """Another word is an error."""
    c.linux(rootfsPropagation=word)
    c.refused(why="an unknown propagation")


# -- masked and read-only paths ----------------------------------------------------------------------------------------


@case("masked-paths")
def masked_file(c: Context) -> None:
    """A masked file gives nothing."""
    c.file("/etc/secret", "secret")
    line = c.linux(maskedPaths=["/etc/secret"]).run(["read", "/etc/secret"]).one("read")
    c.true("the content is hidden", "secret" not in (line.get("data") or ""), line)


@case("masked-paths")
def masked_directory(c: Context) -> None:
    """A masked directory is empty."""
    c.file("/etc/secrets/one", "secret")
    output = c.linux(maskedPaths=["/etc/secrets"]).run(["ls", "/etc/secrets"], ["read", "/etc/secrets/one"])
    c.equal("names", output.one("ls").get("names") or [], [])
    c.true("the file is hidden", output.one("read").get("errno"), output.one("read"))


@case("masked-paths")
def masked_proc(c: Context) -> None:
    """A file of procfs is masked in the container, and not on the host."""
    path = "/proc/timer_list" if os.path.exists("/proc/timer_list") else "/proc/version"
    line = c.linux(maskedPaths=[path]).run(["read", path]).one("read")
    c.equal("content", line.get("data") or "", "")
    c.true("the host can read it", Path(path).read_text())


@case("readonly-paths")
def readonly_directory(c: Context) -> None:
    """A read-only directory cannot be written, what is beside it can."""
    c.file("/etc/fixed/file", "x")
    c.linux(readonlyPaths=["/etc/fixed"])
    output = c.run(["create", "/etc/fixed/new", "x"], ["write", "/etc/fixed/file", "y"], ["create", "/etc/new", "x"])
    c.equal("create in it", output.outcome("create", "/etc/fixed/new"), "EROFS")
    c.equal("write in it", output.outcome("write"), "EROFS")
    c.equal("create beside it", output.outcome("create", "/etc/new"), "ok")


@case("readonly-paths")
def readonly_file(c: Context) -> None:
    """A read-only file can be read and not written."""
    c.file("/etc/fixed", "x")
    output = c.linux(readonlyPaths=["/etc/fixed"]).run(["write", "/etc/fixed", "y"], ["read", "/etc/fixed"])
    c.equal("write", output.outcome("write"), "EROFS")
    c.equal("read", output.one("read").get("data"), "x")


@case("readonly-paths")
def readonly_proc_sys(c: Context) -> None:
    """/proc/sys cannot be written when it is listed."""
    output = c.linux(readonlyPaths=["/proc/sys"]).run(["write", "/proc/sys/net/ipv4/ip_forward", "1"])
    c.equal("write", output.outcome("write"), "EROFS")


@case("masked-paths-absolute", each={"plain": "etc/passwd", "dots": "../etc/passwd"})
def masked_relative(c: Context, path: str) -> None:
    """A relative path is an error."""
    c.linux(maskedPaths=[path])
    c.refused(why="a relative masked path", late=True)


@case("readonly-paths-absolute", each={"plain": "etc/passwd", "dots": "../etc/passwd"})
def readonly_relative(c: Context, path: str) -> None:
    """A relative path is an error."""
    c.linux(readonlyPaths=[path])
    c.refused(why="a relative read-only path", late=True)


# -- personality -------------------------------------------------------------------------------------------------------


@case("personality", each={"LINUX": ("LINUX", False), "LINUX32": ("LINUX32", True)})
def personality(c: Context, domain: str, other: bool) -> None:
    """LINUX32 shows a 32-bit machine, LINUX the real one."""
    c.need(machine.X86_64, "only known for x86-64")
    c.need(not other or machine.has_32_bit_personality(), "the kernel knows of no 32-bit machine")
    seen = c.linux(personality={"domain": domain}).report()["machine"]
    c.equal("machine", seen == "x86_64", not other)


@case("personality", "invalid-values", each={"unknown": {"domain": "NONSENSE"}, "missing": {"flags": []}})
def personality_invalid(c: Context, value: dict[str, Any]) -> None:
    """An unknown domain, or none, is an error."""
    c.linux(personality=value)
    c.refused(why="an invalid personality", late=True)


@case("personality-flags", "invalid-values")
def personality_flag(c: Context) -> None:
    """A flag is an unsupported value."""
    c.linux(personality={"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})
    c.refused(why="a flag that is not supported", late=True)


# -- memory policy -----------------------------------------------------------------------------------------------------

MODES = {
    "MPOL_DEFAULT": (None, 0),
    "MPOL_BIND": ("0", 2),
    "MPOL_INTERLEAVE": ("0", 3),
    "MPOL_PREFERRED": ("0", 1),
    "MPOL_LOCAL": (None, 4),
    "MPOL_PREFERRED_MANY": ("0", 5),
    "MPOL_WEIGHTED_INTERLEAVE": ("0", 6),
}


@case("memory-policy", each={name: (name, *row) for name, row in MODES.items()})
def memory_policy(c: Context, mode: str, nodes: str | None, number: int) -> None:
    """The program has the policy."""
    before = c.report().get("mempolicy")
    c.need(before is not None, "the kernel has no memory policies")
    c.linux(memoryPolicy={"mode": mode} | ({"nodes": nodes} if nodes else {}))
    report = c.report()
    # With one node set the kernel may keep "preferred" as "local".
    c.within("mode", report["mempolicy"] & 0xFF, (number,))
    if nodes:
        c.equal("nodes", report["mempolicy_nodes"], 1)


@case("memory-policy")
def memory_policy_flag(c: Context) -> None:
    """A flag is passed on."""
    before = c.report().get("mempolicy")
    c.need(before is not None, "the kernel has no memory policies")
    c.linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]})
    c.equal("mode with its flag", c.report()["mempolicy"], 2 | 1 << 15)


INVALID_POLICIES = {
    "mode": {"mode": "MPOL_NONSENSE"},
    "missing": {"nodes": "0"},
    "flag": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["NONSENSE"]},
    "nodes": {"mode": "MPOL_BIND", "nodes": "nonsense"},
    "bind-without-nodes": {"mode": "MPOL_BIND"},
}


@case("memory-policy", "invalid-values", each=INVALID_POLICIES)
def memory_policy_invalid(c: Context, value: dict[str, Any]) -> None:
    """What the kernel does not have is an error."""
    c.linux(memoryPolicy=value)
    c.refused(why="an invalid memory policy", late=True)


# -- sysctl ------------------------------------------------------------------------------------------------------------

SYSCTLS = {
    "net": ("net.ipv4.ip_forward", "1"),
    "ipc": ("kernel.shmmni", "1234"),
    "mqueue": ("fs.mqueue.msg_max", "11"),
    "domain-name": ("kernel.domainname", "example.test"),
}


@case("sysctl", each=SYSCTLS)
def sysctl(c: Context, name: str, value: str) -> None:
    """The parameter is set in the container, and the host keeps its own."""
    path = "/proc/sys/" + name.replace(".", "/")
    c.need(os.path.exists(path), f"the kernel has no {name}")
    before = Path(path).read_text()
    seen = c.linux(sysctl={name: value}).run(["read", path]).one("read")
    c.equal("value", (seen.get("data") or "").strip(), value)
    c.equal("the host's value", Path(path).read_text(), before)


@case("sysctl", "create-cannot-apply", each={"unknown": ("net.ipv4.nonsense", "1"), "value": ("net.ipv4.ip_forward", "x")})
def sysctl_impossible(c: Context, name: str, value: str) -> None:
    """A parameter or value that the kernel does not take is an error."""
    c.linux(sysctl={name: value})
    c.refused(why="an impossible parameter")


# -- Intel RDT, labels -------------------------------------------------------------------------------------------------


def no_resctrl(c: Context) -> None:
    """Leave the case out where there is a resctrl."""
    kinds = {mount.type for mount in machine.mounts(Path("/proc/self/mountinfo").read_text())}
    c.need("resctrl" not in kinds, "resctrl is mounted")


@case("rdt-without-resctrl", each={"closID": {"closID": "conf"}, "l3": {"l3CacheSchema": "L3:0=f"}, "empty": {}})
def rdt_without_resctrl(c: Context, value: dict[str, Any]) -> None:
    """intelRdt is an error where no resctrl is mounted."""
    no_resctrl(c)
    c.linux(intelRdt=value)
    c.refused(why="intelRdt without resctrl")


@case("rdt-mem-bw", "rdt-schemata-lines", each={"prefix": {"memBwSchema": "L3:0=f"}, "newline": {"memBwSchema": "MB:0=5\nL3:0=f"},
                                                "schemata": {"schemata": ["MB:0=5\nL3:0=f"]}})  # fmt: skip
def rdt_invalid(c: Context, value: dict[str, Any]) -> None:
    """A line that is none is an error."""
    c.linux(intelRdt=value)
    c.refused(why="an invalid schema")


@case("mount-label", "lifecycle-environment-error")
def mount_label(c: Context) -> None:
    """Where there is no SELinux, a label of mounts is an error."""
    c.need(not os.path.exists("/sys/fs/selinux/enforce"), "there is SELinux, and no label of ours")
    c.linux(mountLabel="system_u:object_r:conformance_t:s0")
    c.refused(why="a label that nothing can apply")
