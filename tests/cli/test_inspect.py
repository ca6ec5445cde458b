# SPDX-License-Identifier: Apache-2.0
"""spec, features, validate and plan."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.report import Json, capability_names, mounts
from support.upstream import REPOSITORY

SCHEMAS = REPOSITORY / "schemas"
PEER_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def validator(name: str) -> Any:
    """Return a validator for one of our schemas."""
    from referencing import Registry, Resource

    documents = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (document["$id"], Resource.from_contents(document)) for document in documents.values()
    )
    return jsonschema.validators.validator_for(documents[name])(documents[name], registry=registry)


# ---- spec ------------------------------------------------------------------------------------------


def test_spec_is_valid(ocirun: RuntimeCommand, workdir: Path) -> None:
    """What spec writes passes our own schema and all gates, also for a user who is not root."""
    for options in ([], ["--rootless"]):
        directory = workdir / f"b{len(options)}"
        (directory / "rootfs").mkdir(parents=True)
        ocirun.call("spec", *options, "--bundle", str(directory)).ok()
        document = json.loads((directory / "config.json").read_text())
        validator("config.json").validate(document)
        result = ocirun.call("validate", str(directory))
        assert (result.rc, result.stdout) == (0, b""), result


def test_spec_does_not_overwrite(ocirun: RuntimeCommand, workdir: Path) -> None:
    """An existing config.json is refused with runc's words and left as it is; nor is a link followed."""
    path = workdir / "config.json"
    path.write_text("mine")
    ocirun.call("spec", cwd=workdir).refused("exists. Remove it first")
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(workdir / "elsewhere")
    ocirun.call("spec", cwd=workdir).refused("exists")
    assert not (workdir / "elsewhere").exists()


def test_spec_to_a_file(ocirun: RuntimeCommand, workdir: Path) -> None:
    """crun's --file names another file."""
    ocirun.call("spec", "-f", "other.json", "-b", str(workdir)).ok()
    assert json.loads((workdir / "other.json").read_text())["ociVersion"] == "1.3.0"


def test_spec_on_a_full_disk(ocirun: RuntimeCommand) -> None:
    """A file that cannot be written whole is an error."""
    ocirun.call("spec", "--file", "/dev/full").refused("exists")
    ocirun.call("spec", "--bundle", "/nosuch").refused("ENOENT")


def _report(runtime: RuntimeCommand, document: Json, bundle: Bundle) -> Json:
    """Run the probe in a container of a document that `spec` wrote."""
    document["process"] |= {"terminal": False, "args": ["/probe", "report"]}
    bundle.spec = document
    return runtime.report(bundle.again())


def _effect(report: Json) -> Json:
    """Return what a report says about the configuration, without what is different in every run."""
    keep = ("uids", "gids", "groups", "umask", "rlimits", "no_new_privs", "environ", "cwd", "seccomp")
    effect: Json = {key: report[key] for key in keep if key in report}
    effect |= {f"caps {key}": capability_names(mask) for key, mask in report.get("caps", {}).items()}
    effect["mounts"] = sorted(
        (mount.target, mount.type, sorted(mount.options), mount.propagation)
        for mount in mounts(report["mountinfo"])
    )
    return effect


@pytest.mark.root
def test_spec_has_the_effect_of_runcs(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """A container of `ocirun spec` is what one of `runc spec` is."""
    if shutil.which("runc") is None:
        pytest.skip("peer: runc is not installed")
    ours, theirs = workdir / "ours", workdir / "theirs"
    for directory in (ours, theirs):
        directory.mkdir()
    runtime.call("spec", "--bundle", str(ours)).ok()
    subprocess.run(["runc", "spec", "--bundle", str(theirs)], check=True, env=PEER_ENVIRONMENT)
    effects = []
    for directory in (ours, theirs):
        document = json.loads((directory / "config.json").read_text())
        document["hostname"] = "same"
        effects.append(_effect(_report(runtime, document, bundle)))
    # Younger versions of runc mask more.
    effects[0]["mounts"] = [mount for mount in effects[0]["mounts"] if mount in effects[1]["mounts"]]
    assert effects[0] == effects[1]


@pytest.mark.root
def test_spec_runs_as_it_is(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """The container of an unchanged spec runs a shell; here there is none, and exactly that is said."""
    bundle.path.joinpath("config.json").unlink(missing_ok=True)
    runtime.call("spec", "--bundle", str(bundle.path)).ok()
    document = json.loads((bundle.path / "config.json").read_text())
    assert document["process"]["args"] == ["sh"]
    bundle.spec = document
    runtime.run(bundle).refused("executable file not found in $PATH")


# ---- features --------------------------------------------------------------------------------------


def features(ocirun: RuntimeCommand) -> Json:
    """Return the document."""
    document: Json = json.loads(ocirun.call("features").ok().stdout)
    return document


def test_features_are_valid(ocirun: RuntimeCommand) -> None:
    """The document obeys our schema of it."""
    validator("features.json").validate(features(ocirun))


@pytest.mark.root
def test_mount_options_of_features_are_accepted(ocirun: RuntimeCommand, bundle: Bundle) -> None:
    """W21: every option that features lists passes validation, one by one."""
    bundle.without_mount("/dev/pts")
    for option in features(ocirun)["mountOptions"]:
        spec = json.loads(json.dumps(bundle.spec))
        spec["mounts"].append({"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": [option]})
        if option.lstrip("r").startswith("bind"):
            spec["mounts"][-1] |= {"source": str(bundle.rootfs), "type": "none"}
        if option.endswith("idmap"):
            maps = [{"containerID": 0, "hostID": 100000, "size": 1}]
            spec["mounts"][-1] |= {"uidMappings": maps, "gidMappings": maps}
        (bundle.path / "config.json").write_text(json.dumps(spec))
        result = ocirun.call("validate", str(bundle.path))
        assert result.rc == 0, (option, result)


def test_namespaces_and_hooks_of_features(ocirun: RuntimeCommand) -> None:
    """The lists are those of the specification 1.3."""
    document = features(ocirun)
    assert document["ociVersionMax"] == "1.3.0"
    assert sorted(document["linux"]["namespaces"]) == sorted(
        ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]
    )
    assert document["hooks"] == [
        "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
    ]  # fmt: skip
    assert document["linux"]["seccomp"]["enabled"]
    assert "SCMP_ACT_NOTIFY" in document["linux"]["seccomp"]["actions"]


# ---- validate --------------------------------------------------------------------------------------

# All of the schema: a gate reports everything that it finds, the next one is asked if it found nothing.
SIX_MISTAKES = {
    "ociVersion": 1,
    "process": {"args": "sh", "cwd": "/", "user": {"uid": -1, "gid": 0}, "terminal": "yes"},
    "root": {},
    "linux": {"namespaces": [{"type": "nosuch"}]},
}
SIX_POINTERS = {
    "/ociVersion",
    "/process/args",
    "/process/terminal",
    "/process/user/uid",
    "/root/path",
    "/linux/namespaces/0/type",
}


def test_validate_lists_everything(ocirun: RuntimeCommand, workdir: Path) -> None:
    """Six mistakes are six lines, each beginning with its pointer; the JSON form has the same."""
    (workdir / "config.json").write_text(json.dumps(SIX_MISTAKES))
    result = ocirun.call("validate", str(workdir))
    assert result.rc == 1
    found = {line.partition(":")[0] for line in result.stdout.decode().splitlines()}
    assert found == SIX_POINTERS, result
    result = ocirun.call("validate", "--format", "json", cwd=workdir)
    assert result.rc == 1
    document = json.loads(result.stdout)
    assert not document["valid"]
    assert {problem["pointer"] for problem in document["problems"]} == SIX_POINTERS
    assert all(problem["gate"] == "schema" and problem["message"] for problem in document["problems"])


def test_validate_accepts(ocirun: RuntimeCommand, bundle: Bundle) -> None:
    """A good bundle says nothing, or that it is valid, and status 0."""
    bundle.write()
    assert ocirun.call("validate", str(bundle.path)).ok().stdout == b""
    document = json.loads(ocirun.call("validate", "--format=json", str(bundle.path)).ok().stdout)
    assert document == {"valid": True, "problems": []}


def test_validate_another_file(ocirun: RuntimeCommand, bundle: Bundle) -> None:
    """--config names another file of the bundle."""
    (bundle.path / "other.json").write_text("[")
    bundle.write()
    ocirun.call("validate", str(bundle.path)).ok()
    assert ocirun.call("validate", "--config", "other.json", str(bundle.path)).rc == 1


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "no-rootfs"])
def test_validate_what_is_no_bundle(ocirun: RuntimeCommand, workdir: Path, bundle: Bundle, kind: str) -> None:
    """A bundle that cannot be read is one problem and status 1; nothing hangs."""
    bundle.write()
    config = bundle.path / "config.json"
    if kind == "no-rootfs":
        shutil.rmtree(bundle.rootfs)
    else:
        config.unlink()
        if kind == "directory":
            config.mkdir()
        elif kind == "fifo":
            os.mkfifo(config)
    result = ocirun.call("validate", str(bundle.path))
    assert result.rc == 1
    assert len(result.stdout.splitlines()) == 1, result


# ---- plan ------------------------------------------------------------------------------------------


@pytest.mark.root
def test_plan_as_an_ordinary_user(ocirun: RuntimeCommand, bundle: Bundle, as_nobody: Callable[[], None]) -> None:
    """plan and validate need no privilege, change nothing, and tell of root's run."""
    bundle.patch({"linux": {"resources": {"memory": {"limit": 1 << 24}}, "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}})
    bundle.write()
    before = sorted(os.walk(bundle.path))
    for words in (["plan"], ["plan", "--format", "json"], ["validate"]):
        result = ocirun.call(*words, str(bundle.path), before_exec=as_nobody, cwd="/").ok()
        assert result.stderr == ""
        if words == ["plan"]:
            assert b"/mounts/0" in result.stdout or b"/proc" in result.stdout
        elif words[0] == "plan":
            assert json.loads(result.stdout)
    assert sorted(os.walk(bundle.path)) == before
    assert not ocirun.root.exists()


def test_plan_of_a_bad_bundle(ocirun: RuntimeCommand, workdir: Path) -> None:
    """plan refuses what create would refuse, with the same lines."""
    (workdir / "config.json").write_text(json.dumps(SIX_MISTAKES))
    result = ocirun.call("plan", str(workdir))
    assert result.rc == 1
    assert {line.partition(":")[0] for line in result.stderr.splitlines()} == SIX_POINTERS
