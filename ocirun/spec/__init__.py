# SPDX-License-Identifier: Apache-2.0
"""The runtime specification's documents: their model, their schemas and their rules."""
