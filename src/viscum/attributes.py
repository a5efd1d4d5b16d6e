"""Extended attributes in tar archives: those of users, and the capabilities of files."""

from __future__ import annotations

import os
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["give_attributes", "pack_attributes"]

HEADER = "SCHILY.xattr."
"""What they begin with among pax headers, as star and GNU tar write them."""
CAPABILITY = "security.capability"


def _is_users(name: str) -> bool:
    return name.startswith("user.") and not name.startswith("user.overlay.")


def pack_attributes(fd: int) -> dict[str, str]:
    """Return pax headers for those attributes of a file or folder that mean the same elsewhere."""
    return {
        HEADER + name: os.getxattr(fd, name).decode("utf-8", "surrogateescape")
        for name in os.listxattr(fd)
        if _is_users(name) or name == CAPABILITY
    }


def give_attributes(fd: int, headers: Mapping[str, str], *, capabilities: bool) -> None:
    """Give a file or folder the attributes that pax headers tell; what its file system does not
    take is left out.
    """
    for header, value in headers.items():
        name = header.removeprefix(HEADER)
        wanted = _is_users(name) or (capabilities and name == CAPABILITY)
        if wanted and name != header and "\0" not in name:
            with suppress(OSError):
                os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
