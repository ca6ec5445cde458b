# SPDX-License-Identifier: Apache-2.0
"""linux.netDevices, seen from inside by rtnetlink.  Spec: config-linux.md#network-devices

What the specification calls the runtime's network namespace is one of the test's own, so the devices and their names
are nobody else's.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bundle import Bundle
from support.cgroup import until
from support.command import RuntimeCommand, reap
from support.holder import Holder
from support.native import FaultK

pytestmark = [pytest.mark.root, pytest.mark.ocirun_only("Debian's runc and crun are older than netDevices")]
MkBundle = Callable[..., Bundle]

UNIVERSE, HOST, LINK = 0, 254, 253
PERMANENT, NODAD, NOPREFIXROUTE = 0x80, 0x02, 0x200
IFF_UP = 1


class Network:
    """The runtime's network namespace: `ip` in it, and the command as somebody in it calls it."""

    def __init__(self, holder: Holder, runtime: RuntimeCommand) -> None:
        self.path = holder.ns("net")
        self.runtime = RuntimeCommand("ocirun", (*self._enter(), *runtime.argv), runtime.workdir)
        self.runtime.root = runtime.root

    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", f"--net={self.path}")

    def ip(self, *words: str) -> str:
        """Run ip(8) in the namespace."""
        done = subprocess.run([*self._enter(), "ip", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def veth(self, name: str, *addresses: str, up: bool = True) -> None:
        """Make a device with a peer, p-NAME, and addresses as `ip address add` takes them."""
        self.ip("link", "add", name, "type", "veth", "peer", "name", f"p-{name}")
        self.ip("link", "set", f"p-{name}", "up")
        for address in addresses:
            self.ip("address", "add", *address.split(), "dev", name)
        if up:
            self.ip("link", "set", name, "up")

    def device(self, name: str) -> dict[str, Any] | None:
        """Return what `ip address show` says of a device, None if there is none."""
        shown = json.loads(self.ip("-json", "address", "show"))
        return next((each for each in shown if each["ifname"] == name), None)

    def addresses(self, name: str) -> list[str]:
        """Return the permanent addresses of a device, but the link-local ones of IPv6."""
        device = self.device(name)
        assert device is not None, f"no {name}"
        return [
            f"{each['local']}/{each['prefixlen']}"
            for each in device["addr_info"]
            if not (each["family"] == "inet6" and each["scope"] == "link")
            and each["valid_life_time"] == 0xFFFFFFFF
        ]


@pytest.fixture
def network(runtime: RuntimeCommand, probe: Path) -> Iterator[Network]:
    """A network namespace that the runtime is called in."""
    with Holder(probe, "--net") as holder:
        yield Network(holder, runtime)


def shown(line: dict[str, Any], name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a device and its addresses out of the probe's "network" line."""
    [link] = [each for each in line["links"] if each["name"] == name]
    return link, [each for each in line["addresses"] if each["index"] == link["index"]]


def summary(addresses: list[dict[str, Any]]) -> list[str]:
    """Return "address/prefix" of those with global scope."""
    return [f"{each.get('local', each['address'])}/{each['prefix']}" for each in addresses if each["scope"] == UNIVERSE]


def test_moved_and_up(network: Network, bundle: Bundle) -> None:
    """The device is in the container, under its own name, up, with its MTU and hardware address; the host has it not."""
    network.veth("dev0", "192.0.2.2/24", up=False)
    network.ip("link", "set", "dev0", "mtu", "1400", "address", "02:00:00:00:00:07")
    bundle.linux(netDevices={"dev0": {}}).seq("network")
    line = network.runtime.run(bundle).ok().one("network")
    link, addresses = shown(line, "dev0")
    assert (link["flags"] & IFF_UP, link["mtu"], link["address"]) == (IFF_UP, 1400, "02:00:00:00:00:07")
    assert summary(addresses) == ["192.0.2.2/24"]
    assert network.device("dev0") is None


def test_renamed(network: Network, bundle: Bundle) -> None:
    """`name` is what the device is called inside; the label of an address follows."""
    network.veth("dev0", "192.0.2.2/24 label dev0", "192.0.2.3/24 label dev0:web", "198.51.100.1/24 label other")
    bundle.linux(netDevices={"dev0": {"name": "ctr0"}}).seq("network")
    line = network.runtime.run(bundle).ok().one("network")
    _, addresses = shown(line, "ctr0")
    assert [each["label"] for each in addresses if "label" in each] == ["ctr0", "other", "ctr0:web"]
    assert "dev0" not in [each["name"] for each in line["links"]]


def test_addresses_are_kept(network: Network, bundle: Bundle) -> None:
    """Permanent addresses of global scope stay as they are: prefix, broadcast, peer, metric, flags.  Others do not."""
    network.veth(
        "dev0",
        "192.0.2.2/24 broadcast 192.0.2.255 metric 77",
        "192.0.2.3/24",
        "198.51.100.1 peer 198.51.100.9/32",
        "203.0.113.4/24 valid_lft 3600 preferred_lft 1800",
        "169.254.1.1/16 scope link",
        "10.9.9.9/32 scope host",
        "2001:db8::5/64 nodad",
        "2001:db8:1::6/48 nodad noprefixroute",
        "2001:db8:2::7/64 nodad valid_lft 3600 preferred_lft 1800",
    )
    bundle.linux(netDevices={"dev0": {}}).seq("network")
    _, addresses = shown(network.runtime.run(bundle).ok().one("network"), "dev0")
    by_address = {each.get("local", each["address"]): each for each in addresses if each["scope"] != LINK}
    assert set(by_address) == {"192.0.2.2", "192.0.2.3", "198.51.100.1", "2001:db8::5", "2001:db8:1::6"}
    assert all(each["flags"] & PERMANENT for each in by_address.values())
    assert by_address["192.0.2.2"]["broadcast"] == "192.0.2.255"
    assert by_address["192.0.2.2"]["metric"] == 77
    assert "broadcast" not in by_address["192.0.2.3"]
    assert by_address["198.51.100.1"]["address"] == "198.51.100.9"
    assert by_address["2001:db8::5"]["prefix"] == 64
    assert by_address["2001:db8::5"]["flags"] & NODAD
    assert by_address["2001:db8:1::6"]["prefix"] == 48
    assert by_address["2001:db8:1::6"]["flags"] & NOPREFIXROUTE
    # The only one with the scope of a link is the kernel's own.
    assert not [each for each in addresses if each["address"].startswith("169.254.")]


def test_template(network: Network, bundle: Bundle) -> None:
    """A name that ends in %d gets a number that is free inside; several devices may share one."""
    network.veth("dev0", "192.0.2.2/24")
    network.veth("dev1", "192.0.2.3/24")
    bundle.linux(netDevices={"dev0": {"name": "eth%d"}, "dev1": {"name": "eth%d"}}).seq("network")
    line = network.runtime.run(bundle).ok().one("network")
    assert summary(shown(line, "eth0")[1]) == ["192.0.2.2/24"]
    assert summary(shown(line, "eth1")[1]) == ["192.0.2.3/24"]


def test_names_may_change_places(network: Network, bundle: Bundle) -> None:
    """Two devices get each other's name."""
    network.veth("dev0", "192.0.2.2/24")
    network.veth("dev1", "192.0.2.3/24")
    bundle.linux(netDevices={"dev0": {"name": "dev1"}, "dev1": {"name": "dev0"}}).seq("network")
    line = network.runtime.run(bundle).ok().one("network")
    assert summary(shown(line, "dev1")[1]) == ["192.0.2.2/24"]
    assert summary(shown(line, "dev0")[1]) == ["192.0.2.3/24"]


@pytest.mark.parametrize("kind", ["joined", "user", "joined by a user namespace"])
def test_other_ways_to_a_namespace(network: Network, bundle: Bundle, probe: Path, kind: str) -> None:
    """The namespace may be another process's, and the container may have a user namespace of its own."""
    network.veth("dev0", "192.0.2.2/24", "2001:db8::5/64")
    bundle.linux(netDevices={"dev0": {"name": "ctr0"}}).seq("network")
    if "user" in kind:
        bundle.userns()
    with Holder(probe, "--net") as other:
        if "joined" in kind:
            bundle.namespaces({"type": "network", "path": other.ns("net")})
        line = network.runtime.run(bundle).ok().one("network")
        link, addresses = shown(line, "ctr0")
        assert link["flags"] & IFF_UP
        assert sorted(summary(addresses)) == ["192.0.2.2/24", "2001:db8::5/64"]
        if "joined" in kind:
            # Deleting the container does not take the device out again: its namespace has an owner.
            inside = Network(other, network.runtime)
            assert inside.addresses("ctr0") == ["192.0.2.2/24", "2001:db8::5/64"]
    assert network.device("ctr0") is None
    assert network.device("dev0") is None


def test_devices_are_there_for_hooks_and_sysctls(network: Network, bundle: Bundle, workdir: Path) -> None:
    """createRuntime hooks find the device in the container, and its sysctls can be set."""
    network.veth("dev0", "192.0.2.2/24")
    seen = workdir / "seen"
    script = f"read -r state; pid=${{state##*pid\\\":}}; pid=${{pid%%,*}}; nsenter --net=/proc/$pid/ns/net ip -o -4 address show ctr0 >{seen}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/usr/sbin:/bin:/sbin"]}
    bundle.patch({"hooks": {"createRuntime": [hook]}})
    bundle.linux(netDevices={"dev0": {"name": "ctr0"}}, sysctl={"net.ipv4.conf.ctr0.forwarding": "1"})
    bundle.seq(["read", "/proc/sys/net/ipv4/conf/ctr0/forwarding"])
    reads = network.runtime.run(bundle).ok().reads
    assert reads["/proc/sys/net/ipv4/conf/ctr0/forwarding"].strip() == "1"
    assert "192.0.2.2/24" in seen.read_text()


def broken_mount(bundle: Bundle, _: Path) -> None:
    bundle.mount("/nowhere", "nosuchfs", "none")


def failing_hook(bundle: Bundle, _: Path) -> None:
    bundle.patch({"hooks": {"createRuntime": [{"path": "/bin/false"}]}})


def failing_container_hook(bundle: Bundle, _: Path) -> None:
    bundle.patch({"hooks": {"createContainer": [{"path": "/bin/false"}]}})


def missing_program(bundle: Bundle, _: Path) -> None:
    bundle.process(args=["/nosuch"])


def device_that_is_not_there(bundle: Bundle, _: Path) -> None:
    bundle.linux(netDevices={"nosuch": {}})


def device_that_cannot_move(bundle: Bundle, _: Path) -> None:
    bundle.linux(netDevices={"lo": {"name": "lo2"}})


def name_that_is_taken(bundle: Bundle, _: Path) -> None:
    bundle.linux(netDevices={"dev1": {"name": "lo"}})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken_mount, ["/mounts/3"]),
        (failing_hook, ["/hooks/createRuntime/0"]),
        (failing_container_hook, ["/hooks/createContainer/0"]),
        (missing_program, ["/nosuch"]),
        (device_that_is_not_there, ["/linux/netDevices/nosuch", "no network device"]),
        (device_that_cannot_move, ["/linux/netDevices/lo", "RTM_NEWLINK", "EINVAL"]),
        (name_that_is_taken, ["/linux/netDevices/dev1/name", "a device lo already"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_create_that_fails_returns_the_device(
    network: Network, bundle: Bundle, workdir: Path, spoil: Callable[[Bundle, Path], None], words: list[str]
) -> None:
    """Whatever fails after the move: the device is back under its name, with its addresses, up, below its bridge."""
    network.ip("link", "add", "bridge0", "type", "bridge")
    network.veth("dev0", "192.0.2.2/24", "192.0.2.3/24", "169.254.1.1/16 scope link", "2001:db8::5/64")
    network.veth("dev1", up=False)
    network.ip("link", "set", "dev0", "master", "bridge0")
    before = network.addresses("dev0")
    bundle.linux(netDevices={"dev0": {"name": "ctr%d"}})
    spoil(bundle, workdir)
    bundle.write()
    network.runtime.remember(bundle.id)
    network.runtime.call("create", "--bundle", str(bundle.path), bundle.id).refused(*words)
    device = network.device("dev0")
    assert device is not None
    assert "UP" in device["flags"]
    assert device["master"] == "bridge0"
    assert network.addresses("dev0") == before
    down = network.device("dev1")
    assert down is not None
    assert "UP" not in down["flags"]


def test_joined_namespace_is_left_as_it_was(network: Network, bundle: Bundle, probe: Path) -> None:
    """A name that the joined namespace has already is an error, and nothing of ours stays there."""
    network.veth("dev0", "192.0.2.2/24")
    network.veth("dev1", "192.0.2.3/24")
    with Holder(probe, "--net") as other:
        inside = Network(other, network.runtime)
        inside.veth("taken")
        bundle.namespaces({"type": "network", "path": other.ns("net")})
        bundle.linux(netDevices={"dev0": {}, "dev1": {"name": "taken"}}).write()
        network.runtime.call("create", "--bundle", str(bundle.path), bundle.id).refused(
            "/linux/netDevices/dev1/name", "a device taken already"
        )
        assert [each["ifname"] for each in json.loads(inside.ip("-json", "link"))] == ["lo", "p-taken", "taken"]
    assert network.addresses("dev0") == ["192.0.2.2/24"]
    assert network.addresses("dev1") == ["192.0.2.3/24"]


@pytest.mark.parametrize("path", ["/proc/self/ns/net", "/proc/thread-self/ns/net"])
def test_the_runtimes_own_namespace_is_refused(network: Network, bundle: Bundle, path: str) -> None:
    """Devices cannot move to where they are."""
    network.veth("dev0", "192.0.2.2/24")
    bundle.namespaces({"type": "network", "path": path}).linux(netDevices={"dev0": {"name": "ctr0"}}).write()
    network.runtime.call("create", "--bundle", str(bundle.path), bundle.id).refused("/linux/netDevices", "host")
    assert network.addresses("dev0") == ["192.0.2.2/24"]


def test_alternative_names_are_not_taken(network: Network, bundle: Bundle) -> None:
    """A device is meant by its name: by an alternative one it is not found, and stays."""
    network.veth("dev0", "192.0.2.2/24")
    network.ip("link", "property", "add", "dev", "dev0", "altname", "other")
    bundle.linux(netDevices={"other": {}}).write()
    network.runtime.call("create", "--bundle", str(bundle.path), bundle.id).refused(
        "/linux/netDevices/other", "no network device"
    )
    assert network.addresses("dev0") == ["192.0.2.2/24"]


class Interrupted:
    """A create that was killed while a hook ran: the devices are inside, the record is the intent."""

    def __init__(
        self, network: Network, bundle: Bundle, workdir: Path, kind: str = "createRuntime", *, also_hook: bool = True
    ) -> None:
        mark = workdir / "in-hook"
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $$ >{mark}.new; /bin/mv {mark}.new {mark}; exec /bin/sleep 1000"]}
        bundle.patch({"hooks": {kind: [hook]}}).write()
        runtime = network.runtime
        runtime.remember(bundle.id)
        with subprocess.Popen(
            [*runtime.argv, "--root", str(runtime.root), "create", "--bundle", str(bundle.path), bundle.id],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        ) as create:  # fmt: skip
            try:
                until(lambda: mark.exists() or create.poll() is not None, "the hook runs")
                assert create.poll() is None
            finally:
                create.kill()
        if also_hook:
            os.kill(int(mark.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("verb", [("delete", "--force"), ("gc",)], ids=lambda verb: verb[0])
def test_returned_after_a_crash(
    network: Network, bundle: Bundle, workdir: Path, probe: Path, verb: tuple[str, ...]
) -> None:
    """A create that was killed leaves devices in a namespace that lives on: whoever cleans up brings them back."""
    network.veth("dev0", "192.0.2.2/24", "2001:db8::5/64")
    with Holder(probe, "--net") as other:
        bundle.namespaces({"type": "network", "path": other.ns("net")})
        bundle.linux(netDevices={"dev0": {"name": "ctr%d"}})
        Interrupted(network, bundle, workdir)
        inside = Network(other, network.runtime)
        assert inside.addresses("ctr0") == ["192.0.2.2/24", "2001:db8::5/64"]
        network.runtime.call(*verb, *([bundle.id] if verb[0] == "delete" else [])).ok()
        assert inside.device("ctr0") is None
    device = network.device("dev0")
    assert device is not None
    assert "UP" in device["flags"]
    assert network.addresses("dev0") == ["192.0.2.2/24", "2001:db8::5/64"]


def test_returned_when_the_kernel_pushed_it_back(
    network: Network, bundle: Bundle, workdir: Path, probe: Path
) -> None:
    """Hardware comes back by itself when its namespace ends, renamed and bare; the rest of the way is ours.

    There is no hardware to spare here: the test moves the device as the kernel would.
    """
    network.veth("dev0", "192.0.2.2/24", "2001:db8::5/64")
    with Holder(probe, "--net") as other:
        bundle.namespaces({"type": "network", "path": other.ns("net")})
        bundle.linux(netDevices={"dev0": {"name": "ctr0"}})
        Interrupted(network, bundle, workdir)
        Network(other, network.runtime).ip("link", "set", "ctr0", "netns", network.path.split("/")[2])
        assert network.addresses("ctr0") == []
        network.runtime.call("gc").ok()
    assert network.addresses("dev0") == ["192.0.2.2/24", "2001:db8::5/64"]
    assert network.device("ctr0") is None


def test_stranger_is_left_alone(network: Network, bundle: Bundle, workdir: Path, probe: Path) -> None:
    """What has the name that our device had inside, but is another device, is not touched; the loss is told."""
    network.veth("dev0", "192.0.2.2/24")
    with Holder(probe, "--net") as other:
        bundle.namespaces({"type": "network", "path": other.ns("net")})
        bundle.linux(netDevices={"dev0": {"name": "ctr0"}})
        Interrupted(network, bundle, workdir)
        inside = Network(other, network.runtime)
        inside.ip("link", "del", "ctr0")
        inside.veth("ctr0", "203.0.113.1/24")
        result = network.runtime.call("delete", "--force", bundle.id, orphans=True).ok()
        assert "/linux/netDevices/dev0" in result.stderr
        assert inside.addresses("ctr0") == ["203.0.113.1/24"]
    assert network.device("dev0") is None


@pytest.mark.parametrize("fault", ["killed", "failing"])
def test_every_request_to_the_kernel(
    network: Network, bundle: Bundle, workdir: Path, probe: Path, fault: str
) -> None:
    """Whichever netlink request is the last, or fails: nothing stays away, at once or after delete --force."""
    network.veth("dev0", "192.0.2.2/24", "2001:db8::5/64 nodad")
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"), only="sendto")
    bundle.linux(netDevices={"dev0": {"name": "ctr%d"}}).seq("ready")
    words = ["create", "--bundle", str(bundle.path)]
    wrong = []
    number = total = 0
    with Holder(probe, "--net") as other:
        bundle.namespaces({"type": "network", "path": other.ns("net")}).write()
        inside = Network(other, network.runtime)
        while number <= total:
            bundle.again()
            fault_words = faultk.kill(number, "parent") if fault == "killed" else faultk.fail(number, errno.EIO)
            result = network.runtime.under(*fault_words).call(*words, bundle.id)
            total = len(faultk.calls()) - 1
            if result.rc == 0:
                network.runtime.call("delete", "--force", bundle.id, orphans=True).ok()
                break  # beyond the last request
            total += 1
            if fault == "killed":
                network.runtime.call("delete", "--force", bundle.id, orphans=True).ok()
            else:
                result.refused("/linux/netDevices")
            reap()
            device = network.device("dev0")
            if device is None or "UP" not in device["flags"] or inside.device("ctr0"):
                wrong.append(f"{number}: {device}")
            elif network.addresses("dev0") != ["192.0.2.2/24", "2001:db8::5/64"]:
                wrong.append(f"{number}: {network.addresses('dev0')}")
            number += 1
    assert number > 7
    assert not wrong, "\n".join(wrong)


def test_clean_up_that_is_interrupted_as_well(network: Network, bundle: Bundle, workdir: Path, probe: Path) -> None:
    """Whichever netlink request of `delete --force` is its last: the next one finishes, and no address is lost."""
    network.veth("dev0", "192.0.2.2/24", "2001:db8::5/64 nodad")
    faultk = FaultK(workdir / "calls", bundle.inside("/probe"), only="sendto")
    bundle.linux(netDevices={"dev0": {"name": "ctr%d"}}).seq("ready")
    number = total = 0
    with Holder(probe, "--net") as other:
        bundle.namespaces({"type": "network", "path": other.ns("net")})
        while number <= total:
            bundle.again()
            (workdir / "in-hook").unlink(missing_ok=True)
            Interrupted(network, bundle, workdir)
            network.runtime.under(*faultk.kill(number, "parent")).call("delete", "--force", bundle.id)
            total = len(faultk.calls())
            network.runtime.call("delete", "--force", bundle.id, orphans=True).ok()
            device = network.device("dev0")
            assert device is not None, number
            assert "UP" in device["flags"], number
            assert network.addresses("dev0") == ["192.0.2.2/24", "2001:db8::5/64"], number
            number += 1
    assert number > 5


def test_device_is_fetched_before_its_namespace_ends(network: Network, bundle: Bundle, workdir: Path) -> None:
    """Create was killed, and a createContainer hook keeps init: a virtual device is taken out before they are killed."""
    network.veth("dev0", "192.0.2.2/24")
    bundle.linux(netDevices={"dev0": {"name": "ctr0"}})
    Interrupted(network, bundle, workdir, kind="createContainer", also_hook=False)
    assert network.device("dev0") is None
    result = network.runtime.call("delete", "--force", bundle.id, orphans=True).ok()
    assert result.stderr == ""
    assert network.addresses("dev0") == ["192.0.2.2/24"]


def test_device_of_a_container_whose_init_was_killed(network: Network, bundle: Bundle) -> None:
    """Init dies while create is at work, and its namespace has no process: what was moved there still comes back."""
    network.veth("dev0", "192.0.2.2/24")
    script = r'read state; pid=${state##*\"pid\":}; kill -9 ${pid%%,*}'
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    bundle.patch({"hooks": {"createRuntime": [hook]}}).linux(netDevices={"dev0": {"name": "ctr0"}}).write()
    network.runtime.remember(bundle.id)
    network.runtime.call("create", "--bundle", str(bundle.path), bundle.id).refused("ocirun-init died")
    assert network.addresses("dev0") == ["192.0.2.2/24"]
