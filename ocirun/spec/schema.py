# SPDX-License-Identifier: Apache-2.0
"""The schema gate in words: every way in which a document breaks its JSON Schema.

The only user of `jsonschema`, which is imported when something has to be explained and not before.
The verdict of the hot path comes from `ocirun.spec._validator`, compiled from the same schemas;
`schemas/README.md` says what both understand by them.
"""

from __future__ import annotations

import os

from ocirun.errors import Problem
from ocirun.strict_json import dumps, pointer_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

    Schema = dict[str, Any]

_LONGEST_VALUE = 60
_TYPE_NAMES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "an object",
    "string": "a string",
}


def explain(document: object, *, schema: str = "config.json", part: str = "") -> list[Problem]:
    """Return all problems of the gate "schema" in *document*, none if it is valid.

    *schema* is a file of `schemas/`, *part* the name of one of its `$defs` to hold the document to
    instead of the whole.
    """
    root = load_schema(schema)
    reference = {"$ref": f"{root['$id']}#/$defs/{part}"} if part else {"$ref": root["$id"]}
    start = root["$defs"][part] if part else root
    problems: dict[str, Problem] = {}
    for error in _make_validator(reference).iter_errors(document):  # type: ignore[arg-type]  # JSON
        path = list(error.absolute_path)
        pointer = "".join([f"/{pointer_token(str(token))}" for token in path])
        message = _message(error) + _gist(root, start, path)
        # Of several complaints about one place the first is the most basic one.
        problems.setdefault(pointer, Problem("schema", pointer, message))
    return list(problems.values())


def load_schema(name: str) -> Schema:
    """Return a file of `schemas/`: package data, in a source tree beside the package."""
    import json

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = os.path.join(package, "schemas")
    if not os.path.isdir(folder):
        folder = os.path.join(os.path.dirname(package), "schemas")
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        schema: Schema = json.load(file)
    return schema


def _make_validator(schema: Schema) -> Validator:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT202012

    strict = validators.extend(  # type: ignore[no-untyped-call]  # of types-jsonschema
        Draft202012Validator,
        {
            "pattern": _check_pattern,
            "properties": _with_spelling(Draft202012Validator.VALIDATORS["properties"]),
            "required": _check_required,
        },
        type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole_number),
    )
    registry: Registry[Any] = Registry()
    for name in ("config.json", "state.json", "features.json"):
        contents = load_schema(name)
        # A "$schema" would make jsonschema go on with its own class instead of the strict one.
        del contents["$schema"]
        resource = Resource.from_contents(contents, default_specification=DRAFT202012)
        registry = registry.with_resource(contents["$id"], resource)
    validator: Validator = strict(schema, registry=registry)
    return validator


def _is_whole_number(_checker: object, value: object) -> bool:
    # JSON Schema takes 1.0 for an integer; the decoders of engines do not.
    return isinstance(value, int) and not isinstance(value, bool)


def _check_pattern(
    _validator: Validator, pattern: str, instance: object, _schema: Schema
) -> Iterator[ValidationError]:
    import re

    from jsonschema.exceptions import ValidationError

    # In Python `$` also matches before a final newline, in JSON Schema it does not.
    ecma = pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern
    if isinstance(instance, str) and not re.search(ecma, instance):
        yield ValidationError(f"does not match {pattern}")


def _check_required(
    _validator: Validator, names: Sequence[str], instance: object, _schema: Schema
) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield ValidationError("missing", path=[name])


def _with_spelling(check_properties: Any) -> Any:
    def check(
        validator: Validator, properties: Schema, instance: object, schema: Schema
    ) -> Iterator[ValidationError]:
        from jsonschema.exceptions import ValidationError

        yield from check_properties(validator, properties, instance, schema)
        if not isinstance(instance, dict):
            return
        folded = {name.casefold(): name for name in properties}
        for key in instance:
            if key not in properties and key.casefold() in folded:
                right = folded[key.casefold()]
                yield ValidationError(f'must be spelt "{right}"', path=[key])

    return check


def _message(error: ValidationError) -> str:
    allowed: Any = error.validator_value
    found = _found(error.instance)
    match error.validator:
        case "type":
            return f"must be {_TYPE_NAMES[allowed]}, not {found}"
        case "enum":
            guess = _guess(error.instance, allowed)
            return f"must be one of {', '.join(allowed)}; not {found}{guess}"
        case "minimum":
            return f"must be at least {allowed}, not {found}"
        case "maximum":
            return f"must be at most {allowed}, not {found}"
        case "minItems":
            return f"must have at least {allowed} entry"
        case "pattern":
            return f"{found} has the wrong form"
    return error.message


def _found(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 4]}..."


def _guess(found: object, choices: Sequence[str]) -> str:
    import difflib

    if not isinstance(found, str):
        return ""
    by_folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(found.casefold(), by_folded, n=1)
    return f', perhaps "{by_folded[close[0]]}" is meant' if close else ""


def _gist(root: Schema, schema: Schema, path: Sequence[str | int]) -> str:
    """Return the description of the nearest described place on the way to *path*, to append."""
    description = ""
    for token in path:
        while "$ref" in schema and "properties" not in schema:
            schema = _resolve(root, schema["$ref"])
        if isinstance(token, int):
            schema = schema.get("items", {})
        else:
            known: Schema = schema.get("properties", {})
            schema = known.get(token) or schema.get("additionalProperties", {})
            description = schema.get("description", "")
    if not description:
        return ""
    first, rest = description[:1], description[1:].removesuffix(".")
    return f" ({first if rest[:1].isupper() else first.lower()}{rest})"


def _resolve(root: Schema, reference: str) -> Schema:
    name, _, fragment = reference.partition("#")
    schema = load_schema(name) if name else root
    for token in fragment.split("/")[1:]:
        schema = schema[token]
    return schema
