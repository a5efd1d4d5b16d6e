"""Folders of layers: laid over each other, copied from. Every step is by descriptor and
follows no link, since what is in them came from strangers.
"""

from __future__ import annotations

import contextlib
import os
import stat

from ..folders import FOLDER, drop, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    OpenInside = Callable[[int, bytes, int], int]

__all__ = ["complete", "flatten", "hides", "is_opaque", "is_whiteout", "set_opaque"]

OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
CHUNK = 1 << 20


def is_whiteout(is_: os.stat_result) -> bool:
    """Return whether this hides what layers below have."""
    return stat.S_ISCHR(is_.st_mode) and is_.st_rdev == 0


def is_opaque(folder: int) -> bool:
    """Return whether a folder hides what layers below have in it."""
    for name in OPAQUE:
        try:
            if os.getxattr(folder, name) == b"y":
                return True
        except OSError:
            continue
    return False


def set_opaque(folder: int) -> None:
    """Have a folder hide what layers below have in it."""
    for name in OPAQUE[: 2 if os.geteuid() == 0 else 1]:
        with contextlib.suppress(PermissionError):
            os.setxattr(folder, name, b"y")


# One folder for many layers.


def flatten(target: str, layers: Sequence[str]) -> None:
    """Fill the empty folder `target` with what `layers`, the lowest first, show when they are
    laid over each other. Files are hard links: nothing is copied.
    """
    with opened(target) as into:
        for layer in layers:
            with opened(layer) as source:
                _lay_over(source, into)


def _lay_over(source: int, into: int) -> None:
    """Lay one layer over what is there, folder by folder and without recursion; folders get their
    attributes last, since some do not let their owner write.
    """
    paths = [""]
    for path in paths:  # grows meanwhile
        with opened(path or ".", dir_fd=source) as below, opened(path or ".", dir_fd=into) as to:
            names = _lay_folder(below, to)
        paths += [f"{path}/{name}" if path else name for name in names]
    owners = os.geteuid() == 0
    for path in reversed(paths):
        with opened(path or ".", dir_fd=source) as below, opened(path or ".", dir_fd=into) as to:
            copy_attributes(below, to, owners=owners)


def _lay_folder(source: int, into: int) -> list[str]:
    """Lay what is in one folder over another; return the folders in it, which are made only."""
    if is_opaque(source):
        _empty(into)
    folders = []
    for name in os.listdir(source):
        is_ = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(is_.st_mode):
            folders.append(name)
            _make(into, name)
        elif is_whiteout(is_):
            drop(into, name)
        else:
            _link(source, into, name)
    return folders


def _make(into: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=into)
    except FileExistsError:
        is_ = os.stat(name, dir_fd=into, follow_symlinks=False)
        if stat.S_ISDIR(is_.st_mode):
            os.chmod(name, 0o700, dir_fd=into)
            return
        os.unlink(name, dir_fd=into)
        os.mkdir(name, 0o700, dir_fd=into)


def _link(source: int, into: int, name: str) -> None:
    for _ in range(2):
        try:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=into, follow_symlinks=False)
        except FileExistsError:
            drop(into, name)
            continue
        return


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        drop(folder, name)


def copy_attributes(source: int, into: int, *, owners: bool) -> None:
    """Give a folder or file owner, mode, times and extended attributes of another."""
    is_ = os.fstat(source)
    if owners:
        os.fchown(into, is_.st_uid, is_.st_gid)
    os.fchmod(into, stat.S_IMODE(is_.st_mode))
    for name in os.listxattr(source):
        if name not in OPAQUE and not name.startswith(("trusted.", "user.overlay.")):
            with contextlib.suppress(OSError):
                os.setxattr(into, name, os.getxattr(source, name))
    os.utime(into, ns=(is_.st_atime_ns, is_.st_mtime_ns))


# What a layer takes from those below.


def complete(
    layer: str,
    below: Sequence[str],
    untold: Sequence[bytes],
    missing: Sequence[tuple[bytes, bytes]],
    open_inside: OpenInside,
) -> list[bytes]:
    """Give folders that the archive does not mention the attributes they have below, and copy
    what its hard links lead to there; `below` are the layers, the lowest first.

    Returns the targets that no layer has.
    """
    owners = os.geteuid() == 0
    lost = []
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(opened(layer))
        lower = [stack.enter_context(opened(path)) for path in reversed(below)]
        for name, target in missing:
            if not _copy_below(own, lower, name, target, open_inside):
                lost.append(target)
        for path in sorted(untold, key=len, reverse=True):
            found = _find(lower, path, os.O_RDONLY | os.O_DIRECTORY, open_inside)
            if found < 0:
                continue
            with _closing(found), _closing(open_inside(own, path, FOLDER)) as folder:
                copy_attributes(found, folder, owners=owners)
    return lost


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _find(lower: Sequence[int], path: bytes, flags: int, open_inside: OpenInside) -> int:
    """Return a descriptor of `path` in the highest layer that shows it, -1 where none does."""
    for layer in lower:
        try:
            return open_inside(layer, path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            if hides(layer, path, open_inside):
                return -1
    return -1


def hides(layer: int, path: bytes, open_inside: OpenInside) -> bool:
    """Return whether a layer hides what those below it have at `path`."""
    parts = path.split(b"/")
    for count in range(len(parts)):
        try:
            folder = open_inside(layer, b"/".join(parts[:count]), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return count > 0
        with _closing(folder):
            if is_opaque(folder):
                return True
            try:
                is_ = os.stat(parts[count], dir_fd=folder, follow_symlinks=False)
            except OSError:
                return False
            if not stat.S_ISDIR(is_.st_mode):
                return True
    return False


def _copy_below(
    own: int, lower: Sequence[int], name: bytes, target: bytes, open_inside: OpenInside
) -> bool:
    if hides(own, target, open_inside):
        return False
    source = _find(lower, target, os.O_RDONLY, open_inside)
    if source < 0:
        return False
    parent, _, last = name.rpartition(b"/")
    with _closing(source), _closing(open_inside(own, parent, FOLDER)) as folder:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            return False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with _closing(os.open(last, flags, 0o600, dir_fd=folder)) as copy:
            while os.sendfile(copy, source, None, CHUNK):
                pass
            copy_attributes(source, copy, owners=os.geteuid() == 0)
    return True
