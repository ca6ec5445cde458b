# SPDX-License-Identifier: Apache-2.0
"""Hooks that run after create are kept in the record, so that a changed bundle changes nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ocirun.container import _hooks
from ocirun.intent import hook_record
from ocirun.spec.model import Hook

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
HOOKS = st.fixed_dictionaries(
    {"path": TEXT.filter(bool)},
    optional={
        "args": st.lists(TEXT, max_size=3),
        "env": st.lists(TEXT, max_size=3),
        "timeout": st.integers(1, 1000),
    },
)


@given(st.lists(HOOKS, max_size=4), st.sampled_from(["poststart", "poststop"]))
def test_round_trip(documents: list[dict[str, Any]], kind: str) -> None:
    """A hook that went through the record is the hook of the document."""
    hooks = [Hook(document) for document in documents]
    record = {"hooks": {"poststart": [], "poststop": [], kind: [hook_record(hook) for hook in hooks]}}
    assert _hooks(json.loads(json.dumps(record)), kind) == hooks
