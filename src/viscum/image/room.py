"""How much a store may hold: a bound that everybody keeps to who adds to it.

With a quota those who add take turns, under a lock, so that what each sees is what there is.
"""

from __future__ import annotations

import contextlib
import os
import threading

from ..errors import ImageError
from ..frozen import Frozen
from .locks import Lock
from .settings import read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layers import Layers
    from .store import Store

__all__ = ["OverQuota", "Part", "Room", "Usage", "measure", "open_room"]

QUOTA_LOCK = (1 << 61) + 1
DIGESTS = ("sha256-", "sha512-")


def _text(size: float) -> str:
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.3g}{units[0]}" if size < 1000 else f"{size:.0f}{units[0]}"


class OverQuota(ImageError):
    """There is no room in the store. `wanted` is what was asked for so far, in bytes."""

    wanted = 0


class Usage(Frozen):
    """Bytes that a store takes."""

    blobs: int
    partial: int
    layers: int
    images: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.blobs + self.partial + self.layers + self.images


def _size(file: os.DirEntry[str]) -> int:
    """Return the bytes of a file, none of one that somebody removed meanwhile."""
    try:
        return file.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def measure(store: Store, layers: Layers) -> Usage:
    """Return what a store takes: blobs, those on their way, files of layers, image files."""
    blobs = sum(_size(file) for _, file in store.blobs())
    with os.scandir(store.pulls) as files:
        # Others are archives and layers that are read or written at the moment.
        partial = sum(_size(file) for file in files if file.name.startswith(DIGESTS))
    folders, images = layers.sizes()
    return Usage(blobs, partial, folders, images)


class Room:
    """What may still be added. Methods may be called from any thread."""

    def __init__(self, left: int | None = None, quota: int = 0) -> None:
        self.left = left
        self.quota = quota
        self.taken = 0
        self.lock = threading.Lock()

    def take(self, size: int) -> None:
        """Take room for so many bytes; raises OverQuota where there is less."""
        if self.left is None:
            return
        with self.lock:
            self.taken += size
            if self.taken > self.left:
                raise self._over()

    def give(self, size: int) -> None:
        """Give room back."""
        with self.lock:
            self.taken -= size

    def rest(self) -> int | None:
        """Return what is left, None where there is no bound."""
        with self.lock:
            return None if self.left is None else max(0, self.left - self.taken)

    def _over(self) -> OverQuota:
        held = self.quota - (self.left or 0)
        error = OverQuota(
            f"the store may hold {_text(self.quota)}, has {_text(held)}, and this takes "
            f"{_text(self.taken)} at least",
            hint="viscum gc, viscum rmi, or a higher bound: viscum store set --quota",
        )
        error.wanted = self.taken
        return error


class Part:
    """What one layer takes of a room; all of it is given back where the layer fails."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.taken = 0

    def take(self, size: int) -> None:
        """Take room for so many bytes more."""
        self.taken += size
        self.room.take(size)

    def settle(self, size: int) -> None:
        """Have taken so many bytes in all."""
        self.room.give(self.taken)
        self.taken = size
        self.room.take(size)

    def fail(self) -> None:
        """Give everything back."""
        self.room.give(self.taken)
        self.taken = 0


@contextlib.contextmanager
def open_room(store: Store, layers: Layers) -> Iterator[Room]:
    """Yield the room that there is in a store; alone, where it has a bound."""
    quota = read_settings(store.folder).quota
    if quota is None:
        yield Room()
        return
    with Lock(store.lock_file, QUOTA_LOCK):
        yield Room(quota - measure(store, layers).total, quota)
