# SPDX-License-Identifier: Apache-2.0
# Generated when the package is built (build_libseccomp.py).
from typing import Any

ffi: Any
