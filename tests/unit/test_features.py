# SPDX-License-Identifier: Apache-2.0
"""What ocirun says about itself in two places."""

from __future__ import annotations

from pathlib import Path

from ocirun.cli.help import version_text
from ocirun.features import features_document
from ocirun.host import HostFacts
from ocirun.probe import _resctrl
from ocirun.version import SPEC_VERSION


def test_version_agrees_with_features() -> None:
    """--version, which must be quick, is written by hand: it says what the features document says."""
    document = features_document()
    linux = document["linux"]
    expected = {
        "SECCOMP": linux["seccomp"]["enabled"],
        "CGROUP1": linux["cgroup"]["v1"],
        "CGROUP2": linux["cgroup"]["v2"],
        "SYSTEMD": linux["cgroup"]["systemd"],
        "APPARMOR": linux["apparmor"]["enabled"],
        "SELINUX": linux["selinux"]["enabled"],
    }
    lines = version_text().splitlines()
    parts = {word[1:]: word[0] == "+" for word in lines[-1].split()}
    assert {name: parts[name] for name in expected} == expected
    assert f"spec: {SPEC_VERSION}" in lines
    assert document["ociVersionMax"] == SPEC_VERSION


def test_probe_looks_where_resctrl_is_mounted(tmp_path: Path) -> None:
    """The file system may be mounted anywhere; `create` and `features --probe` ask the same fact."""
    for name in ("L3", "L3_MON", "MB"):
        (tmp_path / "info" / name).mkdir(parents=True)
    found = _resctrl(HostFacts.of(resctrl=str(tmp_path)))
    assert found == {"available": True, "resources": ["L3", "L3_MON", "MB"], "monitoring": True}
    assert _resctrl(HostFacts.of(resctrl=""))["available"] is False
