# SPDX-License-Identifier: Apache-2.0
"""The plan: what ocirun-init will do, as data.

Pure Python: nothing here needs root or changes anything.  `build` makes a plan from a Config and facts about the
host, `encode` turns it into bytes, `explain` into text.
"""
