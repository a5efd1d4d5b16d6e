"""Images outside of registries: OCI layouts and archives of them, `docker save`, `dir:` folders.

Nothing is extracted from an archive by the names in it: members are read one by one.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
import threading

from ..errors import ImageError
from . import document
from .manifest import (
    ACCEPTED,
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    INDEXES,
    Descriptor,
    digest_of,
    parse_descriptor,
)
from .reference import check_digest
from .store import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import BinaryIO, Protocol

    from .store import Partial

    class Files(Protocol):
        """Files by their names, in a folder or an archive."""

        def open(self, name: str) -> AbstractContextManager[BinaryIO]:
            """Open a file; raises ImageError."""

        def size(self, name: str) -> int:
            """Return the size of a file; raises ImageError."""


__all__ = ["Archive", "DirSource", "DockerArchive", "Folder", "LayoutSource", "open_source"]

READ = 1 << 20
MAX_MEMBERS = 100_000
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class Folder:
    """Files below a folder; none outside of it is reached."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _where(self, name: str) -> str:
        if ".." in name.split("/") or name.startswith("/"):
            raise ImageError(f"{self.path}: the name {name[:200]!r} leads out")
        return f"{self.path}/{name}"

    def open(self, name: str) -> BinaryIO:
        """Open a file."""
        try:
            fd = os.open(self._where(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            return open(fd, "rb", buffering=0)
        except OSError as error:
            raise ImageError(f"{self.path}/{name}: {(error.strerror or '').lower()}") from None

    def size(self, name: str) -> int:
        """Return the size of a file."""
        try:
            return os.stat(self._where(name)).st_size
        except OSError as error:
            raise ImageError(f"{self.path}/{name}: {(error.strerror or '').lower()}") from None


class Archive:
    """Files in a tar archive, plain or compressed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.RLock()
        try:
            self.tar = tarfile.open(path, "r:*")
            self.members: dict[str, tarfile.TarInfo] = {}
            for member in self.tar:
                self.members[member.name.removeprefix("./")] = member
                if len(self.members) > MAX_MEMBERS:
                    raise ImageError(f"{path} has more than {MAX_MEMBERS} members")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ImageError(f"{path}: {reason}") from None
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ImageError(f"{path} is no tar archive: {error}") from None

    def close(self) -> None:
        """Close the archive."""
        self.tar.close()

    def _member(self, name: str) -> tarfile.TarInfo:
        seen = 0
        member = self.members.get(name)
        while member is not None and (member.issym() or member.islnk()) and seen < 8:
            seen += 1
            base = os.path.dirname(member.name) if member.issym() else ""
            name = os.path.normpath(os.path.join(base, member.linkname))
            member = self.members.get(name)
        if member is None or not member.isfile():
            raise ImageError(f"{self.path} has no file {name[:200]!r}")
        return member

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file. Its members are read one after the other: all share one position, and going
        back and forth in a compressed archive would decompress it again and again.
        """
        with self.lock:
            file = self.tar.extractfile(self._member(name))
            if file is None:
                raise ImageError(f"{self.path} has no file {name[:200]!r}")
            yield file  # type: ignore[misc]

    def size(self, name: str) -> int:
        """Return the size of a file."""
        return self._member(name).size


def _small(files: Files, name: str, what: str) -> bytes:
    with files.open(name) as file:
        data = file.read(document.MAX_DOCUMENT + 1)
    if len(data) > document.MAX_DOCUMENT:
        raise ImageError(f"{what} has more than {document.MAX_DOCUMENT} bytes")
    return data


def _copy(file: BinaryIO, partial: Partial, progress: Callable[[int], None]) -> None:
    partial.restart()
    while data := file.read(READ):
        partial.write(data)
        progress(partial.size)
    partial.finish()


class LayoutSource:
    """An OCI image layout, in a folder or an archive."""

    def __init__(self, files: Files, where: str) -> None:
        self.files = files
        self.where = where

    def _index(self) -> list[Descriptor]:
        data = _small(self.files, "index.json", f"{self.where}: index.json")
        value = document.parse(data, f"{self.where}: index.json")
        found = document.list_of(value, "manifests", dict, self.where)
        return [parse_descriptor(each, self.where) for each in found]

    def names(self) -> list[str]:
        """Return the names of the images in the layout; empty ones have none."""
        return [each.note(NAME) for each in self._index()]

    def find(self, name: str) -> Descriptor:
        """Return the image of a name, or the only one for an empty name."""
        images = self._index()
        found = [each for each in images if each.note(NAME) == name or each.digest == name]
        if not name and len(images) == 1:
            return images[0]
        if len(found) == 1:
            return found[0]
        known = ", ".join(filter(None, (each.note(NAME) for each in images))) or "none"
        raise ImageError(
            f"{self.where} has {len(found) or 'no'} image {name!r}", hint=f"its names: {known}"
        )

    def manifest(self, target: str) -> tuple[bytes, Descriptor]:
        """Return the manifest of a name or a digest."""
        try:
            digest, kind = check_digest(target), ""
        except ImageError:
            found = self.find(target)
            digest, kind = found.digest, found.media_type
        data = self.blob(digest)
        return data, Descriptor(kind or "application/octet-stream", digest, len(data))

    def _path(self, digest: str) -> str:
        return "blobs/" + check_digest(digest).replace(":", "/")

    def blob(self, digest: str, limit: int = document.MAX_DOCUMENT) -> bytes:
        """Return a small blob, its digest compared."""
        del limit
        data = _small(self.files, self._path(digest), f"blob {digest}")
        if digest_of(data, digest.partition(":")[0]) != digest:
            raise ImageError(f"{self.where}: blob {digest} has the digest {digest_of(data)}")
        return data

    def fetch(self, partial: Partial, progress: Callable[[int], None]) -> None:
        """Copy a blob."""
        with self.files.open(self._path(partial.descriptor.digest)) as file:
            _copy(file, partial, progress)


class DirSource(LayoutSource):
    """A folder of skopeo's `dir:` transport: manifest.json, and blobs by their digits."""

    def find(self, name: str) -> Descriptor:
        """Return the only image."""
        del name
        data = _small(self.files, "manifest.json", self.where)
        value = document.parse(data, self.where)
        kind = document.field(value, "mediaType", str, "", self.where)
        fallback = INDEXES[0] if "manifests" in value else ACCEPTED[0]
        return Descriptor(kind or fallback, digest_of(data), len(data))

    def manifest(self, target: str) -> tuple[bytes, Descriptor]:
        """Return the manifest."""
        if ":" in target:
            name = f"{target.partition(':')[2]}.manifest.json"
            if self._has(name):
                data = _small(self.files, name, self.where)
                return data, Descriptor("application/octet-stream", digest_of(data), len(data))
        return _small(self.files, "manifest.json", self.where), self.find("")

    def _has(self, name: str) -> bool:
        with contextlib.suppress(ImageError):
            return self.files.size(name) >= 0
        return False

    def names(self) -> list[str]:
        """Return that the image has no name."""
        return [""]

    def _path(self, digest: str) -> str:
        return check_digest(digest).partition(":")[2]


class DockerArchive:
    """What `docker save` writes: manifest.json names configurations and layers by files."""

    def __init__(self, files: Archive) -> None:
        self.files = files
        self.where = files.path
        data = _small(files, "manifest.json", f"{self.where}: manifest.json")
        wrapped = document.parse(b'{"images":' + data + b"}", f"{self.where}: manifest.json")
        self.images = document.list_of(wrapped, "images", dict, self.where)
        self.paths: dict[str, str] = {}
        self.made: dict[str, bytes] = {}

    def names(self) -> list[str]:
        """Return the names in the archive, an empty one for an image without."""
        found: list[str] = []
        for image in self.images:
            found += document.list_of(image, "RepoTags", str, self.where) or [""]
        return found

    def _find(self, name: str) -> dict[str, object]:
        for image in self.images:
            tags = document.list_of(image, "RepoTags", str, self.where)
            if name in tags or (not name and (len(self.images) == 1 or not tags)):
                return image
        raise ImageError(
            f"{self.where} has no image {name!r}", hint=f"it has {', '.join(self.names())}"
        )

    def _descriptor(self, path: str, kind: str) -> Descriptor:
        import hashlib

        digest, size = hashlib.sha256(), 0
        with self.files.open(path) as file:
            while data := file.read(READ):
                digest.update(data)
                size += len(data)
        name = f"sha256:{digest.hexdigest()}"
        self.paths[name] = path
        return Descriptor(kind, name, size)

    def manifest(self, target: str) -> tuple[bytes, Descriptor]:
        """Return a manifest made for an image, since the archive has none."""
        image = self._find(target)
        config = document.field(image, "Config", str, "", self.where)
        layers = document.list_of(image, "Layers", str, self.where)
        made = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": self._descriptor(config, DOCKER_CONFIG).as_json(),
            "layers": [self._descriptor(path, _LAYER).as_json() for path in layers],
        }
        data = document.write(made)
        return data, Descriptor(DOCKER_MANIFEST, digest_of(data), len(data))

    def blob(self, digest: str, limit: int = document.MAX_DOCUMENT) -> bytes:
        """Return a small blob."""
        del limit
        data = _small(self.files, self.paths[digest], f"blob {digest}")
        if digest_of(data) != digest:
            raise ImageError(f"{self.where}: {self.paths[digest]} changed while it was read")
        return data

    def fetch(self, partial: Partial, progress: Callable[[int], None]) -> None:
        """Copy a layer."""
        with self.files.open(self.paths[partial.descriptor.digest]) as file:
            _copy(file, partial, progress)


@contextlib.contextmanager
def open_source(transport: str, path: str) -> Iterator[LayoutSource | DockerArchive]:
    """Open what a transport other than docker's has at `path`."""
    if transport in ("oci", "dir"):
        if not os.path.isdir(path):
            raise ImageError(f"{transport}:{path} is no folder")
        kind = LayoutSource if transport == "oci" else DirSource
        yield kind(Folder(path), f"{transport}:{path}")
        return
    with contextlib.closing(Archive(path)) as archive:
        if transport == "docker-archive":
            yield DockerArchive(archive)
        else:
            yield LayoutSource(archive, f"{transport}:{path}")
