# SPDX-License-Identifier: Apache-2.0
"""The mount options of the specification as one table: option -> what it sets and clears.

What is accepted is passed to the kernel, which shows most of it in /proc/self/mountinfo, but not silent and iversion.
What the table does not know is data for the file system (config.md#mounts: an unknown option SHOULD be passed on).

Kernel: mount_setattr(2), fsconfig(2), mount(2)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RDONLY = 0x1
NOSUID = 0x2
NODEV = 0x4
NOEXEC = 0x8
ATIME_MASK = 0x70  # MOUNT_ATTR__ATIME: an enumeration, so setting one value clears the field
RELATIME = 0x00
NOATIME = 0x10
STRICTATIME = 0x20
NODIRATIME = 0x80
NOSYMFOLLOW = 0x200000

MS_REC = 1 << 14
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

#: Bits of the superblock's flags as ocirun-init numbers them (ops_mount.c, configure_superblock and old_mount).
SB_SYNC, SB_DIRSYNC, SB_MAND, SB_LAZYTIME, SB_SILENT, SB_I_VERSION = 1, 2, 4, 8, 16, 32

#: option -> (attributes set, attributes cleared)
ATTRIBUTES = {
    "ro": (RDONLY, 0),
    "rw": (0, RDONLY),
    "nosuid": (NOSUID, 0),
    "suid": (0, NOSUID),
    "nodev": (NODEV, 0),
    "dev": (0, NODEV),
    "noexec": (NOEXEC, 0),
    "exec": (0, NOEXEC),
    "nodiratime": (NODIRATIME, 0),
    "diratime": (0, NODIRATIME),
    "nosymfollow": (NOSYMFOLLOW, 0),
    "symfollow": (0, NOSYMFOLLOW),
    "noatime": (NOATIME, ATIME_MASK),
    "atime": (RELATIME, ATIME_MASK),
    "relatime": (RELATIME, ATIME_MASK),
    "norelatime": (STRICTATIME, ATIME_MASK),
    "strictatime": (STRICTATIME, ATIME_MASK),
    "nostrictatime": (RELATIME, ATIME_MASK),
}

#: The same for the whole tree below the mount.
RECURSIVE_ATTRIBUTES = {f"r{name}": bits for name, bits in ATTRIBUTES.items()}

PROPAGATION = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}

#: option -> (bit, set?)
SUPERBLOCK = {
    "sync": (SB_SYNC, True),
    "async": (SB_SYNC, False),
    "dirsync": (SB_DIRSYNC, True),
    "mand": (SB_MAND, True),
    "nomand": (SB_MAND, False),
    "lazytime": (SB_LAZYTIME, True),
    "nolazytime": (SB_LAZYTIME, False),
    "silent": (SB_SILENT, True),
    "loud": (SB_SILENT, False),
    "iversion": (SB_I_VERSION, True),
    "noiversion": (SB_I_VERSION, False),
}
#: Those that only mount(2) can express, not fsconfig(2).
SUPERBLOCK_UNNAMED = SB_SILENT | SB_I_VERSION

#: Asks for what is so anyway.
NO_EFFECT = frozenset({"defaults"})

#: Ids are mapped; "ridmap" in submounts as well.
IDMAP = frozenset({"idmap", "ridmap"})

BIND = frozenset({"bind", "rbind"})

#: Options of SELinux for any file system; their values are labels.
CONTEXTS = frozenset({"context", "fscontext", "defcontext", "rootcontext"})


class MountOptions:
    """The options of one mount, sorted by what they act on."""

    __slots__ = (
        "bind",
        "clear_attributes",
        "copy_up",
        "data",
        "idmap",
        "propagation",
        "recursive",
        "recursive_clear",
        "recursive_set",
        "remount",
        "set_attributes",
        "superblock",
        "superblock_clear",
    )

    def __init__(self) -> None:
        self.bind = False
        self.recursive = False
        self.remount = False
        self.copy_up = False
        self.idmap: str | None = None
        self.set_attributes = 0
        self.clear_attributes = 0
        self.recursive_set = 0
        self.recursive_clear = 0
        self.propagation: tuple[int, ...] = ()
        self.superblock = 0
        self.superblock_clear = 0
        self.data: list[str] = []


def parse_options(options: Sequence[str]) -> MountOptions:
    """Sort the options of a mount; later ones win over earlier ones, as mount(8) has it."""
    result = MountOptions()
    for option in options:
        if option in ATTRIBUTES:
            set_bits, clear_bits = ATTRIBUTES[option]
            result.set_attributes = result.set_attributes & ~clear_bits | set_bits
            result.clear_attributes = result.clear_attributes & ~set_bits | clear_bits
        elif option in RECURSIVE_ATTRIBUTES:
            set_bits, clear_bits = RECURSIVE_ATTRIBUTES[option]
            result.recursive_set = result.recursive_set & ~clear_bits | set_bits
            result.recursive_clear = result.recursive_clear & ~set_bits | clear_bits
        elif option in PROPAGATION:
            # The order counts: "shared" then "slave" makes a mount that is both.
            result.propagation += (PROPAGATION[option],)
        elif option in SUPERBLOCK:
            bit, is_set = SUPERBLOCK[option]
            result.superblock = result.superblock | bit if is_set else result.superblock & ~bit
            result.superblock_clear = (
                result.superblock_clear & ~bit if is_set else result.superblock_clear | bit
            )
        elif option in BIND:
            result.bind = True
            result.recursive = result.recursive or option == "rbind"
        elif option == "remount":
            result.remount = True
        elif option == "tmpcopyup":
            result.copy_up = True
        elif option.partition("=")[0] in IDMAP:
            result.idmap = option
        elif option not in NO_EFFECT:
            result.data.extend(_split_data(option))
    # The top of the tree belongs to it: "rro" beside "rw" is read-only there too, as with runc.
    everywhere = result.recursive_set | result.recursive_clear
    result.set_attributes &= ~everywhere
    result.clear_attributes &= ~everywhere
    if result.set_attributes & ATIME_MASK or result.recursive_set & ATIME_MASK:
        # The kernel wants the whole field cleared wherever one of its values is set.
        result.clear_attributes |= ATIME_MASK if result.set_attributes & ATIME_MASK else 0
        result.recursive_clear |= ATIME_MASK if result.recursive_set & ATIME_MASK else 0
    return result


def _split_data(option: str) -> list[str]:
    """Split at commas as mount(2) would, but not inside quotes or after a backslash (overlay's lowerdir)."""
    if "," not in option:
        return [option] if option else []
    parts = [""]
    quoted = escaped = False
    for character in option:
        if character == "," and not quoted and not escaped:
            parts.append("")
            continue
        quoted ^= character == '"'
        escaped = character == "\\" and not escaped
        parts[-1] += character
    return [part for part in parts if part]


def context_label(option: str) -> str | None:
    """Return the label in an option of SELinux without the quotes that engines put around it; None for other options.

    Engines put labels in quotes, because those may have commas; mount(2) takes quotes away and fsconfig(2) does not.
    """
    name, equals, value = option.partition("=")
    if not equals or name not in CONTEXTS:
        return None
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def all_options() -> list[str]:
    """Return every option that ocirun understands, for `features`."""
    known = {*ATTRIBUTES, *RECURSIVE_ATTRIBUTES, *PROPAGATION, *SUPERBLOCK, *NO_EFFECT, *BIND, *IDMAP}
    return sorted(known | {"remount", "tmpcopyup"})
