# SPDX-License-Identifier: Apache-2.0
"""The schemas, what they say about a mistake, and the validator that is compiled from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.upstream import (
    DIFFERENCES,
    ENGINES_CONFIGS,
    REPOSITORY,
    SCHEMAS,
    Difference,
    UpstreamSchema,
    example_document,
    is_explained,
    needs_samples,
    needs_upstream,
)

from ocirun.spec import _validator
from ocirun.spec.compile_schema import PATTERNS, UnsupportedSchema, compile_schema
from ocirun.spec.schema import explain, load_schema

NAMES = ("config.json", "state.json", "features.json")
THEIR_NAMES = {
    "config": "config-schema.json",
    "state": "state-schema.json",
    "features": "features-schema.json",
}
DOCUMENTS = [
    (kind, verdict, path)
    for kind in THEIR_NAMES
    for verdict in ("good", "bad")
    for path in sorted((SCHEMAS / "test" / kind / verdict).glob("*.json"))
] or [("config", "good", SCHEMAS / "none.json")]


def _schemas(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the schema of every property at any depth."""
    if isinstance(schema, dict):
        for name, member in schema.get("properties", {}).items():
            yield name, member
        for member in schema.values():
            yield from _schemas(member)


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_schemas(name: str) -> None:
    """Each is valid by the draft that it names."""
    schema = load_schema(name)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", NAMES)
def test_every_property_has_a_description(name: str) -> None:
    """Descriptions end up in messages: one sentence, of more than a word, no longer than a line."""
    schema = load_schema(name)
    schema.pop("if", None)
    properties = [*_schemas(schema), *schema.get("$defs", {}).items()]
    assert properties
    for property_name, member in properties:
        description = member.get("description", "")
        assert description.endswith("."), property_name
        assert 8 <= len(description) <= 100, property_name
        assert description[0].isupper(), property_name


def test_compiled_validator_is_up_to_date() -> None:
    """The generated module in this tree was made from the schema in this tree."""
    source = compile_schema(load_schema("config.json"), "config.json")
    assert Path(_validator.__file__).read_text() == source


@needs_upstream
@pytest.mark.parametrize(
    ("kind", "verdict", "path"), DOCUMENTS, ids=[f"{k}-{v}-{p.stem}" for k, v, p in DOCUMENTS]
)
def test_documents_of_the_specification(kind: str, verdict: str, path: Path) -> None:
    """Good documents are good, bad ones are bad, but for the listed differences."""
    if path.stem == "invalid-json":
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(path.read_text())
        return
    document = json.loads(path.read_text())
    found = {problem.pointer for problem in explain(document, schema=f"{kind}.json")}
    refused = UpstreamSchema(THEIR_NAMES[kind]).refused(document)
    assert bool(refused) == (verdict == "bad")
    assert found <= refused
    assert all(is_explained(f"{kind}.json", "theirs", pointer, "") for pointer in refused - found)


@needs_samples
@pytest.mark.parametrize("path", ENGINES_CONFIGS, ids=lambda path: path.stem)
def test_configs_of_engines_obey_the_schema(path: Path) -> None:
    """What podman, docker, containerd and buildah write is valid."""
    document = json.loads(path.read_text())
    assert explain(document) == []
    assert _validator.is_valid(document)


@needs_upstream
@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda d: f"{d.schema}{d.place}")
def test_listed_differences_are_real(difference: Difference) -> None:
    """Each difference has a document that only the named side refuses, and only for it."""
    document = example_document(difference)
    found = {p.pointer: p.message for p in explain(document, schema=difference.schema)}
    refused = UpstreamSchema(THEIR_NAMES[difference.schema.removesuffix(".json")]).refused(document)
    if difference.refused_by == "ours":
        assert (len(found), refused) == (1, set())
        [(pointer, message)] = found.items()
        assert is_explained(difference.schema, "ours", pointer, message)
    else:
        assert not found
        assert refused
        assert all(is_explained(difference.schema, "theirs", p, "") for p in refused)


NO_NAMES = {"names": [], "action": "SCMP_ACT_LOG"}
MESSAGES = [
    ({"ociVersion": 1}, "/ociVersion: must be a string, not 1 (version of"),
    ({}, "/ociVersion: missing (version of"),
    ([], "/: must be an object, not a list"),
    ({"process": {}}, "/process/cwd: missing (absolute path of the working directory"),
    ({"process": {"cwd": None}}, "/process/cwd: must be a string, not null"),
    ({"root": {"path": "a", "readonly": 1}}, "/root/readonly: must be true or false, not 1"),
    ({"root": {"path": "a", "readonly": "x" * 99}}, 'not "' + "x" * 55 + "... (whether"),
    ({"process": {"cwd": "/", "args": "sh"}}, "/process/args: must be a list, not "),
    (
        {"process": {"cwd": "/", "user": {"uid": True}}},
        "/process/user/uid: must be a whole number, not true (user id inside",
    ),
    ({"process": {"cwd": "/", "user": {"uid": -1}}}, "must be at least 0, not -1"),
    ({"process": {"cwd": "/", "user": {"umask": 512}}}, "must be at most 511, not 512"),
    (
        {"linux": {"namespaces": [{"type": "Net-work"}]}},
        'user, cgroup, time; not "Net-work", perhaps "network" is meant (kind of namespace)',
    ),
    (
        {"linux": {"resources": {"hugepageLimits": [{"pageSize": "64kB", "limit": 0}]}}},
        '/linux/resources/hugepageLimits/0/pageSize: "64kB" has the wrong form (page size',
    ),
    (
        {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG", "syscalls": [NO_NAMES]}}},
        "/linux/seccomp/syscalls/0/names: must have at least 1 entry (names of",
    ),
    ({"root": {"path": "a", "ReadOnly": True}}, '/root/ReadOnly: must be spelt "readonly"'),
    ({"annotations": {"a/b": 1}}, "/annotations/a~1b: must be a string, not 1"),
]


@pytest.mark.parametrize(("document", "message"), MESSAGES, ids=[m for _, m in MESSAGES])
def test_messages(document: Any, message: str) -> None:
    """A message says where, what was found, what is allowed and what the property is for."""
    if isinstance(document, dict) and message[:12] != "/ociVersion:":
        document = {"ociVersion": "1.0.0", **document}
    assert any(message in str(problem) for problem in explain(document))
    assert not _validator.is_valid(document)


def test_one_complaint_per_place() -> None:
    """A wrong type is not also out of range."""
    document = {"ociVersion": "1.0.0", "process": {"cwd": "/", "user": {"uid": -1.5}}}
    assert len(explain(document)) == 1


def test_parts_are_explained_on_their_own() -> None:
    """The pointers of a part are relative to it."""
    [problem] = explain({"cwd": 3}, part="process")
    assert str(problem).startswith("/cwd: must be a string, not 3 (absolute path")


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("^RLIMIT_[A-Z]+$", ["RLIMIT_A", "RLIMIT_CORE"], ["RLIMIT_", "RLIMIT_a", "RLIMIT_Ä"]),
        ("^[0-9, -]*$", ["", "0-3, 7"], ["a", "1a2", "1\n", "\u0661"]),
        ("^MB:[^\\n]*$", ["MB:", "MB:0=1;1=2"], ["MB", "mb:", "MB:\n", "MB:a\nb"]),
        ("^[1-9][0-9]*[KMG]B$", ["2MB", "1024KB"], ["MB", "0MB", "2kB", "2MB\n", "2xMB", "²MB"]),
    ],
)
def test_patterns_have_a_meaning_in_python(pattern: str, good: list[str], bad: list[str]) -> None:
    """The conditions that stand for patterns accept what the patterns mean."""
    schema = {"type": "string", "pattern": pattern}
    names: dict[str, Any] = {}
    exec(compile_schema(schema, "test"), names)
    assert all(names["is_valid"](text) for text in good)
    assert not any(names["is_valid"](text) for text in bad)


def test_no_pattern_is_left_untested() -> None:
    """Every pattern of the compiler is used by the schema."""
    text = (REPOSITORY / "schemas/config.json").read_text()
    assert all(json.dumps(pattern) in text for pattern in PATTERNS)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "number"},
        {"type": ["string", "null"]},
        {"type": "string", "minLength": 1},
        {"type": "string", "pattern": "^x$"},
        {"type": "integer", "minimum": 1},
        {"type": "object", "required": ["a"]},
        {"type": "object", "required": ["a"], "properties": {}},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        {"type": "object", "patternProperties": {}},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        {"enum": [1, 2]},
        {"enum": ["a"], "type": "string"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "other.json#/$defs/a"},
        {"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {"type": "boolean"}}},
    ],
    ids=str,
)
def test_compiler_refuses_what_it_does_not_know(schema: dict[str, Any]) -> None:
    """A keyword that would not be checked fails the build."""
    with pytest.raises(UnsupportedSchema):
        compile_schema(schema, "test")
