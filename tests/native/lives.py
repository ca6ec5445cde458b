# SPDX-License-Identifier: Apache-2.0
"""lives.py STATE_ROOT BUNDLE...: one container of each bundle through the library; prints {bundle: exit code} as JSON."""

from __future__ import annotations

import json
import os
import sys

import ocirun
from ocirun import OcirunError, Runtime


def main() -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    ends: dict[str, object] = {"package": os.path.dirname(ocirun.__file__)}
    with Runtime(sys.argv[1]) as runtime:
        for number, bundle in enumerate(sys.argv[2:]):
            try:
                with runtime.create(f"life{os.getpid()}-{number}", bundle, stdin=null, stdout=null, stderr=null) as life:
                    try:
                        life.start()
                        ends[bundle] = life.wait(60)
                    finally:
                        life.delete(force=True)
            except OcirunError as error:
                ends[bundle] = f"{error.code}: {error}"
    print(json.dumps(ends))


main()
