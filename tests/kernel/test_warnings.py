# SPDX-License-Identifier: Apache-2.0
"""What of a configuration is left out without being an error is in the log of `create`, and in the library."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import TIMEOUT, RuntimeCommand

from ocirun import Runtime

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("about our own log")]

LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "capability": (
        {"process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_NOT_INVENTED"]}}},
        "/process/capabilities: CAP_NOT_INVENTED ",
    ),
    "ambient": (
        {"process": {"capabilities": {"permitted": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]}}},
        "/process/capabilities/ambient: CAP_CHOWN ",
    ),
    "several": (
        {"process": {"capabilities": {"permitted": ["CAP_CHOWN", "CAP_KILL"], "ambient": ["CAP_CHOWN", "CAP_KILL"]}}},
        "/process/capabilities/ambient: CAP_CHOWN, CAP_KILL are not ",
    ),
    "effective": (
        {"process": {"capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"]}}},
        "/process/capabilities/effective: CAP_CHOWN is not permitted as well: left out",
    ),
    "inheritable": (
        {"process": {"capabilities": {"permitted": ["CAP_CHOWN"], "inheritable": ["CAP_CHOWN"]}}},
        "/process/capabilities/inheritable: CAP_CHOWN is not in the bounding set as well: left out",
    ),
    "system-call": (
        {
            "linux": {
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ERRNO",
                    "syscalls": [
                        {"names": ["not_invented", "nor_this_one"], "action": "SCMP_ACT_ERRNO"},
                        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                    ],
                }
            }
        },
        "/linux/seccomp/syscalls: libseccomp does not know not_invented, nor_this_one",
    ),
    "version": ({"ociVersion": "1.99.0"}, "/ociVersion: 1.99.0 "),
}


@pytest.mark.parametrize("what", list(LEFT_OUT))
def test_left_out_is_logged_by_create(runtime: RuntimeCommand, bundle: Bundle, workdir: Path, what: str) -> None:
    """W5: one line of level "warning" each, in JSON and in text, which begins with the ID and the pointer."""
    patch, words = LEFT_OUT[what]
    bundle.patch({"process": {"capabilities": None}}, patch)
    log, text = workdir / "log.json", workdir / "log.text"
    runtime.create(bundle, options=["--log", str(log), "--log-format", "json"]).delete("--force").ok()
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert record["level"] == "warning"
    assert record["msg"].startswith(f"{bundle.id}: {words}")
    runtime.create(bundle.again(), options=["--log", str(text)]).delete("--force").ok()
    (line,) = text.read_text().splitlines()
    assert f' level=warning msg="{bundle.id}: {words}' in line


def test_warnings_come_before_the_program_ends(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """A foreground run says so at once, not when it is over."""
    bundle.capabilities("CAP_NOT_INVENTED").seq("ready", "sleep").write()
    runtime.remember(bundle.id)
    with subprocess.Popen(
        runtime.command("run", "--bundle", str(bundle.path), bundle.id, options=["--log", str(workdir / "log")]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert b"ready" in process.stdout.readline()
            assert (workdir / "log").read_text().count("CAP_NOT_INVENTED") == 1
            runtime.call("kill", bundle.id, "KILL").ok()
            assert process.wait(TIMEOUT) == 137
        finally:
            process.kill()
    assert (workdir / "log").read_text().count("CAP_NOT_INVENTED") == 1


def test_also_when_create_fails(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """The warnings of a create that fails afterwards are there, and the error is the last line, as engines expect."""
    bundle.capabilities("CAP_NOT_INVENTED").process(args=["/nothing"])
    log = workdir / "log"
    bundle.write()
    options = ["--log", str(log), "--log-format", "json"]
    runtime.call("create", "--bundle", str(bundle.path), bundle.id, options=options).refused()
    levels = [json.loads(line)["level"] for line in log.read_text().splitlines()]
    assert levels == ["warning", "error"]


def test_nothing_left_out_is_no_warning(runtime: RuntimeCommand, bundle: Bundle, workdir: Path) -> None:
    """An ordinary configuration has none."""
    log = workdir / "log"
    runtime.create(bundle, options=["--log", str(log)]).delete("--force").ok()
    assert not log.exists() or log.read_text() == ""


def test_library_has_them(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """`Runtime.warnings` holds them, with the ID."""
    bundle.capabilities("CAP_NOT_INVENTED").write()
    with Runtime(str(runtime.root)) as library:
        library.create(bundle.id, str(bundle.path)).delete()
        (warning,) = library.warnings
    assert warning.startswith(f"{bundle.id}: /process/capabilities: CAP_NOT_INVENTED")
