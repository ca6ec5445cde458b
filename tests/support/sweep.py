# SPDX-License-Identifier: Apache-2.0
"""What repeats itself for each of many points tries some of them, spread over all.

OCIRUN_SWEEP sets how many at least (10), or "all"; OCIRUN_SWEEP_OFFSET where the spread begins: a number that differs from
commit to commit, as `.ci/run` takes it, has each point tried in the end, and a run that failed can be repeated.
"""

from __future__ import annotations

import os


def spread(total: int) -> range:
    """Return the points of 0 … total - 1 to try."""
    count = os.environ.get("OCIRUN_SWEEP", "10")
    step = 1 if count == "all" else max(1, total // int(count))
    return range(int(os.environ.get("OCIRUN_SWEEP_OFFSET", os.getpid())) % step, total, step)
