# SPDX-License-Identifier: Apache-2.0
"""linux.intelRdt on a made-up tree: no processor here has it.  Spec: config-linux.md#intelrdt

The tree does what the kernel documents: a new group has files and the schemata of the default class, a removed one goes
with them, and tasks takes one pid a write.
"""

from __future__ import annotations

import shutil
from errno import EINVAL
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun import rdt
from ocirun.errors import KernelError, OcirunError
from ocirun.host import find_resctrl
from ocirun.rdt import RdtGroup, SchemataChange, find_difference, parse_schemata, remove
from ocirun.spec.model import IntelRdt

DEFAULT = "    L3:0=7ff;1=7ff\n    MB:0= 100;1= 100\n"


def fill(directory: Path, *, has_groups: bool = True) -> None:
    """Make the files of a group, as the kernel does."""
    directory.mkdir(exist_ok=True)
    (directory / "tasks").touch()
    if has_groups:
        (directory / "schemata").write_text(DEFAULT)
        (directory / "mon_groups").mkdir()


class Group(RdtGroup):
    """A group of the made-up tree; `written` is what was written to files, in order."""

    def __init__(self, root: Path, container_id: str = "c1", **members: Any) -> None:
        self.written: list[tuple[str, str]] = []
        super().__init__(str(root), IntelRdt.decode(members), container_id)

    def _make_directory(self, path: str) -> None:
        Path(path).mkdir()
        fill(Path(path), has_groups="mon_groups" not in path)

    def _remove_directory(self, path: str) -> None:
        shutil.rmtree(path)

    def _write(self, path: str, text: str, pointer: str) -> None:
        super()._write(path, text, pointer)
        self.written.append((path.removeprefix(self._root), text))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A resctrl file system with its default class."""
    tree = tmp_path / "resctrl"
    fill(tree)
    (tree / "info" / "MB").mkdir(parents=True)
    (tree / "info" / "MB" / "bandwidth_gran").write_text("10\n")
    (tree / "info" / "last_cmd_status").write_text("ok\n")
    return tree


def unsaved() -> None:
    """Stand in for the writing of the record where it is of no interest."""


def schemata(root: Path, name: str, text: str) -> None:
    """Make a class as an administrator would."""
    fill(root / name)
    (root / name / "schemata").write_text(text)


def test_class_of_the_container(root: Path) -> None:
    """Without closID the class has the container's ID; it is in the record before it is made, and delete removes it."""
    group = Group(root, memBwSchema="MB:0=20;1=70")
    assert not (root / "c1").exists()
    assert group.record() == {"made": [f"{root}/c1"], "removed": [f"{root}/c1"], "inodes": {}}
    group.make(unsaved)
    group.place(42)
    assert group.written == [("/c1/schemata", "MB:0=20;1=70"), ("/c1/tasks", "42")]
    inodes = group.record()["inodes"]
    assert inodes == {f"{root}/c1": (root / "c1").stat().st_ino}
    assert remove(group.record()["removed"], inodes, shutil.rmtree) == []
    assert not (root / "c1").exists()
    assert remove(group.record()["removed"], inodes) == []  # gone already


def test_empty_settings(root: Path) -> None:
    """A class without schemata of its own is made; its schemata are not written to."""
    group = Group(root)
    group.make(unsaved)
    group.place(42)
    assert group.written == [("/c1/tasks", "42")]


def test_order_of_schemata(root: Path) -> None:
    """L3, then the bandwidth, then `schemata`, each line with a write of its own."""
    group = Group(
        root, closID="new", schemata=["L2:0=f", "L3:1=1f"], memBwSchema="MB:0=20", l3CacheSchema="L3:0=7f0;1=1f"
    )
    group.make(unsaved)
    assert [text for _, text in group.written] == ["L3:0=7f0;1=1f", "MB:0=20", "L2:0=f", "L3:1=1f"]
    assert {path for path, _ in group.written} == {"/new/schemata"}


def test_class_with_a_name_outlives_the_container(root: Path) -> None:
    """A class that was made for a closID stays after delete; a create that fails takes it away again."""
    group = Group(root, closID="new", schemata=["L3:0=f"])
    assert group.record() == {"made": [f"{root}/new"], "removed": [], "inodes": {}}
    group.make(unsaved)
    group.undo()
    assert not (root / "new").exists()


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"l3CacheSchema": "L3:0=7f0"}, None),
        ({"l3CacheSchema": "L3:1=01f;0=7F0"}, None),
        ({"memBwSchema": "MB:0=20"}, None),
        ({"memBwSchema": "MB:0=11"}, None),
        ({"schemata": ["L3:0=7f0", "MB:1=70"]}, None),
        ({"l3CacheSchema": "L3:0=7f1"}, "/linux/intelRdt/l3CacheSchema"),
        ({"l3CacheSchema": "L3:2=7f0"}, "/linux/intelRdt/l3CacheSchema"),
        ({"l3CacheSchema": "L2:0=1"}, "/linux/intelRdt/l3CacheSchema"),
        ({"memBwSchema": "MB:0=30"}, "/linux/intelRdt/memBwSchema"),
        ({"memBwSchema": "MB:0=21"}, "/linux/intelRdt/memBwSchema"),
        ({"schemata": ["L3:0=7f0", "MB:1=60"]}, "/linux/intelRdt/schemata/1"),
    ],
)
def test_class_that_exists(root: Path, members: dict[str, Any], pointer: str | None) -> None:
    """W14: what is asked for is compared, and an error if it differs; the class is joined, never written, never removed."""
    schemata(root, "shared", "    L3:0=7f0;1=01f\n    MB:0=  20;1=  70\n")
    if pointer is not None:
        with pytest.raises(OcirunError, match="exists with other schemata") as caught:
            Group(root, closID="shared", **members)
        assert caught.value.json_pointer == pointer
        return
    group = Group(root, closID="shared", **members)
    assert group.record() == {"made": [], "removed": [], "inodes": {}}
    group.make(unsaved)
    group.place(42)
    group.undo()
    assert group.written == [("/shared/tasks", "42")]


def test_class_that_is_missing(root: Path) -> None:
    """A closID without schemata must be there, and is joined as it is."""
    with pytest.raises(OcirunError, match="no class of service nosuch") as caught:
        Group(root, closID="nosuch")
    assert caught.value.json_pointer == "/linux/intelRdt/closID"
    fill(root / "there")
    group = Group(root, closID="there")
    group.make(unsaved)
    assert group.record() == {"made": [], "removed": [], "inodes": {}}


def test_default_class(root: Path) -> None:
    """closID "/" is the root of the file system: compared like any other, never made, never removed."""
    group = Group(root, closID="/", l3CacheSchema="L3:0=7ff", enableMonitoring=True)
    monitoring = [f"{root}/mon_groups/c1"]
    assert group.record() == {"made": monitoring, "removed": monitoring, "inodes": {}}
    group.make(unsaved)
    group.place(42)
    assert group.written == [("/tasks", "42"), ("/mon_groups/c1/tasks", "42")]
    with pytest.raises(OcirunError, match="other schemata"):
        Group(root, closID="/", l3CacheSchema="L3:0=1")


def test_monitoring(root: Path) -> None:
    """The group has the container's ID, whatever the class; delete removes it before the class."""
    fill(root / "shared")
    group = Group(root, closID="shared", enableMonitoring=True)
    assert group.record()["removed"] == [f"{root}/shared/mon_groups/c1"]
    own = Group(root, enableMonitoring=True)
    assert own.record()["removed"] == [f"{root}/c1", f"{root}/c1/mon_groups/c1"]
    own.make(unsaved)
    own.place(42)
    order: list[str] = []
    remove(own.record()["removed"], own.record()["inodes"], order.append)
    assert order == [f"{root}/c1/mon_groups/c1", f"{root}/c1"]


def test_monitoring_group_of_somebody_else(root: Path) -> None:
    """One of that name is an error, and stays."""
    fill(root / "shared")
    (root / "shared" / "mon_groups" / "c1").mkdir()
    group = Group(root, closID="shared", enableMonitoring=True)
    with pytest.raises(KernelError, match="/linux/intelRdt/enableMonitoring") as caught:
        group.make(unsaved)
    assert caught.value.hint is None
    group.undo()
    assert (root / "shared" / "mon_groups" / "c1").exists()


def test_class_that_appears_meanwhile(root: Path) -> None:
    """Between the look and the making: whoever was faster owns it, and it is compared."""
    group = Group(root, memBwSchema="MB:0=20")
    schemata(root, "c1", "MB:0=20\n")
    group.make(unsaved)
    assert group.record() == {"made": [], "removed": [], "inodes": {}}
    assert group.written == []
    shutil.rmtree(root / "c1")
    group = Group(root, memBwSchema="MB:0=20")
    schemata(root, "c1", "MB:0=30\n")
    with pytest.raises(OcirunError, match="other schemata"):
        group.make(unsaved)


class Crash(BaseException):
    """The end of the creating process; nothing is undone."""


@pytest.mark.parametrize("members", [{}, {"closID": "new", "schemata": ["L3:0=f"]}, {"enableMonitoring": True}])
def test_record_has_the_inode_before_anything_else(root: Path, members: dict[str, Any]) -> None:
    """What was saved after each mkdir proves what was made until then, before anything is written to it."""
    group = Group(root, **members)
    saved: list[dict[str, int]] = []

    def save() -> None:
        assert len(saved) == 1 or group.written == []
        saved.append(group.record()["inodes"])

    group.make(save)
    made = group.record()["made"]
    assert saved == [{each: Path(each).stat().st_ino for each in made[: index + 1]} for index in range(len(made))]


def test_class_of_somebody_else_after_a_crash(root: Path) -> None:
    """Create died before or at its mkdir, and another made the class: it is not in the record by inode, and stays."""
    group = Group(root, memBwSchema="MB:0=20")
    intent = group.record()
    schemata(root, "c1", "MB:0=20\n")

    def die() -> None:
        raise Crash

    with pytest.raises(Crash):
        group.make(die)
    group.undo()
    assert remove(intent["made"], intent["inodes"], shutil.rmtree) == [f"{root}/c1"]
    assert (root / "c1" / "schemata").read_text() == "MB:0=20\n"


def test_class_that_was_not_saved(root: Path) -> None:
    """Create died between mkdir and the record: nothing proves whose class it is, so it is named and left."""
    group = Group(root, enableMonitoring=True)
    intent = group.record()
    (root / "c1").mkdir()
    assert remove(intent["made"], intent["inodes"], shutil.rmtree) == [f"{root}/c1"]
    assert (root / "c1").is_dir()


def test_class_that_was_replaced(root: Path) -> None:
    """Ours was removed by hand, and another made one of its name: known not to be ours, so it stays without a word."""
    group = Group(root)
    group.make(unsaved)
    (root / "c1").rename(root / "old")  # keeps the inode in use
    fill(root / "c1")
    record = group.record()
    assert remove(record["removed"], record["inodes"], shutil.rmtree) == []
    group.undo()
    assert (root / "c1" / "tasks").exists()


def test_record_that_cannot_be_saved(root: Path) -> None:
    """The class is known to be ours all the same, and undone."""
    group = Group(root)

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        group.make(fail)
    group.undo()
    assert not (root / "c1").exists()


def test_the_kernels_own_words(root: Path) -> None:
    """A refused write names the property, and says what the kernel says about it."""
    group = Group(root, schemata=["L3:0=f"])
    group.make(unsaved)
    (root / "info" / "last_cmd_status").write_text("mask f has non-consecutive 1-bits\n")
    (root / "c1" / "schemata").unlink()
    with pytest.raises(KernelError, match="/linux/intelRdt/schemata/0: write") as caught:
        group.make(unsaved) if not group._makes_class else group._write(f"{root}/c1/schemata", "x", "/linux/intelRdt/schemata/0")
    assert caught.value.hint == "mask f has non-consecutive 1-bits"


@pytest.mark.parametrize("name", ["info", "mon_data", "mon_groups"])
def test_reserved_names(root: Path, name: str) -> None:
    """A container with the name of one of resctrl's own directories needs a closID."""
    with pytest.raises(OcirunError, match="/linux/intelRdt: no class"):
        Group(root, name)


@pytest.mark.parametrize("line", ["L3", "L3:", "L3:0", "L3:x=1", "L3:0=xyz", "MB:0=f", "MB:0=1;;1=2"])
def test_lines_that_are_none(line: str) -> None:
    """What does not say resource, place and value is refused."""
    with pytest.raises(KernelError, match="not a line of schemata"):
        parse_schemata([line])


PLACES = st.dictionaries(st.integers(0, 7), st.integers(1, 2**20 - 1), min_size=1)
WANTED = st.dictionaries(st.sampled_from(["L3", "L2", "L3CODE", "MB"]), PLACES, min_size=1)


def written(wanted: dict[str, dict[int, int]], draw: Any) -> list[str]:
    """Return the same in one of the ways in which people and kernels write it."""
    lines = []
    for name in draw(st.permutations(list(wanted))):
        values = []
        for place in draw(st.permutations(list(wanted[name]))):
            number = f"{wanted[name][place]:{'d' if name == 'MB' else draw(st.sampled_from(['x', 'X', '06x']))}}"
            values.append(f"{place}={draw(st.sampled_from(['', ' ']))}{number}")
        lines.append(f"{draw(st.sampled_from(['', '    ']))}{name}:{';'.join(values)}")
    return lines


@given(WANTED, st.data())
def test_same_schemata_however_written(wanted: dict[str, dict[int, int]], data: st.DataObject) -> None:
    """Order, case, zeros and spaces make no difference."""
    parsed = parse_schemata(written(wanted, data.draw))
    assert parsed == wanted
    assert find_difference(parsed, parse_schemata(written(wanted, data.draw))) is None


@given(WANTED, st.data())
def test_other_schemata(wanted: dict[str, dict[int, int]], data: st.DataObject) -> None:
    """One other value, or one that is missing, is a difference and is named; more than was asked for is none."""
    name = data.draw(st.sampled_from(sorted(wanted)))
    place = data.draw(st.sampled_from(sorted(wanted[name])))
    more = {**wanted, "SMBA": {0: 1}}
    assert find_difference(wanted, more) is None
    other = {key: dict(values) for key, values in wanted.items()}
    other[name][place] ^= 1
    assert str(find_difference(wanted, other)).startswith(f"{name}:{place} is ")
    del other[name][place]
    assert find_difference(wanted, other) == f"{name}:{place} is nothing"


@given(st.integers(1, 100), st.sampled_from([1, 5, 10, 20]))
def test_bandwidth_is_rounded_up(value: int, granularity: int) -> None:
    """What the kernel makes of a bandwidth is the same bandwidth; of a mask it makes nothing else."""
    rounded = -(-value // granularity) * granularity
    assert find_difference({"MB": {0: value}}, {"MB": {0: rounded}}, granularity) is None
    assert find_difference({"MB": {0: value}}, {"MB": {0: rounded + granularity}}, granularity) is not None
    if rounded != value:
        assert find_difference({"L3": {0: value}}, {"L3": {0: rounded}}, granularity) is not None


def write_as_the_kernel(root: str, path: str, text: str, pointer: str) -> None:
    """Take a line of schemata as the kernel does: its resources change, others stay; a mask of nothing is refused."""
    name, _, values = text.partition(":")
    if values.endswith("=0"):
        raise KernelError(EINVAL, "write", path, json_pointer=pointer)
    lines = dict(line.strip().split(":") for line in Path(path).read_text().splitlines())
    assert name in lines
    lines[name] = values.strip()
    Path(path).write_text("".join(f"    {key}:{value}\n" for key, value in lines.items()))


def test_update_changes_a_class_that_create_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines or none; and after a later failure of the update, none."""
    monkeypatch.setattr(rdt, "_write", write_as_the_kernel)
    group = Group(root, l3CacheSchema="L3:0=7f;1=7f")
    group.make(unsaved)
    file = root / "c1/schemata"
    before = file.read_text()
    change = SchemataChange.of(group.record())
    assert change is not None
    change.make(IntelRdt.decode({"l3CacheSchema": "L3:0=1f;1=1f", "memBwSchema": "MB:0=20;1=20"}))
    assert file.read_text() == "    L3:0=1f;1=1f\n    MB:0=20;1=20\n"
    error = KernelError(EINVAL, "write", "memory.max")
    change.undo(error)
    assert parse_schemata(file.read_text().splitlines()) == parse_schemata(before.splitlines())
    assert not hasattr(error, "__notes__")
    with pytest.raises(KernelError) as caught:
        change.make(IntelRdt.decode({"l3CacheSchema": "L3:0=3", "memBwSchema": "MB:0=0"}))
    assert caught.value.json_pointer == "/memBwSchema"
    assert parse_schemata(file.read_text().splitlines()) == parse_schemata(before.splitlines())


def test_update_leaves_the_classes_of_others_alone(root: Path) -> None:
    """One that was joined, the default one, and one that has taken the place of ours."""
    schemata(root, "shared", DEFAULT)
    for members in ({"closID": "shared"}, {"closID": "/"}, {"closID": "shared", "enableMonitoring": True}):
        group = Group(root, **members)
        group.make(unsaved)
        assert SchemataChange.of(group.record()) is None
    group = Group(root, "c2")
    group.make(unsaved)
    record = group.record()
    shutil.rmtree(root / "c2")
    assert SchemataChange.of(record) is None
    schemata(root, "c2", DEFAULT)
    if (root / "c2").stat().st_ino != record["inodes"][str(root / "c2")]:  # the number is not used again at once
        assert SchemataChange.of(record) is None


def test_place() -> None:
    """The mount is found wherever it is, and only by its type."""
    before = "22 1 0:20 / /sys rw - sysfs sysfs rw\n23 22 0:21 / /sys/fs/resctrl rw - tmpfs resctrl rw\n"
    assert find_resctrl(before) == ""
    assert find_resctrl(before + "24 22 0:22 / /mnt/r\\040d rw,relatime shared:5 - resctrl resctrl rw\n") == "/mnt/r d"
