# SPDX-License-Identifier: Apache-2.0
"""What the differential test runs: a configuration, the tree that it meets, and how it is driven.

A scenario is plain JSON, so that a failing one can be printed and replayed.  "@bundle@" in any of its
strings is the bundle's directory, "@net@", "@ipc@", "@uts@" the namespaces of a process that is there
anyway.

Whatever both runtimes must understand is drawn here; what the peer's version has never heard of (Debian's
runc 1.1.5: time namespaces, scheduler, domainname, memory policy, personality, id-mapped mounts, network
devices) is not, since there is nothing to compare it with.
"""

from __future__ import annotations

import resource
from typing import Any

from hypothesis import strategies as st
from support.report import CAPABILITIES

Json = Any

DIRECTORIES = ("/real", "/real/inner", "/vol", "/a/b", "/masked")
# Where things may be mounted, masked or made read-only: there or not, through links, up, twice.
PLACES = (
    "/real", "/real/inner", "/vol", "/vol/", "/a/b", "/a//b", "/new", "/new/deep/down", "/link", "/link/inner",
    "/abs/inner", "/out", "/out/vol", "/dangling", "/tmp", "/mnt/../vol", "/a/./b", "/dev/shm", "/dev/extra", "/run",
)  # fmt: skip
FILE_PLACES = ("/file", "/new-file", "/real/new-file", "/file-link", "/etc/passwd", "/deep/new/file")
HIDDEN = (
    "/masked", "/file", "/real", "/nosuch", "/file-link", "/link", "/proc/kcore", "/proc/keys", "/proc/sys",
    "/proc/irq", "/sys/firmware", "/dev/null", "/proc/sysrq-trigger", "/vol", "/out/vol", "/dangling", "/tmp",
    "/dev/shm", "/proc/bus", "/etc",
)  # fmt: skip
FLAG_OPTIONS = (
    "ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "atime", "relatime", "strictatime",
    "nodiratime", "diratime", "norelatime", "nostrictatime", "sync", "async", "dirsync", "nosymfollow",
)  # fmt: skip
RECURSIVE_OPTIONS = ("rro", "rrw", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rrelatime", "rstrictatime", "rsuid")
PROPAGATIONS = (
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
)  # fmt: skip
WORDS = st.sampled_from(["", "x", "two words", "ü", "tab\there", '"quoted"', "line\nbreak", "$HOME", "{}", "\x01\x7f"])
SECCOMP_PROBES = ("getsid", "uname", "sched_yield", "sysinfo", "munlockall", "getppid", "personality")


def sometimes(draw: st.DrawFn, one_in: int) -> bool:
    """Return True in one case of *one_in*; the simple case is False."""
    return draw(st.integers(0, one_in - 1)) == one_in - 1


def some(choices: Any, most: int = 3) -> st.SearchStrategy[list[Any]]:
    """Return lists of some of *choices*, each at most once."""
    return st.lists(st.sampled_from(choices), max_size=most, unique_by=repr)


# ---- the tree ------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> Json:
    """Return what is in the rootfs besides the probe."""
    items = [["dir", path, 0o755, 0, 0] for path in DIRECTORIES]
    items += [
        ["file", "/real/old", "old\n", 0o644, 0, 0],
        ["file", "/masked/secret", "secret\n", 0o644, 0, 0],
        ["file", "/file", "file\n", 0o644, 0, 0],
        ["link", "/link", "/real"],
        ["link", "/abs", "real"],
        ["link", "/file-link", "file"],
        ["link", "/out", "../../.."],
        ["link", "/dangling", "/nowhere/at/all"],
    ]
    extra = [
        ["dir", "/real", 0o1777, 12, 34],
        ["dir", "/vol", 0o700, 1000, 1000],
        ["file", "/file", "other\n", 0o4755, 1000, 5],
        ["file", "/vol/old", "in vol\n", 0o600, 7, 8],
        ["dir", "/etc", 0o755, 0, 0],
        ["node", "/dev/extra", "c", 1, 3, 0o600],
        ["fifo", "/dev/pipe"],
        ["dir", "/dev/shm", 0o755, 0, 0],
        ["dir", "/sys/fs/cgroup", 0o755, 0, 0],
        ["dir", "/mnt", 0o755, 0, 0],
        ["node", "/null-of-image", "c", 1, 3, 0o640],
        ["link", "/loop", "loop"],
        ["file", "/etc/passwd", "root:x:0:0:root:/root:/probe\nu:x:1000:1000::/home/u:/probe\n", 0o644, 0, 0],
    ]
    return items + draw(some(extra, 4))


# ---- process -------------------------------------------------------------------------------------

IDS = st.one_of(st.sampled_from([0, 1, 1000, 65534, 65535]), st.integers(0, 65535))


@st.composite
def capabilities(draw: st.DrawFn) -> Json:
    """Return `process.capabilities`."""
    names = draw(some([*CAPABILITIES[:24], "CAP_SYSLOG", "CAP_FROM_THE_FUTURE"], 8))
    sets = {key: list(names) for key in ("bounding", "effective", "permitted")}
    if sometimes(draw, 3):
        sets["inheritable"] = draw(some(names, 8)) if names else []
    if sometimes(draw, 3):
        sets["ambient"] = draw(some(names, 8)) if names else []
    if sometimes(draw, 5):
        for key in draw(some(["bounding", "effective", "inheritable"])):
            sets[key] = draw(some(names, 6)) if names else []
    if sometimes(draw, 20):
        sets[draw(st.sampled_from(sorted(sets)))] = draw(some(CAPABILITIES[:24], 6))
    if sometimes(draw, 8):
        del sets[draw(st.sampled_from(sorted(sets)))]
    return sets


@st.composite
def rlimits(draw: st.DrawFn) -> Json:
    """Return `process.rlimits` that this process may set."""
    found = []
    for name in draw(
        some(["NOFILE", "CORE", "STACK", "CPU", "FSIZE", "NPROC", "MEMLOCK", "LOCKS", "SIGPENDING", "NICE", "RTPRIO"])
    ):
        top = resource.getrlimit(getattr(resource, f"RLIMIT_{name}", 10))[1] if hasattr(resource, f"RLIMIT_{name}") else 0
        limit = 2**64 - 1 if top == resource.RLIM_INFINITY else top
        low = {"NOFILE": 64, "STACK": 1 << 20, "CPU": 1000, "FSIZE": 1 << 24, "NPROC": 1000}.get(name, 0)
        if limit < low:
            continue
        hard = draw(st.one_of(st.just(limit), st.integers(low, limit)))
        soft = draw(st.one_of(st.just(hard), st.integers(low, hard)))
        found.append({"type": f"RLIMIT_{name}", "hard": hard, "soft": soft})
    return found


@st.composite
def processes(draw: st.DrawFn, spec: Json) -> None:
    """Fill in `process`."""
    process = spec["process"]
    if sometimes(draw, 2):
        process["user"] = {"uid": draw(IDS), "gid": draw(IDS)}
        if sometimes(draw, 2):
            process["user"]["additionalGids"] = draw(st.lists(IDS, max_size=4))
        if sometimes(draw, 3):
            process["user"]["umask"] = draw(st.integers(0, 0o777))
    if sometimes(draw, 2):
        process["capabilities"] = draw(capabilities())
    elif sometimes(draw, 8):
        process.pop("capabilities")
    if sometimes(draw, 3):
        process["rlimits"] = draw(rlimits())
    if sometimes(draw, 3):
        process["noNewPrivileges"] = draw(st.booleans())
    if sometimes(draw, 4):
        process["oomScoreAdj"] = draw(st.integers(0, 1000))
    if sometimes(draw, 3):
        process["cwd"] = draw(st.sampled_from(["/tmp", "/real/inner", "/link", "/new/cwd", "/out/vol", "/vol", "/proc", "/a/../b", "/file", "/dangling"][: 10 if sometimes(draw, 4) else 8]))
    if sometimes(draw, 3):
        names = draw(some(["PATH=/bin", "PATH=/:/bin", "HOME=/h", "HOME=", "A=1", "A=2", "B=x=y", "C=", "ü=ü", "X= ", "PATH="], 5))
        process["env"] = names


# ---- mounts --------------------------------------------------------------------------------------


@st.composite
def options(draw: st.DrawFn, kind: str) -> list[str]:
    """Return options of a mount of one kind."""
    words: list[str] = []
    if kind == "bind":
        words.append(draw(st.sampled_from(["bind", "rbind"])))
    words += draw(some(FLAG_OPTIONS, 4))
    if sometimes(draw, 4):
        words += draw(some(RECURSIVE_OPTIONS, 2))
    if sometimes(draw, 3):
        words.append(draw(st.sampled_from(PROPAGATIONS)))
    if kind == "tmpfs":
        words += draw(some(["size=64k", "mode=0700", "mode=1777", "nr_inodes=100", "uid=1000", "gid=5"], 3))
        if sometimes(draw, 5):
            words.append("tmpcopyup")
    if sometimes(draw, 30):
        words.append(draw(st.sampled_from(["nonsense", "size=x", "defaults", "remount", "", "uid=-1"])))
    return words


@st.composite
def mounts(draw: st.DrawFn) -> Json:
    """Return one entry of `mounts`."""
    kind = draw(st.sampled_from(["tmpfs", "bind", "bind", "bind", "bind-file", "system", "overlay"]))
    if kind == "system":
        entry = dict(
            draw(
                st.sampled_from(
                    [
                        {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
                        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
                        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
                        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
                        {"destination": "/proc", "type": "proc", "source": "proc"},
                        {"destination": "/real/proc", "type": "proc", "source": "proc"},
                        {"destination": "/run", "type": "tmpfs", "source": "x"},
                        {"destination": "/proc/uptime", "type": "bind", "source": "@bundle@/src/file"},
                        {"destination": "/proc/cpuinfo", "type": "bind", "source": "@bundle@/src/file"},
                        {"destination": "/proc/sys", "type": "bind", "source": "@bundle@/src"},
                        {"destination": "/dev/null", "type": "bind", "source": "@bundle@/src/file"},
                        {"destination": "/dev/console", "type": "bind", "source": "@bundle@/src/file"},
                    ]
                )
            )
        )
        entry["options"] = draw(options("bind" if entry["type"] == "bind" else "system"))
        return entry
    if kind == "overlay":
        return {
            "destination": draw(st.sampled_from(PLACES)),
            "type": "overlay",
            "source": "overlay",
            "options": ["lowerdir=@bundle@/src", "upperdir=@bundle@/upper", "workdir=@bundle@/work", *draw(some(FLAG_OPTIONS, 2))],
        }
    if kind == "tmpfs":
        return {
            "destination": draw(st.sampled_from(PLACES)),
            "type": "tmpfs",
            "source": draw(st.sampled_from(["tmpfs", "name with space", "none"])),
            "options": draw(options("tmpfs")),
        }
    file = kind == "bind-file"
    source = draw(
        st.sampled_from(
            ["@bundle@/src/file", "src/file", "/dev/null"]
            if file
            else ["@bundle@/src", "src", "@bundle@/src/inner", "@bundle@/src/mounted", "src/link", "@bundle@/nosuch"][: 6 if sometimes(draw, 6) else 5]
        )
    )
    entry = {"destination": draw(st.sampled_from(FILE_PLACES if file else PLACES)), "source": source}
    entry["options"] = draw(options("bind"))
    entry["type"] = draw(st.sampled_from(["bind", "none", "bind", "rbind"]))
    return entry


# ---- linux ---------------------------------------------------------------------------------------

DEVICES = st.fixed_dictionaries(
    {"path": st.sampled_from(["/dev/extra", "/dev/dir/inner", "/vol/node", "/dev/null", "/dev/pipe", "/link/node", "/null-of-image"])},
    optional={"fileMode": st.sampled_from([0o600, 0o666, 0o444, 0o1640, 0]), "uid": IDS, "gid": IDS},
)


@st.composite
def devices(draw: st.DrawFn) -> Json:
    """Return `linux.devices`."""
    found = []
    for entry in draw(st.lists(DEVICES, max_size=3, unique_by=lambda entry: entry["path"])):
        kind = draw(st.sampled_from(["c", "c", "b", "u", "p"]))
        entry = dict(entry, type=kind)
        if entry["path"] in ("/dev/null", "/null-of-image"):
            entry |= {"type": "c", "major": 1, "minor": 3}
        elif kind != "p":
            entry["major"], entry["minor"] = draw(st.sampled_from([(1, 3), (1, 5), (1, 11), (10, 229), (7, 0)]))
        found.append(entry)
    return found


@st.composite
def resources(draw: st.DrawFn) -> Json:
    """Return `linux.resources` with values that the kernel takes."""
    found: Json = {}
    if sometimes(draw, 2):
        rule = st.fixed_dictionaries(
            {"allow": st.booleans(), "access": st.sampled_from(["r", "w", "m", "rw", "rm", "rwm"])},
            optional={
                "type": st.sampled_from(["a", "c", "b"]),
                "major": st.sampled_from([1, 5, 10, 7]),
                "minor": st.sampled_from([3, 5, 8, 229, 0]),
            },
        )
        found["devices"] = draw(st.lists(rule, max_size=4))
    if sometimes(draw, 2):
        memory: Json = {"limit": draw(st.sampled_from([-1, 1 << 28, (1 << 28) + 1, 1 << 30]))}
        if sometimes(draw, 2):
            memory["swap"] = draw(st.sampled_from([-1, 1 << 30, 1 << 31, 1 << 20]))
        if sometimes(draw, 2):
            memory["reservation"] = draw(st.sampled_from([-1, 1 << 27, 0]))
        if sometimes(draw, 3):
            memory["swappiness"] = draw(st.sampled_from([0, 60, 100, 101][: 4 if sometimes(draw, 6) else 3]))
        if sometimes(draw, 3):
            memory["disableOOMKiller"] = draw(st.booleans())
        if sometimes(draw, 4):
            memory["kernelTCP"] = draw(st.sampled_from([1 << 26, -1]))
        found["memory"] = memory
    if sometimes(draw, 2):
        found["cpu"] = draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "shares": st.sampled_from([0, 2, 512, 1024, 262144]),
                    "quota": st.sampled_from([-1, 0, 1000, 50000, 200000]),
                    "period": st.sampled_from([1000, 50000, 100000, 1000000]),
                    "cpus": st.sampled_from(["0", "0-1", "0,1", "", "1"]),
                    "mems": st.sampled_from(["0", ""]),
                    "idle": st.sampled_from([0, 1]),
                },
            )
        )
    if sometimes(draw, 3):
        found["pids"] = {"limit": draw(st.sampled_from([-1, 0, 50, 1000]))}
    if sometimes(draw, 5):
        found["blockIO"] = {"weight": draw(st.sampled_from([10, 500, 1000]))}
    return found


@st.composite
def seccomp(draw: st.DrawFn) -> Json:
    """Return `linux.seccomp`: rules for calls that the probe then makes."""
    rules = []
    for names in draw(st.lists(some(SECCOMP_PROBES), max_size=3)):
        if not names:
            continue
        rule: Json = {
            "names": [*names, *draw(some(["no_such_call", "open_by_handle_at"], 1))],
            "action": draw(st.sampled_from(["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"][: 5 if sometimes(draw, 8) else 3])),
        }
        if rule["action"] == "SCMP_ACT_ERRNO" and sometimes(draw, 2):
            rule["errnoRet"] = draw(st.sampled_from([1, 18, 38, 133, 0]))
        if sometimes(draw, 3):
            rule["args"] = [
                {
                    "index": draw(st.integers(0, 1)),
                    "value": draw(st.sampled_from([0, 1, 4, 2**32, 2**64 - 1])),
                    "op": draw(st.sampled_from(["SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE", "SCMP_CMP_MASKED_EQ"])),
                }
            ]
            if rule["args"][0]["op"] == "SCMP_CMP_MASKED_EQ":
                rule["args"][0]["valueTwo"] = draw(st.sampled_from([0, 1, 4]))
        rules.append(rule)
    found: Json = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    if sometimes(draw, 2):
        found["architectures"] = draw(st.sampled_from([["SCMP_ARCH_X86_64"], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], ["SCMP_ARCH_X86"]]))
    if sometimes(draw, 4):
        found["defaultAction"] = "SCMP_ACT_LOG"
    return found


SYSCTLS = {
    "network": ["net.ipv4.ip_forward", "net.core.somaxconn", "net/ipv4/tcp_syncookies"],
    "ipc": ["kernel.shmmax", "kernel.msgmax", "fs.mqueue.msg_max", "kernel.sem"],
    "uts": ["kernel.domainname"],
    "none": ["vm.swappiness", "kernel.panic", "kernel.hostname", "net.ipv4.nosuch"],
}


@st.composite
def linux(draw: st.DrawFn, spec: Json) -> None:  # noqa: C901  (one line for each property)
    """Fill in `linux`."""
    part = spec["linux"]
    if sometimes(draw, 2):
        for kind in draw(some(["pid", "network", "ipc", "uts", "cgroup"])):
            part["namespaces"] = [entry for entry in part["namespaces"] if entry["type"] != kind]
            if kind in ("network", "ipc", "uts") and draw(st.booleans()):
                path = {"network": "@net@", "ipc": "@ipc@", "uts": "@uts@"}[kind]
                part["namespaces"].append({"type": kind, "path": path})
    kinds = [entry["type"] for entry in part["namespaces"]]
    if "uts" not in kinds:
        spec.pop("hostname", None)
    if sometimes(draw, 3):
        first = draw(st.sampled_from([100000, 0]))
        mappings = [{"containerID": 0, "hostID": first, "size": 65536}]
        if sometimes(draw, 3):
            mappings = [
                {"containerID": 1, "hostID": first + 1, "size": 65535},
                {"containerID": 0, "hostID": first, "size": 1},
            ]
        part["namespaces"].append({"type": "user"})
        part["uidMappings"], part["gidMappings"] = mappings, mappings
        kinds.append("user")
    if sometimes(draw, 3):
        allowed = [name for kind in [*kinds, *(["none"] if sometimes(draw, 6) else [])] for name in SYSCTLS.get(kind, ())]
        if allowed:
            names = draw(some(allowed, 2))
            part["sysctl"] = {name: "250 32000 32 128" if name.endswith("sem") else draw(st.sampled_from(["1", "4096", "0"])) for name in names}
    if sometimes(draw, 3):
        part["devices"] = draw(devices())
    if sometimes(draw, 3):
        part["resources"] = draw(resources())
    if sometimes(draw, 3):
        part["maskedPaths"] = draw(some(HIDDEN, 4))
    if sometimes(draw, 3):
        part["readonlyPaths"] = draw(some(HIDDEN, 4))
    if sometimes(draw, 4):
        part["rootfsPropagation"] = draw(st.sampled_from(["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"]))
    if sometimes(draw, 4):
        part["seccomp"] = draw(seccomp())
    if sometimes(draw, 6):
        part["cgroupsPath"] = draw(st.sampled_from(["/@id@/deep/er", "/@id@", "@id@/relative", "//@id@//y"]))


@st.composite
def hooks(draw: st.DrawFn) -> Json:
    """Return `hooks`: the probe, recording itself."""
    found: Json = {}
    for kind in draw(some(["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"], 6)):
        for number in range(draw(st.integers(1, 2))):
            inside = kind == "startContainer"
            log = "/tmp/hooks.log" if inside else "@bundle@/hooks.log"
            entry: Json = {
                "path": "/probe" if inside else "@bundle@/rootfs/probe",
                "args": ["hook", "hook", log, "--tag", f"{kind}-{number}"],
                "env": draw(some(["A=1", "PATH=/x", "B="], 2)),
            }
            if sometimes(draw, 30):
                entry["args"] += ["--fail", "7"]
            if sometimes(draw, 4):
                entry["timeout"] = 30
            if sometimes(draw, 8):
                del entry["env"]
            found.setdefault(kind, []).append(entry)
    return found


# ---- all of it -----------------------------------------------------------------------------------


@st.composite
def scenarios(draw: st.DrawFn) -> Json:
    """Return scenarios."""
    from support.bundle import default_spec

    spec = default_spec()
    draw(processes(spec))
    draw(linux(spec))
    if sometimes(draw, 2):
        spec["mounts"] += draw(st.lists(mounts(), max_size=4))
    if sometimes(draw, 12):
        spec["mounts"] = draw(st.permutations(spec["mounts"]))
    if sometimes(draw, 12):
        spec["mounts"] = [entry for entry in spec["mounts"] if entry["destination"] != draw(st.sampled_from(["/dev", "/dev/pts", "/proc"]))]
    if sometimes(draw, 4):
        spec["hooks"] = draw(hooks())
    if sometimes(draw, 4):
        spec["root"]["readonly"] = draw(st.booleans())
    if sometimes(draw, 6):
        spec["annotations"] = {"org.example.a": draw(WORDS), "b": "c"}
    if sometimes(draw, 6) and "hostname" in spec:
        spec["hostname"] = draw(st.sampled_from(["", "a" * 64, "with.dots", "ünï"]))
    terminal = sometimes(draw, 6)
    if terminal:
        spec["process"]["terminal"] = True
        if draw(st.booleans()):
            spec["process"]["consoleSize"] = {"height": draw(st.integers(0, 200)), "width": draw(st.integers(0, 200))}
    mapped = any(entry["type"] == "user" for entry in spec["linux"]["namespaces"])
    return {
        "spec": spec,
        "tree": draw(trees()),
        "owner": draw(st.sampled_from(["mapped", "root"])) if mapped else "root",
        "host_mounts": draw(some([["mounted", "nosuid,nodev"], ["mounted/a", "ro"], ["mounted/a/b", "noexec,noatime"], ["inner", "private"], ["mounted", "unbindable"]], 2)) if sometimes(draw, 2) else [],
        "words": draw(st.lists(WORDS, max_size=3)),
        "mode": "steps" if terminal else draw(st.sampled_from(["steps", "run"])),
        "end": draw(st.sampled_from([["exit", 0], ["exit", 3], ["exit", 255], ["signal", 15], ["signal", 10], ["kill", 9], ["kill", 15]])),
        "preserve_fds": draw(st.integers(1, 2)) if sometimes(draw, 6) else 0,
        "pause": sometimes(draw, 8),
    }
