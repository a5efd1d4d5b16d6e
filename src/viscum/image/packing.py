"""A layer of what a machine changed: the upper folder of its overlay as a tar archive."""

from __future__ import annotations

import io
import os
import stat
import tarfile

from ..attributes import pack_attributes
from ..errors import ImageError
from ..folders import FOLDER, opened
from .trees import is_opaque, is_whiteout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["pack_layer"]


def pack_layer(upper: str, target: str, skip: Collection[str] = ()) -> None:
    """Write the folder `upper` as a layer to the new file `target`, without the paths in `skip`
    where they are all that there is. Whiteouts and opaque folders become those of layers.
    """
    with (
        opened(upper) as folder,
        open(target, "xb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        try:
            _Packer(tar, frozenset(skip)).folder(folder, "")
        except RecursionError:
            raise ImageError("what the machine wrote has folders nested too deep") from None


class _Packer:
    def __init__(self, tar: tarfile.TarFile, skip: frozenset[str]) -> None:
        self.tar = tar
        self.skip = skip
        self.links: dict[tuple[int, int], str] = {}
        self.waiting: list[tarfile.TarInfo] = []

    def folder(self, fd: int, path: str) -> None:
        """Add what is in a folder; one of `skip` is added only with something in it."""
        if is_opaque(fd):
            self._add(self._info(f"{path}.wh..wh..opq", os.fstat(fd), tarfile.REGTYPE))
        for name in sorted(os.listdir(fd)):
            is_ = os.stat(name, dir_fd=fd, follow_symlinks=False)
            where = path + name
            if is_whiteout(is_):
                self._add(self._info(f"{path}.wh.{name}", is_, tarfile.REGTYPE))
            elif stat.S_ISDIR(is_.st_mode):
                self._subfolder(fd, name, where)
            elif where not in self.skip:
                self._entry(fd, name, where, is_)

    def _subfolder(self, fd: int, name: str, where: str) -> None:
        with opened(name, FOLDER, fd) as below:
            info = self._info(where, os.fstat(below), tarfile.DIRTYPE)
            info.pax_headers = {**info.pax_headers, **pack_attributes(below)}
            if where in self.skip:
                self.waiting.append(info)
            else:
                self._add(info)
            self.folder(below, where + "/")
            if self.waiting and self.waiting[-1] is info:
                self.waiting.pop()

    def _add(self, info: tarfile.TarInfo, data: io.BufferedIOBase | None = None) -> None:
        for one in self.waiting:
            self.tar.addfile(one)
        self.waiting.clear()
        self.tar.addfile(info, data)

    def _info(self, name: str, is_: os.stat_result, kind: bytes) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, stat.S_IMODE(is_.st_mode)
        info.uid, info.gid = is_.st_uid, is_.st_gid
        info.mtime = is_.st_mtime
        return info

    def _entry(self, fd: int, name: str, where: str, is_: os.stat_result) -> None:
        kinds = {
            stat.S_IFREG: tarfile.REGTYPE,
            stat.S_IFLNK: tarfile.SYMTYPE,
            stat.S_IFCHR: tarfile.CHRTYPE,
            stat.S_IFBLK: tarfile.BLKTYPE,
            stat.S_IFIFO: tarfile.FIFOTYPE,
        }
        kind = kinds.get(stat.S_IFMT(is_.st_mode))
        if kind is None:
            return  # a socket
        info = self._info(where, is_, kind)
        known = self.links.setdefault((is_.st_dev, is_.st_ino), where)
        if known != where:
            info.type, info.linkname = tarfile.LNKTYPE, known
            self._add(info)
        elif kind == tarfile.REGTYPE:
            self._file(fd, name, info)
        else:
            if kind == tarfile.SYMTYPE:
                info.linkname = os.readlink(name, dir_fd=fd)
            info.devmajor, info.devminor = os.major(is_.st_rdev), os.minor(is_.st_rdev)
            self._add(info)

    def _file(self, fd: int, name: str, info: tarfile.TarInfo) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=fd), "rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            info.pax_headers = {**info.pax_headers, **pack_attributes(file.fileno())}
            self._add(info, file)
