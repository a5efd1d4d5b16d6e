"""Locks between processes and threads: ranges of one file, which the kernel lets go of when
whoever holds them is gone, however that came.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Lock", "lock_number"]

F_OFD_SETLK, F_OFD_SETLKW = 37, 38
_FLOCK = struct.Struct("hhqqi4x")


def lock_number(text: str) -> int:
    """Return the place in a lock file that stands for a digest or another text."""
    import zlib

    hexadecimal = text.rpartition(":")[2][:15]
    try:
        return 1 + int(hexadecimal, 16)
    except ValueError:
        return 1 + zlib.crc32(text.encode())


class Lock:
    """A lock on place `number` of the file at `path`, shared or not, until it is closed.

    Each lock opens the file anew, so threads exclude each other too.
    """

    def __init__(self, path: str, number: int, *, shared: bool = False, wait: bool = True) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        request = _FLOCK.pack(kind, os.SEEK_SET, number, 1, 0)
        try:
            fcntl.fcntl(self.fd, F_OFD_SETLKW if wait else F_OFD_SETLK, request)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def try_lock(path: str, number: int) -> Lock | None:
    """Return the lock where nobody holds it, else None."""
    try:
        return Lock(path, number, wait=False)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
