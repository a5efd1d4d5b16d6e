"""What the store holds and needs not, and what it needs and has not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time

from ..errors import ImageError
from ..frozen import Frozen
from .image_files import PREFIX, ImageFiles
from .layers import chain_ids
from .manifest import Descriptor, Index, parse_config, parse_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layers import Layers
    from .store import Store

__all__ = ["Fault", "check", "collect"]

GRACE_SECONDS = 3600.0
READ = 1 << 20


def _manifests(store: Store) -> Iterator[tuple[str, Descriptor]]:
    """Yield every manifest of the store with the name that leads to it."""
    for name, descriptor in store.names().items():
        try:
            made = store.manifest(descriptor)
        except ImageError:
            yield name, descriptor
            continue
        if isinstance(made, Index):
            yield from ((name, each) for each in made.manifests if store.has(each))
        else:
            yield name, descriptor


def names_needed(store: Store, layers: Layers) -> set[str]:
    """Return the names of the layers that the images of the store need: of one that is kept as
    EROFS its file alone.
    """
    needed: set[str] = set()
    files = ImageFiles(layers)
    for _, descriptor in _manifests(store):
        with contextlib.suppress(ImageError):
            made = store.manifest(descriptor)
            if not isinstance(made, Index):
                data = store.read(made.config.digest, "configuration")
                chains = chain_ids(parse_config(data, len(made.layers)).diff_ids)
                image = files.path(chains[-1]) if chains else ""
                note = (layers.note(image) if image else None) or {"retired": True}
                paths = [layers.path(chain) for chain in chains] if note.get("retired") else [image]
                needed.update(map(os.path.basename, paths))
    return needed


def collect(
    store: Store, layers: Layers, spare: set[str], kept: set[str], *, everything: bool = False
) -> int:
    """Remove blobs, partial blobs and layers that no image needs; return the bytes.

    Where somebody pulls at the moment nothing is removed: that is left to the next time.
    """
    lock = store.collecting()
    if lock is None:
        return 0
    with lock:
        needed = store.reachable(store.entries())
        old = time.time() - (0 if everything else GRACE_SECONDS)
        freed = 0
        for digest, file in store.blobs():
            if digest in needed or not file.is_file(follow_symlinks=False):
                continue
            if digest in spare or file.stat().st_mtime <= old:
                freed += _unlink(file.path)
        with os.scandir(store.pulls) as files:
            freed += sum(_unlink(file.path) for file in files if file.stat().st_mtime <= old)
        return freed + layers.collect(names_needed(store, layers), kept)


def _unlink(path: str) -> int:
    try:
        size = os.stat(path).st_size
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return size


class Fault(Frozen):
    """What is wrong with the store, and what can be done about it."""

    what: str
    digest: str
    name: str
    repaired: bool = False


def _bad_blob(path: str, digest: str) -> str:
    algorithm, _, _ = digest.partition(":")
    try:
        found = hashlib.new(algorithm)
        with open(path, "rb", buffering=0) as file:
            while data := file.read(READ):
                found.update(data)
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    fits = f"{algorithm}:{found.hexdigest()}" == digest
    return "" if fits else f"its digest is {algorithm}:{found.hexdigest()}"


def check(store: Store, layers: Layers, *, repair: bool = False) -> list[Fault]:
    """Compare every blob with its digest, and every image with what it needs; return the faults.

    With `repair`, damaged blobs and layers are removed, and names of images that miss something
    are taken away: a pull brings them back.
    """
    faults = []
    bad: set[str] = set()
    for digest, file in store.blobs():
        reason = _bad_blob(file.path, digest)
        if reason:
            bad.add(digest)
            if repair:
                _unlink(file.path)
            faults.append(Fault(f"blob {reason}", digest, "", repair))
    faults += list(_images(store, bad, repair=repair))
    faults += _layers(store, layers, repair=repair)
    files = ImageFiles(layers)
    for name, reason in files.faults():
        if repair:
            files.drop(name.removeprefix(PREFIX))
        faults.append(Fault(reason, name, "", repair))
    return faults


def _images(store: Store, bad: set[str], *, repair: bool) -> list[Fault]:
    faults = []
    for entry in store.entries():
        descriptor = parse_descriptor(entry, "index.json")
        name = descriptor.note("org.opencontainers.image.ref.name") or f"@{descriptor.digest}"
        lacking = [
            digest
            for digest in sorted(store.reachable([entry]))
            if digest in bad or not os.path.exists(store.blob_path(digest))
        ]
        if _is_index(store, descriptor):
            lacking = []  # others' platforms need not be here
        faults += [Fault("an image lacks a blob", digest, name, repair) for digest in lacking]
        if lacking and repair:
            store.forget(name)
    return faults


def _is_index(store: Store, descriptor: Descriptor) -> bool:
    with contextlib.suppress(ImageError):
        return isinstance(store.manifest(descriptor), Index)
    return False


def _layers(store: Store, layers: Layers, *, repair: bool) -> list[Fault]:
    """Look for layers without a note that they are whole: of a crash, or of a power failure."""
    faults = []
    for name in sorted(os.listdir(layers.folder)):
        path = f"{layers.folder}/{name}"
        if name.endswith(".json") or not os.path.isdir(path) or layers.note(path) is not None:
            continue
        lock = store.collecting() if repair else None
        if lock is not None:
            with lock:
                layers.worker.remove(path)
        faults.append(Fault("a layer is not whole", name, "", lock is not None))
    return faults
