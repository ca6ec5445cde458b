# SPDX-License-Identifier: Apache-2.0
"""config-linux.md: network devices that move into the container."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from typing import Any

from conformance.harness.case import case
from conformance.harness.context import Context
from conformance.harness.runtime import Container

_numbers = itertools.count(1)


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    """Run ip(8)."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


def device(c: Context) -> str:
    """Make a network device on the host; return its name."""
    c.need(shutil.which("ip"), "no ip(8)")
    name = f"cf{os.getpid() % 100000}x{next(_numbers)}"
    made = any(ip("link", "add", name, "type", kind).returncode == 0 for kind in ("dummy", "veth"))
    c.need(made, "no network device of type dummy or veth can be made")
    c.at_the_end(lambda: ip("link", "del", name))
    return name


def inside(c: Context, container: Container) -> dict[str, dict[str, Any]]:
    """Return the interfaces of the container's network namespace, by name."""
    words = ["nsenter", f"--net=/proc/{container.pid}/ns/net", "ip", "-json", "addr"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {entry["ifname"]: entry for entry in json.loads(done.stdout) if entry}


def one(c: Context, container: Container, name: str) -> dict[str, Any]:
    """Return one interface of the container's, which must be there."""
    seen = inside(c, container)
    c.true(f"{name} is in the container", name in seen, sorted(seen))
    return seen[name]


@case("net-devices-available", "net-devices-name")
def net_device_moves(c: Context) -> None:
    """The device is in the container under its name, and not on the host any more."""
    name = device(c)
    container = c.linux(netDevices={name: {}}).create()
    c.true("it is in the container", name in inside(c, container), sorted(inside(c, container)))
    c.equal("it is on the host", ip("link", "show", name).returncode == 0, False)


@case("net-devices-name")
def net_device_is_renamed(c: Context) -> None:
    """The device has its new name in the container."""
    name = device(c)
    container = c.linux(netDevices={name: {"name": "inner0"}}).create()
    seen = inside(c, container)
    c.true("it has the new name", "inner0" in seen and name not in seen, sorted(seen))


@case("net-devices-conflict")
def net_device_name_is_taken(c: Context) -> None:
    """A name that is there already is an error, and the device stays on the host."""
    name = device(c)
    c.linux(netDevices={name: {"name": "lo"}})
    c.refused(why="a name that is taken")
    c.equal("it is on the host", ip("link", "show", name).returncode, 0)


@case("net-devices-template")
def net_device_template(c: Context) -> None:
    """A name with %d gets a number from the kernel."""
    name = device(c)
    container = c.linux(netDevices={name: {"name": "inner%d"}}).create()
    seen = inside(c, container)
    c.true("it has a number", "inner0" in seen, sorted(seen))


@case("net-devices-addresses", each={"ipv4": "192.0.2.7/24", "ipv6": "2001:db8::7/64"})
def net_device_addresses(c: Context, address: str) -> None:
    """A global address is kept."""
    name = device(c)
    options = ["nodad"] if ":" in address else []
    c.need(ip("addr", "add", address, "dev", name, *options).returncode == 0, "no such address can be set")
    container = c.linux(netDevices={name: {}}).create()
    seen = [f"{entry['local']}/{entry['prefixlen']}" for entry in one(c, container, name)["addr_info"]]
    c.true("the address is there", address in seen, seen)


@case("net-devices-up")
def net_device_is_up(c: Context) -> None:
    """The device is up in the container."""
    name = device(c)
    container = c.linux(netDevices={name: {}}).create()
    flags = one(c, container, name)["flags"]
    c.true("it is up", "UP" in flags, flags)


@case("net-devices-available", "create-cannot-apply")
def net_device_missing(c: Context) -> None:
    """A device that is not there is an error."""
    c.linux(netDevices={"nosuchdevice0": {}})
    c.refused(why="a device that is not there")


@case("net-devices-not-moved-back")
def net_device_goes_with_the_namespace(c: Context) -> None:
    """delete does not bring a virtual device back to the host."""
    name = device(c)
    container = c.linux(netDevices={name: {}}).create()
    container.kill("KILL")
    container.wait()
    container.wait_status("stopped")
    c.ok("delete", container.delete())
    c.equal("it is on the host", ip("link", "show", name).returncode == 0, False)
