"""What a machine changed of its root, read from the upper layer of its overlay.

An entry of the upper layer is one that was added or changed; a whiteout tells of one that was
deleted, and an opaque folder of one that was replaced. Both are written in two ways: with the
xattrs of root or, in user namespaces, with those that begin with `user.` (Linux:
Documentation/filesystems/overlayfs.rst). The layer was filled by whoever ran in the machine, so
it is read through descriptors, and no link in it is followed.
"""

from __future__ import annotations

import errno
import os
import stat

from .below import FOLDER, open_folder
from .frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["Change", "Pair", "changes", "compare"]

PREFIXES = ("user.overlay.", "trusted.overlay.")


class Change(Frozen):
    """A path of the root, absolute, and what became of it: "A", "C" or "D", as Docker says."""

    kind: str
    path: str


def _attribute(folder: int, name: str, which: str) -> bytes:
    """Return an overlay xattr of an entry, of either kind; empty where it has none."""
    for prefix in PREFIXES:
        try:
            # Through its own descriptor: the entry itself is meant, never what a link leads to.
            return os.getxattr(
                f"/proc/self/fd/{folder}/{name}", prefix + which, follow_symlinks=False
            )
        except OSError:
            continue
    return b""


def _is_whiteout(folder: int, name: str, is_: os.stat_result, marked: bool) -> bool:  # noqa: FBT001
    if stat.S_ISCHR(is_.st_mode):
        return is_.st_rdev == 0
    if not (marked and stat.S_ISREG(is_.st_mode) and is_.st_size == 0):
        return False
    return any(_has_attribute(folder, name, prefix + "whiteout") for prefix in PREFIXES)


def _has_attribute(folder: int, name: str, which: str) -> bool:
    try:
        os.getxattr(f"/proc/self/fd/{folder}/{name}", which, follow_symlinks=False)
    except OSError:
        return False
    return True


_Entry = tuple[str, tuple[str, ...], bool, bool]
"""Kind, path, whether it is a folder, and whether what the lower layer has there is hidden."""


class _Walk:
    """Goes through an upper layer beside the lower one, folder by folder, without recursion."""

    def __init__(self, upper: int, lower: int | None) -> None:
        self.upper = upper
        self.lower = lower

    def lower_names(self, parts: tuple[str, ...]) -> set[str]:
        """Return the names that the lower layer has in a folder."""
        if self.lower is None:
            return set()
        try:
            fd = open_folder(self.lower, parts)
        except OSError:
            return set()
        try:
            return set(os.listdir(fd))
        finally:
            os.close(fd)

    def folder(self, parts: tuple[str, ...], *, hidden: bool) -> list[_Entry]:
        """Return what stands in a folder of the upper layer; nothing where it is gone."""
        try:
            fd = open_folder(self.upper, parts)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return []  # it was changed meanwhile
            raise
        below = set() if hidden else self.lower_names(parts)
        try:
            marked = _attribute(fd, ".", "opaque") == b"x"
            found = (self.entry(fd, parts, name, below, marked) for name in sorted(os.listdir(fd)))
            return [entry for entry in found if entry is not None]
        finally:
            os.close(fd)

    def entry(
        self,
        fd: int,
        parts: tuple[str, ...],
        name: str,
        below: set[str],
        marked: bool,  # noqa: FBT001
    ) -> _Entry | None:
        """Return what one entry tells; None where it tells nothing."""
        try:
            is_ = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        path, there = (*parts, name), name in below
        if _is_whiteout(fd, name, is_, marked):
            return ("D", path, False, False) if there or self.lower is None else None
        folder = stat.S_ISDIR(is_.st_mode)
        opaque = folder and _attribute(fd, name, "opaque") == b"y"
        return "C" if there else "A", path, folder, opaque or not there

    def gone(self, parts: tuple[str, ...]) -> Iterator[str]:
        """Yield what an opaque folder hides of the lower one and has not itself."""
        try:
            fd = open_folder(self.upper, parts)
        except OSError:
            return
        try:
            have = set(os.listdir(fd))
        finally:
            os.close(fd)
        yield from sorted(self.lower_names(parts) - have)


def changes(upper: int, lower: int | None = None, own: Collection[str] = ()) -> Iterator[Change]:
    """Yield the changes that the folder `upper` holds against the folder `lower`, by their paths.

    Both are descriptors. Without `lower` what is there counts as added. `own` are paths, without
    a slash before them, that Viscum put there itself: they count only where something below them
    was changed, and a folder that was emptied so hides nothing from anybody.
    """
    walk = _Walk(upper, lower)
    waiting: list[str] = []  # folders that are not told of before something in them is
    stack = [iter(walk.folder((), hidden=False))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            waiting = waiting[: max(0, len(stack) - 1)]
            continue
        kind, parts, folder, hidden = found
        path = "/".join(parts)
        waiting = waiting[: len(stack) - 1]
        if path in own:
            if folder:
                waiting += [""] * (len(stack) - 1 - len(waiting)) + [f"{kind}/{path}"]
                stack.append(iter(walk.folder(parts, hidden=hidden)))
            continue
        for told in filter(None, waiting):
            yield Change(told[0], told[1:])
        waiting = [""] * len(waiting)
        yield Change(kind, "/" + path)
        if folder:
            if kind == "C" and hidden:
                yield from (Change("D", f"/{path}/{name}") for name in walk.gone(parts))
            stack.append(iter(walk.folder(parts, hidden=hidden)))


class Pair(Frozen):
    """A folder of a writable layer by its name, the folder that it lies over, what stands before
    its paths, and what in it is Viscum's own.
    """

    upper: str
    lower: str
    prefix: str
    own: tuple[str, ...]


def compare(layer: str, pairs: Iterable[Pair]) -> Iterator[Change]:
    """Yield the changes that the folders of a writable layer hold. Raises OSError."""
    for pair in pairs:
        upper = os.open(f"{layer}/{pair.upper}", FOLDER | os.O_CLOEXEC)
        try:
            lower = os.open(pair.lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield from _prefixed(changes(upper, lower, pair.own), pair.prefix)
            finally:
                os.close(lower)
        finally:
            os.close(upper)


def _prefixed(found: Iterator[Change], prefix: str) -> Iterator[Change]:
    """Yield changes below a folder at the top as changes of the root, which it is one of."""
    for number, change in enumerate(found):
        if prefix and not number:
            yield Change("C", prefix)
        yield change.replace(path=prefix + change.path)
