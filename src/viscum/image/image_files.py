"""Images that are kept as EROFS: one file for a chain of layers, `layers/erofs-CHAIN`.

`erofs-CHAIN.json` says that the file is whole, what digest it has, and which file that was said
of: another inode, size or time, and the digest is computed again before the file is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from ..errors import ImageError
from . import document
from .locks import Lock, lock_number
from .replacing import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .layers import Layers
    from .room import Room

__all__ = ["PREFIX", "ImageFiles", "digest_of_file"]

PREFIX = "erofs-"
READ = 1 << 20


def digest_of_file(path: str) -> str:
    """Return the digest of a file's bytes."""
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(READ):
            found.update(data)
    return f"sha256:{found.hexdigest()}"


def _identity(path: str) -> list[int]:
    is_ = os.stat(path, follow_symlinks=False)
    return [is_.st_ino, is_.st_size, is_.st_mtime_ns]


def _write_note(path: str, note: dict[str, object]) -> None:
    replace_file(f"{path}.json", document.write(note))


class ImageFiles:
    """The image files beside the unpacked layers of a store."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def path(self, chain: str) -> str:
        """Return where the file of a chain is or would be."""
        return f"{self.layers.folder}/{PREFIX}{chain.replace(':', '-')}"

    def ready(self, chain: str) -> bool:
        """Return whether the image is kept as its file: that is there, whole and what it was."""
        path = self.path(chain)
        note = self.layers.note(path)
        return note is not None and not note.get("retired") and self._fits(path, note)

    def _fits(self, path: str, note: dict[str, object]) -> bool:
        """Return whether a file is what its note says; where only inode or time are others, that
        is written down.
        """
        try:
            if note.get("file") == _identity(path):
                return True
            if digest_of_file(path) != note.get("digest"):
                return False
        except OSError:
            return False
        _write_note(path, {**note, "file": _identity(path)})
        return True

    def retire(self, chain: str) -> None:
        """Have the image not be kept as its file any more. It goes with the next collection, unless
        a machine has it.
        """
        path = self.path(chain)
        with Lock(self.layers.lock_file, lock_number(chain)):
            note = self.layers.note(path)
            if note is not None and not note.get("retired"):
                _write_note(path, {**note, "retired": True})

    def make(self, chains: Sequence[str], room: Room) -> str:
        """Return the path of the file for a chain whose layers are unpacked, made where it is
        missing. Raises ImageError, and OverQuota before anything of it is written.
        """
        path = self.path(chains[-1])
        with Lock(self.layers.lock_file, lock_number(chains[-1])):
            note = self.layers.note(path)
            if note is None or not self._fits(path, note):
                self._make(path, chains, room)
            elif note.get("retired"):
                _write_note(path, {**note, "retired": False, "file": _identity(path)})
        return path

    def _make(self, path: str, chains: Sequence[str], room: Room) -> None:
        worker, base = self.layers.worker, os.path.basename(path)
        tree = f"{self.layers.folder}/new-tree-{base}"
        temporary = f"{self.layers.folder}/new-{base}"
        for leftover in (tree, temporary):
            worker.remove(leftover)
        os.mkdir(tree, 0o755)
        try:
            worker.flatten(tree, [self.layers.path(chain) for chain in chains])
            digest = worker.write_image(tree, temporary, room.take)
            note = {"digest": digest, "file": _identity(temporary), "parent": ""}
            size = os.stat(temporary).st_size
            self.layers.publish(temporary, path, {**note, "size": size})
        except OSError as error:
            raise self.layers.store.failed(error, path) from None
        finally:
            worker.remove(tree)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def drop(self, chain: str) -> None:
        """Remove a file; who has it mounted keeps it until the mount ends."""
        for path in (f"{self.path(chain)}.json", self.path(chain)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def faults(self) -> list[tuple[str, str]]:
        """Return the names of files whose bytes are not those that were written, and why."""
        found = []
        for name in sorted(os.listdir(self.layers.folder)):
            path = f"{self.layers.folder}/{name}"
            if not name.startswith(PREFIX) or not os.path.isfile(path) or name.endswith(".json"):
                continue
            note = self.layers.note(path)
            if note is None:
                found.append((name, "an image file is not whole"))
                continue
            try:
                digest = digest_of_file(path)
            except OSError as error:
                raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
            if digest != note.get("digest"):
                found.append((name, f"an image file has the digest {digest}"))
        return found
