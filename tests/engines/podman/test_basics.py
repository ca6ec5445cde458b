# SPDX-License-Identifier: Apache-2.0
"""podman run, as root."""

from __future__ import annotations

import pytest
from harness.engine import Engine


@pytest.mark.core
def test_hello(podman: Engine) -> None:
    """A container prints."""
    assert podman("run", "--rm", "busybox", "echo", "hello").ok().text == "hello"
