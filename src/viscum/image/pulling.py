"""From a registry to the store: manifest, trust, blobs, layers, name; several layers at once."""

from __future__ import annotations

import contextlib
import os
import threading

from ..errors import ImageError, ViscumError
from ..frozen import Frozen
from . import layers as layers_module
from .image_files import ImageFiles
from .incoming import Incoming, Restarted
from .manifest import (
    Descriptor,
    Index,
    Manifest,
    layer_compression,
    parse_config,
    parse_manifest,
    plain_type,
)
from .platforms import Platform, choose
from .room import OverQuota
from .store import FROM_INDEX, Partial
from .together import work_together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from .layers import Layers
    from .manifest import Config
    from .room import Room
    from .store import Store

    class Source(Protocol):
        """Where an image comes from."""

        def manifest(self, target: str) -> tuple[bytes, Descriptor]:
            """Return a manifest or an index."""

        def blob(self, digest: str, limit: int) -> bytes:
            """Return a small blob."""

        def fetch(self, partial: Partial, progress: Callable[[int], None]) -> None:
            """Add what is missing to a blob, and finish it."""

    class Progress(Protocol):
        """Is told how far each layer is."""

        def __call__(self, digest: str, what: str, done: int, size: int, /) -> None:
            """Take note: `what` is "waiting", "downloading", "unpacking", "done", "there"."""

    Trust = Callable[[Source, Descriptor, bytes], None]
    Notes = Callable[[Store], tuple[tuple[str, str], ...]]


__all__ = ["Chosen", "Puller"]

DOWNLOADS = 3
UNPACKS = max(1, min(4, os.cpu_count() or 1))


class Chosen(Frozen):
    """The image of one platform, as it was found."""

    descriptor: Descriptor
    data: bytes
    manifest: Manifest
    top: Descriptor
    top_data: bytes
    config: Config
    config_data: bytes

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All that it takes in the store."""
        return (self.top, self.descriptor, self.manifest.config, *self.manifest.layers)


class Puller:
    """Takes images from a source into a store."""

    def __init__(
        self,
        store: Store,
        layers: Layers,
        *,
        trust: Trust,
        notes: Notes = lambda _: (),
        progress: Progress | None = None,
        storage: str | None = None,
        default: Callable[[str], str] = lambda _: "overlay",
    ) -> None:
        self.store = store
        self.layers = layers
        self.files = ImageFiles(layers)
        self.trust = trust
        self.storage = storage
        """How the image is kept; None: as `default` says of its chain."""
        self.default = default
        self.notes = notes
        self.progress: Progress = progress or (lambda *_: None)

    def choose(self, source: Source, data: bytes, top: Descriptor, platform: Platform) -> Chosen:
        """Return the image for a platform, once it is trusted."""
        made = parse_manifest(data, plain_type(top.media_type), f"manifest {top.digest}")
        top = top.replace(media_type=made.media_type)
        descriptor, one = top, data
        if isinstance(made, Index):
            descriptor = choose(platform, made.manifests, f"index {top.digest}")
            one, found = source.manifest(descriptor.digest)
            if found.size != descriptor.size:
                raise ImageError(
                    f"manifest {descriptor.digest} has {found.size} bytes, the index says "
                    f"{descriptor.size}"
                )
            made = parse_manifest(one, descriptor.media_type, f"manifest {descriptor.digest}")
            if isinstance(made, Index):
                raise ImageError(f"index {top.digest} leads to another index")
        self._check(source, (top, data), (descriptor, one))
        for layer in made.layers:
            layer_compression(layer)
        config_data = self._config(source, made.config)
        config = parse_config(config_data, len(made.layers), f"configuration {made.config.digest}")
        descriptor = descriptor.replace(media_type=made.media_type, annotations=(), platform=None)
        return Chosen(descriptor, one, made, top, data, config, config_data)

    def _check(self, source: Source, *documents: tuple[Descriptor, bytes]) -> None:
        """Have the policy decide, on the index or on the manifest that it leads to: what is
        signed may be either.
        """
        first: ViscumError | None = None
        for descriptor, data in dict(
            zip((d.digest for d, _ in documents), documents, strict=True)
        ).values():
            try:
                self.trust(source, descriptor, data)
            except ImageError:
                raise
            except ViscumError as error:
                first = first or error
            else:
                return
        if first is not None:
            raise first

    def _config(self, source: Source, config: Descriptor) -> bytes:
        if self.store.has(config):
            with contextlib.suppress(ImageError):
                return self.store.read(config.digest, "configuration")
        data = source.blob(config.digest, config.size)
        if len(data) != config.size:
            raise ImageError(f"configuration {config.digest} has {len(data)} bytes")
        return data

    def pull(self, source: Source, chosen: Chosen, name: str, room: Room) -> Descriptor:
        """Take an image in, unpacked, and give it a name; return what it is in the store.

        Raises OverQuota where there is not enough room; nothing refers then to what came.
        """
        chains = layers_module.chain_ids(chosen.config.diff_ids)
        storage = self.storage or self.default(chains[-1])
        one_file = storage == "erofs" and self.files.ready(chains[-1])
        room.take(self._lacking(chosen))
        notes: list[tuple[str, str]] = []

        def keep() -> None:
            self.layers.settle()
            notes.extend(self._keep_documents(chosen))

        self.fill(source, chosen, room, keep, unpacks=not one_file)
        if storage == "erofs":
            self.files.make(chains, room)
        elif self.storage == "overlay":
            self.files.retire(chains[-1])
        descriptor = chosen.descriptor.replace(annotations=tuple(notes))
        self.store.name(name, descriptor)
        return descriptor

    def _keep_documents(self, chosen: Chosen) -> Sequence[tuple[str, str]]:
        """Have all in the store that is no layer; return the annotations of the image."""
        self.store.add(chosen.config_data, chosen.manifest.config.digest)
        self.store.add(chosen.data, chosen.descriptor.digest)
        if chosen.top.digest == chosen.descriptor.digest:
            return self.notes(self.store)
        self.store.add(chosen.top_data, chosen.top.digest)
        return ((FROM_INDEX, chosen.top.digest), *self.notes(self.store))

    def _lacking(self, chosen: Chosen) -> int:
        """Return how many bytes of blobs are still to come."""
        lacking = 0
        for blob in {each.digest: each for each in chosen.blobs}.values():
            if not self.store.has(blob):
                lacking += max(0, blob.size - self.store.partial_size(blob))
        return lacking

    def fill(
        self,
        source: Source,
        chosen: Chosen,
        room: Room,
        beside: Callable[[], None],
        *,
        unpacks: bool,
    ) -> None:
        """Take in the layers of an image that are not there, several at a time, with something to
        do `beside`; the first failure ends it. A layer is unpacked while it comes.
        """
        diff_ids = chosen.config.diff_ids
        chains, stopped = layers_module.chain_ids(diff_ids), threading.Event()
        works: list[_LayerWork] = []
        for index, layer in enumerate(chosen.manifest.layers):
            if self.store.has(layer) and (not unpacks or self.layers.ready(chains[index])):
                self.progress(layer.digest, "there", layer.size, layer.size)
                continue
            below = works[-1].done if works else None
            made = layer, chains[: index + 1], diff_ids[index], below
            works.append(_LayerWork(self, source, made, stopped, room if unpacks else None))

        def stop() -> None:
            stopped.set()
            for work in works:
                work.done.set()
                work.blob.end(_Stopped("stopped"))

        downloads = [work.download for work in works]
        unpacked = [work.unpack for work in works if unpacks]
        work_together((1, [beside]), (DOWNLOADS, downloads), (UNPACKS, unpacked), stop=stop)


class _Stopped(ImageError):
    """Another layer failed."""


class _LayerWork:
    """One layer on its way into the store, and out of its archive where there is `room` for that.

    `layer` comes with the chain of layers up to it, its diff id, and what tells that the one below
    it, which comes too, is done.
    """

    def __init__(
        self,
        puller: Puller,
        source: Source,
        layer: tuple[Descriptor, Sequence[str], str, threading.Event | None],
        stopped: threading.Event,
        room: Room | None,
    ) -> None:
        self.puller = puller
        self.source = source
        self.layer, self.chains, self.diff_id, self.below = layer
        self.stopped = stopped
        self.room = room
        self.done = threading.Event()
        self.blob = Incoming(puller.store.blob_path(self.layer.digest))

    def _tell(self, what: str, done: int = 0) -> None:
        if self.stopped.is_set():
            raise _Stopped("stopped")
        self.puller.progress(self.layer.digest, what, done, self.layer.size)

    def download(self) -> None:
        """Have the blob in the store."""
        try:
            self._download()
        except BaseException as error:
            self.blob.end(error)
            raise
        self.blob.end()

    def _download(self) -> None:
        store = self.puller.store
        self._tell("waiting")
        with store.blob_lock(self.layer.digest):
            if store.has(self.layer):
                self._tell("there", self.layer.size)
                return self._tell_next()
            with Partial(store, self.layer) as partial:
                partial.watched_by(self.blob)
                self.source.fetch(partial, lambda size: self._tell("downloading", size))
        return self._tell_next()

    def _tell_next(self) -> None:
        self._tell("unpacking" if self.room else "done", self.layer.size)

    def unpack(self) -> None:
        """Unpack the blob while it comes; once more where the download had to begin anew."""
        layers, rest = self.puller.layers, (self.layer, self.diff_id, self.chains, self._ready)
        try:
            layers.unpack(*rest, room=self.room, blob=self.blob)
        except Restarted:
            self.blob.whole()
            layers.unpack(*rest, room=self.room)
        except OverQuota:
            raise
        except ImageError:
            self.blob.whole()  # other bytes than those asked for are the reason then
            raise
        self.blob.whole()
        self._ready()  # those above this layer wait for all below, where it was there itself too
        self.done.set()
        self._tell("done", self.layer.size)

    def _ready(self) -> None:
        """Wait for the layers below."""
        if self.below is not None:
            self.below.wait()
        if self.stopped.is_set():
            raise _Stopped("stopped")
