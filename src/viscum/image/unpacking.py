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
    from collections.abc import Iterator
    from typing import BinaryIO, Protocol

    class Untar(Protocol):
        """What takes a tar archive piece by piece and makes files of it (viscum.native)."""

        def feed(self, data: bytes, /) -> None:
            """Take the next bytes."""

        def finish(self) -> tuple[int, int, int, list[bytes], list[tuple[bytes, bytes]]]:
            """Return entries, bytes, what was left out, folders untold and links missing."""


__all__ = ["MAX_BYTES", "MAX_ENTRIES", "unpack_stream"]


def _bound() -> int:
    text = os.environ.get("VISCUM_LAYER_BYTES") or str(64 << 30)
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 62):
        raise ImageError(f"VISCUM_LAYER_BYTES {text!r} is no number of bytes")
    return int(text)


MAX_BYTES = _bound()
MAX_ENTRIES = 4_000_000
READ = 1 << 19
QUEUED = 4


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(READ):
        yield block


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


def unpack_stream(
    file: BinaryIO, untar: Untar, diff_id: str
) -> tuple[int, int, int, list[bytes], list[tuple[bytes, bytes]]]:
    """Feed the layer in `file` to `untar`; return what that tells when it is finished.

    How it is compressed, its first bytes say: media types are wrong often enough. Raises ImageError
    where the bytes are not those of `diff_id`, and what `untar` raises.
    """
    first = file.read(8)
    file.seek(0)
    kind = compression.detect(first)
    digest = hashlib.new(diff_id.partition(":")[0])
    hasher, feeder = _Stage(digest.update), _Stage(untar.feed)
    stages = (hasher, feeder)
    for stage in stages:
        stage.start()
    try:
        for piece in compression.decompressed(_blocks(file), kind):
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
