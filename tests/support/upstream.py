# SPDX-License-Identifier: Apache-2.0
"""The specification's own schemas, where they are at hand, and where ocirun's differ on purpose.

They are data to test against and no part of ocirun: `$OCIRUN_SHARED/runtime-spec`, by default
`../shared/runtime-spec` beside the repository.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("OCIRUN_SHARED") or REPOSITORY.parent / "shared")
SCHEMAS = SHARED / "runtime-spec"
SAMPLES = SHARED / "samples"

needs_upstream = pytest.mark.skipif(
    not SCHEMAS.is_dir(), reason="machine: the specification's schemas are not at hand"
)
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="machine: the engines' config.json files are not at hand"
)


ENGINES_CONFIGS = sorted(SAMPLES.glob("*.json")) or [SAMPLES / "none.json"]


class Difference(NamedTuple):
    """One place where ocirun's schema and the specification's give different verdicts."""

    refused_by: str  # "ours" or "theirs"
    place: str  # regular expression of the pointer
    why: str
    example: tuple[str, object]  # a pointer, and the value there that only one side refuses
    schema: str = "config.json"
    message: str = ""  # regular expression that ocirun's message must match as well


_ABSENT = object()
_MAPPING_KEYS = r"/(annotations|linux/sysctl|linux/resources/unified)"

DIFFERENCES = (
    Difference(
        "theirs",
        r"/linux/devices/\d+/fileMode",
        "the text has no such bound, and podman writes the whole st_mode",
        ("/linux/devices", [{"type": "c", "path": "/a", "fileMode": 8612}]),
    ),
    Difference(
        "theirs",
        r"/linux/rootfsPropagation",
        "podman writes rslave",
        ("/linux/rootfsPropagation", "rslave"),
    ),
    Difference(
        "theirs",
        r"/linux/resources/pids/limit",
        "OPTIONAL in the text",
        ("/linux/resources/pids", {}),
    ),
    Difference(
        "theirs",
        r"/(freebsd|solaris|vm|windows|zos)/.*",
        "not for Linux",
        ("/freebsd", {"jail": {"vnet": "disable"}}),
    ),
    Difference(
        "ours",
        r"/process/oomScoreAdj",
        "the kernel takes nothing else",
        ("/process", {"cwd": "/", "oomScoreAdj": 1001}),
    ),
    Difference(
        "ours",
        r"/process/user/umask",
        "the kernel would drop the other bits silently",
        ("/process", {"cwd": "/", "user": {"umask": 512}}),
    ),
    Difference(
        "ours",
        r"/process/consoleSize/(height|width)",
        "the kernel's numbers are 16 bits wide",
        ("/process", {"cwd": "/", "consoleSize": {"height": 65536, "width": 1}}),
    ),
    Difference(
        "ours",
        r"/hooks/\w+/\d+/timeout",
        "it must fit the clock calls",
        ("/hooks", {"poststop": [{"path": "/x", "timeout": 2147483648}]}),
    ),
    Difference(
        "ours",
        r"/linux/resources/memory/swappiness",
        "0 to 100 in the text",
        ("/linux/resources/memory", {"swappiness": 101}),
    ),
    Difference(
        "ours",
        r"/linux/personality/domain",
        "REQUIRED in the text",
        ("/linux/personality", {}),
    ),
    Difference(
        "ours",
        r"/linux/memoryPolicy/mode",
        "REQUIRED in the text",
        ("/linux/memoryPolicy", {}),
    ),
    Difference(
        "ours",
        r"/linux/resources/blockIO/throttle\w+/\d+/rate",
        "REQUIRED in the text",
        ("/linux/resources/blockIO", {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}),
    ),
    Difference(
        "ours",
        _MAPPING_KEYS + r"/\n*",
        "theirs leaves out the values of empty names",
        ("/annotations", {"": 1}),
    ),
    Difference(
        "ours",
        r".*",
        "decoders in Go would take it for the known name",
        ("/Hostname", "x"),
        message=r"^must be spelt ",
    ),
    Difference(
        "ours",
        r".*",
        "decoders in Go would take it for the known name",
        ("/Rootfs", "/x"),
        schema="state.json",
        message=r"^must be spelt ",
    ),
    Difference(
        "ours",
        r".*",
        "decoders in Go would take it for the known name",
        ("/Linux", {}),
        schema="features.json",
        message=r"^must be spelt ",
    ),
    Difference(
        "theirs",
        r"/status",
        "every runtime prints paused",
        ("/status", "paused"),
        schema="state.json",
    ),
    Difference(
        "ours",
        r"/pid",
        "REQUIRED in the text unless the container is being created or stopped",
        ("/pid", _ABSENT),
        schema="state.json",
    ),
    Difference(
        "ours",
        r"/annotations/\n*",
        "theirs leaves out the values of empty names",
        ("/annotations", {"": 1}),
        schema="state.json",
    ),
    Difference(
        "ours",
        r"/(rootfs|created|owner|error)",
        "what runtimes print besides is no part of theirs",
        ("/rootfs", None),
        schema="state.json",
    ),
    Difference(
        "ours",
        r"/annotations/\n*",
        "theirs leaves out the values of empty names",
        ("/annotations", {"": 1}),
        schema="features.json",
    ),
    Difference(
        "ours",
        r"/linux/(intelRdt|memoryPolicy)/.*",
        "theirs has not caught up with the text",
        ("/linux/memoryPolicy", {"modes": 1}),
        schema="features.json",
    ),
    Difference(
        "ours",
        r"/linux/memoryPolicy",
        "theirs has not caught up with the text",
        ("/linux/memoryPolicy", 1),
        schema="features.json",
    ),
)

BASES: dict[str, dict[str, object]] = {
    "config.json": {"ociVersion": "1.3.0"},
    "state.json": {
        "ociVersion": "1.3.0",
        "id": "a",
        "status": "running",
        "pid": 1,
        "bundle": "/bundle",
    },
    "features.json": {"ociVersionMin": "1.0.0", "ociVersionMax": "1.3.0"},
}


def example_document(difference: Difference) -> dict[str, Any]:
    """Return a document that only one side refuses, and only for this difference."""
    document: dict[str, Any] = json.loads(json.dumps(BASES[difference.schema]))
    pointer, value = difference.example
    *parents, last = pointer.split("/")[1:]
    target = document
    for parent in parents:
        target = target.setdefault(parent, {})
    if value is _ABSENT:
        del target[last]
    else:
        target[last] = value
    return document


def is_explained(schema: str, refused_by: str, pointer: str, message: str) -> bool:
    """Tell whether the table has a reason for one side to refuse *pointer* alone."""
    return any(
        difference.schema == schema
        and difference.refused_by == refused_by
        and re.fullmatch(difference.place, pointer)
        and re.search(difference.message, message)
        for difference in DIFFERENCES
    )


class UpstreamSchema:
    """One of the specification's schemas, that says which places it refuses."""

    def __init__(self, name: str) -> None:
        registry: Registry[Any] = Registry()
        for path in SCHEMAS.glob("*.json"):
            resource = Resource.from_contents(
                json.loads(path.read_text()), default_specification=DRAFT4
            )
            registry = registry.with_resource(f"http://upstream.invalid/{path.name}", resource)
        schema = json.loads((SCHEMAS / name).read_text())
        schema.pop("$schema")  # else jsonschema goes on with its own class
        schema["id"] = f"http://upstream.invalid/{name}"
        strict = jsonschema.validators.extend(jsonschema.Draft4Validator, {"pattern": _pattern})
        self._validator = strict(schema, registry=registry)

    def refused(self, document: object) -> set[str]:
        """Return the pointers of everything that the schema refuses in *document*."""
        return {
            "".join(f"/{str(token).replace('~', '~0').replace('/', '~1')}" for token in path)
            for error in self._validator.iter_errors(document)
            for path in _places(error)
        }


def _places(error: jsonschema.ValidationError) -> Iterator[Sequence[str | int]]:
    if error.context:
        for cause in error.context:
            yield from _places(cause)
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield [*error.absolute_path, name]
    else:
        yield list(error.absolute_path)


def _pattern(_validator: Any, pattern: str, instance: object, _schema: Any) -> Iterator[Any]:
    # A final "$" is the end of the string in JSON Schema, in Python also before a last newline.
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"does not match {pattern}")
