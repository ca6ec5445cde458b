# SPDX-License-Identifier: Apache-2.0
"""How a network device is recognised after a crash, and what its addresses are called."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from errno import EAGAIN, ENODEV, ETIMEDOUT
from pathlib import Path
from sys import byteorder
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirun.errors import KernelError
from ocirun.netdev import NetDevices, _settle_if_here, is_name_of, is_same_device, relabel
from ocirun.netlink import RouteSocket


class FakeLink:
    """A Link that no kernel has told of."""

    def __init__(self, name: str, **members: Any) -> None:
        self.name = name
        self.kind = "veth"
        self.parent = ""
        self.permanent_address = ""
        self.address = "02:00:00:00:00:01"
        vars(self).update(members)


def record(**members: Any) -> dict[str, Any]:
    """Return what the intent has of a device."""
    return {
        "name": "dev0",
        "wanted": "ctr%d",
        "temporary": "oci0123456789ab",
        "kind": "veth",
        "parent": "",
        "permanentAddress": "",
        "address": "02:00:00:00:00:01",
        "index": 3,
        "insideIndex": 0,
        "away": True,
        "master": 0,
        "up": True,
        "addresses": [],
        **members,
    }


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("eth0", "eth0", True),
        ("eth1", "eth0", False),
        ("eth0", "eth%d", True),
        ("eth17", "eth%d", True),
        ("eth", "eth%d", False),
        ("eth0x", "eth%d", False),
        ("ethx", "eth%d", False),
        ("eth%d", "eth%d", False),
        ("7", "%d", True),
        ("wan3a", "wan%da", True),
        ("wana", "wan%da", False),
        ("aa", "a%da", False),
        ("a", "a%da", False),
    ],
)
def test_names_of_a_template(name: str, wanted: str, expected: bool) -> None:
    """A template stands for the same text with a number in it, a plain name for itself."""
    assert is_name_of(name, wanted) is expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (FakeLink("dev0"), True),
        (FakeLink("ctr3"), True),
        (FakeLink("oci0123456789ab", address="02:00:00:00:00:09"), True),
        (FakeLink("other0"), False),
        (FakeLink("dev0", kind="bridge"), False),
        (FakeLink("dev0", address="02:00:00:00:00:02"), False),
        (FakeLink("dev0", parent="pci/0000:00:02.0"), False),
        (FakeLink("dev0", permanent_address="02:00:00:00:00:01"), False),
    ],
    ids=lambda value: str(getattr(value, "__dict__", value)),
)
def test_virtual_devices(link: Any, expected: bool) -> None:
    """Kind, address and a name of ours together; the name that is random says it alone."""
    assert is_same_device(record(), link) is expected


def test_hardware_is_known_by_its_place() -> None:
    """Its address may have been changed inside, its place on the bus not."""
    device = record(kind="", parent="pci/0000:00:02.0", permanentAddress="02:00:00:00:00:01")
    same = {"kind": "", "parent": "pci/0000:00:02.0", "permanent_address": "02:00:00:00:00:01"}
    assert is_same_device(device, FakeLink("ctr0", **same, address="06:00:00:00:00:77"))
    assert not is_same_device(device, FakeLink("ctr0", **{**same, "parent": "pci/0000:00:03.0"}))
    assert not is_same_device(device, FakeLink("dev7", **same))


@given(st.text("abc:0", min_size=1, max_size=15), st.text("abc", min_size=1, max_size=5), st.text("xyz", min_size=1))
def test_labels(label: str, old: str, new: str) -> None:
    """Only a label that is made of the device's name changes; the kernel has room for 15 bytes."""
    address = {"label": label, "address": "192.0.2.1"}
    changed = relabel(address, old, new[:15])
    assert changed["address"] == "192.0.2.1"
    assert address["label"] == label
    if label.split(":", maxsplit=1)[0] == old:
        assert changed["label"] == (new[:15] + label[len(old) :])[:15]
    else:
        assert changed["label"] == label
    assert relabel({"address": "::1"}, old, new) == {"address": "::1"}


class FakeSocket:
    """A socket that answers each request with the next of the given datagrams, all of them with its number."""

    def __init__(self, *answers: Callable[[int], bytes]) -> None:
        self.answers = list(answers)
        self.sequence = 0

    def settimeout(self, _seconds: float) -> None:
        pass

    def sendto(self, data: bytes, _address: tuple[int, int]) -> None:
        self.sequence = int.from_bytes(data[8:12], byteorder)

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[int, int]]:
        if not self.answers:
            raise TimeoutError
        return self.answers.pop(0)(self.sequence), (0, 0)


def message(kind: int, flags: int = 0, older: int = 0) -> Callable[[int], bytes]:
    """Return what makes an answer to a request, or to one before it."""
    return lambda sequence: struct.pack("=IHHIIi", 20, kind, flags, sequence - older, 0, 0)


def route_socket(*answers: Callable[[int], bytes]) -> RouteSocket:
    """Return a RouteSocket that the kernel has no part in."""
    made = RouteSocket()
    made.close()
    made._socket = FakeSocket(*answers)  # type: ignore[assignment]
    return made


def test_list_that_changes_all_the_time() -> None:
    """A list that could never be read whole is no list: a device or an address might be missing."""
    done, interrupted = 3, 0x10
    with pytest.raises(KernelError) as failure:
        route_socket(*[message(done, interrupted)] * 5).links()
    assert failure.value.errno == EAGAIN
    assert route_socket(*[message(done, interrupted)] * 4, message(done)).links() == []


def test_late_answer() -> None:
    """What answers an earlier request, which was given up, is no answer to this one."""
    error = 2
    with pytest.raises(KernelError) as failure:
        route_socket(message(error, older=1)).find("dev0")
    assert failure.value.errno == ETIMEDOUT


def test_deadline_is_for_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that are no answer do not put off the deadline."""
    now = iter(range(1000))
    monkeypatch.setattr("ocirun.netlink.time", SimpleNamespace(monotonic=lambda: float(next(now))))
    with pytest.raises(KernelError) as failure:
        route_socket(*[message(3, older=1)] * 100).links()
    assert failure.value.errno == ETIMEDOUT
    assert next(now) < 20


def test_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    """What cannot become a RouteSocket leaves no copy of itself."""
    with (tmp_path / "file").open("w") as file:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match=r"non-socket"):
            RouteSocket(file.fileno())
        assert os.listdir("/proc/self/fd") == before


class Host:
    """The host's network namespace with one device; fails at the N-th change."""

    def __init__(self, name: str, fail_at: int) -> None:
        self.link: Any = FakeLink(name, index=3, is_up=False, master=0)
        self.has: list[dict[str, Any]] = []
        self.left = fail_at

    def links(self) -> list[Any]:
        return [self.link]

    def addresses(self, _index: int) -> list[dict[str, Any]]:
        return self.has

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KernelError(EAGAIN, "killed")

    def change(self, _index: int, *, name: str | None = None, master: int | None = None, up: bool = False) -> None:
        self._step()
        self.link.name = name or self.link.name
        self.link.master = master or self.link.master
        self.link.is_up = self.link.is_up or up

    def add_address(self, _index: int, address: dict[str, Any]) -> None:
        self._step()
        assert address not in self.has
        self.has.append(address)


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("up", [True, False])
def test_interrupted_settlement_is_taken_up_again(step: int, up: bool) -> None:
    """Whoever brings a device home may be killed at any step of it: the next one does the rest."""
    addresses = [{"address": f"192.0.2.{n}", "prefixLength": 24} for n in (2, 3)]
    host = Host("oci0123456789ab", step)
    device = record(master=9, up=up, addresses=addresses)
    try:
        _settle_if_here(cast("RouteSocket", host), device)
    except KernelError:
        assert _settle_if_here(cast("RouteSocket", host), device)
    assert (host.link.name, host.link.master, host.link.is_up, host.has) == ("dev0", 9, up, addresses)


def test_device_that_never_left_is_not_touched() -> None:
    """Create died before it moved anything: what was done to the device since is not undone."""
    host = Host("dev0", 1)
    assert _settle_if_here(cast("RouteSocket", host), record(away=False, addresses=[{"address": "::1", "prefixLength": 128}]))
    assert host.has == []


class FakeNamespace:
    """A network namespace from which the device goes away as soon as it has arrived."""

    def change(self, *_: Any, **__: Any) -> None:
        pass

    def find(self, name: str) -> FakeLink:
        return FakeLink(name, index=7)

    def links(self) -> list[FakeLink]:
        return []


def test_device_that_is_taken_away_meanwhile() -> None:
    """Whoever is in a namespace that is joined may remove the device: an error like others, which is rolled back."""
    devices = NetDevices.__new__(NetDevices)
    vars(devices).update(_host=FakeNamespace(), _moved=[])
    with pytest.raises(KernelError) as failure:
        devices._move(record(), cast("RouteSocket", FakeNamespace()), -1)
    assert failure.value.errno == ENODEV
