# SPDX-License-Identifier: Apache-2.0
"""Run cases on runtimes, side by side, and print what came of it."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import machine
from .case import (
    CASES,
    DEVIATES,
    FAIL,
    NEWER,
    NOT_APPLICABLE,
    PASS,
    SENTENCES,
    SUITE,
    Case,
    Failed,
    NotApplicable,
    Result,
)
from .context import Context, build_probe
from .runtime import Runtime

CASE_DEADLINE_S = 600
DOCUMENTS = (
    "bundle.md", "runtime.md", "runtime-linux.md", "config.md", "config-linux.md", "features.md", "features-linux.md",
)  # fmt: skip


def run_case(case: Case, runtime: Runtime, probe: Path) -> Result:
    """Run one case and say how it ended."""
    context = Context(runtime, probe)
    try:
        case.run(context)
    except NotApplicable as reason:
        return Result(case.name, NOT_APPLICABLE, str(reason))
    except Failed as failure:
        detail: dict[str, Any] = {"expected": failure.expected, "seen": failure.seen, "config": context.config}
        if case.since > runtime.spec_version():
            return Result(case.name, NEWER, f"{failure.what}: {failure.seen}", detail)
        return Result(case.name, FAIL, failure.what, detail)
    except Exception:
        # A case that breaks has shown nothing; it counts against nobody's honour but still fails the run.
        return Result(case.name, FAIL, "the case itself broke", {"traceback": traceback.format_exc()})
    finally:
        context.close()
    return Result(case.name, PASS)


def work(command: str, names: Sequence[str]) -> int:
    """As a worker: run the cases on one runtime, a line of JSON for each."""
    words = shlex.split(command)
    # crun refuses a machine that has both versions of cgroups.
    machine.be_a_host(hide_unified=Path(words[0]).name == "crun")
    probe = build_probe()
    with tempfile.TemporaryDirectory(prefix="conformance-") as place:
        runtime = Runtime(command, Path(place))
        for name in names:
            signal.alarm(CASE_DEADLINE_S)  # it ends this worker: whatever hangs, clean-up included, must not hang the run
            before = time.monotonic()
            result = run_case(CASES[name], runtime, probe)
            result.seconds = round(time.monotonic() - before, 3)
            print(result.encode(), flush=True)
        signal.alarm(0)
    return 0


class Subject:
    """A runtime under test: its command, what it says it is, its known deviations, its results."""

    def __init__(self, command: str, deviations: Path | None) -> None:
        words = shlex.split(command)
        found = shutil.which(words[0])
        if found is None:
            raise SystemExit(f"conformance: there is no command {words[0]!r}")
        self.command = shlex.join([os.path.abspath(found), *words[1:]])
        self.name = Path(found).name
        with tempfile.TemporaryDirectory() as place:
            self.version, self.spec = Runtime(self.command, Path(place)).versions()
        self.deviations = read_deviations(deviations or SUITE / f"deviations/{self.name}.toml")
        self.results: dict[str, Result] = {}
        self.unlisted: list[str] = []

    def start(self, names: Sequence[str]) -> subprocess.Popen[str]:
        """Start a worker for some cases."""
        return subprocess.Popen(
            [sys.executable, str(SUITE / "run"), "--worker", self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take(self, line: str) -> None:
        """Keep a result; a failure that is listed is a deviation."""
        result = Result(**json.loads(line))
        reason = self.deviations.get(result.name)
        if reason is not None and result.outcome == FAIL:
            result.outcome = DEVIATES
            result.detail["reason"] = reason
        elif reason is not None and result.outcome == PASS:
            self.unlisted.append(result.name)
        self.results[result.name] = result

    @property
    def failed(self) -> list[Result]:
        """Return the results that make the run fail."""
        return [result for result in self.results.values() if result.outcome == FAIL]


def read_deviations(path: Path) -> dict[str, str]:
    """Read a file of `"case" = "reason"`; none where there is no file."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        listed = tomllib.load(file)
    unknown = sorted(set(listed) - set(CASES))
    if unknown:
        raise SystemExit(f"conformance: {path} lists cases that are not there: {', '.join(unknown)}")
    return listed


def order(names: Iterable[str]) -> list[str]:
    """Sort cases by document and section, as they were written within one."""
    position = {name: number for number, name in enumerate(CASES)}
    sections = list(dict.fromkeys(sentence.at for sentence in SENTENCES.values()))

    def key(name: str) -> tuple[int, int, int]:
        section = CASES[name].section
        return DOCUMENTS.index(section.partition("#")[0]), sections.index(section), position[name]

    return sorted(names, key=key)


def select(arguments: argparse.Namespace) -> list[str]:
    """Return the cases that were asked for."""
    names = order(CASES)
    if arguments.section:
        names = [name for name in names if any(word in CASES[name].section for word in arguments.section)]
    if arguments.case:
        names = [
            name
            for name in names
            if any(name == word or name.startswith(f"{word}[") or fnmatch.fnmatchcase(name, word) for word in arguments.case)
        ]
    return names


def run_all(subjects: Sequence[Subject], names: Sequence[str], jobs: int) -> None:
    """Run the cases on every runtime, each in `jobs` processes of its own."""
    workers = []
    for subject in subjects:
        for number in range(jobs):
            part = names[number::jobs]
            if part:
                worker = subject.start(part)
                assert worker.stdin is not None
                worker.stdin.write(json.dumps(part))
                worker.stdin.close()
                workers.append((subject, worker))
    try:
        for subject, worker in workers:
            assert worker.stdout is not None
            for line in worker.stdout:
                subject.take(line)
            if worker.wait() != 0:
                raise SystemExit(f"conformance: a worker for {subject.name} ended with status {worker.returncode}")
    finally:
        for _, worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


def table(subjects: Sequence[Subject], names: Sequence[str], verbose: bool) -> str:
    """Return the table: a line for each section, or for each case, and a column for each runtime."""
    lines = []
    width = max(len(name) for name in names) + 2 if verbose else 44
    head = "case" if verbose else "section"
    columns = [f"{subject.name:>14}" for subject in subjects]
    lines.append(f"{head:<{width}}{''.join(columns)}")
    for section in dict.fromkeys(CASES[name].section for name in names):
        members = [name for name in names if CASES[name].section == section]
        if verbose:
            lines.append(section)
            for name in members:
                cells = "".join(f"{subject.results[name].outcome:>14}" for subject in subjects)
                lines.append(f"  {name:<{width - 2}}{cells}")
        else:
            cells = "".join(f"{summary(subject, members):>14}" for subject in subjects)
            lines.append(f"{section:<{width}}{cells}")
    cells = "".join(f"{summary(subject, names):>14}" for subject in subjects)
    lines.append(f"{'all':<{width}}{cells}")
    return "\n".join(lines)


def summary(subject: Subject, names: Sequence[str]) -> str:
    """Return "passed/applicable", and how many of the rest are listed deviations."""
    outcomes = [subject.results[name].outcome for name in names]
    applicable = [outcome for outcome in outcomes if outcome not in (NOT_APPLICABLE, NEWER)]
    text = f"{applicable.count(PASS)}/{len(applicable)}"
    return text if FAIL not in applicable else f"{applicable.count(FAIL)} FAIL {text}"


def explain(subject: Subject, result: Result) -> str:
    """Return everything about one case that did not pass."""
    case = CASES[result.name]
    lines = [f"--- {subject.name}: {case.name}: {result.outcome}", f"    {case.title}"]
    lines += [f"    {sentence}" for sentence in case.sentences]
    if result.why:
        lines.append(f"    not so: {result.why}")
    for word in ("expected", "seen", "reason", "traceback"):
        if word in result.detail:
            value = result.detail[word]
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"    {word}: {text}")
    if config := result.detail.get("config"):
        lines += ["    config.json: " + json.dumps(config)]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="conformance/run", description="Hold OCI runtimes to runtime-spec 1.3.")
    add = parser.add_argument
    add("--runtime", action="append", metavar="COMMAND", help="a runtime to test (default: $RUNTIME, else ocirun)")
    add("--section", action="append", metavar="WORD", help="only sections with WORD in their name, as config.md#mounts")
    add("--case", action="append", metavar="NAME", help="only this case, or those of a pattern")
    add("--list", action="store_true", help="print the cases, and what each shows")
    add("--verbose", "-v", action="store_true", help="a line for each case, not only for each section")
    add("--quiet", "-q", action="store_true", help="no explanations of failures")
    add("--deviations", metavar="FILE", type=Path, help="known deviations, instead of deviations/NAME.toml")
    add("--strict", action="store_true", help="a listed deviation that passes fails the run as well")
    add("--jobs", type=int, default=min(os.cpu_count() or 1, 8), help="processes for each runtime")
    add("--json", metavar="FILE", type=Path, help="write the results there as well")
    add("--worker", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """The command; returns 1 when a case fails, 2 when it cannot run at all."""
    options = parse(arguments)
    if options.worker:
        return work(options.worker, json.load(sys.stdin))
    names = select(options)
    if not names:
        print("conformance: no such case", file=sys.stderr)
        return 2
    if options.list:
        for name in names:
            print(f"{name}: {CASES[name].title}")
            for sentence in CASES[name].sentences:
                print(f"    {sentence}")
        return 0
    if os.geteuid() != 0:
        print("conformance: the suite needs root", file=sys.stderr)
        return 2
    commands = options.runtime or [os.environ.get("RUNTIME") or "ocirun"]
    subjects = [Subject(command, options.deviations) for command in commands]
    build_probe()
    run_all(subjects, names, options.jobs)
    report(subjects, names, options)
    wrong = any(subject.failed or (options.strict and subject.unlisted) for subject in subjects)
    return 1 if wrong else 0


def report(subjects: Sequence[Subject], names: Sequence[str], options: argparse.Namespace) -> None:
    """Print, and write the file of results."""
    if not options.quiet:
        for subject in subjects:
            for name in names:
                result = subject.results[name]
                if result.outcome == FAIL or (options.verbose and result.outcome != PASS):
                    print(explain(subject, result))
    for subject in subjects:
        print(f"{subject.name}: {subject.version}, specification {subject.spec}: {subject.command}")
        for name in subject.unlisted:
            print(f"    listed as a deviation, and passes: {name}")
    print(table(subjects, names, options.verbose))
    if options.json:
        document = {
            subject.name: {
                "version": subject.version,
                "spec": subject.spec,
                "results": [
                    vars(subject.results[name]) | {"section": CASES[name].section} for name in names
                ],
            }
            for subject in subjects
        }
        options.json.write_text(json.dumps(document, indent=1))
