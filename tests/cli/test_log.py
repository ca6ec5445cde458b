# SPDX-License-Identifier: Apache-2.0
"""--log, --log-format and --log-level: what engines read after a failure."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from support.command import RuntimeCommand

NOT_FOUND = "container does not exist"
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def test_json(ocirun: RuntimeCommand, workdir: Path) -> None:
    """One object a line: level, msg and time first, then code and id; the message is on stderr as well."""
    log = workdir / "log"
    result = ocirun.call("state", "nosuch", options=["--log", str(log), "--log-format", "json"])
    result.refused(NOT_FOUND)
    (line,) = log.read_text().splitlines()
    record = json.loads(line)
    assert list(record)[:3] == ["level", "msg", "time"]
    assert record["level"] == "error"
    assert record["msg"] == NOT_FOUND
    assert RFC_3339.fullmatch(record["time"])
    assert record["code"] == "not_found"
    assert record["id"] == "nosuch"


def test_json_without_a_log(ocirun: RuntimeCommand) -> None:
    """--log-format json alone makes stderr the log, as with runc and crun."""
    result = ocirun.call("state", "nosuch", options=["--log-format=json"])
    assert result.rc == 1
    assert json.loads(result.stderr)["msg"] == NOT_FOUND


def test_text(ocirun: RuntimeCommand, workdir: Path) -> None:
    """Text lines are logrus's, which scrapers of runc's logs know."""
    log = workdir / "log"
    ocirun.call("state", "nosuch", options=["--log", str(log)]).refused(NOT_FOUND)
    found = re.fullmatch(r'time="([^"]*)" level=error msg="([^"]*)"\n', log.read_text())
    assert found is not None, log.read_text()
    assert RFC_3339.fullmatch(found[1])
    assert found[2] == NOT_FOUND


def test_lines_are_appended(ocirun: RuntimeCommand, workdir: Path) -> None:
    """Each command of an engine adds to the same file."""
    log = workdir / "log"
    for name in ("one", "two"):
        ocirun.call("state", name, options=["--log", str(log), "--log-format", "json"]).refused()
    assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == ["one", "two"]


def test_usage_errors_are_logged(ocirun: RuntimeCommand, workdir: Path) -> None:
    """An engine that calls us wrongly finds out from the log."""
    log = workdir / "log"
    ocirun.call("state", "--nosuch", options=["--log", str(log), "--log-format", "json"]).refused()
    record = json.loads(log.read_text())
    assert (record["level"], record["code"]) == ("error", "usage")


def test_file_prefix(ocirun: RuntimeCommand, workdir: Path) -> None:
    """crun's spelling: --log file:PATH."""
    log = workdir / "log"
    ocirun.call("state", "a", options=["--log", f"file:{log}", "--log-format", "json"]).refused()
    assert json.loads(log.read_text())["id"] == "a"


@pytest.mark.parametrize("destination", ["syslog:ocirun-test", "journald:ocirun-test"])
def test_system_logs(ocirun: RuntimeCommand, destination: str) -> None:
    """crun's other destinations: whether a daemon is there or not, the message is on stderr and nothing hangs."""
    result = ocirun.call("state", "a", options=["--log", destination, "--log-format", "json"])
    result.refused(NOT_FOUND)
    assert not Path(destination).exists()


@pytest.mark.parametrize("kind", ["fifo", "directory", "missing", "full"])
def test_log_that_cannot_be_written(ocirun: RuntimeCommand, workdir: Path, kind: str) -> None:
    """R-27: a log that nobody reads, or that cannot be, neither blocks the command nor hides its message."""
    log = workdir / "log"
    if kind == "fifo":
        os.mkfifo(log)
    elif kind == "directory":
        log.mkdir()
    elif kind == "missing":
        log = workdir / "no/such/log"
    else:
        log = Path("/dev/full")
    result = ocirun.call("state", "a", options=["--log", str(log), "--log-format", "json"])
    result.refused(NOT_FOUND, "log")
    assert result.rc == 1


def test_full_pipe(ocirun: RuntimeCommand, workdir: Path) -> None:
    """R-27: a log pipe that is full does not block the command."""
    log = workdir / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(reader, b"x" * 4096)
        ocirun.call("state", "a", options=["--log", str(log)]).refused(NOT_FOUND)
    finally:
        os.close(reader)


def test_odd_characters_are_json(ocirun: RuntimeCommand, workdir: Path) -> None:
    """Whatever bytes come back in a message, the line stays one line of valid JSON in UTF-8."""
    log = workdir / "log"
    bad = os.fsdecode(b"\xff\n\x1b\"\\")
    ocirun.call("create", "--bundle", f"/nosuch/{bad}", "a", options=["--log", str(log), "--log-format=json"])
    (line,) = log.read_bytes().splitlines()
    assert "/nosuch/" in json.loads(line.decode("utf-8"))["msg"]


def test_level(ocirun: RuntimeCommand, workdir: Path) -> None:
    """--debug and --log-level are accepted everywhere and do not change what is said of an error."""
    for options in (["--debug"], ["--log-level", "debug"], ["--log-level=error"]):
        log = workdir / "log"
        ocirun.call("state", "a", options=[*options, "--log", str(log), "--log-format=json"]).refused(NOT_FOUND)
        records = [json.loads(line) for line in log.read_text().splitlines()]
        assert [record["msg"] for record in records if record["level"] == "error"] == [NOT_FOUND]
        log.unlink()
