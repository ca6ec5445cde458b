# SPDX-License-Identifier: Apache-2.0
"""Real containers, made through the command line and looked at from inside by the probe."""
