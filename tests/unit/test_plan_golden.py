# SPDX-License-Identifier: Apache-2.0
"""`plan` of every example bundle is the text in tests/golden.

OCIRUN_UPDATE_GOLDEN=1 writes the texts anew; look at the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocirun.dry_run import plan_document
from ocirun.host import HostFacts

TOP = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent for path in (TOP / "bundles").glob("*/config.json"))


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_plan_is_as_before(bundle: Path) -> None:
    """On an imagined host of today with cgroup version 2 the plan is the checked-in one."""
    text = (bundle / "config.json").read_bytes().replace(b"@BUNDLE@", b"/bundle")
    plan = plan_document(text, "/bundle", HostFacts.of(cgroup_layout="unified")).explain()
    golden = TOP / "tests/golden" / f"{bundle.name}.txt"
    if os.environ.get("OCIRUN_UPDATE_GOLDEN"):
        golden.write_text(plan, encoding="utf-8")
    assert plan == golden.read_text(encoding="utf-8")


def test_every_operation_has_words() -> None:
    """Each opcode of abi.h has a constructor in plan/ops.py's module, and each can be described."""
    from ocirun._native import ffi
    from ocirun.plan.explain import _DESCRIPTIONS

    opcodes = {
        name.removeprefix("OCIRUN_OP_") for name in ffi.typeof("enum ocirun_opcode").elements.values()
    } - {"INVALID", "COUNT"}
    assert opcodes == set(_DESCRIPTIONS)
