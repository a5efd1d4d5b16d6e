"""The store: an OCI image layout, which skopeo and umoci read and write beside us.

`images/` is the layout, `pulls/` holds blobs that are on their way, `layers/` what is unpacked
(`viscum.image.layers`). A blob gets its name in the layout by rename, once its digest is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os

from ..errors import ImageError
from ..places import data_folder, make_folder
from . import document
from .locks import Lock, lock_number, try_lock
from .manifest import Descriptor, Index, Manifest, digest_of, parse_descriptor, parse_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from .incoming import Incoming

__all__ = ["NAME", "Partial", "Store", "open_store"]

NAME = "org.opencontainers.image.ref.name"
FROM_INDEX = "org.viscum.image.index"
"""Annotation of an image that was chosen from an index: the digest of that."""
EVIDENCE = "org.viscum.image.signatures"
"""Annotation of an image: the digest of a blob with the signatures that were looked at."""
BESIDE = (FROM_INDEX, EVIDENCE)
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY = b'{"schemaVersion":2,"manifests":[]}'
MAX_INDEX = 64 << 20
INDEX_LOCK, USE_LOCK = 0, 1 << 61
CHUNK = 1 << 20


class Store:
    """The images of one data folder. Methods may be called from any thread and process."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.images = f"{folder}/images"
        self.layers = f"{folder}/layers"
        self.pulls = f"{folder}/pulls"
        self.lock_file = f"{folder}/images.lock"

    def make(self) -> Self:
        """Make what is missing of the folders; raises ViscumError where that fails."""
        if os.path.exists(f"{self.images}/index.json") and os.path.isdir(self.layers):
            return self
        below = ("images", "images/blobs", "images/blobs/sha256", "layers", "pulls")
        make_folder(self.folder, *below, hint="make it writable, or set VISCUM_DATA")
        with self.index_lock():
            for name, data in (("oci-layout", LAYOUT), ("index.json", EMPTY)):
                if not os.path.exists(f"{self.images}/{name}"):
                    self._write(f"{self.images}/{name}", data)
        return self

    # Locks.

    def index_lock(self) -> Lock:
        """Lock index.json for a change."""
        return Lock(self.lock_file, INDEX_LOCK)

    def use(self) -> Lock:
        """Keep blobs and layers that nothing refers to yet from being collected."""
        return Lock(self.lock_file, USE_LOCK, shared=True)

    def collecting(self) -> Lock | None:
        """Lock out everybody who adds to the store; None where somebody does."""
        return try_lock(self.lock_file, USE_LOCK)

    def blob_lock(self, digest: str) -> Lock:
        """Lock a blob that is to be added; waits for whoever adds it."""
        return Lock(self.lock_file, lock_number(digest))

    # Blobs.

    def blob_path(self, digest: str) -> str:
        """Return where a blob is or would be."""
        algorithm, _, hexadecimal = digest.partition(":")
        return f"{self.images}/blobs/{algorithm}/{hexadecimal}"

    def has(self, descriptor: Descriptor) -> bool:
        """Return whether a blob of that name and size is there."""
        try:
            return os.stat(self.blob_path(descriptor.digest)).st_size == descriptor.size
        except OSError:
            return False

    def partial_size(self, descriptor: Descriptor) -> int:
        """Return how much of a blob an earlier attempt left."""
        try:
            return os.stat(self.partial_path(descriptor.digest)).st_size
        except OSError:
            return 0

    def partial_path(self, digest: str) -> str:
        """Return where a blob is while it comes."""
        return f"{self.pulls}/{digest.replace(':', '-')}"

    def read(self, digest: str, what: str, limit: int = document.MAX_DOCUMENT) -> bytes:
        """Return a small blob, its digest compared; raises ImageError."""
        try:
            with open(self.blob_path(digest), "rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise ImageError(
                f"{what} {digest} is not in the store: {reason}", hint="viscum pull it again"
            ) from None
        if len(data) > limit:
            raise ImageError(f"{what} {digest} has more than {limit} bytes")
        if digest_of(data, digest.partition(":")[0]) != digest:
            raise ImageError(
                f"{what} {digest} is damaged in the store", hint="viscum store check --repair"
            )
        return data

    def add(self, data: bytes, digest: str | None = None) -> str:
        """Keep a small blob; return its digest."""
        digest = digest or digest_of(data)
        path = self.blob_path(digest)
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._write(path, data)
        return digest

    def _write(self, path: str, data: bytes) -> None:
        """Write a file under another name first, so that it is whole or not there."""
        temporary = f"{self.pulls}/{os.path.basename(path)[:40]}.{os.getpid()}.{id(data):x}"
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(file.fileno())
            os.chmod(temporary, 0o644)
            os.rename(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise self.failed(error, path) from None

    def failed(self, error: OSError, path: str) -> ImageError:
        """Return what to tell about a file of the store that cannot be written."""
        hint = {28: "the disk is full: viscum gc", 122: "the quota is used up: viscum gc"}
        reason = (error.strerror or "").lower()
        return ImageError(f"store {path!r}: {reason}", hint=hint.get(error.errno or 0, ""))

    # The index.

    def entries(self) -> list[dict[str, object]]:
        """Return the entries of index.json as they are."""
        path = f"{self.images}/index.json"
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_INDEX + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
        return document.list_of(document.parse(data, path, MAX_INDEX), "manifests", dict, path)

    def names(self) -> dict[str, Descriptor]:
        """Return the descriptors of the images by their names; nameless ones by their digests."""
        found: dict[str, Descriptor] = {}
        for entry in self.entries():
            descriptor = parse_descriptor(entry, "index.json")
            found[descriptor.note(NAME) or f"@{descriptor.digest}"] = descriptor
        return found

    def change(self, change: Callable[[list[dict[str, object]]], list[dict[str, object]]]) -> None:
        """Rewrite index.json as `change` says, one process at a time."""
        self.make()
        with self.index_lock():
            entries = change(self.entries())
            made = {"schemaVersion": 2, "manifests": entries}
            self._write(f"{self.images}/index.json", document.write(made))

    def name(self, name: str, descriptor: Descriptor) -> None:
        """Have `name` stand for an image; what it stood for before stays without a name only
        where it has another.
        """
        notes = {**dict(descriptor.annotations), **({NAME: name} if name else {})}
        name = name or f"@{descriptor.digest}"
        entry = descriptor.replace(annotations=tuple(notes.items())).as_json()
        self.change(lambda entries: [*_without(entries, name), entry])

    def forget(self, name: str) -> None:
        """Take a name away."""
        self.change(lambda entries: _without(entries, name))

    # Documents.

    def manifest(self, descriptor: Descriptor) -> Manifest | Index:
        """Return the manifest or index that a descriptor names; raises ImageError."""
        data = self.read(descriptor.digest, "manifest")
        return parse_manifest(data, descriptor.media_type, f"manifest {descriptor.digest}")

    def reachable(self, entries: list[dict[str, object]]) -> set[str]:
        """Return the digests of all blobs that the entries need."""
        found: set[str] = set()
        rest = [parse_descriptor(entry, "index.json") for entry in entries]
        while rest:
            one = rest.pop()
            if one.digest in found:
                continue
            found.add(one.digest)
            found.update(filter(None, map(one.note, BESIDE)))
            found.update(self._blobs_of(one, rest))
        return found

    def _blobs_of(self, one: Descriptor, rest: list[Descriptor]) -> list[str]:
        """Return what a manifest needs, and add what an index lists to `rest`. What cannot be
        read refers to nothing: the check tells of it.
        """
        try:
            made = self.manifest(one)
        except ImageError:
            return []
        if isinstance(made, Index):
            rest += made.manifests
            return []
        return [made.config.digest, *(layer.digest for layer in made.layers)]

    def blobs(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield the digest and the file of every blob."""
        base = f"{self.images}/blobs"
        for algorithm in sorted(os.listdir(base)) if os.path.isdir(base) else ():
            with os.scandir(f"{base}/{algorithm}") as files:
                yield from ((f"{algorithm}:{file.name}", file) for file in files)


def _without(entries: list[dict[str, object]], name: str) -> list[dict[str, object]]:
    def named(entry: dict[str, object]) -> str:
        notes = entry.get("annotations")
        found = notes.get(NAME) if isinstance(notes, dict) else None
        return str(found or f"@{entry.get('digest')}")

    return [entry for entry in entries if named(entry) != name]


def open_store(folder: str | None = None) -> Store:
    """Return the store of this user's data folder, made where it is missing."""
    return Store(folder or data_folder()).make()


class Partial:
    """A blob that is being added: goes on where an earlier attempt ended, and is named in the
    layout only once size and digest are right. Use it under the blob's lock.
    """

    def __init__(self, store: Store, descriptor: Descriptor) -> None:
        self.store = store
        self.descriptor = descriptor
        self.path = store.partial_path(descriptor.digest)
        self.file = open(self.path, "a+b", buffering=0)
        self.hash = hashlib.new(descriptor.digest.partition(":")[0])
        self.size = 0
        self.watcher: Incoming | None = None
        self._recall()

    def watched_by(self, watcher: Incoming) -> None:
        """Have somebody read the blob while it comes."""
        self.watcher = watcher
        watcher.begin(self.file.fileno())
        watcher.grew(self.size)

    def _recall(self) -> None:
        """Take in what an earlier attempt left; more than there should be is thrown away."""
        if os.fstat(self.file.fileno()).st_size > self.descriptor.size:
            self.file.truncate(0)
        self.file.seek(0)
        while data := self.file.read(CHUNK):
            self.hash.update(data)
            self.size += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()

    def restart(self) -> None:
        """Begin anew: the other side does not go on from the middle."""
        if self.watcher is not None:
            self.watcher.restarted()
        self.file.truncate(0)
        self.hash = hashlib.new(self.descriptor.digest.partition(":")[0])
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes; raises ImageError for more than were announced."""
        if self.size + len(data) > self.descriptor.size:
            self.discard()
            raise ImageError(
                f"blob {self.descriptor.digest} is longer than the {self.descriptor.size} bytes "
                "that the manifest says"
            )
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) or 0 :]
        except OSError as error:
            raise self.store.failed(error, self.path) from None
        self.hash.update(data)
        self.size += len(data)
        if self.watcher is not None:
            self.watcher.grew(self.size)

    def discard(self) -> None:
        """Throw away what is there."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def finish(self) -> None:
        """Name the blob in the layout; raises ImageError for another digest or size."""
        wanted = self.descriptor
        if self.size != wanted.size:
            raise ImageError(f"blob {wanted.digest} ended after {self.size} of {wanted.size} bytes")
        found = f"{self.hash.name}:{self.hash.hexdigest()}"
        if found != wanted.digest:
            self.discard()
            raise ImageError(f"blob {wanted.digest} has the digest {found}")
        path = self.store.blob_path(wanted.digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.chmod(self.path, 0o644)
        os.rename(self.path, path)
