# SPDX-License-Identifier: Apache-2.0
"""What the kernel and command-line tests share: bundles, the runtime's command line, and oracles.

tests/conftest.py turns these classes into fixtures.
"""
