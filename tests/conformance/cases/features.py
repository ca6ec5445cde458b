# SPDX-License-Identifier: Apache-2.0
"""features.md, features-linux.md: what the document lists is accepted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from conformance.harness.case import case, version
from conformance.harness.context import Context
from conformance.harness.runtime import Json

from .lifecycle import SEMVER


def document(c: Context) -> Json:
    """Return the features document; a runtime need not have one."""
    found = c.runtime.features()
    c.need(found is not None, "the runtime has no features document, which it need not")
    assert found is not None
    return found


def listed(c: Context, *path: str) -> list[str]:
    """Return a list of the document; what is absent or null says nothing."""
    value: Any = document(c)
    for word in path:
        value = (value or {}).get(word)
    c.need(value, f"the document has no {'.'.join(path)}")
    c.true(f"{'.'.join(path)} is a list of strings", all(isinstance(word, str) for word in value), value)
    return list(value)


def all_accepted(c: Context, words: list[str], configure: Callable[[str], object]) -> None:
    """Create a container for each word; expect that none is refused."""
    refused = {}
    for number, word in enumerate(words):
        configure(word)
        container_id = f"{c.id}{number}z"
        done = c.try_create(container_id=container_id)
        if not done.ok:
            refused[word] = done.err.strip()[-200:]
        else:
            c.remove(container_id)
    c.equal("words that are listed and refused", refused, {})


@case("features-version-min")
def features_version_min(c: Context) -> None:
    """ociVersionMin is a version that a configuration can have."""
    text = document(c).get("ociVersionMin")
    c.true("it is a version", isinstance(text, str) and re.fullmatch(SEMVER, text), text)
    c.equal("exit status", c.set({"ociVersion": text}).run(["exit", "3"]).status, 3)


@case("features-version-max")
def features_version_max(c: Context) -> None:
    """ociVersionMax is a version that a configuration can have."""
    text = document(c).get("ociVersionMax")
    c.true("it is a version", isinstance(text, str) and re.fullmatch(SEMVER, text), text)
    c.equal("exit status", c.set({"ociVersion": text}).run(["exit", "3"]).status, 3)


@case("features-version-order")
def features_version_order(c: Context) -> None:
    """The greatest version is not less than the least."""
    found = document(c)
    low, high = found.get("ociVersionMin", ""), found.get("ociVersionMax", "")
    numbers = [[int(part) for part in re.split(r"[-+]", text)[0].split(".")] for text in (low, high)]
    c.true("the order", numbers[0] <= numbers[1], (low, high))


KNOWN = {
    "": {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux", "annotations",
         "potentiallyUnsafeConfigAnnotations"},
    "linux": {"namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "intelRdt", "mountExtensions",
              "memoryPolicy", "netDevices"},
}  # fmt: skip


@case("features-no-others", each={"top": "", "linux": "linux"})
def features_no_others(c: Context, part: str) -> None:
    """There is no property that the specification does not have."""
    found = document(c)
    c.need(version(str(found.get("ociVersionMax"))) < (1, 4), "a later version than the suite knows")
    value = (found.get(part) or {}) if part else found
    c.equal("other properties", sorted(set(value) - KNOWN[part]), [])


@case("features-annotations")
def features_annotations(c: Context) -> None:
    """annotations is an object of strings."""
    value = document(c).get("annotations") or {}
    c.true("an object of strings", all(isinstance(word, str) for word in value.values()), value)


@case("features-hooks")
def features_hooks(c: Context) -> None:
    """The listed hooks are run."""
    from .hooks import KINDS, Hooks

    names = listed(c, "hooks")
    c.equal("names of hooks that there are not", sorted(set(names) - set(KINDS)), [])
    hooks = Hooks(c)
    for name in names:
        hooks.add(name)
    c.run(["exit", "0"])
    c.equal("hooks that ran", sorted(hooks.tags()), sorted(names))


@case("features-mount-options")
def features_mount_options(c: Context) -> None:
    """The listed mount options are recognised."""
    names = [name for name in listed(c, "mountOptions") if name not in ("remount", "idmap", "ridmap", "bind", "rbind")]
    (c.place / "source").mkdir()
    mounts = list(c.config["mounts"])
    made: list[Json] = []

    def configure(name: str) -> None:
        c.config["mounts"] = list(mounts)
        kind, options = ("tmpfs", []) if name == "tmpcopyup" else ("none", ["rbind"])
        if name in ("sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime", "iversion", "noiversion",
                    "silent", "loud", "defaults", "acl", "noacl"):  # fmt: skip
            kind, options = "tmpfs", []
        c.mount("/m", kind, str(c.place / "source"), *options, name)
        made.append(c.config["mounts"][-1])

    for name in names:
        configure(name)
    # All in one container, and each by itself only where that fails.
    c.config["mounts"] = mounts + [
        entry | {"destination": f"/m{number}"}
        for number, entry in enumerate(made)
    ]
    if not c.try_create().ok:
        all_accepted(c, names, configure)


DATA = {"size", "mode", "uid", "gid", "nr_inodes", "lowerdir", "upperdir", "workdir", "subvol"}


@case("features-mount-data")
def features_mount_data(c: Context) -> None:
    """No option of one file system alone is listed."""
    c.equal("such options", sorted(DATA & {name.partition("=")[0] for name in listed(c, "mountOptions")}), [])


@case("features-namespaces")
def features_namespaces(c: Context) -> None:
    """The listed namespaces are recognised."""
    names = listed(c, "linux", "namespaces")

    def configure(name: str) -> None:
        if name == "user":
            c.userns()
        else:
            c.namespace(name)

    all_accepted(c, names, configure)


@case("features-capabilities")
def features_capabilities(c: Context) -> None:
    """The listed capabilities are recognised: none of them is warned about."""
    names = listed(c, "linux", "capabilities")
    c.config["process"]["capabilities"] = {"bounding": names}
    done = c.try_create()
    c.ok("create with all of them", done)
    c.equal("capabilities that are warned about as unknown", [name for name in names if f"unknown {name}" in done.err], [])


def seccomp(c: Context, **members: Any) -> None:
    """Set a profile."""
    action = members.pop("action", "SCMP_ACT_ERRNO")
    entry = {"names": ["munlockall"], "action": action} | members.pop("rule", {})
    c.linux(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]} | members)


@case("features-seccomp-actions")
def features_seccomp_actions(c: Context) -> None:
    """The listed actions are recognised."""
    from .seccomp import Agent

    names = listed(c, "linux", "seccomp", "actions")
    if "SCMP_ACT_NOTIFY" in names:
        agent = Agent(c)
        seccomp(c, action="SCMP_ACT_NOTIFY", listenerPath=agent.path)
        c.ok("create with SCMP_ACT_NOTIFY", c.try_create())
        del c.config["linux"]["seccomp"]
    c.equal("SCMP_ACT_ALLOW is listed", "SCMP_ACT_ALLOW" in names, True)
    rest = [name for name in names if name not in ("SCMP_ACT_NOTIFY", "SCMP_ACT_ALLOW")]
    all_accepted(c, rest, lambda name: seccomp(c, action=name))


@case("features-seccomp-operators")
def features_seccomp_operators(c: Context) -> None:
    """The listed operators are recognised."""
    all_accepted(
        c,
        listed(c, "linux", "seccomp", "operators"),
        lambda name: seccomp(c, rule={"args": [{"index": 0, "value": 1, "valueTwo": 1, "op": name}]}),
    )


@case("features-seccomp-archs")
def features_seccomp_archs(c: Context) -> None:
    """The listed architectures are recognised."""
    all_accepted(c, listed(c, "linux", "seccomp", "archs"), lambda name: seccomp(c, architectures=[name]))


@case("features-seccomp-known-flags")
def features_seccomp_known_flags(c: Context) -> None:
    """Flags that are supported are known."""
    known = listed(c, "linux", "seccomp", "knownFlags")
    supported = listed(c, "linux", "seccomp", "supportedFlags")
    c.equal("flags that are supported and not known", sorted(set(supported) - set(known)), [])


@case("features-seccomp-supported-flags")
def features_seccomp_supported_flags(c: Context) -> None:
    """The supported flags work."""
    from .seccomp import Agent

    names = listed(c, "linux", "seccomp", "supportedFlags")
    if "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" in names:
        # The kernel takes it with a listener only.
        names.remove("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
        agent = Agent(c)
        flags = ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
        seccomp(c, action="SCMP_ACT_NOTIFY", listenerPath=agent.path, flags=flags)
        c.ok("create with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", c.try_create())
        del c.config["linux"]["seccomp"]
    all_accepted(c, names, lambda name: seccomp(c, flags=[name]))


@case("features-memory-policy")
def features_memory_policy(c: Context) -> None:
    """The listed modes are recognised."""
    c.need(c.report().get("mempolicy") is not None, "the kernel has no memory policies")
    names = listed(c, "linux", "memoryPolicy", "modes")

    def configure(name: str) -> None:
        without = name in ("MPOL_DEFAULT", "MPOL_LOCAL")
        c.config["linux"]["memoryPolicy"] = {"mode": name} | ({} if without else {"nodes": "0"})

    all_accepted(c, names, configure)


@case("features-idmap")
def features_idmap(c: Context) -> None:
    """Where ID-mapped mounts are used at all, the document says so."""
    from .mounts import MAPPING, idmap_source

    enabled = ((document(c).get("linux") or {}).get("mountExtensions") or {}).get("idmap", {}).get("enabled")
    c.need(enabled is not None, "the document does not say")
    c.mount("/m", "none", idmap_source(c), "bind", "idmap")
    c.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    c.equal("idmap.enabled, where such a mount works", enabled, c.try_create().ok)
