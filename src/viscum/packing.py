"""From files to a tar stream: of the host, or of a machine whose files may change meanwhile."""

from __future__ import annotations

import errno
import os
import stat
import tarfile

from .attributes import pack_attributes
from .below import FOLDER, open_folder
from .errors import ViscumError
from .native import open_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["Packer", "Source", "open_source"]

BLOCK = tarfile.BLOCKSIZE
BUFFER = 1 << 18
CHUNK = 1 << 24
SMALL = 1 << 16
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


class Source:
    """What is packed: a descriptor of it, for reading where it is a file or a folder."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_ = os.fstat(fd)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return stat.S_ISDIR(self.is_.st_mode)


def open_source(root: int, path: str, resolve: int, *, follow: bool) -> Source:
    """Find `path` below `root`; a link at its end is followed with `follow` or a slash after it.

    Raises ViscumError where there is nothing.
    """
    links = 0 if follow or path.endswith("/") else os.O_NOFOLLOW
    try:
        fd = open_at(root, path, os.O_PATH | links, resolve)
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind in (stat.S_IFDIR, stat.S_IFREG):
            os.close(fd)
            fd = open_at(root, path, READ | links, resolve)
    except OSError as error:
        raise ViscumError(f"{path!r}: {(error.strerror or '').lower()}") from None
    return Source(fd)


def _folder_attributes(above: int, name: str) -> dict[str, str]:
    try:
        fd = os.open(name, FOLDER | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return {}  # not ours to read, or another thing by now: told where it is gone into
    try:
        return pack_attributes(fd)
    finally:
        os.close(fd)


class _Out:
    """Collects small pieces of a stream; large ones go from file to pipe without a copy."""

    def __init__(self, fd: int, tell: Callable[[int], None]) -> None:
        self.fd = fd
        self.tell = tell
        self.buffer = bytearray()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Write a piece."""
        self.buffer += data
        self.size += len(data)
        if len(self.buffer) >= BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        view = memoryview(bytes(self.buffer))
        self.tell(len(view))
        self.buffer.clear()
        while view:
            view = view[os.write(self.fd, view) :]

    def file(self, fd: int, size: int) -> None:
        """Write `size` bytes of a file: what it lacks by now as zeros."""
        left = size
        if size > SMALL:
            self.flush()
        while left:
            if size > SMALL:
                sent = self.sent(fd, min(left, CHUNK))
            else:
                data = os.read(fd, left)
                self.write(data)
                sent = len(data)
            if not sent:
                break
            left -= sent
        while left:
            self.write(bytes(min(left, BUFFER)))
            left -= min(left, BUFFER)
        self.pad(BLOCK)

    def sent(self, fd: int, count: int) -> int:
        """Write up to `count` bytes of a file; return how many, 0 at its end."""
        try:
            sent = os.sendfile(self.fd, fd, None, count)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            data = os.read(fd, min(count, BUFFER))  # a file system or a stream without it
            self.write(data)
            return len(data)
        self.size += sent
        self.tell(sent)
        return sent

    def pad(self, unit: int) -> None:
        """Write zeros up to a multiple of `unit`."""
        if self.size % unit:
            self.write(bytes(unit - self.size % unit))


class Packer:
    """Writes entries to the descriptor of a stream; ids are those that this process sees.

    `skip` are paths below the source: files that are left out, folders whose content is. `tell`
    is called with every number of bytes that were written.
    """

    def __init__(
        self,
        stream: int,
        *,
        skip: Collection[str] = (),
        warn: Callable[[str], None] | None = None,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        self.out = _Out(stream, tell or (lambda _count: None))
        self.skip = frozenset(skip)
        self.warn = warn or (lambda _text: None)
        self.seen: dict[tuple[int, int], str] = {}

    def close(self) -> None:
        """Write the end of the archive."""
        self.out.write(bytes(2 * BLOCK))
        self.out.pad(tarfile.RECORDSIZE)
        self.out.flush()

    def header(self, info: tarfile.TarInfo) -> None:
        """Write the header of an entry."""
        self.out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def add(self, source: Source, name: str) -> None:
        """Write a source, and what is below it, under `name`; closes it."""
        if stat.S_ISREG(source.is_.st_mode):
            self.file(name, source.fd)
            return
        try:
            if stat.S_ISLNK(source.is_.st_mode):
                self.entry(name, source.is_, os.readlink("", dir_fd=source.fd))
            else:
                self.entry(
                    name, source.is_, said=pack_attributes(source.fd) if source.is_folder else None
                )
            if source.is_folder:
                self.below(source.fd, name)
        finally:
            os.close(source.fd)

    def below(self, top: int, name: str) -> None:
        """Write everything below the folder `top`, whose name is `name`; without recursion."""
        stack: list[tuple[str, ...]] = [()]
        while stack:
            parts = stack.pop()
            try:
                fd = open_folder(top, parts)
            except OSError as error:
                self.warn(f"{'/'.join(parts)!r} is left out: {(error.strerror or '').lower()}")
                continue
            try:
                folders = [
                    (*parts, item)
                    for item in sorted(os.listdir(fd))
                    if self.item(fd, item, name, "/".join((*parts, item)))
                ]
            finally:
                os.close(fd)
            stack += reversed(folders)

    def item(self, fd: int, item: str, top: str, path: str) -> bool:
        """Write an entry of a folder; return whether it is one to go into."""
        name, skipped = f"{top}/{path}", path in self.skip
        try:
            is_ = os.stat(item, dir_fd=fd, follow_symlinks=False)
            if skipped and not stat.S_ISDIR(is_.st_mode):
                return False
            if stat.S_ISREG(is_.st_mode):
                self.file(name, os.open(item, READ | os.O_NOFOLLOW, dir_fd=fd))
                return False
            target = os.readlink(item, dir_fd=fd) if stat.S_ISLNK(is_.st_mode) else ""
        except OSError as error:
            if error.filename is None:
                raise  # the stream
            self.warn(f"{name!r} is left out: {(error.strerror or '').lower()}")
            return False
        is_folder = stat.S_ISDIR(is_.st_mode)
        self.entry(name, is_, target, said=_folder_attributes(fd, item) if is_folder else None)
        return is_folder and not skipped

    def entry(
        self,
        name: str,
        is_: os.stat_result,
        target: str = "",
        said: Mapping[str, str] | None = None,
    ) -> None:
        """Write an entry without content; `said` are more pax headers."""
        kind = KINDS.get(stat.S_IFMT(is_.st_mode))
        if kind is None:
            self.warn(f"{name!r} is left out: a socket")
            return
        info = self.info(name, is_)
        info.type, info.linkname = kind, target
        info.pax_headers = {**info.pax_headers, **(said or {})}
        if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(is_.st_rdev), os.minor(is_.st_rdev)
        self.header(info)

    @staticmethod
    def info(name: str, is_: os.stat_result) -> tarfile.TarInfo:
        """Return what is said of every entry."""
        info = tarfile.TarInfo(name)
        info.mode = stat.S_IMODE(is_.st_mode)
        info.uid, info.gid = is_.st_uid, is_.st_gid
        info.mtime = is_.st_mtime_ns // 1_000_000_000
        if is_.st_mtime_ns % 1_000_000_000:
            seconds = f"{info.mtime}.{is_.st_mtime_ns % 1_000_000_000:09}"
            info.pax_headers = {"mtime": seconds}
        return info

    def file(self, name: str, fd: int) -> None:
        """Write a regular file, and close it; a second link to one already written as such."""
        try:
            is_ = os.fstat(fd)
            info = self.info(name, is_)
            if not stat.S_ISREG(is_.st_mode):
                self.warn(f"{name!r} is left out: it was replaced meanwhile")
                return
            key = (is_.st_dev, is_.st_ino)
            if is_.st_nlink > 1 and key in self.seen:
                info.type, info.linkname = tarfile.LNKTYPE, self.seen[key]
                self.header(info)
            else:
                self.seen.update({key: name} if is_.st_nlink > 1 else {})
                info.size = is_.st_size
                info.pax_headers = {**info.pax_headers, **pack_attributes(fd)}
                self.header(info)
                self.out.file(fd, is_.st_size)
        finally:
            os.close(fd)
