# SPDX-License-Identifier: Apache-2.0
"""Turn a JSON Schema into straight-line Python that only says yes or no.

`jsonschema` takes longer to import than a container to create.  So the schema gate of `create`
runs functions that are generated from the same schema when the package is built:

    python -m ocirun.spec.compile_schema ocirun/spec/_validator.py

The part of JSON Schema that is understood is what `schemas/config.json` uses.  Any other keyword
or pattern fails the build, so that nothing is left unchecked silently.  What a keyword means is
said in `schemas/README.md`; `ocirun.spec.schema` gives `jsonschema` the same meanings.

This module imports nothing of ocirun: it runs before the package is complete.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Schema = dict[str, Any]

# Patterns as conditions on the string `{v}`.
PATTERNS = {
    "^RLIMIT_[A-Z]+$": (
        '{v}.startswith("RLIMIT_") and {v}.isascii() and {v}[7:].isalpha() and {v}[7:].isupper()'
    ),
    "^[0-9, -]*$": 'not {v}.strip("0123456789, -")',
    "^MB:[^\\n]*$": '{v}.startswith("MB:") and "\\n" not in {v}',
    "^[1-9][0-9]*[KMG]B$": (
        'len({v}) > 2 and {v}[0] in "123456789" and not {v}[:-2].strip("0123456789")'
        ' and {v}[-2] in "KMG" and {v}[-1] == "B"'
    ),
}

_TYPES = {"object": "dict", "array": "list", "string": "str", "boolean": "bool", "integer": "int"}
_WITHOUT_EFFECT = {"$schema", "$id", "$defs", "title", "description"}
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"pattern"},
    "boolean": set(),
    "integer": {"minimum", "maximum"},
}
_DEFS = "#/$defs/"

_HEADER = '''\
# Generated from schemas/{name} by ocirun.spec.compile_schema when the package is built.
"""Whether a document obeys schemas/{name}: `is_valid` for a whole one, `parts` for its $defs."""

from __future__ import annotations

_STRINGS = frozenset((str,))


def _misspelt(o, names, folded):
    for key in o:
        if key not in names and key.casefold() in folded:
            return True
    return False
'''


class UnsupportedSchema(ValueError):
    """The schema uses something that the compiler does not know."""


class _Compiler:
    """Collects the functions and constants of one generated module."""

    def __init__(self, schema: Schema) -> None:
        self.definitions: dict[str, Schema] = schema.get("$defs", {})
        self.constants: list[str] = []
        self.functions: list[str] = []

    def function(self, name: str, schema: Schema) -> None:
        """Add the function *name* that checks the value `o` against *schema*."""
        lines = [f"def {name}(o):"]
        lines += _indent(self.check(schema, "o"))
        lines.append("    return True")
        self.functions.append("\n".join(lines))

    def check(self, schema: Schema, value: str) -> list[str]:
        """Return statements that return False unless the variable *value* obeys *schema*."""
        if "$ref" in schema:
            return self._check_reference(schema, value)
        if "enum" in schema:
            return self._check_enum(schema, value)
        kind = schema.get("type")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise UnsupportedSchema(f"type {kind!r}")
        unknown = schema.keys() - _WITHOUT_EFFECT - _KEYWORDS[kind] - {"type"}
        if unknown:
            raise UnsupportedSchema(f"{sorted(unknown)} in a schema of type {kind}")
        condition = f"type({value}) is not {_TYPES[kind]}"
        if kind == "integer":
            condition += self._range(schema, value)
        if "pattern" in schema:
            if schema["pattern"] not in PATTERNS:
                raise UnsupportedSchema(f"pattern {schema['pattern']!r}")
            condition += f" or not ({PATTERNS[schema['pattern']].format(v=value)})"
        if "minItems" in schema:
            condition += f" or len({value}) < {schema['minItems']:d}"
        lines = _refuse_if(condition)
        if "items" in schema:
            lines += self._check_each(schema["items"], value, value)
        if "additionalProperties" in schema:
            if "properties" in schema:
                raise UnsupportedSchema("properties together with additionalProperties")
            lines += self._check_each(schema["additionalProperties"], f"{value}.values()", value)
        if "properties" in schema:
            lines += self._check_properties(schema, value)
        elif "required" in schema:
            raise UnsupportedSchema("required without properties")
        return lines

    def _check_reference(self, schema: Schema, value: str) -> list[str]:
        unknown = schema.keys() - _WITHOUT_EFFECT - {"$ref"}
        if unknown:
            raise UnsupportedSchema(f"{sorted(unknown)} beside $ref")
        name = schema["$ref"].removeprefix(_DEFS)
        if name not in self.definitions:
            raise UnsupportedSchema(f"reference to {schema['$ref']}")
        target = self.definitions[name]
        # Objects with properties have a function of their own, the rest is cheaper in place.
        if "properties" in target:
            return _refuse_if(f"not _{name}({value})")
        return self.check(target, value)

    def _check_enum(self, schema: Schema, value: str) -> list[str]:
        unknown = schema.keys() - _WITHOUT_EFFECT - {"enum"}
        if unknown or not all(isinstance(choice, str) for choice in schema["enum"]):
            raise UnsupportedSchema("only enums of strings are understood, without a type")
        choices = self._constant(sorted(schema["enum"]))
        return _refuse_if(f"type({value}) is not str or {value} not in {choices}")

    def _range(self, schema: Schema, value: str) -> str:
        if "minimum" in schema and "maximum" in schema:
            return f" or not {schema['minimum']:d} <= {value} <= {schema['maximum']:d}"
        if "minimum" in schema or "maximum" in schema:
            raise UnsupportedSchema("an integer with one bound")
        return ""

    def _check_each(self, schema: Schema, values: str, value: str) -> list[str]:
        if schema.keys() - _WITHOUT_EFFECT == {"type"} and schema["type"] == "string":
            return _refuse_if(f"not _STRINGS.issuperset(map(type, {values}))")
        item = value + "_"
        return [f"for {item} in {values}:", *_indent(self.check(schema, item))]

    def _check_properties(self, schema: Schema, value: str) -> list[str]:
        properties: Schema = schema["properties"]
        required = set(schema.get("required", ()))
        if not required <= properties.keys():
            raise UnsupportedSchema("a required property without a schema")
        names = self._constant(sorted(properties))
        folded = self._constant(sorted(name.casefold() for name in properties))
        lines = _refuse_if(
            f"not {names}.issuperset({value}) and _misspelt({value}, {names}, {folded})"
        )
        item = f"{value}v"
        for name, member in properties.items():
            check = [f"{item} = {value}[{name!r}]", *self.check(member, item)]
            if name in required:
                lines += [*_refuse_if(f"{name!r} not in {value}"), *check]
            else:
                lines += [f"if {name!r} in {value}:", *_indent(check)]
        return lines

    def _constant(self, values: Sequence[str]) -> str:
        text = f"frozenset(({', '.join(map(repr, values))},))"
        if text not in self.constants:
            self.constants.append(text)
        return f"_C{self.constants.index(text)}"


def compile_schema(schema: Schema, name: str) -> str:
    """Return the source of a module with `is_valid(document)` and `parts` for *schema*.

    *name* is the file's name in the module's comments.  Errors: UnsupportedSchema.
    """
    compiler = _Compiler(schema)
    for part, definition in compiler.definitions.items():
        compiler.function(f"_{part}", definition)
    compiler.function("is_valid", schema)
    constants = [f"_C{index} = {text}" for index, text in enumerate(compiler.constants)]
    parts = [f"    {part!r}: _{part}," for part in compiler.definitions]
    return "\n".join(
        [
            _HEADER.format(name=name),
            *constants,
            "",
            "\n\n\n".join(["", *compiler.functions]),
            "\n\nparts = {",
            *parts,
            "}\n",
        ]
    )


def main(arguments: Sequence[str]) -> None:
    """Write the validator of config.json to the one file that *arguments* names."""
    [output] = arguments
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = os.path.join(package, "schemas")
    if not os.path.isdir(folder):
        folder = os.path.join(os.path.dirname(package), "schemas")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        source = compile_schema(json.load(file), "config.json")
    with open(output, "w", encoding="utf-8") as file:
        file.write(source)


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _refuse_if(condition: str) -> list[str]:
    return [f"if {condition}:", "    return False"]


if __name__ == "__main__":
    main(sys.argv[1:])
