# SPDX-License-Identifier: Apache-2.0
"""A process's credentials as the kernel keeps them: capabilities(7), seccomp(2), prctl(2).  Refuses as the kernel does."""

from __future__ import annotations

SETGID, SETUID, SETPCAP, ADMIN = 1 << 6, 1 << 7, 1 << 8, 1 << 21


class Refused(AssertionError):
    """The kernel would answer EPERM."""


class Credentials:
    """Begins as root with every capability that is available."""

    def __init__(self, available: int) -> None:
        self.bounding = self.permitted = self.effective = available
        self.inheritable = self.ambient = 0
        self.uid = self.gid = 0
        self.no_new_privileges = False
        self.filters = 0

    def _need(self, capability: int, what: str) -> None:
        if not self.effective & capability:
            raise Refused(what)

    def drop_bounding(self, kept: int) -> None:
        """PR_CAPBSET_DROP of everything else."""
        if self.bounding & ~kept:
            self._need(SETPCAP, "PR_CAPBSET_DROP")
        self.bounding &= kept

    def become(self, uid: int, gid: int) -> None:
        """setgroups, setresgid, setresuid, with PR_SET_KEEPCAPS around them."""
        self._need(SETGID, "setgroups")
        if gid != self.gid:
            self._need(SETGID, "setresgid")
        if uid != self.uid:
            self._need(SETUID, "setresuid")
        if self.uid == 0 and uid != 0:
            self.effective = self.ambient = 0
        self.uid, self.gid = uid, gid

    def capset(self, effective: int, permitted: int, inheritable: int) -> None:
        """cap_capset() of security/commoncap.c."""
        if not self.effective & SETPCAP and inheritable & ~(self.inheritable | self.permitted):
            raise Refused("capset: inheritable beyond permitted")
        if inheritable & ~(self.inheritable | self.bounding):
            raise Refused("capset: inheritable beyond bounding")
        if permitted & ~self.permitted:
            raise Refused("capset: permitted raised")
        if effective & ~permitted:
            raise Refused("capset: effective beyond permitted")
        self.effective, self.permitted, self.inheritable = effective, permitted, inheritable
        self.ambient &= permitted & inheritable

    def clear_ambient(self) -> None:
        """PR_CAP_AMBIENT_CLEAR_ALL."""
        self.ambient = 0

    def raise_ambient(self, wanted: int) -> None:
        """PR_CAP_AMBIENT_RAISE of each."""
        if wanted & ~(self.permitted & self.inheritable):
            raise Refused("PR_CAP_AMBIENT_RAISE")
        self.ambient |= wanted

    def set_no_new_privileges(self) -> None:
        """PR_SET_NO_NEW_PRIVS."""
        self.no_new_privileges = True

    def load_filter(self) -> None:
        """SECCOMP_SET_MODE_FILTER."""
        if not self.no_new_privileges:
            self._need(ADMIN, "seccomp")
        self.filters += 1
