# SPDX-License-Identifier: Apache-2.0
"""The gates agree with each other, with jsonschema and with the specification's schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.upstream import UpstreamSchema, is_explained, needs_upstream

from ocirun import strict_json
from ocirun.errors import InvalidConfig, Problem
from ocirun.host import HostFacts
from ocirun.spec import _validator, host_rules, rules
from ocirun.spec.model import Config
from ocirun.spec.schema import explain
from ocirun.validate import validate_document

VALID = strategies.documents()
ANY = st.one_of(
    VALID,
    strategies.mutated(VALID),
    strategies.mutated(strategies.configs()),
    strategies.junk(),
)
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@relaxed
@given(ANY)
def test_compiled_validator_gives_the_verdict_of_jsonschema(document: Any) -> None:
    """The compiled validator accepts exactly the documents in which jsonschema finds no problem."""
    assert _validator.is_valid(document) == (not explain(document))


@relaxed
@given(st.data(), st.sampled_from(sorted(_validator.parts)))
def test_compiled_parts_give_the_verdict_of_jsonschema(data: st.DataObject, part: str) -> None:
    """The same holds for every object of the schema on its own."""
    valid = strategies.documents(part)
    document = data.draw(st.one_of(valid, strategies.mutated(valid), strategies.junk()))
    assert _validator.parts[part](document) == (not explain(document, part=part))


@relaxed
@given(VALID)
def test_generated_documents_are_valid(document: Any) -> None:
    """What is generated from the schema obeys it, so that the tests above see both verdicts."""
    assert explain(document) == []


@needs_upstream
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("config.json", "config-schema.json"),
        ("state.json", "state-schema.json"),
        ("features.json", "features-schema.json"),
    ],
)
def test_same_places_are_refused_as_by_the_specification(ours: str, theirs: str) -> None:
    """Ours and theirs refuse the same places of any document, but for the listed differences."""
    upstream = UpstreamSchema(theirs)
    valid = VALID if ours == "config.json" else strategies.other_documents(ours)

    @relaxed
    @given(st.one_of(valid, strategies.mutated(valid), strategies.junk()))
    def compare(document: Any) -> None:
        found = {problem.pointer: problem.message for problem in explain(document, schema=ours)}
        refused = upstream.refused(document)
        for pointer in found.keys() - refused:
            assert is_explained(ours, "ours", pointer, found[pointer]), (pointer, found[pointer])
        for pointer in refused - found.keys():
            assert is_explained(ours, "theirs", pointer, ""), pointer

    compare()


@relaxed
@given(VALID)
def test_valid_documents_decode_and_are_judged(document: Any) -> None:
    """Decoding and the rules never fail on what obeys the schema, whatever it means."""
    problems = rules.check(Config.decode(document))
    for problem in problems:
        assert problem.gate == "rule"
        assert _leads_somewhere(document, problem.pointer)


@relaxed
@given(strategies.configs())
def test_valid_containers_pass_all_gates(document: Any) -> None:
    """Containers made to be valid are accepted, and decode to what their JSON says."""
    config = validate_document(json.dumps(document).encode(), HostFacts.of())
    assert config == Config.decode(document)


@relaxed
@given(st.one_of(ANY, strategies.configs()))
def test_every_document_is_accepted_or_refused(document: Any) -> None:
    """Any document yields a Config or problems of one gate, never another exception."""
    data = json.dumps(document).encode()
    try:
        config = validate_document(data, HostFacts.of())
    except InvalidConfig as error:
        assert len({problem.gate for problem in error.problems}) == 1
        assert all(str(problem).isprintable() for problem in error.problems)
    else:
        assert rules.check(config) == []
        assert host_rules.check(config, HostFacts.of()) == []


@given(strategies.junk())
def test_written_json_reads_back(value: Any) -> None:
    """Both writers give what both readers read as the same value."""
    for text in (strict_json.dumps(value), strict_json.dumps_pretty(value, "\t")):
        assert json.loads(text) == value
        assert strict_json.loads(text.encode()) == value


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.text('[]{}",:\\u0dD1eE.-+ntfal \n').map(str.encode),
    )
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Bytes are read as json.loads reads them or refused with one line, never worse."""
    try:
        value = strict_json.loads(data)
    except InvalidConfig as error:
        assert all(isinstance(p, Problem) and p.gate == "json" for p in error.problems)
        assert all(str(problem).isprintable() for problem in error.problems)
    else:
        assert json.loads(data) == value


def _leads_somewhere(document: Any, pointer: str) -> bool:
    """Tell whether all of a pointer but its last token is there (a missing property may be meant)."""
    value = document
    for token in pointer.split("/")[1:-1]:
        token = token.replace("~1", "/").replace("~0", "~")
        value = value[int(token)] if isinstance(value, list) else value.get(token)
        if value is None:
            return False
    return True
