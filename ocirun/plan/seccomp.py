# SPDX-License-Identifier: Apache-2.0
"""`linux.seccomp` -> the filter program that init loads.

Almost always the program comes from the cache (`seccomp_cache`); what compiles it
(`seccomp_compile`, and with it libseccomp) is imported only when it does not.

Spec: config-linux.md#configLinuxSeccomp
Kernel: seccomp(2)
"""

from __future__ import annotations

from ocirun.errors import InvalidConfig
from ocirun.plan import seccomp_cache
from ocirun.spec.seccomp_rules import check_listener, check_seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Part of the cache's key: to be raised with every change that gives some profile another program or
# other flags.
GENERATOR = 2

# linux/seccomp.h
_FLAG_NEW_LISTENER = 1 << 3
_FLAG_WAIT_KILLABLE_RECV = 1 << 5  # EINVAL without a listener


class CompiledFilter:
    """What init needs to load a filter, and the runtime to serve its listener.

    `program` is an array of struct sock_filter in this machine's byte order (8 bytes each, at most
    4096), `flags` the second argument of seccomp(2).  If `notify`, loading returns a listener, to
    be sent to `listener_path` with `listener_metadata`; otherwise the two are None.
    `flags_without_agent` load the same filter where there is nobody to ask.
    `skipped_names` are names of the profile that libseccomp does not know and that were safe to
    leave to the default action.
    """

    __slots__ = (
        "flags",
        "flags_without_agent",
        "listener_metadata",
        "listener_path",
        "notify",
        "program",
        "skipped_names",
    )

    def __init__(self, profile: Mapping[str, Any], entry: seccomp_cache.Entry) -> None:
        self.program = entry.program
        self.flags = entry.flags
        self.flags_without_agent = entry.flags & ~(_FLAG_NEW_LISTENER | _FLAG_WAIT_KILLABLE_RECV)
        self.skipped_names = entry.skipped_names
        self.notify = bool(entry.flags & _FLAG_NEW_LISTENER)
        # Spec: listenerPath is ignored if SCMP_ACT_NOTIFY is not used.
        self.listener_path: str | None = profile["listenerPath"] if self.notify else None
        self.listener_metadata: str | None = profile.get("listenerMetadata") if self.notify else None


def compile_profile(
    profile: Mapping[str, Any],
    *,
    cache_dir: str | None,
    pointer: str = "/linux/seccomp",
    fail_unknown: bool = False,
) -> CompiledFilter:
    """Compile *profile*, the schema-valid JSON object, or find its program in *cache_dir*.

    *cache_dir* must belong to the caller alone (mode 0700) and is made if missing; None or an
    unusable directory means no cache.  With *fail_unknown*, a name that libseccomp does not know is
    an error wherever it stands; otherwise it is skipped where the default action denies or the rule
    only permits.

    Errors: InvalidConfig with a pointer for each problem; UnsupportedFeature if the kernel or
    libseccomp cannot do what is asked for, or there is no libseccomp and the cache does not have
    the program.
    """
    if check_listener(profile, pointer):
        raise InvalidConfig(check_seccomp(profile, pointer))
    if cache_dir is None:
        from ocirun.plan import seccomp_compile

        entry = seccomp_compile.compile_profile(profile, pointer, fail_unknown=fail_unknown)
    else:
        entry = _find_or_compile(profile, cache_dir, pointer, fail_unknown=fail_unknown)
    return CompiledFilter(profile, entry)


def _find_or_compile(
    profile: Mapping[str, Any], cache_dir: str, pointer: str, *, fail_unknown: bool
) -> seccomp_cache.Entry:
    key = seccomp_cache.digest(profile, GENERATOR, fail_unknown)
    cached = seccomp_cache.load(cache_dir, key)
    if cached is not None and cached.is_current():
        return cached
    from ocirun.plan import seccomp_compile

    try:
        entry = seccomp_compile.compile_profile(profile, pointer, fail_unknown=fail_unknown)
    except seccomp_compile.LibraryMissing:
        # An entry of a libseccomp that is gone is still right about the profile.
        if cached is None:
            raise
        return cached
    seccomp_cache.store(cache_dir, key, entry)
    return entry
