# SPDX-License-Identifier: Apache-2.0
"""What ocirun says about itself in two places."""

from __future__ import annotations

from ocirun.cli.help import version_text
from ocirun.features import features_document
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
