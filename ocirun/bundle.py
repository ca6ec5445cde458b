# SPDX-License-Identifier: Apache-2.0
"""A bundle: a directory with config.json and, where `root.path` says, the root filesystem.

Spec: bundle.md
"""

from __future__ import annotations

import os
import stat

from ocirun.errors import BundleError
from ocirun.strict_json import MAX_BYTES


def check_path(bundle: str) -> None:
    """Refuse a bundle whose path no state document, which is JSON, could hold.  Errors: BundleError."""
    try:
        bundle.encode()
    except UnicodeEncodeError:
        raise BundleError(f"the bundle's path is not UTF-8: {bundle!a}") from None


def read_config(bundle: str, config_path: str | None = None) -> bytes:
    """Return the bytes of config.json, read once through one descriptor (V-17).

    `config_path` is a file beside or outside the bundle instead (crun's --config), relative to the bundle.
    Errors: BundleError.
    """
    try:
        return read_document(os.path.join(bundle, config_path or "config.json"))
    except BundleError as error:
        error.hint = "--bundle names the directory with config.json"
        raise


def read_document(path: str) -> bytes:
    """Return the bytes of a file that somebody hands over, read once through one descriptor.  Errors: BundleError."""
    try:
        # A FIFO must not hang us, a device must not be read for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        what = os.strerror(error.errno or 0).lower()
        raise BundleError(f"{path}: {what}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BundleError(f"{path}: not a regular file")
        parts = []
        size = 0
        while size <= MAX_BYTES and (part := os.read(fd, 1 << 20)):
            parts.append(part)
            size += len(part)
        return b"".join(parts)
    finally:
        os.close(fd)
