"""Reading a root that may be hostile: passwd and group files, through openat2 only."""

from __future__ import annotations

import contextlib
import os

from .errors import SpecError
from .showing import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Rootfs = str | tuple[str, ...] | None
    """A folder, folders laid over each other (the highest first), or the host's root."""

__all__ = ["User", "look_up_user"]

MAX_FILE = 4 << 20
MAX_ID = (1 << 32) - 2


class User:
    """Ids and home of a user in a root."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def _rows(rootfs: Rootfs, file: str, fields: int) -> list[list[str]]:
    """Return the rows of a colon-separated file below the root; none where it is not there."""
    try:
        layers = rootfs if isinstance(rootfs, tuple) else (rootfs or "/",)
        with shown(layers) as roots:
            data = _read_layers(roots, file)
    except OSError:
        return []
    rows = [line.split(":") for line in data.decode("utf-8", "replace").splitlines()]
    return [row for row in rows if len(row) >= fields]


def _read_layers(layers: tuple[str, ...], path: str) -> bytes:
    """Read a file from the highest layer that has it, unless one above hides it."""
    from . import native
    from .image.trees import hides

    for layer in layers[:-1]:
        try:
            return _read_below(layer, path)
        except OSError:
            with open_folder(layer) as folder:
                if hides(folder, path.encode(), native.open_inside):
                    raise
    return _read_below(layers[-1], path)


@contextlib.contextmanager
def open_folder(path: str) -> Iterator[int]:
    """Open a folder as a handle, and close it."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _read_below(root: str, path: str) -> bytes:
    """Read a file below `root`; a link in the way that leads out of it ends at its edge."""
    from . import native

    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = native.open_below(folder, path)
    finally:
        os.close(folder)
    with open(fd, "rb") as file:
        return file.read(MAX_FILE) or b""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_ID else None


def _group(rootfs: Rootfs, name: str) -> int:
    number = _number(name)
    if number is not None:
        return number
    for row in _rows(rootfs, "etc/group", 3):
        gid = _number(row[2])
        if row[0] == name and gid is not None:
            return gid
    raise SpecError(f"group {name!r} is not in the root's /etc/group", hint="use a number")


def look_up_user(rootfs: Rootfs, user: str, extra: tuple[str, ...]) -> User:
    """Return who `USER[:GROUP]`, each a name or a number, is in the root.

    An unknown number is taken as it is, with group 0 and the home "/". Raises SpecError for an
    unknown name.
    """
    name, _, group = user.partition(":")
    uid, gid, home, known = _number(name) if name else 0, 0, "/", ""
    if name in ("", "0", "root"):
        uid, home, known = 0, "/root", "root"
    else:
        for row in _rows(rootfs, "etc/passwd", 6):
            if row[0] == name or (uid is not None and row[2] == str(uid)):
                uid, gid = _number(row[2]), _number(row[3]) or 0
                home, known = row[5] or "/", row[0]
                break
    if uid is None:
        raise SpecError(f"user {name!r} is not in the root's /etc/passwd", hint="use a number")
    groups = {_group(rootfs, word) for word in extra}
    if group:
        gid = _group(rootfs, group)
    elif known and known != "root":
        for row in _rows(rootfs, "etc/group", 4):
            if known in row[3].split(","):
                groups.add(_number(row[2]) or 0)
    return User(uid, gid, tuple(sorted(groups - {gid})), home)
