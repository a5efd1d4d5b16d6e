"""One layer from its blob to a folder: read and decompress, hash, write, side by side."""

from __future__ import annotations

import hashlib
import os
import queue
import threading

from ..errors import ImageError
from . import compression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO, Protocol, Self

    from .incoming import Reader
    from .room import Part

    class Untar(Protocol):
        """What takes a tar archive piece by piece and makes files of it (viscum.native)."""

        def feed(self, data: bytes, /) -> None:
            """Take the next bytes."""

        def finish(self) -> tuple[int, int, int, list[bytes], list[tuple[bytes, bytes]]]:
            """Return entries, bytes, what was left out, folders untold and links missing."""


__all__ = ["MAX_BYTES", "MAX_ENTRIES", "Hashed", "unpack_stream"]


def _bound() -> int:
    text = os.environ.get("VISCUM_LAYER_BYTES") or str(64 << 30)
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 62):
        raise ImageError(f"VISCUM_LAYER_BYTES {text!r} is no number of bytes")
    return int(text)


MAX_BYTES = _bound()
MAX_ENTRIES = 4_000_000
READ = 1 << 19
QUEUED = 4
LONGEST_MAGIC = 4


def _first(file: Reader) -> bytes:
    """Return the first bytes, as many as it takes to tell how they are compressed."""
    first = b""
    while len(first) < LONGEST_MAGIC and (block := file.read(READ)):
        first += block
    return first


def _blocks(first: bytes, file: Reader) -> Iterator[bytes]:
    block = first
    while block:
        yield block
        block = file.read(READ)


class _Stage(threading.Thread):
    """Calls `take` with each piece, in a thread of its own; keeps the first error."""

    def __init__(self, take: object) -> None:
        super().__init__(daemon=True)
        self.take = take
        self.pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.room = threading.Semaphore(QUEUED)
        self.error: BaseException | None = None

    def run(self) -> None:
        while (piece := self.pieces.get()) is not None:
            try:
                if self.error is None:
                    self.take(piece)  # type: ignore[operator]
            except BaseException as error:
                self.error = error
            self.room.release()

    def put(self, piece: bytes | None) -> None:
        """Hand on a piece; waits while enough are on their way. Raises what `take` raised."""
        if piece is not None:
            self.room.acquire()
        if self.error is not None and piece is not None:
            raise self.error
        self.pieces.put(piece)


class Hashed:
    """Writes to a file, and hashes what is written beside it. Use it in a `with`."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.stage = _Stage(self.hash.update)

    @property
    def digest(self) -> str:
        """The digest of what was written, after the `with`."""
        return f"sha256:{self.hash.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Write bytes, all of them."""
        self.stage.put(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]

    def __enter__(self) -> Self:
        self.stage.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.put(None)
        self.stage.join()


def _within(room: Part | None, untar: Untar) -> Callable[[bytes], None]:
    """Return what unpacks a piece as long as there is room for it."""
    if room is None:
        return untar.feed

    def feed(piece: bytes) -> None:
        room.take(len(piece))
        untar.feed(piece)

    return feed


def unpack_stream(
    file: Reader, untar: Untar, diff_id: str, room: Part | None = None
) -> tuple[int, int, int, list[bytes], list[tuple[bytes, bytes]]]:
    """Feed the layer in `file` to `untar`; return what that tells when it is finished.

    How it is compressed, its first bytes say: media types are wrong often enough. Raises ImageError
    where the bytes are not those of `diff_id`, and what `untar` and `room` raise.
    """
    first = _first(file)
    digest = hashlib.new(diff_id.partition(":")[0])
    hasher, feeder = _Stage(digest.update), _Stage(_within(room, untar))
    stages = (hasher, feeder)
    for stage in stages:
        stage.start()
    try:
        for piece in compression.decompressed(_blocks(first, file), compression.detect(first)):
            for stage in stages:
                stage.put(piece)
    finally:
        for stage in stages:
            stage.put(None)
        for stage in stages:
            stage.join()
    for stage in stages:
        if stage.error is not None:
            raise stage.error
    told = untar.finish()
    if f"{digest.name}:{digest.hexdigest()}" != diff_id:
        raise ImageError(f"it unpacks to {digest.name}:{digest.hexdigest()}, not to {diff_id}")
    return told
