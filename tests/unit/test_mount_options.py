# SPDX-License-Identifier: Apache-2.0
"""Laws of the table of mount options: whatever the order and number of options, the kernel ends up where one by one
would have led."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ocirun.spec.mount_options import (
    ATIME_MASK,
    ATTRIBUTES,
    BIND,
    IDMAP,
    NO_EFFECT,
    PROPAGATION,
    RECURSIVE_ATTRIBUTES,
    SUPERBLOCK,
    MountOptions,
    all_options,
    parse_options,
)

ALL_BITS = 0x200000 | 0xFF
OPTIONS = st.lists(st.sampled_from(all_options()), max_size=12)
# What no table knows: data of a file system, with nothing in it that splits.
DATA = st.text(st.characters(codec="ascii", exclude_categories=("Cc",), exclude_characters=',"\\'), min_size=1).filter(
    lambda text: text not in all_options() and text.partition("=")[0] not in ("idmap", "ridmap")
)
ATIMES = st.sampled_from((0x00, 0x10, 0x20))


def fields(options: MountOptions) -> dict[str, object]:
    """Return everything that was parsed."""
    return {name: getattr(options, name) for name in MountOptions.__slots__}


def one_by_one(start: int, options: list[str], table: dict[str, tuple[int, int]]) -> int:
    """Apply options to attributes one after another, as so many mount_setattr(2) calls would."""
    for option in options:
        if option in table:
            set_bits, clear_bits = table[option]
            start = start & ~clear_bits | set_bits
    return start


@given(OPTIONS, st.integers(0, 0xF), ATIMES)
def test_all_at_once_is_one_by_one(options: list[str], flags: int, atime: int) -> None:
    """From any attributes, what is cleared and then set gives what the options say in their order.

    What recursive options are about is theirs at the top of the tree too.
    """
    parsed = parse_options(options)
    start = flags | atime
    theirs = parsed.recursive_set | parsed.recursive_clear
    assert (parsed.set_attributes | parsed.clear_attributes) & theirs == 0
    wanted = one_by_one(start, options, ATTRIBUTES)
    assert (start & ~parsed.clear_attributes | parsed.set_attributes) & ~theirs == wanted & ~theirs
    wanted = one_by_one(start, options, RECURSIVE_ATTRIBUTES)
    assert start & ~parsed.recursive_clear | parsed.recursive_set == wanted


@given(OPTIONS)
def test_the_kernel_accepts_the_masks(options: list[str]) -> None:
    """mount_setattr(2): a value of the atime field only with the whole field cleared, nothing both set and cleared."""
    parsed = parse_options(options)
    for set_bits, clear_bits in (
        (parsed.set_attributes, parsed.clear_attributes),
        (parsed.recursive_set, parsed.recursive_clear),
    ):
        assert set_bits & clear_bits & ~ATIME_MASK == 0
        assert (set_bits | clear_bits) & ~ALL_BITS == 0
        assert clear_bits & ATIME_MASK in (0, ATIME_MASK)
        assert set_bits & ATIME_MASK in (0x00, 0x10, 0x20)
        assert not set_bits & ATIME_MASK or clear_bits & ATIME_MASK == ATIME_MASK


@given(OPTIONS)
def test_once_more_changes_nothing(options: list[str]) -> None:
    """An option that is repeated says nothing new, but for propagation, whose order counts."""
    once, twice = fields(parse_options(options)), fields(parse_options(options + options))
    propagation = once.pop("propagation")
    assert twice.pop("propagation") == propagation * 2  # type: ignore[operator]
    assert once == twice


@given(OPTIONS, st.sampled_from(sorted(NO_EFFECT)), st.integers(0, 12))
def test_no_effect(options: list[str], option: str, at: int) -> None:
    """An option without effect has none, wherever it stands."""
    assert fields(parse_options([*options[:at], option, *options[at:]])) == fields(parse_options(options))


@given(OPTIONS, OPTIONS, st.sampled_from(sorted(ATTRIBUTES)), st.sampled_from(sorted(RECURSIVE_ATTRIBUTES)))
def test_fields_do_not_touch_each_other(before: list[str], after: list[str], plain: str, recursive: str) -> None:
    """A plain and a recursive option may change places."""
    one, other = [*before, plain, recursive, *after], [*before, recursive, plain, *after]
    assert fields(parse_options(one)) == fields(parse_options(other))


@given(OPTIONS)
def test_every_option_is_understood(options: list[str]) -> None:
    """What `features` lists is never passed to the file system as data."""
    assert parse_options(options).data == []


@given(st.lists(DATA, max_size=5))
def test_unknown_options_are_data(options: list[str]) -> None:
    """config.md#mounts: an unknown option is passed on, whole and in order, and acts on nothing else."""
    parsed = fields(parse_options(options))
    assert parsed.pop("data") == options
    nothing = fields(parse_options([]))
    del nothing["data"]
    assert parsed == nothing


@given(st.lists(DATA, max_size=5), st.booleans())
def test_commas_split(options: list[str], trailing: bool) -> None:
    """Several data options in one text are as many options; empty ones are none."""
    joined = ",".join(options) + "," * trailing
    assert parse_options([joined] if joined else []).data == options


def test_commas_that_do_not_split() -> None:
    """A comma in quotes or behind a backslash belongs to a value (overlay's lowerdir, SELinux contexts)."""
    for option in ('context="a:b:c1,c2"', "lowerdir=/a\\,b:/c", 'context="a,b",size=1'):
        parts = parse_options([option]).data
        assert ",".join(parts) == option
    assert parse_options(["lowerdir=/a\\\\,size=1"]).data == ["lowerdir=/a\\\\", "size=1"]


def test_the_recursive_table_is_the_plain_one() -> None:
    """Each attribute has a recursive form, with an r before it."""
    assert {name.removeprefix("r") if name[1:] in ATTRIBUTES else name for name in RECURSIVE_ATTRIBUTES} == set(ATTRIBUTES)
    assert all(RECURSIVE_ATTRIBUTES["r" + name] == bits for name, bits in ATTRIBUTES.items())


def test_no_name_has_two_meanings() -> None:
    """The tables are disjoint."""
    tables = [ATTRIBUTES, RECURSIVE_ATTRIBUTES, PROPAGATION, SUPERBLOCK, NO_EFFECT, BIND, IDMAP]
    names = ["remount", "tmpcopyup", *(name for table in tables for name in table)]
    assert len(names) == len(set(names))
    assert sorted(names) == all_options()


def test_opposites_cancel() -> None:
    """Of two opposite options the later one counts: as if the earlier had not been there."""
    for option, (set_bits, clear_bits) in ATTRIBUTES.items():
        for other, (other_set, other_clear) in ATTRIBUTES.items():
            if (set_bits | clear_bits) & (other_set | other_clear):
                assert fields(parse_options([option, other])) == fields(parse_options([other]))
    for option, (bit, _) in SUPERBLOCK.items():
        for other, (other_bit, is_set) in SUPERBLOCK.items():
            if bit == other_bit:
                parsed = parse_options([option, other])
                assert (parsed.superblock, parsed.superblock_clear) == ((bit, 0) if is_set else (0, bit))


def test_bind() -> None:
    """rbind is recursive, whatever else is said."""
    assert [parse_options(["bind"]).bind, parse_options(["bind"]).recursive] == [True, False]
    assert parse_options(["rbind", "bind"]).recursive
    assert parse_options(["remount", "bind"]).remount
    assert parse_options(["idmap=uids=0-1-1"]).idmap == "idmap=uids=0-1-1"
