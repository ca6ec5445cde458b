# SPDX-License-Identifier: Apache-2.0
"""The parent's half of the conversation with ocirun-init: docs/init-protocol.md."""
