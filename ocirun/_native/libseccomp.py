# SPDX-License-Identifier: Apache-2.0
"""libseccomp's tables of system calls, and questions to seccomp(2): the only user of `_libseccomp`.

Nothing is opened on import.  A `Library` closes with its last reference, so a long-lived caller
does not hold on to a libseccomp that the system has replaced.  Nothing is loaded into the caller's
process: the kernel is only asked what it could do.

libseccomp's own compiler of filters is not used, see docs/seccomp.md.
"""

from __future__ import annotations

import errno
import os

from ocirun._native import _libseccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SONAME = "libseccomp.so.2"

# __NR_SCMP_ERROR: no such name.  Other negative numbers are calls that the architecture lacks.
UNKNOWN = -1

# linux/seccomp.h
_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
FLAG_LOG = 1 << 1
FLAG_SPEC_ALLOW = 1 << 2
FLAG_NEW_LISTENER = 1 << 3
FLAG_WAIT_KILLABLE_RECV = 1 << 5


def _open() -> tuple[Any, Any, Any]:
    """Return cffi's interface, libseccomp and the C library."""
    ffi = _libseccomp.ffi
    return ffi, ffi.dlopen(SONAME), ffi.dlopen(None)


class Library:
    """libseccomp, opened.

    `path` is where the dynamic linker found it ("" if it does not say), `version` is "2.5.4",
    `native` the token of the architecture that the library was built for.

    Errors: OSError if there is no libseccomp.
    """

    __slots__ = ("_ffi", "_lib", "_libc", "native", "path", "version")

    def __init__(self) -> None:
        self._ffi, self._lib, self._libc = _open()
        version = self._lib.seccomp_version()
        self.version = f"{version.major}.{version.minor}.{version.micro}"
        self.native = int(self._lib.seccomp_arch_native())
        self.path = self._find_path()

    def _find_path(self) -> str:
        info = self._ffi.new("Dl_info *")
        try:
            found = self._libc.dladdr(self._ffi.addressof(self._lib, "seccomp_version"), info)
        except (AttributeError, self._ffi.error):  # a C library without dladdr
            return ""
        return os.fsdecode(self._ffi.string(info.dli_fname)) if found else ""

    def architecture(self, name: str) -> int:
        """Return an architecture's token by libseccomp's name ("x86_64"), 0 if it has none.

        The token is the kernel's AUDIT_ARCH value, except for x32, which to the kernel is x86_64.
        """
        return int(self._lib.seccomp_arch_resolve_name(name.encode()))

    def number(self, token: int, name: str) -> int:
        """Return a call's number: `UNKNOWN` if no architecture has it, negative if this one lacks it.

        Calls that can be made through socketcall(2) or ipc(2) are negative as well, -100 or -200
        less the sub-call, even if they also have a number of their own.
        """
        # The test is for NUL and surrogates, which would not arrive as written.
        if not (name.isascii() and name.isidentifier()):
            return UNKNOWN
        return int(self._lib.seccomp_syscall_resolve_name_arch(token, name.encode()))

    def entry_number(self, token: int, name: str) -> int:
        """Return the number by which *name* enters the kernel: socketcall(2)'s for connect(2)."""
        return int(self._lib.seccomp_syscall_resolve_name_rewrite(token, name.encode()))

    def name(self, token: int, number: int) -> str | None:
        """Return the name of a number."""
        found = self._lib.seccomp_syscall_resolve_num_arch(token, number)
        if not found:
            return None
        try:
            return str(self._ffi.string(found).decode())
        finally:
            self._libc.free(found)

    def kernel_has_flag(self, flag: int) -> bool:
        """Ask the kernel for a filter flag.  Errors: OSError if it has no seccomp(2).

        With a null program the call cannot succeed; a known flag gets as far as reading it, EFAULT.
        If the question is forbidden (by a filter around us), the answer is left to the real call.
        """
        return self._ask(_SET_MODE_FILTER, flag, self._ffi.NULL) != errno.EINVAL

    def kernel_has_action(self, action: int) -> bool:
        """Ask the kernel for an action (without its data).  Errors: as `kernel_has_flag`."""
        return self._ask(_GET_ACTION_AVAIL, 0, self._ffi.new("uint32_t *", action)) not in {
            errno.EOPNOTSUPP,
            errno.EINVAL,
        }

    def _ask(self, operation: int, flags: int, pointer: Any) -> int:
        """Return the error number of seccomp(2), 0 for success.  Errors: ENOSYS as OSError."""
        cast = self._ffi.cast
        result = self._libc.syscall(
            self.number(self.native, "seccomp"),
            cast("unsigned long", operation),
            cast("unsigned long", flags),
            cast("void *", pointer),
        )
        code = int(self._ffi.errno) if result < 0 else 0
        if code == errno.ENOSYS:
            raise OSError(code, os.strerror(code))
        return code
