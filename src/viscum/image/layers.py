"""Unpacked layers: a folder for each chain of layers, shared by all images that have it.

`layers/CHAIN` is what one layer adds, `layers/CHAIN.json` says that it is whole, and
`layers/flat-CHAIN` shows a chain of many layers as one. What is being made has another name, and
whoever finds it without an owner removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import time

from ..errors import ImageError
from . import document
from .incoming import Restarted, Stored
from .locks import Lock, lock_number
from .replacing import replace_file
from .room import OverQuota, Part, Room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Protocol

    from .incoming import Blob
    from .manifest import Descriptor
    from .store import Store

    class Worker(Protocol):
        """Does the work on layers, as the user who owns what is in them."""

        def unpack(
            self,
            blob: Blob,
            diff_id: str,
            target: str,
            below: Sequence[str],
            wait: Callable[[], None],
            room: Part,
        ) -> int:
            """Unpack a layer into the empty folder `target`; return its bytes. `wait` returns
            once the layers `below` are ready. The bytes may come while they are unpacked: they
            are those of the blob once `blob.whole` returns.
            """

        def flatten(self, target: str, layers: Sequence[str]) -> None:
            """Fill `target` with what `layers`, the lowest first, show together."""

        def write_image(self, folder: str, path: str, allow: Callable[[int], None]) -> str:
            """Write an EROFS image of a folder, and have the kernel read it; return its digest.
            `allow` is told the size before, and raises where that is too much.
            """

        def remove(self, path: str) -> None:
            """Remove a folder and what is in it, or a file."""

        def sync(self, folder: str) -> None:
            """Have the file system of `folder` on disk."""


__all__ = ["FLAT_OVER", "Layers", "chain_ids"]

FLAT_OVER = 4
"""Chains of more layers than this are shown as one: each layer of an overlay takes time."""
SETTLE_SECONDS = 60.0
MAX_NOTE = 64 << 10


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Return the chain id of each layer: what it and all below it are, the lowest first."""
    chains: list[str] = []
    for diff_id in diff_ids:
        if not chains:
            chains.append(diff_id)
            continue
        digest = hashlib.sha256(f"{chains[-1]} {diff_id}".encode()).hexdigest()
        chains.append(f"sha256:{digest}")
    return chains


def boot_id() -> str:
    """Return what tells this boot from others."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().decode().strip()


class Layers:
    """The unpacked layers of a store; whoever `find_worker` returns touches what is in them."""

    def __init__(self, store: Store, find_worker: Callable[[], Worker]) -> None:
        self.store = store
        self._find_worker = find_worker
        self.folder = store.layers
        self.lock_file = f"{store.folder}/layers.lock"

    @functools.cached_property
    def worker(self) -> Worker:
        """Who works on layers."""
        return self._find_worker()

    def path(self, chain: str) -> str:
        """Return where the folder of a chain is or would be."""
        return f"{self.folder}/{chain.replace(':', '-')}"

    def flat_path(self, chain: str) -> str:
        """Return where a chain is shown as one folder."""
        return f"{self.folder}/flat-{chain.replace(':', '-')}"

    def note(self, path: str) -> dict[str, object] | None:
        """Return what is said of a whole layer, None where it is not there or cannot be trusted:
        of an earlier boot, and not known to have reached the disk before that ended.
        """
        try:
            with open(f"{path}.json", "rb") as file:
                note = document.parse(file.read(MAX_NOTE), f"{path}.json")
        except (OSError, ImageError):
            return None
        fine = note.get("synced") is True or note.get("boot") == boot_id()
        return note if fine else None

    def ready(self, chain: str) -> bool:
        """Return whether a layer is unpacked and whole."""
        return self.note(self.path(chain)) is not None and os.path.isdir(self.path(chain))

    def publish(self, temporary: str, path: str, note: dict[str, object]) -> None:
        """Give a finished folder or file its name, then say that it is whole."""
        data = document.write({**note, "boot": boot_id(), "synced": False, "made": time.time()})
        os.rename(temporary, path)
        with open(f"{temporary}.json", "wb") as file:  # of whoever was killed before the rename
            file.write(data)
        os.rename(f"{temporary}.json", f"{path}.json")

    @contextlib.contextmanager
    def _temporary(self, path: str) -> Iterator[str]:
        """A folder for what becomes `path`; locked while it is worked on, removed on failure."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.json")
        self.worker.remove(path)
        temporary = f"{self.folder}/new-{os.path.basename(path)}"
        self.worker.remove(temporary)
        os.mkdir(temporary, 0o755)
        try:
            yield temporary
        except BaseException:
            with contextlib.suppress(OSError, ImageError):
                self.worker.remove(temporary)
            with contextlib.suppress(OSError):
                os.unlink(f"{temporary}.json")
            raise

    def unpack(
        self,
        layer: Descriptor,
        diff_id: str,
        chains: Sequence[str],
        wait: Callable[[], None] = lambda: None,
        *,
        room: Room | None = None,
        blob: Blob | None = None,
    ) -> int:
        """Unpack the layer whose chain is the last of `chains`; `wait` returns once those below
        it are ready. `blob` is given where it is still on its way.

        Returns how many bytes of files that took, 0 where it was there.
        """
        chain = chains[-1]
        with Lock(self.lock_file, lock_number(chain)):
            if self.ready(chain):
                return 0
            below = [self.path(each) for each in chains[:-1]]
            with self._temporary(self.path(chain)) as temporary:
                source = blob or Stored(self.store.blob_path(layer.digest))
                size = self._unpack(source, layer, (diff_id, temporary, below, wait), room)
                source.whole()
                parent = chains[-2] if len(chains) > 1 else ""
                note = {"diffId": diff_id, "parent": parent, "size": size}
                self.publish(temporary, self.path(chain), note)
            return size

    def _unpack(
        self,
        blob: Blob,
        layer: Descriptor,
        rest: tuple[str, str, Sequence[str], Callable[[], None]],
        room: Room | None,
    ) -> int:
        part = Part(room or Room())
        try:
            return self.worker.unpack(blob, *rest, part)
        except (OverQuota, Restarted):
            part.fail()
            raise
        except ImageError as error:
            part.fail()
            raise ImageError(f"layer {layer.digest}: {error.message}", hint=error.hint) from None

    def flatten(self, chains: Sequence[str]) -> str:
        """Return the folder that shows a chain as one, made where it is missing."""
        path = self.flat_path(chains[-1])
        if self.note(path) is not None:
            return path
        with Lock(self.lock_file, lock_number(chains[-1])):
            if self.note(path) is None:
                with self._temporary(path) as temporary:
                    self.worker.flatten(temporary, [self.path(each) for each in chains])
                    self.publish(temporary, path, {"parent": chains[-1], "size": 0})
        return path

    def roots(self, chains: Sequence[str]) -> tuple[str, ...]:
        """Return the folders that make the root of a machine, the highest first."""
        if len(chains) > FLAT_OVER:
            return (self.flatten(chains),)
        return tuple(self.path(each) for each in reversed(chains))

    def settle(self) -> None:
        """Have layers that were unpacked a while ago on disk, and say so. A power failure before
        that costs unpacking them again, and nothing else.
        """
        late = []
        for name in os.listdir(self.folder):
            path = f"{self.folder}/{name.removesuffix('.json')}"
            if not name.endswith(".json") or name.startswith("new-"):
                continue
            note = self.note(path)
            made = note.get("made") if note else None
            if note and note.get("synced") is not True and isinstance(made, float):
                late += [(path, note)] if made + SETTLE_SECONDS < time.time() else []
        if not late:
            return
        self.worker.sync(self.folder)
        for path, note in late:
            with Lock(self.lock_file, lock_number(os.path.basename(path))):
                if self.note(path) == note:
                    replace_file(f"{path}.json", document.write({**note, "synced": True}))

    def sizes(self) -> tuple[int, int]:
        """Return the bytes that folders of layers take, and those of image files."""
        found = {False: 0, True: 0}
        for name in os.listdir(self.folder):
            if name.endswith(".json"):
                size = (self.note(f"{self.folder}/{name.removesuffix('.json')}") or {}).get("size")
                found[name.startswith("erofs-")] += size if isinstance(size, int) else 0
        return found[False], found[True]

    def collect(self, needed: set[str], kept: set[str]) -> int:
        """Remove layers and image files that are not among those `needed`, by their names, and
        that no machine holds; return how many bytes of files they had. The caller keeps everybody
        else from adding layers.
        """
        keep = set(needed)
        for name in kept:
            keep |= {name, *self._chain_of(name)}
        names = sorted(os.listdir(self.folder))
        made = [name for name in names if not name.endswith(".json")]
        spare = [name for name in made if not {name, name.removeprefix("flat-")} & keep]
        for name in [name for name in spare if self._is_held(name)]:
            keep |= self._chain_of(name)
        freed = sum(self._remove(name) for name in spare if name not in keep)
        for name in names:
            plain = name.removesuffix(".json")
            if name != plain and not os.path.lexists(f"{self.folder}/{plain}"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.folder}/{name}")
        return freed

    def in_use(self, chains: Sequence[str], names: set[str]) -> bool:
        """Return whether a machine holds the root that `chains` make, or it is among `names`."""
        top = os.path.basename(self.path(chains[-1]))
        roots = {top, f"flat-{top}", f"erofs-{top}"}
        return bool(roots & names) or any(
            self._is_held(name) for name in roots if os.path.lexists(f"{self.folder}/{name}")
        )

    def _chain_of(self, name: str) -> set[str]:
        """Return the names of a layer and of all below it."""
        found: set[str] = set()
        while name and name not in found:
            found.add(name)
            note = self.note(f"{self.folder}/{name}") or {}
            parent = note.get("parent")
            name = parent.replace(":", "-") if isinstance(parent, str) else ""
        return found

    def _locked(self, name: str) -> int:
        """Return a descriptor of a layer that nobody else holds, -1 where somebody does.

        A machine holds the highest folder of its root by flock(2), or its image file, as long as
        it lives.
        """
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f"{self.folder}/{name}", flags)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        return fd

    def _is_held(self, name: str) -> bool:
        fd = self._locked(name)
        if fd >= 0:
            os.close(fd)
        return fd < 0

    def _remove(self, name: str) -> int:
        """Remove a layer, unless somebody holds it by now; return the bytes of its files."""
        try:
            fd = self._locked(name)
        except FileNotFoundError:
            return 0  # what another removal had left, and went with the one before
        if fd < 0:
            return 0
        path, gone = f"{self.folder}/{name}", f"{self.folder}/new-gone"
        try:
            size = (self.note(path) or {}).get("size")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.json")
            if path != gone:
                self.worker.remove(gone)
                os.rename(path, gone)
            self.worker.remove(gone)
        finally:
            os.close(fd)
        return size if isinstance(size, int) else 0
