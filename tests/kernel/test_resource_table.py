# SPDX-License-Identifier: Apache-2.0
"""docs/resources.md, asked of the kernel: every field after create and after update, in each layout and with each manager
that this machine can show.

OCIRUN_TABLE=FILE: append what was read to FILE, as lines of a table.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import PURE, directory, disk, legacy_hierarchy
from support.command import CreateFailed, RuntimeCommand
from support.private_systemd import missing, private_systemd
from support.resource_table import LAYOUTS, ROWS, Place, Refused, Row, place_in

pytestmark = [pytest.mark.root, pytest.mark.vm, pytest.mark.ocirun_only("the peers drop or change some, without a word")]
# A hybrid machine without its version 2 is one of version 1.
WITHOUT_UNIFIED = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified && exec "$@"', "sh")
SYSTEMD = Path("/run/systemd/system").is_dir()
HYBRID = Path("/sys/fs/cgroup/unified/cgroup.controllers").exists()


# Hybrid first: a hierarchy of version 1 that was mounted for a test keeps its controller for a while after that.
@pytest.fixture(params=sorted(LAYOUTS, key=("hybrid", "version 1", "version 2").index))
def layout(request: pytest.FixtureRequest) -> str:
    """Each layout that this machine can show."""
    if (request.param == "version 2") != PURE:
        pytest.skip("machine: no cgroup v1" if PURE else "machine: no pure cgroup v2")
    if request.param == "hybrid" and not HYBRID:
        pytest.skip("machine: no cgroup v2")
    return str(request.param)


@pytest.fixture(params=["cgroupfs", "systemd"])
def manager(request: pytest.FixtureRequest, layout: str) -> str:
    """Each manager that this machine can show."""
    if request.param == "systemd" and (layout == "version 1" or not SYSTEMD):
        pytest.skip("machine: no systemd")
    return str(request.param)


@pytest.fixture(params=ROWS, ids=lambda row: str(row.field))
def row(request: pytest.FixtureRequest) -> Row:
    """Each field."""
    found: Row = request.param
    return found


@pytest.fixture
def device(private_host: None, row: Row, layout: str) -> Iterator[dict[str, str]]:
    """What the row needs of the machine; gives the numbers of its disk, if that is it."""
    with ExitStack() as stack:
        if row.needs in ("disk", "bfq"):
            path, major, minor = stack.enter_context(disk())
            if row.needs == "bfq":
                Path(f"/sys/block/{Path(path).name}/queue/scheduler").write_text("bfq")
            yield {"major": str(major), "minor": str(minor), "device": f"{major}:{minor}"}
            return
        if row.needs == "hugetlb":
            controllers = Path("/sys/fs/cgroup", "" if PURE else "unified", "cgroup.controllers")
            if layout != "version 1" and "hugetlb" not in controllers.read_text().split():
                pytest.skip("machine: no hugetlb in cgroup v2")
        unmounted = ("net_cls", "net_prio", "hugetlb") if layout == "version 1" else ("net_cls", "net_prio")
        if row.needs in unmounted and isinstance(place_in(row, layout), Place):
            stack.enter_context(legacy_hierarchy(row.needs))
        yield {}


def filled(document: Any, device: dict[str, str]) -> Any:
    """Return resources with the numbers of the disk."""
    if isinstance(document, dict):
        return {key: filled(value, device) for key, value in document.items()}
    if isinstance(document, list):
        return [filled(value, device) for value in document]
    if isinstance(document, str) and document in ("{major}", "{minor}"):
        return int(device[document.strip("{}")])
    return document


def read_back(pid: int, place: Place, device: dict[str, str]) -> str:
    """Return the value as the kernel shows it."""
    text = (directory(pid, place.controller) / place.file).read_text().strip()
    if not place.key:
        return text
    lines = dict(line.split(None, 1) for line in text.splitlines())
    return lines[place.key.format(**device)].strip()


def pointer(row: Row) -> str:
    """Return the pointer of the field, in resources."""
    names = row.field.split(".")
    document: Any = row.create
    for name in names:
        document = document[name]
    if isinstance(document, list):
        names.append("0")
    elif row.field in ("rdma", "unified"):
        names += list(document)
    return "/" + "/".join(names)


def note(row: Row, *words: str) -> None:
    """Append a line to the file that was asked for."""
    if name := os.environ.get("OCIRUN_TABLE"):
        with open(name, "a", encoding="utf-8") as file:
            file.write(f"| `{row.field}` | {' | '.join(words)} |\n")


def shown(name: str, property_name: str) -> str:
    """Return what systemd says of the scope of a container."""
    command = ["systemctl", "show", "--value", "-p", property_name, f"ocirun-{name}.scope"]
    return subprocess.check_output(command, text=True).strip()


def test_field(
    device: dict[str, str], runtime: RuntimeCommand, bundle: Bundle, row: Row, layout: str, manager: str
) -> None:
    """The value is in its file after create, and another one after update; or both name the field and say why not."""
    if layout == "version 1":
        runtime = runtime.under(*WITHOUT_UNIFIED)
    created, updated = filled(row.create, device), filled(row.update, device)
    place = place_in(row, layout)
    options = ("--cgroup-manager", manager)
    command = ("update", "--resources", "-", bundle.id)
    if isinstance(place, Refused):
        with pytest.raises(CreateFailed) as caught:
            runtime.create(bundle.linux(resources=created), options=options)
        at_create = caught.value.result.refused(f"/linux/resources{pointer(row)}", place.words).stderr
        del bundle.spec["linux"]["resources"]
        runtime.create(bundle, options=options)
        result = runtime.call(*command, stdin=json.dumps(created).encode())
        result.refused(f"{pointer(row)}: ", place.words)
        assert "/linux/resources" not in result.stderr
        note(row, layout, manager, at_create.splitlines()[0], result.stderr.splitlines()[0])
        return
    pid = runtime.create(bundle.linux(resources=created), options=options).pid
    first = read_back(pid, place, device)
    first_property = shown(bundle.id, row.property.name) if row.property and manager == "systemd" else ""
    runtime.call(*command, stdin=json.dumps(updated).encode()).ok()
    second = read_back(pid, place, device)
    note(row, layout, manager, f"`{place.file}`", first, second)
    assert (first, second) == (place.created, place.updated)
    if row.property and manager == "systemd":
        second_property = shown(bundle.id, row.property.name)
        note(row, layout, manager, f"`{row.property.name}`", first_property, second_property)
        assert (first_property, second_property) == (row.property.created, row.property.updated)


@pytest.mark.parametrize("layout", ["version 1", "hybrid"])
def test_fields_under_systemd_in_version_1(
    runtime: RuntimeCommand, mkbundle: Callable[..., Bundle], layout: str
) -> None:
    """The same with a systemd of the tests' own, all fields in one: starting it takes longer than a container."""
    if reason := missing():
        pytest.skip(reason)
    wrong: dict[str, str] = {}
    runtime.argv = (*runtime.argv, "--systemd-cgroup")
    with private_systemd(hybrid=layout == "hybrid") as words:
        runtime.wrapper = words
        try:
            for row in ROWS:
                # Its slice has no realtime of which a container could have some, and its namespaces no more hierarchies.
                if not row.needs and not row.field.startswith("cpu.realtime"):
                    found = _under_systemd(runtime, mkbundle(), row, layout)
                    if found != "as it should be":
                        wrong[row.field] = found
        finally:
            runtime.cleanup()
    assert wrong == {}


def _under_systemd(runtime: RuntimeCommand, bundle: Bundle, row: Row, layout: str) -> str:
    place = place_in(row, layout)
    bundle.linux(resources=row.create).write()
    runtime.remember(bundle.id)
    made = runtime.call("create", "--bundle", str(bundle.path), bundle.id)
    if isinstance(place, Refused):
        made.refused(f"/linux/resources{pointer(row)}", place.words)
        note(row, layout, "systemd", made.stderr.splitlines()[0])
        return "as it should be"
    if made.rc:
        return repr(made)
    pid = _pid_here(runtime.state(bundle.id)["pid"], bundle.id)
    first = read_back(pid, place, {})
    result = runtime.call("update", "--resources", "-", bundle.id, stdin=json.dumps(row.update).encode())
    second = read_back(pid, place, {})
    note(row, layout, "systemd", f"`{place.file}`", first, second)
    runtime.call("delete", "--force", bundle.id).ok()
    return "as it should be" if (first, second) == (place.created, place.updated) else f"{first}, {second}: {result!r}"


def _pid_here(inside: int, name: str) -> int:
    """Return our number of a process that the pid namespace of that systemd calls *inside*."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            status, cgroup = (Path(f"/proc/{number}/{file}").read_text() for file in ("status", "cgroup"))
        except OSError:
            continue
        if name in cgroup and re.search(rf"^NSpid:.*\t{inside}\t1$", status, re.MULTILINE):
            return int(number)
    raise AssertionError(f"no process {inside} of {name}")
