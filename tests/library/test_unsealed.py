# SPDX-License-Identifier: Apache-2.0
"""V-01 where memfds are refused: a file of ocirun-init is started once, and never again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.bundle import Bundle, unique
from support.native import compat

from ocirun import Runtime

pytestmark = pytest.mark.root

PROGRAM = """
import json, os, sys
from ocirun import Runtime

root, bundle, *names = sys.argv[1:]
runtime = Runtime(root)
started, kept, programs = [], [], []
open_init = runtime.open_init

def noted():
    fd = open_init()
    kept.append(os.dup(fd))  # no inode is used again meanwhile
    started.append(os.fstat(fd).st_ino)
    return fd

runtime.open_init = noted
containers = [runtime.create(name, bundle) for name in names]
for container in containers:
    programs.append(os.stat(f"/proc/{container.pid}/exe").st_ino)
for container in containers:
    container.delete(force=True)
print(json.dumps({"started": started, "programs": programs}))
"""


@pytest.mark.parametrize("error", [None, "ENOSYS", "EPERM"])
def test_each_start_has_a_file_of_its_own(library: Runtime, bundle: Bundle, workdir: Path, error: str | None) -> None:
    """CVE-2019-5736: neither a second container nor a hook runs from a file that a container could have reached."""
    hook = {"path": "/bin/true"}
    bundle.patch({"hooks": {"createRuntime": [hook, hook], "poststop": [hook]}}).write()
    wrapper = () if error is None else compat("memfd_create", error)
    names = [unique(), unique()]
    done = subprocess.run(
        [*wrapper, sys.executable, "-P", "-c", PROGRAM, library.store.root, str(bundle.path), *names],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert len(found["started"]) == 2 * (1 + 2 + 1)
    assert set(found["programs"]) <= set(found["started"])
    # One sealed memfd serves all; a file serves once.
    assert len(set(found["started"])) == (1 if error is None else len(found["started"]))
    assert len(set(found["programs"])) == (1 if error is None else 2)
