"""From a tar stream to files, in a folder that the stream cannot lead out of.

Names are taken apart and followed from the target's descriptor, folder by folder, by a kernel that
follows no link. What stands in the way is replaced where it is a file or a link, and an error
where it is a folder or ought to be one.
"""

from __future__ import annotations

import os
import stat
import tarfile
from contextlib import suppress

from .attributes import give_attributes
from .below import open_folder
from .errors import ViscumError
from .native import open_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, Literal

__all__ = ["Target", "Unpacker", "find_target", "unpack"]

CHUNK = 1 << 20
BLOCKS = 1 << 18
LONGEST_NAME = 255
DEEPEST = 5000
MAX_ID = (1 << 32) - 2
TIMES = (-(1 << 31), 1 << 34)
"""Seconds that file systems take as a time."""


def unpack(stream: BinaryIO, begin: Callable[[tarfile.TarInfo], Unpacker], *, packed: bool) -> int:
    """Unpack a stream with what `begin` makes of its first entry; return how many there were.

    With `packed` it may be compressed. Raises ViscumError, OSError.
    """
    unpacker, count = None, 0
    mode: Literal["r|*", "r|"] = "r|*" if packed else "r|"
    try:
        with tarfile.open(fileobj=stream, mode=mode, bufsize=BLOCKS, encoding="utf-8") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or it keeps them all
                unpacker = unpacker or begin(info)
                unpacker.add(info, tar)
                count += 1
    except ViscumError:
        raise
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        hint = "it was cut short, or is no tar archive"
        raise ViscumError(f"the archive cannot be read: {error}", hint=hint) from None
    finally:
        if unpacker is not None:
            unpacker.close()
    return count


class Target:
    """Where things go: a folder, and what the first part of each name becomes there.

    With `name` None it stays, with "" it goes away. `file` is an open file that takes the content
    of a single one.
    """

    def __init__(self, folder: int = -1, name: str | None = None, file: int = -1) -> None:
        self.folder = folder
        self.name = name
        self.file = file

    def close(self) -> None:
        """Close its descriptors."""
        for fd in (self.folder, self.file):
            if fd >= 0:
                os.close(fd)


def _open_file(root: int, path: str, resolve: int) -> int:
    """Open an existing file for writing; never a device or a pipe."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
    fd = open_at(root, path, flags, resolve)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ViscumError(f"{path!r} is there and is neither a file nor a folder")
    return fd


def find_target(
    root: int, path: str, resolve: int, *, folder: bool, contents: bool, name: str
) -> Target:
    """Return where a copy to `path` goes, by the rules of cp(1) and `docker cp`.

    `folder` tells whether the source is one, `contents` whether what is in it is meant (its path
    ended with `/.`), `name` its name. Raises ViscumError, OSError.
    """
    try:
        found = open_at(root, path, os.O_PATH, resolve)
    except FileNotFoundError:
        return _new_target(root, path, resolve, folder=folder)
    kind = stat.S_IFMT(os.fstat(found).st_mode)
    os.close(found)
    if kind == stat.S_IFDIR:
        fd = open_at(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve)
        return Target(fd, "" if contents and folder else name)
    if kind != stat.S_IFREG:
        raise ViscumError(f"{path!r} is there and is neither a file nor a folder")
    if folder:
        raise ViscumError(f"{path!r} is a file", hint="a folder cannot be copied over a file")
    return Target(file=_open_file(root, path, resolve))


def _new_target(root: int, path: str, resolve: int, *, folder: bool) -> Target:
    """Return a target that is not there yet; the folder it is to be in must be."""
    if path.endswith("/") and not folder:
        raise ViscumError(f"{path!r}: there is no such folder", hint="make it first")
    above, _, last = path.rstrip("/").rpartition("/")
    if last in (".", ".."):
        raise ViscumError(f"{path!r}: there is no such folder", hint="make it first")
    above = above or ("/" if path.startswith("/") else ".")
    try:
        fd = open_at(root, above, os.O_RDONLY | os.O_DIRECTORY, resolve)
    except (FileNotFoundError, NotADirectoryError):
        raise ViscumError(f"{above!r}: there is no such folder", hint="make it first") from None
    return Target(fd, last)


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts or "\0" in name or len(parts) > DEEPEST:
        raise ViscumError(f"the archive's name {name[:80]!r} is refused", hint="no .. in names")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise ViscumError(f"the archive's name {name[:80]!r}… is too long")
    return parts


def _number(value: object, low: int, high: int) -> int:
    """Return a number of a header within what the kernel takes."""
    try:
        return max(low, min(high, int(value)))  # type: ignore[call-overload, no-any-return]
    except (ValueError, OverflowError, TypeError):
        return low


class Unpacker:
    """Makes files of entries below a target.

    `ids` owns what is made, with None the ids of each entry do; -1 leaves the maker's. `plain`
    takes setuid bits away: what a machine made must not run as its owner on the host.
    """

    def __init__(
        self,
        target: Target,
        *,
        ids: tuple[int, int] | None = (-1, -1),
        plain: bool = True,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.target = target
        self.ids = ids
        self.plain = plain
        self.warn = warn or (lambda _text: None)
        self.files: set[tuple[str, ...]] = set()
        self.folders: dict[tuple[str, ...], tarfile.TarInfo] = {}
        self.open: tuple[tuple[str, ...], int] | None = None

    # Names.

    def place(self, name: str) -> tuple[str, ...]:
        """Return the path below the target's folder that an entry's name means."""
        parts = _parts(name)
        if self.target.name is None or not parts:
            return (self.target.name,) if self.target.name and not parts else parts
        return ((self.target.name,) if self.target.name else ()) + parts[1:]

    def parent(self, parts: tuple[str, ...]) -> int:
        """Return the folder that an entry stands in, made where it is missing."""
        if self.open is not None and self.open[0] == parts:
            return self.open[1]
        try:
            fd = open_folder(self.target.folder, parts)
        except FileNotFoundError:
            fd = self.make_folders(parts)
        except OSError as error:
            raise self.in_the_way(parts, error) from None
        self.shut()
        self.open = (parts, fd)
        return fd

    def make_folders(self, parts: tuple[str, ...]) -> int:
        """Make the folders of a path that are missing; return the last one."""
        fd = os.dup(self.target.folder)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=fd)
                inner = open_folder(fd, (part,))
                os.close(fd)
                fd = inner
        except OSError as error:
            os.close(fd)
            raise self.in_the_way(parts, error) from None
        return fd

    @staticmethod
    def in_the_way(parts: tuple[str, ...], error: OSError) -> ViscumError:
        """Return the error for a path that is no folder where one is needed."""
        path = "/".join(parts)[:200]
        reason = (error.strerror or "").lower()
        return ViscumError(
            f"cannot make {path!r}: {reason}", hint="what stands there is no folder?"
        )

    def shut(self) -> None:
        """Close the folder that was worked in."""
        if self.open is not None:
            os.close(self.open[1])
            self.open = None

    # Entries.

    def add(self, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        """Make what an entry says. Raises ViscumError, OSError."""
        if self.target.file >= 0:
            self.over(info, tar)
            return
        parts = self.place(info.name)
        if not parts:
            if not info.isdir():
                raise ViscumError(f"the archive's name {info.name[:80]!r} is refused")
            self.folders[()] = info
            return
        try:
            self.make(info, tar, parts)
        except FileExistsError:
            raise ViscumError(f"{'/'.join(parts)[:200]!r} is there and is a folder") from None

    def make(self, info: tarfile.TarInfo, tar: tarfile.TarFile, parts: tuple[str, ...]) -> None:
        """Make an entry at `parts`."""
        folder, name = self.parent(parts[:-1]), parts[-1]
        if info.isdir():
            self.make_folder(info, folder, parts)
            return
        if not (info.isreg() or info.issym() or info.islnk() or info.isfifo()):
            self.warn(f"{info.name[:200]!r} is left out: a device")
            return
        self.clear(folder, name)
        if info.isreg():
            fd = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder
            )
            try:
                self.fill(fd, info, tar)
            finally:
                os.close(fd)
            self.files.add(parts)
        elif info.islnk():
            self.link(info, folder, name)
        elif info.issym():
            os.symlink(info.linkname, name, dir_fd=folder)
            self.own_link(info, folder, name)
        else:
            os.mkfifo(name, 0o600, dir_fd=folder)
            os.chmod(name, info.mode & 0o777, dir_fd=folder)
            self.own_link(info, folder, name)

    @staticmethod
    def clear(folder: int, name: str) -> None:
        """Remove what stands in the way; raises FileExistsError for a folder."""
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise FileExistsError from None
            raise

    def make_folder(self, info: tarfile.TarInfo, folder: int, parts: tuple[str, ...]) -> None:
        """Make a folder, or use the one that is there."""
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=folder)
        except FileExistsError:
            is_ = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(is_.st_mode):
                path = "/".join(parts)[:200]
                raise ViscumError(f"{path!r} is there and is no folder") from None
        self.folders[parts] = info

    def link(self, info: tarfile.TarInfo, folder: int, name: str) -> None:
        """Make a second link to a file of this archive; to no other file."""
        parts = self.place(info.linkname)
        if parts not in self.files:
            raise ViscumError(f"the archive links to {info.linkname[:200]!r}, which it has not")
        source = open_folder(self.target.folder, parts[:-1])
        try:
            os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def over(self, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        """Write a single file over the one that is there."""
        if not info.isreg():
            raise ViscumError("only a file can be copied over a file")
        os.ftruncate(self.target.file, 0)
        self.fill(self.target.file, info, tar)

    # What is said of them.

    def fill(self, fd: int, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        """Write the content of a file, then its owner, mode and time."""
        content = tar.extractfile(info)
        while content is not None and (data := content.read(CHUNK)):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        self.settle(fd, info)

    def owner(self, info: tarfile.TarInfo) -> tuple[int, int]:
        """Return the ids that own an entry."""
        if self.ids is not None:
            return self.ids
        return _number(info.uid, 0, MAX_ID), _number(info.gid, 0, MAX_ID)

    @staticmethod
    def times(info: tarfile.TarInfo) -> tuple[int, int]:
        """Return the times of an entry in nanoseconds."""
        text = str(info.pax_headers.get("mtime", info.mtime))
        whole, _, rest = text.partition(".")
        seconds = _number(whole, *TIMES)
        digits = rest[:9].ljust(9, "0")
        moment = seconds * 1_000_000_000 + (int(digits) if digits.isdecimal() else 0)
        return moment, moment

    def settle(self, fd: int, info: tarfile.TarInfo) -> None:
        """Give a file or a folder its owner, mode and time."""
        ids = self.owner(info)
        if ids != (-1, -1):
            os.fchown(fd, *ids)
        os.fchmod(fd, info.mode & (0o1777 if self.plain else 0o7777))
        give_attributes(fd, info.pax_headers, capabilities=not self.plain)
        os.utime(fd, ns=self.times(info))

    def own_link(self, info: tarfile.TarInfo, folder: int, name: str) -> None:
        """Give what cannot be opened its owner and time."""
        ids = self.owner(info)
        if ids != (-1, -1):
            os.chown(name, *ids, dir_fd=folder, follow_symlinks=False)
        os.utime(name, ns=self.times(info), dir_fd=folder, follow_symlinks=False)

    def close(self) -> None:
        """Give folders what is said of them, inner ones first: until now they took files."""
        self.shut()
        for parts in sorted(self.folders, key=len, reverse=True):
            if not parts and self.target.name is None:
                continue  # the folder that was there before
            fd = open_folder(self.target.folder, parts)
            try:
                self.settle(fd, self.folders[parts])
            finally:
                os.close(fd)
        self.folders.clear()
