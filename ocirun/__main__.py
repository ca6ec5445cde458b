# SPDX-License-Identifier: Apache-2.0
"""python -m ocirun"""

from __future__ import annotations

import sys

from ocirun.cli import main

sys.exit(main(sys.argv[1:]))
