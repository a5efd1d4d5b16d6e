"""The lock that makes a governor the only one of its host and user."""

from __future__ import annotations

import fcntl
import os

from ..errors import ViscumError

__all__ = ["Holding"]


class Holding:
    """Holds the lock until it is closed, or until the process ends; the file names the holder.

    Raises ViscumError where somebody else holds it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise ViscumError(f"cannot open {path!r}: {(error.strerror or '').lower()}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise ViscumError(
                f"a governor runs already, as process {holder}",
                hint="there is one for each host and user; end that one first",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._fd)
