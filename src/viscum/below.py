"""Files below a folder that somebody else may have filled, and may change meanwhile."""

from __future__ import annotations

import os

from . import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FOLDER", "INSIDE", "IN_ROOT", "ORDINARY", "open_folder"]

INSIDE = native.RESOLVE_BENEATH | native.RESOLVE_NO_SYMLINKS | native.RESOLVE_NO_MAGICLINKS
"""How names that were found are opened: what is a link by now is an error."""
IN_ROOT = native.RESOLVE_IN_ROOT | native.RESOLVE_NO_MAGICLINKS
"""How a path that a user gave is opened in a machine: links are followed, and end at its root."""
ORDINARY = 0
"""How a path that a user gave is opened on the host."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
LONGEST = 3000
"""Bytes of a path that are opened at once; the kernel takes 4095."""


def open_folder(top: int, parts: Sequence[str]) -> int:
    """Open a folder below `top`, however long its path is, following no link. Raises OSError."""
    fd, start, length = os.dup(top), 0, 0
    try:
        for end, part in enumerate(parts, 1):
            length += len(os.fsencode(part)) + 1
            if length >= LONGEST or end == len(parts):
                opened = native.open_at(fd, "/".join(parts[start:end]), FOLDER, INSIDE)
                os.close(fd)
                fd, start, length = opened, end, 0
    except BaseException:
        os.close(fd)
        raise
    return fd
