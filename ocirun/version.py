# SPDX-License-Identifier: Apache-2.0
"""The version, written once: setup.py, the command and the library read it here."""

VERSION = "0.1.0"
SPEC_VERSION = "1.3.0"
