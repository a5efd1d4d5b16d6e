"""A blob as those see it who unpack it: a file of the store, or one that still grows.

A layer is unpacked while it comes. Nobody sees what is made of it before its digest and length
were compared: `whole` is asked for before the layer gets its name.
"""

from __future__ import annotations

import os
import threading

from ..errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Reader(Protocol):
        """What a layer is read from."""

        def read(self, size: int, /) -> bytes:
            """Return the next bytes, none at the end."""

        def close(self) -> None:
            """Close the file."""

    class Blob(Protocol):
        """A blob that is there, or on its way."""

        def open(self) -> Reader:
            """Return a reader from its beginning, which waits for what is still to come."""

        def whole(self) -> str:
            """Return the path of the blob once its digest is known to be right."""


__all__ = ["Incoming", "Restarted", "Stored"]


class Restarted(ImageError):
    """The download began anew: what was read of it so far may not be what comes."""


class Stored:
    """A blob of the store."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self) -> Reader:
        """Return the file."""
        return open(self.path, "rb", buffering=0)

    def whole(self) -> str:
        """Return the path."""
        return self.path


class Incoming:
    """A blob that a thread fetches and another one reads meanwhile."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.changed = threading.Condition()
        self.file = -1
        self.size = 0
        self.restarts = 0
        self.done = False
        self.failure: BaseException | None = None

    # Whoever fetches it.

    def begin(self, file: int) -> None:
        """Tell which open file the bytes come into."""
        with self.changed:
            self.file = os.dup(file)
            self.changed.notify_all()

    def grew(self, size: int) -> None:
        """Tell how many bytes are there."""
        with self.changed:
            self.size = size
            self.changed.notify_all()

    def restarted(self) -> None:
        """Tell that the bytes come again, from the first."""
        with self.changed:
            self.size = 0
            self.restarts += 1
            self.changed.notify_all()

    def end(self, failure: BaseException | None = None) -> None:
        """Tell that the blob is in the store, or why it is not."""
        with self.changed:
            if self._ended():
                return
            self.done, self.failure = failure is None, failure
            if self.file >= 0:
                os.close(self.file)
            self.changed.notify_all()

    # Whoever reads it.

    def _ended(self) -> bool:
        return self.done or self.failure is not None

    def open(self) -> Reader:
        """Return a reader once there is something to read."""
        with self.changed:
            self.changed.wait_for(lambda: self._ended() or (self.file >= 0 and self.size))
            self._check()
            if self.done:
                return Stored(self.path).open()
            return _Growing(self, os.dup(self.file), self.restarts)

    def whole(self) -> str:
        """Return the path once the blob is in the store; raises what the download raised."""
        with self.changed:
            self.changed.wait_for(self._ended)
            self._check()
        return self.path

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def available(self, at: int, restarts: int) -> int:
        """Return how many bytes there are from `at` on, 0 at the end; waits for some."""
        with self.changed:
            self.changed.wait_for(
                lambda: self._ended() or self.size > at or self.restarts != restarts
            )
            self._check()
            if self.restarts != restarts:
                raise Restarted("the download began anew")
            return self.size - at


class _Growing:
    """Reads a file that grows."""

    def __init__(self, incoming: Incoming, fd: int, restarts: int) -> None:
        self.incoming = incoming
        self.fd = fd
        self.restarts = restarts
        self.at = 0

    def read(self, size: int, /) -> bytes:
        available = self.incoming.available(self.at, self.restarts)
        if available <= 0:
            return b""
        data = os.pread(self.fd, min(size, available), self.at)
        if not data:
            raise Restarted("the download began anew")
        self.at += len(data)
        return data

    def close(self) -> None:
        os.close(self.fd)
