"""Folders that strangers filled, opened and removed: by descriptors, following no link, however
deep they are nested.
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FOLDER", "drop", "opened", "remove_tree"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEP = 3000
"""Bytes of a path to which a name can still be added (PATH_MAX is 4096)."""


@contextlib.contextmanager
def opened(name: str | bytes, flags: int = FOLDER, dir_fd: int | None = None) -> Iterator[int]:
    """Open a folder and close it again."""
    fd = os.open(name, flags, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it, whatever its modes are, or a file; fine where it is
    gone.
    """
    parent, name = os.path.split(path)
    try:
        with opened(parent) as folder:
            drop(folder, name)
    except FileNotFoundError:
        return


def drop(folder: int, name: str) -> None:
    """Remove what an open folder has under a name; fine where that is nothing. Raises OSError."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        _remove(folder, name)


def _remove(folder: int, name: str) -> None:
    """Remove a folder, without recursion: archives and machines may nest folders thousands deep.
    What can be removed goes, whatever cannot; raises what failed first.
    """
    failures: list[OSError] = []
    with _opened_to_change(name, folder) as top:
        found = [""]
        for path in found:  # grows meanwhile
            try:
                with _opened_to_change(path or ".", top) as fd:
                    found += [_reachable(fd, below, path, top) for below in _emptied(fd)]
            except OSError as error:
                failures.append(error)
        for path in reversed(found[1:]):
            try:
                os.rmdir(path, dir_fd=top)
            except OSError as error:
                failures.append(error)
    if failures:
        raise failures[0]
    os.rmdir(name, dir_fd=folder)


def _emptied(folder: int) -> list[str]:
    """Remove what is in a folder but other folders; return the names of these."""
    left = []
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            left.append(name)
    return left


def _reachable(folder: int, name: str, path: str, top: int) -> str:
    """Return the path below `top` of a folder in the one at `path`; where that gets too long for a
    path, the folder is moved to the top.
    """
    if len(os.fsencode(path)) < DEEP:
        return f"{path}/{name}" if path else name
    with _opened_to_change(name, folder):
        pass  # who moves a folder must be allowed to write to it
    short = f".{os.urandom(8).hex()}"
    os.rename(name, short, src_dir_fd=folder, dst_dir_fd=top)
    return short


@contextlib.contextmanager
def _opened_to_change(path: str, dir_fd: int) -> Iterator[int]:
    """Open a folder, and have its owner write to it."""
    try:
        fd = os.open(path, FOLDER, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=dir_fd)
        fd = os.open(path, FOLDER, dir_fd=dir_fd)
    try:
        if not os.fstat(fd).st_mode & 0o200:
            os.fchmod(fd, 0o700)
        yield fd
    finally:
        os.close(fd)
