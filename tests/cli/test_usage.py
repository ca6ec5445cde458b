# SPDX-License-Identifier: Apache-2.0
"""Help, version and mistakes in the words of a command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.command import RuntimeCommand

COMMANDS = (
    "create", "start", "state", "kill", "delete", "run", "list", "spec", "features", "validate", "plan", "gc",
)  # fmt: skip


@pytest.mark.parametrize("option", ["--version", "-v", "-V", "-version", "--version=true"])
def test_version(ocirun: RuntimeCommand, option: str) -> None:
    """docker and podman call it often, and read name, version and spec from it."""
    lines = ocirun.call(option).ok().stdout.decode().splitlines()
    assert lines[0].startswith("ocirun version ")
    assert [line for line in lines if "version" in line] == lines[:1]
    assert "spec: 1.3.0" in lines


def test_version_needs_nothing(ocirun: RuntimeCommand) -> None:
    """No state root, no home, no environment at all."""
    done = subprocess.run([*ocirun.argv, "--version"], env={}, cwd="/", capture_output=True, check=True)
    assert done.stdout.startswith(b"ocirun version ")
    assert done.stderr == b""


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",), ("help",)])
def test_help(ocirun: RuntimeCommand, words: tuple[str, ...]) -> None:
    """The help lists every command."""
    text = ocirun.call(*words).ok().stdout.decode()
    assert all(f"\n  {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("option", ["-h", "--help", "-?", "--usage"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(ocirun: RuntimeCommand, command: str, option: str) -> None:
    """Each command explains itself with status 0, whatever else is missing: podman probes features so."""
    result = ocirun.call(command, option).ok()
    assert result.stdout.decode().startswith(f"usage: ocirun {command}")
    assert result.stderr == ""
    assert ocirun.call("help", command).ok().stdout == result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("nosuch",),
        ("create",),
        ("state",),
        ("state", "a", "b"),
        ("kill", "a", "KILL", "b"),
        ("delete",),
        ("--nosuch", "list"),
        ("list", "--nosuch"),
        ("list", "--format", "yaml"),
        ("list", "--format"),
        ("--log-format", "xml", "list"),
        ("--log-level", "loud", "list"),
        ("--cgroup-manager", "mine", "list"),
        ("create", "--preserve-fds", "-1", "a"),
        ("create", "--preserve-fds", "two", "a"),
        ("create", "--preserve-fds", "\uff19", "a"),
        ("--root", "", "list"),
        ("--systemd-cgroup", "--cgroup-manager", "disabled", "state", "a"),
        ("kill", "--regex", "(", "9"),
    ],
)
def test_usage_errors(ocirun: RuntimeCommand, workdir: Path, words: tuple[str, ...]) -> None:
    """A mistake in the words is status 1 and one clear message, and nothing is made."""
    result = ocirun.call(*words, cwd=workdir)
    result.refused()
    assert result.rc == 1
    assert result.stdout == b""
    assert result.stderr.startswith("ocirun: ")
    assert not ocirun.root.exists()


def test_words_that_are_no_text(ocirun: RuntimeCommand) -> None:
    """Bytes that are not UTF-8, and control characters, come back harmless in the message."""
    done = subprocess.run([*ocirun.argv, b"state", b"a\xff\x1b[2J\n"], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
    assert done.stderr.count(b"\n") <= 2


def test_reader_that_left(ocirun: RuntimeCommand) -> None:
    """A closed pipe on standard output is no reason for a traceback."""
    with subprocess.Popen([*ocirun.argv, "features"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) in (0, 1)
    assert b"Traceback" not in errors
