"""From a registry to the store: manifest, trust, blobs, layers, name; several layers at once."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from ..errors import ImageError, ViscumError
from ..frozen import Frozen
from . import layers as layers_module
from .manifest import Descriptor, Index, Manifest, layer_compression, parse_config, parse_manifest
from .platforms import Platform, choose
from .registry import NotThere, Repository
from .store import FROM_INDEX, Partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Protocol

    from .layers import Layers
    from .manifest import Config
    from .reference import Reference
    from .registries import Registries
    from .store import Store
    from .transport import Settings

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


__all__ = ["Chosen", "Puller", "open_repository"]

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


@contextlib.contextmanager
def open_repository(
    reference: Reference, registries: Registries, settings: Settings, target: str = ""
) -> Iterator[tuple[Repository, bytes, Descriptor]]:
    """Find `reference` at one of its places; yield the repository and the manifest there."""
    failure: ImageError | None = None
    for endpoint in registries.endpoints(reference):
        repository = Repository(
            endpoint, settings, name=reference.repository, helpers=registries.helpers
        )
        try:
            data, descriptor = repository.manifest(target or reference.target)
        except ImageError as error:
            repository.close()
            failure = error
            continue
        try:
            yield repository, data, descriptor
        finally:
            repository.close()
        return
    raise failure or NotThere(f"{reference} is nowhere")


class Puller:
    """Takes images from a source into a store."""

    def __init__(
        self, store: Store, layers: Layers, *, trust: Trust, progress: Progress | None = None
    ) -> None:
        self.store = store
        self.layers = layers
        self.trust = trust
        self.progress: Progress = progress or (lambda *_: None)

    def choose(self, source: Source, data: bytes, top: Descriptor, platform: Platform) -> Chosen:
        """Return the image for a platform, once it is trusted."""
        made = parse_manifest(data, _known(top.media_type), f"manifest {top.digest}")
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

    def pull(self, source: Source, chosen: Chosen, name: str) -> Descriptor:
        """Take an image in, unpacked, and give it a name; return what it is in the store."""
        self.fill(source, chosen)
        descriptor = chosen.descriptor
        if chosen.top.digest != descriptor.digest:
            self.store.add(chosen.top_data, chosen.top.digest)
            descriptor = descriptor.replace(annotations=((FROM_INDEX, chosen.top.digest),))
        self.store.add(chosen.config_data, chosen.manifest.config.digest)
        self.store.add(chosen.data, chosen.descriptor.digest)
        self.store.name(name, descriptor)
        return descriptor

    def fill(self, source: Source, chosen: Chosen) -> None:
        """Take in the layers of an image, several at a time; the first failure ends it."""
        wanted, diff_ids = chosen.manifest.layers, chosen.config.diff_ids
        chains = layers_module.chain_ids(diff_ids)
        done = [threading.Event() for _ in wanted]
        stopped = threading.Event()
        downloads, unpacks = ThreadPoolExecutor(DOWNLOADS), ThreadPoolExecutor(UNPACKS)
        futures = []
        for index, layer in enumerate(wanted):
            work = _LayerWork(self, source, layer, chains[: index + 1], diff_ids[index], stopped)
            got = downloads.submit(work.download)
            below = done[index - 1] if index else None
            futures += [got, unpacks.submit(work.unpack, got, below, done[index])]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        finally:
            stopped.set()
            for event in done:
                event.set()
            downloads.shutdown(cancel_futures=True)
            unpacks.shutdown(cancel_futures=True)


class _Stopped(ImageError):
    """Another layer failed."""


class _LayerWork:
    """One layer on its way into the store and out of its archive."""

    def __init__(
        self,
        puller: Puller,
        source: Source,
        layer: Descriptor,
        chains: Sequence[str],
        diff_id: str,
        stopped: threading.Event,
    ) -> None:
        self.puller = puller
        self.source = source
        self.layer = layer
        self.chains = chains
        self.diff_id = diff_id
        self.stopped = stopped

    def _tell(self, what: str, done: int = 0) -> None:
        if self.stopped.is_set():
            raise _Stopped("stopped")
        self.puller.progress(self.layer.digest, what, done, self.layer.size)

    def download(self) -> None:
        """Have the blob in the store."""
        store = self.puller.store
        self._tell("waiting")
        with store.blob_lock(self.layer.digest):
            if store.has(self.layer):
                self._tell("there", self.layer.size)
                return
            with Partial(store, self.layer) as partial:
                self.source.fetch(partial, lambda size: self._tell("downloading", size))

    def unpack(self, got: object, below: threading.Event | None, done: threading.Event) -> None:
        """Unpack the blob once it is there."""
        got.result()  # type: ignore[attr-defined]
        self._tell("unpacking", self.layer.size)

        def ready() -> None:
            if below is not None:
                below.wait()
            if self.stopped.is_set():
                raise _Stopped("stopped")

        self.puller.layers.unpack(self.layer, self.diff_id, self.chains, ready)
        done.set()
        self._tell("done", self.layer.size)


def _known(media_type: str) -> str:
    return "" if media_type == "application/octet-stream" else media_type
