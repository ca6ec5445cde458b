# SPDX-License-Identifier: Apache-2.0
"""Container.update, in somebody else's process."""

from __future__ import annotations

import threading

import pytest
from support.bundle import Bundle, unique
from support.cgroup import words

from ocirun import Runtime
from ocirun.cgroups.resources import weight_of_shares
from ocirun.errors import CgroupError, ContainerNotRunning, InvalidConfig, UnsupportedFeature

pytestmark = pytest.mark.root


def pids(pid: int) -> str:
    return words(pid, "pids", "pids.max", "pids.max")[0]


def test_document_and_bytes(library: Runtime, bundle: Bundle) -> None:
    """As a caller has it: decoded, or as it came."""
    with library.create(unique(), str(bundle.write().path)) as container:
        container.update({"pids": {"limit": 12}})
        assert pids(container.pid) == "12"
        container.update(b'{"pids": {"limit": 13}}')
        assert pids(container.pid) == "13"
        library.load(container.id).update({})
        assert pids(container.pid) == "13"


def test_errors_are_typed_and_located(library: Runtime, bundle: Bundle) -> None:
    """Each with the place in the document, the fields of errors, and the status."""
    with library.create(unique(), str(bundle.linux(resources={"pids": {"limit": 9}}).write().path)) as container:
        with pytest.raises(InvalidConfig) as wrong:
            container.update({"pids": {"limit": "5"}, "cpu": {"shares": -1}})
        assert {problem.pointer for problem in wrong.value.problems} == {"/pids/limit", "/cpu/shares"}
        with pytest.raises(CgroupError) as refused:
            container.update({"pids": {"limit": 5}, "cpu": {"cpus": "777"}})
        assert (refused.value.json_pointer, refused.value.op) == ("/cpu/cpus", "write")
        assert str(refused.value).endswith("the limits are as before")
        with pytest.raises(UnsupportedFeature) as unsupported:
            container.update({"pids": {"limit": 5}}, mem_bw_schema="MB:0=10")
        assert unsupported.value.json_pointer == "/memBwSchema"
        assert pids(container.pid) == "9"
        container.kill(9)
        container.wait()
        with pytest.raises(ContainerNotRunning):
            container.update({"pids": {"limit": 5}})


def test_updates_at_the_same_time(library: Runtime, bundle: Bundle) -> None:
    """One after the other: each is whole, whoever is last."""
    with library.create(unique(), str(bundle.write().path)) as container:
        errors: list[BaseException] = []

        def change(number: int) -> None:
            try:
                for _ in range(5):
                    container.update({"pids": {"limit": number}, "cpu": {"shares": 1024 + number}})
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=change, args=(number,)) for number in (100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        [shares] = words(container.pid, "cpu", "cpu.shares", "cpu.weight")
        limit = int(pids(container.pid))
        assert limit in (100, 200, 300)
        assert int(shares) in (1024 + limit, weight_of_shares(1024 + limit))
