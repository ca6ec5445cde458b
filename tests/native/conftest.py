# SPDX-License-Identifier: Apache-2.0
"""Plans to begin with: those of the example bundles."""

from __future__ import annotations

from pathlib import Path

import pytest
from native.building import REPOSITORY

from ocirun.dry_run import plan_document
from ocirun.host import HostFacts


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Encoded plans, one file for each example bundle."""
    directory = tmp_path_factory.mktemp("plans")
    paths = []
    for config in sorted((REPOSITORY / "bundles").glob("*/config.json")):
        text = config.read_bytes().replace(b"@BUNDLE@", b"/bundle")
        path = directory / config.parent.name
        path.write_bytes(plan_document(text, "/bundle", HostFacts.of()).encode())
        paths.append(path)
    return paths
