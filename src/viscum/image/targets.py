"""Writing images outside of the store: registries, layouts, archives."""

from __future__ import annotations

import functools
import io
import os
import shutil
import tarfile

from ..errors import ImageError
from . import compression, document
from .manifest import Descriptor, Manifest
from .replacing import replace_file
from .store import EMPTY, LAYOUT, NAME, Store
from .together import work_together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from .reference import Reference
    from .registry import Repository

__all__ = [
    "add_image",
    "pieces",
    "push",
    "save_dir",
    "save_docker",
    "save_layout",
    "save_oci_archive",
]

UPLOADS = 3


def push(
    store: Store,
    descriptor: Descriptor,
    repository: Repository,
    reference: Reference,
    progress: Callable[[str, str, int, int], None],
) -> str:
    """Put an image of the store into a registry; return the digest of its manifest there."""
    manifest = _one(store, descriptor)
    blobs = list({each.digest: each for each in (manifest.config, *manifest.layers)}.values())
    uploads = [functools.partial(_upload, store, repository, blob, progress) for blob in blobs]
    work_together((UPLOADS, uploads))
    data = store.read(descriptor.digest, "manifest")
    target = reference.digest or reference.tag or "latest"
    return repository.put_manifest(target, data, descriptor.media_type)


def _upload(
    store: Store,
    repository: Repository,
    blob: Descriptor,
    progress: Callable[[str, str, int, int], None],
) -> None:
    if repository.has_blob(blob.digest):
        progress(blob.digest, "there", blob.size, blob.size)
        return
    if not store.has(blob):
        raise ImageError(f"blob {blob.digest} is not in the store", hint="viscum store check")
    repository.upload(
        blob,
        store.blob_path(blob.digest),
        lambda done: progress(blob.digest, "uploading", done, blob.size),
    )
    progress(blob.digest, "done", blob.size, blob.size)


def _one(store: Store, descriptor: Descriptor) -> Manifest:
    made = store.manifest(descriptor)
    if not isinstance(made, Manifest):
        raise ImageError(f"{descriptor.digest} is an index, and no image")
    return made


def _plain(descriptor: Descriptor, name: str) -> dict[str, object]:
    notes = ((NAME, name),) if name else ()
    return descriptor.replace(annotations=notes).as_json()


def save_layout(store: Store, descriptor: Descriptor, path: str, name: str) -> None:
    """Add an image to the OCI layout in a folder, which is made where there is none."""
    os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
    for blob in sorted(store.reachable([descriptor.replace(annotations=()).as_json()])):
        target = f"{path}/blobs/{blob.replace(':', '/')}"
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _copy_file(store.blob_path(blob), target)
    index = f"{path}/index.json"
    entries = []
    if os.path.exists(index):
        with open(index, "rb") as file:
            value = document.parse(file.read(document.MAX_DOCUMENT + 1), index)
        entries = document.list_of(value, "manifests", dict, index)
    kept = [
        each for each in entries if document.text_map(each, "annotations", index).get(NAME) != name
    ]
    replace_file(f"{path}/oci-layout", LAYOUT)
    made = {**document.parse(EMPTY, index), "manifests": [*kept, _plain(descriptor, name)]}
    replace_file(index, document.write(made))


def _copy_file(source: str, target: str) -> None:
    temporary = f"{target}.{os.getpid()}"
    try:
        shutil.copyfile(source, temporary)
        os.rename(temporary, target)
    except OSError as error:
        raise ImageError(f"{error.filename}: {(error.strerror or '').lower()}") from None


def save_dir(store: Store, descriptor: Descriptor, path: str) -> None:
    """Write an image as skopeo's `dir:` transport has it."""
    os.makedirs(path, exist_ok=True)
    manifest = _one(store, descriptor)
    for blob in (manifest.config, *manifest.layers):
        _copy_file(store.blob_path(blob.digest), f"{path}/{blob.digest.partition(':')[2]}")
    replace_file(f"{path}/version", b"Directory Transport Version: 1.1\n")
    replace_file(f"{path}/manifest.json", store.read(descriptor.digest, "manifest"))


class _Writer:
    """A tar archive in the making."""

    def __init__(self, file: BinaryIO) -> None:
        self.tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT)
        self.names: set[str] = set()

    def data(self, name: str, data: bytes) -> None:
        """Add a file of these bytes."""
        self.stream(name, len(data), io.BytesIO(data))

    def stream(self, name: str, size: int, file: object) -> None:
        """Add a file, once."""
        if name in self.names:
            return
        self.names.add(name)
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o644
        self.tar.addfile(member, file)  # type: ignore[arg-type]

    def close(self) -> None:
        """Finish the archive."""
        self.tar.close()


def save_oci_archive(
    store: Store, images: Sequence[tuple[str, Descriptor]], file: BinaryIO
) -> None:
    """Write images as an archive of an OCI layout."""
    writer = _Writer(file)
    writer.data("oci-layout", LAYOUT)
    entries = [_plain(descriptor, name) for name, descriptor in images]
    writer.data("index.json", document.write({"schemaVersion": 2, "manifests": entries}))
    for _, descriptor in images:
        for blob in sorted(store.reachable([descriptor.replace(annotations=()).as_json()])):
            path = store.blob_path(blob)
            with open(path, "rb") as source:
                size = os.fstat(source.fileno()).st_size
                writer.stream(f"blobs/{blob.replace(':', '/')}", size, source)
    writer.close()


def save_docker(store: Store, images: Sequence[tuple[str, Descriptor]], file: BinaryIO) -> None:
    """Write images as `docker save` does: layers decompressed, named by their digests."""
    writer, rows = _Writer(file), []
    for name, descriptor in images:
        manifest = _one(store, descriptor)
        config = store.read(manifest.config.digest, "configuration")
        digits = manifest.config.digest.partition(":")[2]
        layers = [_docker_layer(store, writer, layer) for layer in manifest.layers]
        writer.data(f"{digits}.json", config)
        rows.append(
            {"Config": f"{digits}.json", "RepoTags": [name] if name else None, "Layers": layers}
        )
    writer.data("manifest.json", document.write(rows))
    writer.close()


def _docker_layer(store: Store, writer: _Writer, layer: Descriptor) -> str:
    """Add a layer decompressed: its size has to be known first, so it is read twice."""
    path = store.blob_path(layer.digest)
    size = sum(len(piece) for piece in pieces(path))
    name = f"{layer.digest.partition(':')[2]}.tar"
    writer.stream(name, size, _Reader(pieces(path)))
    return name


def pieces(path: str) -> Iterator[bytes]:
    """Yield what a layer's blob holds, decompressed."""
    with open(path, "rb", buffering=0) as file:
        kind = compression.detect(file.read(8))
        file.seek(0)
        yield from compression.decompressed(iter(lambda: file.read(1 << 19), b""), kind)


class _Reader:
    """A file that is read from pieces."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self.source = source
        self.rest = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, exactly `size` while there are so many."""
        while len(self.rest) < size:
            piece = next(self.source, b"")
            if not piece:
                break
            self.rest += piece
        data, self.rest = self.rest[:size], self.rest[size:]
        return data


def add_image(store: Store, config: dict[str, object], layers: Sequence[Descriptor]) -> Descriptor:
    """Make an image of layers that are in the store; return what it is."""
    from .manifest import OCI_CONFIG, OCI_MANIFEST

    data = document.write(config)
    manifest = document.write(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, store.add(data), len(data)).as_json(),
            "layers": [layer.as_json() for layer in layers],
        }
    )
    return Descriptor(OCI_MANIFEST, store.add(manifest), len(manifest), ())
