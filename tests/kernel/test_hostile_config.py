# SPDX-License-Identifier: Apache-2.0
"""V-12, V-17: configurations that are malformed, huge or at the edge, through the whole runtime."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from typing import Any

import pytest
from support.bundle import Bundle
from support.command import RuntimeCommand
from support.report import digest

pytestmark = pytest.mark.root
MkBundle = Callable[..., Bundle]

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n ",
    "truncated": b'{"ociVersion": "1.0.2", "process": {',
    "trailing": b'{"ociVersion": "1.0.2"} x',
    "two": b'{"ociVersion": "1.0.2"}{"ociVersion": "1.0.2"}',
    "array": b"[]",
    "null": b"null",
    "string": b'"x"',
    "bom": b'\xef\xbb\xbf{"ociVersion": "1.0.2"}',
    "utf-16": '{"ociVersion": "1.0.2"}'.encode("utf-16"),
    "latin-1": b'{"ociVersion": "1.0.2", "hostname": "\xe9"}',
    "deep-array": b"[" * 2000 + b"]" * 2000,
    "deep-object": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "nan": b'{"ociVersion": "1.0.2", "process": {"oomScoreAdj": NaN}}',
    "infinity": b'{"ociVersion": "1.0.2", "process": {"oomScoreAdj": -Infinity}}',
    "1e400": b'{"ociVersion": "1.0.2", "process": {"oomScoreAdj": 1e400}}',
    "digits": b'{"ociVersion": "1.0.2", "process": {"oomScoreAdj": ' + b"9" * 10000 + b"}}",
    "nul-byte": b'{"ociVersion": "1.0.2"\x00}',
    "control": b'{"ociVersion": "1.0.2", "hostname": "a\nb"}',
    "single-quotes": b"{'ociVersion': '1.0.2'}",
    "comment": b'{"ociVersion": "1.0.2" /* x */}',
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_documents_that_are_no_configuration(runtime: RuntimeCommand, bundle: Bundle, name: str) -> None:
    """S-65: the refusal is one short message, and leaves nothing."""
    bundle.raw = HOSTILE[name]
    result = runtime.try_create(bundle).refused()
    if runtime.name == "ocirun":
        assert len(result.stderr) < 4000
    runtime.call("state", bundle.id).refused("does not exist" if runtime.name != "crun" else "")


def _raw(bundle: Bundle, old: str, new: str) -> None:
    text = json.dumps(bundle.spec)
    assert text.count(old) == 1, text
    bundle.raw = text.replace(old, new).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"path": "rootfs"', '"path": "rootfs", "path": "rootfs"'),
        ('"path": "rootfs"', '"path": "rootfs", "readonly": false, "readOnly": true'),
        ('"hostname": "test"', '"hostname": "test", "Hostname": "other"'),
        ('"hostname": "test"', '"hostname": "\\ud800"'),
        ('"hostname": "test"', '"hostname": 5'),
        ('"uid": 0', '"uid": 0.5'),
        ('"uid": 0', '"uid": 1e3'),
        ('"uid": 0', '"uid": "0"'),
        ('"uid": 0', '"uid": true'),
        ('"uid": 0', '"uid": 9223372036854775808'),
        ('"uid": 0', '"uid": 18446744073709551616'),
        ('"ociVersion": "1.0.2"', '"ociVersion": "1.0.2", "ociversion": "2.0.0"'),
        ('"ociVersion": "1.0.2"', '"ociVersion": "2.0.0"'),
        ('"ociVersion": "1.0.2"', '"ociVersion": "one"'),
        ('"ociVersion": "1.0.2"', '"ociVersion": ""'),
        ('"ociVersion": "1.0.2", ', ""),
    ],
    ids=str,
)
@pytest.mark.ocirun_only("Go matches names without case and takes the last of two")
def test_ambiguous_documents(runtime: RuntimeCommand, bundle: Bundle, old: str, new: str) -> None:
    """S-65: what two readers could understand differently is refused."""
    _raw(bundle, old, new)
    runtime.run(bundle).refused()


def test_unknown_members_are_ignored(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """Members that nobody knows are no error, at any depth."""
    unknown = {"nobodyKnowsThis": {"a": [1, None, {"b": 1.5}]}}
    bundle.patch(unknown, {"process": unknown, "linux": unknown, "root": unknown})
    runtime.run(bundle).ok()


NUL_PLACES: list[tuple[str, dict[str, Any]]] = [
    ("/process/args", {"process": {"args": ["/probe", "echo", "a\0b"]}}),
    ("/process/env", {"process": {"env": ["A=a\0b"]}}),
    ("/process/cwd", {"process": {"cwd": "/tmp\0x"}}),
    ("/root/path", {"root": {"path": "rootfs\0x"}}),
    ("/hostname", {"hostname": "a\0b"}),
    ("/linux/cgroupsPath", {"linux": {"cgroupsPath": "/a\0b"}}),
    ("/linux/maskedPaths", {"linux": {"maskedPaths": ["/a\0b"]}}),
    ("/linux/readonlyPaths", {"linux": {"readonlyPaths": ["/a\0b"]}}),
    ("/linux/sysctl", {"linux": {"sysctl": {"net.ipv4.ip_forward": "1\0"}}}),
    ("/linux/sysctl", {"linux": {"sysctl": {"net.ipv4.ip_forward\0": "1"}}}),
    ("/mounts", {"mounts": [{"destination": "/a\0b", "type": "tmpfs"}]}),
    ("/mounts", {"mounts": [{"destination": "/m", "type": "tmpfs\0"}]}),
    ("/mounts", {"mounts": [{"destination": "/m", "type": "tmpfs", "source": "a\0b"}]}),
    ("/mounts", {"mounts": [{"destination": "/m", "type": "tmpfs", "options": ["size=1m\0"]}]}),
    ("/hooks", {"hooks": {"prestart": [{"path": "/bin/true\0x"}]}}),
    ("/hooks", {"hooks": {"prestart": [{"path": "/bin/true", "args": ["a\0b"]}]}}),
    ("/linux/devices", {"linux": {"devices": [{"path": "/dev/a\0", "type": "p"}]}}),
    (
        "/linux/namespaces",
        {"linux": {"namespaces": [{"type": "network", "path": "/proc/1/ns/net\0"}]}},
    ),
]


@pytest.mark.ocirun_only("the peers cut, or pass the error of the kernel on")
def test_nul_is_refused_everywhere(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """S-51: a NUL in any string is refused with the place where it is, never a place to cut."""
    for pointer, patch in NUL_PLACES:
        result = runtime.run(mkbundle(patch))
        assert result.rc != 0, pointer
        assert pointer in result.stderr, (pointer, result.stderr)


@pytest.mark.parametrize("length", [65535, 65536, 65537, 131000])
def test_long_strings_arrive_whole(runtime: RuntimeCommand, bundle: Bundle, length: int) -> None:
    """S-49, CVE-2021-43784: strings about a 16-bit length arrive byte for byte."""
    argument, variable = "a" * (length - 1) + "z", "V=" + "b" * (length - 3) + "y"
    bundle.process(args=["/probe", "digest", argument], env=["PATH=/", variable, "HOME=/"])
    bundle.patch({"annotations": {"org.example.long": "x" * length}})
    result = runtime.run(bundle).ok().one("digest")
    assert result["argv"][2] == digest(argument.encode())
    assert result["environ"][1] == digest(variable.encode())


@pytest.mark.parametrize("length", [131072, 1 << 20])
def test_strings_that_are_too_long_for_the_kernel(runtime: RuntimeCommand, bundle: Bundle, length: int) -> None:
    """S-49: one argument above the kernel's limit is an error that says so, not a shorter argument."""
    bundle.process(args=["/probe", "digest", "a" * length])
    runtime.run(bundle).refused("too long")


def test_many_arguments_and_variables(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-49: ten thousand arguments and as many variables arrive in order."""
    args = ["/probe", "digest", *(str(n) for n in range(10000))]
    env = ["HOME=/", *(f"V{n}={n}" for n in range(10000))]
    bundle.process(args=args, env=env)
    result = runtime.run(bundle).ok().one("digest")
    assert result["argv"] == [digest(word.encode()) for word in args]
    assert result["environ"] == [digest(word.encode()) for word in env]


def test_long_names_in_mounts(runtime: RuntimeCommand, bundle: Bundle) -> None:
    """S-49: a long source and long filesystem data are errors or work, and are never cut."""
    for length in (4000, 65536):
        bundle.again()
        bundle.spec["mounts"] = bundle.spec["mounts"][:3]
        bundle.mount("/m", "tmpfs", "s" * length)
        result = runtime.run(bundle)
        if result.rc == 0:
            assert "s" * length in result.report["mountinfo"]
        else:
            result.refused()
    bundle.again()
    bundle.spec["mounts"] = bundle.spec["mounts"][:3]
    bundle.mount("/m", "tmpfs", "tmpfs", "size=1m", "x" * 70000)
    runtime.run(bundle).refused()


@pytest.mark.ocirun_only("a limit of ours")
@pytest.mark.parametrize("kind", ["long-string", "many-members", "many-mounts"])
def test_size_is_bounded(runtime: RuntimeCommand, bundle: Bundle, kind: str) -> None:
    """S-65: huge documents work or are refused, with bounded memory, without a traceback."""
    if kind == "long-string":
        bundle.raw = b'{"ociVersion": "' + b"1" * 50_000_000 + b'"}'
    elif kind == "many-members":
        members = b",".join(b'"k%d":%d' % (n, n) for n in range(100_000))
        bundle.raw = b'{"ociVersion": "1.0.2", "annotations": {' + members + b"}}"
    else:
        for number in range(70000):
            bundle.mount(f"/m/{number}", "tmpfs")

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    result = runtime.try_create(bundle, before_exec=bounded, timeout=300)
    assert "Traceback" not in result.stderr
    if result.rc != 0:
        result.refused()


def test_bad_types_everywhere(runtime: RuntimeCommand, mkbundle: MkBundle) -> None:
    """S-64: members of a wrong type are refused."""
    wrong: list[dict[str, Any]] = [
        {"process": {"args": "string"}},
        {"process": {"env": [1]}},
        {"process": {"user": []}},
        {"process": {"noNewPrivileges": "yes"}},
        {"process": {"terminal": "no"}},
        {"process": {"capabilities": {"bounding": "CAP_CHOWN"}}},
        {"mounts": {}},
        {"mounts": [{"destination": 5}]},
        {"mounts": [{"destination": "/m", "options": "ro"}]},
        {"linux": {"namespaces": {}}},
        {"linux": {"namespaces": [{"type": 5}]}},
        {"linux": {"sysctl": []}},
        {"linux": {"sysctl": {"net.ipv4.ip_forward": 1}}},
        {"linux": {"maskedPaths": "/proc/kcore"}},
        {"root": {"readonly": "true"}},
        {"annotations": {"a": 1}},
    ]
    for patch in wrong:
        result = runtime.run(mkbundle(patch))
        assert result.rc != 0, patch
        assert "Traceback" not in result.stderr, patch
