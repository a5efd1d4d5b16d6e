"""Mount options by name, as mount(8) and the OCI runtime specification have them."""

from __future__ import annotations

from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OPTION_NAMES", "PROPAGATION", "MountOptions", "read_options"]

_ATIME = 0x70
_ATTRIBUTES = {
    # name: (set, clear), of mount_setattr(2)
    "ro": (0x1, 0),
    "rw": (0, 0x1),
    "nosuid": (0x2, 0),
    "suid": (0, 0x2),
    "nodev": (0x4, 0),
    "dev": (0, 0x4),
    "noexec": (0x8, 0),
    "exec": (0, 0x8),
    "noatime": (0x10, _ATIME),
    "atime": (0, _ATIME),
    "relatime": (0, _ATIME),
    "norelatime": (0, _ATIME),  # to the kernel it is what it does without any, so relatime
    "strictatime": (0x20, _ATIME),
    "nostrictatime": (0, _ATIME),
    "nodiratime": (0x80, 0),
    "diratime": (0, 0x80),
    "nosymfollow": (0x200000, 0),
    "symfollow": (0, 0x200000),
}
PROPAGATION = {
    "shared": (1 << 20, False),
    "slave": (1 << 19, False),
    "private": (1 << 18, False),
    "unbindable": (1 << 17, False),
    "rshared": (1 << 20, True),
    "rslave": (1 << 19, True),
    "rprivate": (1 << 18, True),
    "runbindable": (1 << 17, True),
}
"""MS_SHARED and its like, and whether mounts below are meant too."""

_SUPERBLOCK = ("sync", "dirsync", "lazytime", "mand", "silent", "iversion")
_IGNORED = (
    "defaults remount async nolazytime nomand loud noiversion acl noacl auto noauto user nouser "
    "users group owner _netdev nofail"
).split()
OPTION_NAMES = (
    *_ATTRIBUTES,
    *("r" + name for name in _ATTRIBUTES),
    *PROPAGATION,
    *_SUPERBLOCK,
    *_IGNORED,
    *("bind", "rbind", "tmpcopyup", "idmap", "ridmap"),
)


class MountOptions(Frozen):
    """The options of one mount, sorted by what they are for."""

    set: int
    clear: int
    deep_set: int
    deep_clear: int
    propagation: tuple[tuple[int, bool], ...]
    bind: str
    """"bind", "rbind", or empty."""
    copies: bool
    idmap: str
    data: tuple[str, ...]
    """Pairs of key and value for the file system; flags have an empty value."""


def read_options(options: Iterable[str]) -> MountOptions:
    """Return the options by kind; what is no option of mounts is the file system's own."""
    shallow, deep, data = [0, 0], [0, 0], list[str]()
    propagation = []
    bind = idmap = ""
    copies = False
    for option in options:
        if option in _ATTRIBUTES:
            _change(shallow, *_ATTRIBUTES[option])
        elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
            _change(deep, *_ATTRIBUTES[option[1:]])
        elif option in PROPAGATION:
            propagation.append(PROPAGATION[option])
        elif option in ("bind", "rbind"):
            bind = option
        elif option in ("idmap", "ridmap"):
            idmap = option
        elif option == "tmpcopyup":
            copies = True
        elif option in _SUPERBLOCK:
            data += [option, ""]
        elif option and option not in _IGNORED:
            key, _, value = option.partition("=")
            data += [key, value]
    attributes = shallow[0], shallow[1], deep[0], deep[1]
    return MountOptions(*attributes, tuple(propagation), bind, copies, idmap, tuple(data))


def _change(attributes: list[int], set_: int, clear: int) -> None:
    """Note one option; a later one wins over an earlier one."""
    attributes[0] = attributes[0] & ~clear | set_
    attributes[1] = attributes[1] & ~set_ | clear
