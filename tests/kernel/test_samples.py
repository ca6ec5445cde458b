# SPDX-License-Identifier: Apache-2.0
"""Configurations that engines and `runc spec` wrote: they run, with their host paths replaced."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.upstream import SAMPLES, needs_samples

NAMES = sorted(path.name for path in SAMPLES.glob("*.json")) if SAMPLES.is_dir() else []


def adapt(document: dict[str, Any], bundle: Bundle, workdir: Path) -> dict[str, Any]:
    """Put a rootfs, sources and a program of ours where the engine had its own."""
    document["root"]["path"] = str(bundle.inside("/"))
    document["process"] |= {"args": ["/probe", "report"], "terminal": False, "cwd": "/"}
    document["process"].pop("apparmorProfile", None)
    document["process"].pop("rlimits", None)  # this machine may not raise them
    if document["process"].get("oomScoreAdj", 0) < 0:
        del document["process"]["oomScoreAdj"]
    document.pop("hooks", None)
    linux = document["linux"]
    linux["cgroupsPath"] = f"/{bundle.id}"
    for namespace in linux["namespaces"]:
        namespace.pop("path", None)
    for number, mount in enumerate(document["mounts"]):
        if mount.get("type") == "bind" or {"bind", "rbind"} & set(mount.get("options", ())):
            if mount["source"] in ("/sys", "/proc", "/dev/mqueue"):
                continue
            if mount["source"].startswith("/dev/"):
                # The engine's host had this device; which one it is does not matter here.
                mount["source"] = mount["source"] if Path(mount["source"]).exists() else "/dev/null"
                continue
            source = workdir / f"source{number}"
            if "." in Path(mount["destination"]).name or mount["destination"].startswith(("/etc/", "/run/secrets")):
                source.write_text("")
            else:
                source.mkdir()
            mount["source"] = str(source)
    mappings = linux.get("uidMappings", []) + linux.get("gidMappings", [])
    if mappings:
        # The engine's ranges, moved where this machine's root owns the rootfs.
        subprocess.run(["chown", "-R", f"{mappings[0]['hostID']}", str(bundle.inside("/"))], check=True)
    return document


@needs_samples
@pytest.mark.ocirun_only("what engines wrote for the peers runs there anyway")
@pytest.mark.parametrize("name", NAMES)
def test_sample(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, name: str) -> None:
    """The program runs with the arguments, environment and identity that the engine asked for."""
    document = adapt(json.loads((SAMPLES / name).read_text()), bundle, workdir)
    bundle.spec.clear()
    bundle.spec.update(document)
    report = runtime.report(bundle)
    wanted = document["process"]
    user = wanted.get("user", {})
    assert report["uids"][0] == user.get("uid", 0)
    assert report["no_new_privs"] == int(wanted.get("noNewPrivileges", False))
    assert set(wanted.get("env", ())) <= set(report["environ"])
    if "hostname" in document:
        assert report["hostname"] == document["hostname"]


def test_what_runc_spec_writes(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """`runc spec`'s configuration runs as it is, but for the program and the terminal."""
    bundle.path.joinpath("config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=bundle.path, check=True)
    document = json.loads(bundle.path.joinpath("config.json").read_text())
    document["root"]["path"] = str(bundle.inside("/"))
    document["process"] |= {"terminal": False, "args": ["/probe", "report"]}
    bundle.spec.clear()
    bundle.spec.update(document)
    report = runtime.report(bundle)
    assert report["hostname"] == "runc"
    assert report["no_new_privs"] == 1
