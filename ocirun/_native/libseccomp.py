# SPDX-License-Identifier: Apache-2.0
"""libseccomp and seccomp(2), typed: the only importer of the generated `_libseccomp`.

Nothing is opened on import.  A `Library` closes with its last reference, so a long-lived caller
never holds on to a libseccomp that the system has replaced.  Failures are `OSError` with
libseccomp's error number; `plan` puts them into words.  seccomp(2) is only ever asked questions
here: nothing is loaded into the caller's process.
"""

from __future__ import annotations

import errno
import os

from ocirun._native import _libseccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    # struct scmp_arg_cmp: argument, operator, datum_a, datum_b
    Comparator = tuple[int, int, int, int]

SONAME = "libseccomp.so.2"

# __NR_SCMP_ERROR: no such name.  Other negative numbers are calls of other architectures.
UNKNOWN = -1

# seccomp.h: attributes of a filter
_OPTIMIZE = 8
_BINARY_TREE = 2

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
        """Return the token of an architecture by libseccomp's name ("x86_64"), 0 if this version
        has none.
        """
        return int(self._lib.seccomp_arch_resolve_name(name.encode()))

    def number(self, token: int, name: str) -> int:
        """Return a system call's number: negative if the architecture has no such call, `UNKNOWN`
        if none has.
        """
        # The isidentifier test is for NUL and surrogates, which would not arrive as written.
        if not (name.isascii() and name.isidentifier()):
            return UNKNOWN
        return int(self._lib.seccomp_syscall_resolve_name_arch(token, name.encode()))

    def entry_number(self, token: int, name: str) -> int:
        """Return the number by which *name* enters the kernel: that of socketcall(2) for connect(2)
        on x86.
        """
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

    def new_filter(self, default_action: int, token: int) -> Filter:
        """Return an empty filter for one architecture.

        Errors: EINVAL if the kernel does not have the action, EDOM if this machine could not
        execute the architecture.
        """
        return Filter(self._ffi, self._lib, default_action, token, self.native)

    def kernel_has_flag(self, flag: int) -> bool:
        """Ask the kernel for a filter flag.

        With a null program the call cannot succeed; a known flag gets as far as reading it,
        EFAULT.  If the question itself is forbidden (by a filter that we run under), the answer is
        left to the real call.
        """
        return self._ask(_SET_MODE_FILTER, flag, self._ffi.NULL) != errno.EINVAL

    def kernel_has_action(self, action: int) -> bool:
        """Ask the kernel for an action (without its data)."""
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


class Filter:
    """A filter being made.  Released with its last reference."""

    __slots__ = ("_ctx", "_ffi", "_lib")

    def __init__(self, ffi: Any, lib: Any, default_action: int, token: int, native: int) -> None:
        self._ffi = ffi
        self._lib = lib
        ctx = lib.seccomp_init(default_action)
        if not ctx:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._ctx = ffi.gc(ctx, lib.seccomp_release)
        if token != native:
            # In this order, so that libseccomp compares the byte orders of the two.
            _check(lib.seccomp_arch_add(self._ctx, token))
            _check(lib.seccomp_arch_remove(self._ctx, native))

    def comparators(self, comparators: Sequence[Comparator]) -> Any:
        """Return comparators in the form that `add` takes."""
        return self._ffi.new("struct scmp_arg_cmp[]", comparators) if comparators else ()

    def add(self, action: int, native_number: int, comparators: Any = ()) -> None:
        """Add a rule for a call by its number on the *native* architecture (negative ones too).

        Errors: EEXIST if it contradicts an earlier rule.
        """
        array = comparators if len(comparators) else self._ffi.NULL
        _check(
            self._lib.seccomp_rule_add_array(
                self._ctx, action, native_number, len(comparators), array
            )
        )

    def merge(self, other: Filter) -> None:
        """Take over the architecture of *other*, which is used up.  Errors: EDOM if the byte orders
        differ.
        """
        _check(self._lib.seccomp_merge(self._ctx, other._ctx))
        self._ffi.gc(other._ctx, None)
        other._ctx = None

    def use_binary_tree(self) -> None:
        """Have numbers searched by halving instead of one by one.  Libraries before 2.5 cannot;
        nothing is lost.
        """
        self._lib.seccomp_attr_set(self._ctx, _OPTIMIZE, _BINARY_TREE)

    def export(self) -> bytes:
        """Return the program, an array of struct sock_filter."""
        try:
            export_to_memory = self._lib.seccomp_export_bpf_mem
        except (AttributeError, self._ffi.error):  # before 2.6
            return self._export_through_file()
        length = self._ffi.new("size_t *")
        _check(export_to_memory(self._ctx, self._ffi.NULL, length))
        buffer = self._ffi.new("char[]", length[0])
        _check(export_to_memory(self._ctx, buffer, length))
        return bytes(self._ffi.buffer(buffer, length[0]))

    def _export_through_file(self) -> bytes:
        # A pipe holds 64 KiB, a program has at most 32; memfd_create(2) may be filtered.
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                _check(self._lib.seccomp_export_bpf(self._ctx, writer))
            finally:
                os.close(writer)
            return b"".join(iter(lambda: os.read(reader, 65536), b""))
        finally:
            os.close(reader)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
