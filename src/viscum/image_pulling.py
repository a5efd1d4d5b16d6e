"""Images on their way into the store: from registries, layouts and archives."""

from __future__ import annotations

import contextlib
import os

from .admission import ORIGIN, Gate, admit
from .errors import ImageError, SpecError, TrustError
from .image import short_names
from .image.image_files import ImageFiles
from .image.layers import chain_ids
from .image.manifest import Index, parse_manifest, plain_type
from .image.platforms import Platform, choose, parse_platform
from .image.reference import Reference, is_short, parse_reference, split_transport
from .image.room import open_room
from .image.store import FROM_INDEX
from .images import (
    Image,
    check_storage,
    configured_registries,
    find_name,
    kept_as,
    read_image,
)
from .storing import collect, machine_layers, open_layers, own_store, take_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .image.manifest import Descriptor
    from .image.pulling import Chosen, Progress, Puller, Source
    from .image.registries import Registries
    from .image.transport import Settings
    from .images import Ask

__all__ = ["load", "obtain", "pull", "split_path"]

PULL_WORDS = ("always", "missing", "never", "newer")


def pull(
    text: str,
    platform: Platform,
    settings: Settings,
    progress: Progress | None = None,
    storage: str | None = None,
    ask: Ask | None = None,
) -> Image:
    """Take an image into the store; see `Image.pull`. `ask` chooses where a short name could stand
    for several; what was chosen and pulled, it stands for from then on.
    """
    transport, rest = split_transport(text)
    taking = _Taking(platform, progress, storage)
    if transport != "docker":
        return taking.from_file(transport, rest)
    registries = configured_registries()
    choices = registries.choices(rest)
    if ask is not None and len(choices) > 1 and registries.mode != "disabled":
        chosen = ask(rest, choices)
        image = taking.from_first((chosen,), registries, settings)
        short_names.remember(parse_reference(rest, "localhost").path, chosen.repository)
        return image
    return taking.from_first(registries.candidates(rest), registries, settings)


def load(path: str, progress: Progress | None = None, storage: str | None = None) -> list[Image]:
    """Take every image of an archive or a layout into the store."""
    from .image.sources import Archive, LayoutSource, open_source

    transport = "oci"
    if not os.path.isdir(path):
        with contextlib.closing(Archive(path)) as archive:
            transport = "oci-archive" if "oci-layout" in archive.members else "docker-archive"
    taking = _Taking(parse_platform(None), progress, storage)
    with open_source(transport, os.path.abspath(path)) as source:
        names = source.names()
        if isinstance(source, LayoutSource) and len(names) > 1 and "" in names:
            raise ImageError(f"{path} has several images without names", hint="viscum pull oci:…")
        asked = f"{transport}:{os.path.abspath(path)}"
        return [taking.from_source(source, asked, name) for name in names]


def _fresh(image: Image, settings: Settings) -> bool:
    """Return whether an image of the store is what its registry has under the name now."""
    from .image.places import open_repository

    reference = parse_reference(image.name.partition("@")[0])
    digests = (image.digest, image.descriptor.note(FROM_INDEX))
    with open_repository(reference, configured_registries(), settings) as (_, _, top):
        return top.digest in digests


def obtain(
    text: str,
    *,
    policy: str = "missing",
    platform: str | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    storage: str | None = None,
    ask: Ask | None = None,
) -> Image:
    """Return an image, pulled as `policy` says: always, missing, never or newer."""
    check_storage(storage)
    if policy not in PULL_WORDS:
        raise SpecError(f"pull {policy!r} is unknown", hint=f"one of: {', '.join(PULL_WORDS)}")
    wanted = parse_platform(platform)
    transport, _ = split_transport(text)
    store = own_store()
    here: Image | None = None
    if transport == "docker" and policy != "always":
        found = find_name(store, split_transport(text)[1])
        if found is not None:
            here = read_image(store, *found, wanted)
            given = Platform(here.config.os, here.config.architecture).plain()
            fits = given.architecture == wanted.architecture or not platform
            here = here if fits or policy == "never" else None
    if here is not None and policy in ("missing", "never"):
        return here
    if policy == "never":
        raise ImageError(f"image {text!r} is not in the store", hint="drop --pull never")
    from .image.transport import Settings

    settings = settings or Settings()
    if here is not None:
        with contextlib.suppress(ImageError):
            if _fresh(here, settings):
                return here
    return pull(text, wanted, settings, progress, storage, ask)


class _Taking:
    """Takes images of a platform into the store, kept as `storage` says."""

    def __init__(self, platform: Platform, progress: Progress | None, storage: str | None) -> None:
        check_storage(storage)
        self.platform = platform
        self.progress: Progress = progress or (lambda *_: None)
        self.storage = storage
        self.store = own_store()
        self.layers = open_layers(self.store)

    def _puller(self, asked: str) -> Puller:
        from .image.pulling import Puller

        gate, files = Gate(asked), ImageFiles(self.layers)
        return Puller(
            self.store,
            self.layers,
            trust=gate,
            notes=gate.notes,
            progress=self.progress,
            storage=self.storage,
            default=lambda chain: kept_as(self.store, files, chain, None),
        )

    # From registries.

    def from_first(
        self, references: Sequence[Reference], registries: Registries, settings: Settings
    ) -> Image:
        """Take the first image there is of several names."""
        failure: ImageError | None = None
        for reference in references:
            named = reference.tag or reference.digest
            full = reference if named else reference.replace(tag="latest")
            try:
                return self._from_registry(full, registries, settings)
            except ImageError as error:
                failure = failure or error
        raise failure or ImageError("there is no registry to ask")

    def _from_registry(
        self, reference: Reference, registries: Registries, settings: Settings
    ) -> Image:
        from .image.places import open_repository

        with open_repository(reference, registries, settings) as (repository, data, top):
            here = self._unchanged(reference, data, top)
            if here is not None:
                return here
            puller = self._puller(f"docker://{reference}")
            chosen = puller.choose(repository, data, top, self.platform)
            return self._take(puller, repository, chosen, str(reference))

    def _unchanged(self, reference: Reference, data: bytes, top: Descriptor) -> Image | None:
        """Return the image of the store that a name still stands for, where it is whole, kept as
        it is to be, and allowed by the policy with the signatures that are here.
        """
        name = str(reference)
        known = self.store.names().get(name)
        if known is None or known.note(ORIGIN) != f"docker://{name}":
            return None
        if top.digest not in (known.digest, known.note(FROM_INDEX)):
            return None
        try:
            if known.digest != self._meant(data, top):
                return None
            image = read_image(self.store, name, known, self.platform)
            admit(self.store, name, known)
        except (ImageError, TrustError):
            return None  # whatever is wrong, the long way tells of it, or mends it
        parts = (image.manifest.config, *image.manifest.layers)
        if not all(map(self.store.has, parts)) or not self._is_kept(image.chains):
            return None
        for layer in image.manifest.layers:
            self.progress(layer.digest, "there", layer.size, layer.size)
        return image

    def _meant(self, data: bytes, top: Descriptor) -> str:
        """Return the digest of the image that a manifest or an index has for the platform."""
        what = f"manifest {top.digest}"
        made = parse_manifest(data, plain_type(top.media_type), what)
        return (
            choose(self.platform, made.manifests, what).digest
            if isinstance(made, Index)
            else top.digest
        )

    def _is_kept(self, chains: list[str]) -> bool:
        files = ImageFiles(self.layers)
        as_file = files.ready(chains[-1])
        if kept_as(self.store, files, chains[-1], self.storage) == "erofs":
            return as_file
        return not as_file and all(map(self.layers.ready, chains))

    # From files.

    def from_file(self, transport: str, rest: str) -> Image:
        """Take an image of a layout, an archive or a `dir:` folder."""
        from .image.sources import open_source

        path, name = split_path(transport, rest)
        with open_source(transport, path) as source:
            return self.from_source(source, f"{transport}:{path}", name)

    def from_source(self, source: object, asked: str, name: str) -> Image:
        """Take the image `name` of an opened source, which was asked for as `asked`."""
        from .image.sources import DockerArchive, LayoutSource

        assert isinstance(source, (LayoutSource, DockerArchive))  # noqa: S101 - for the types
        puller = self._puller(asked + (f":{name}" if name else ""))
        data, top = source.manifest(name)
        chosen = puller.choose(source, data, top, self.platform)
        if not name and len(source.names()) == 1:
            name = source.names()[0]
        return self._take(puller, source, chosen, _own_name(asked.partition(":")[2], name))

    # Into the store.

    def _take(self, puller: Puller, source: Source, chosen: Chosen, name: str) -> Image:
        if not chosen.config.diff_ids:
            raise ImageError(f"{name} has no layer", hint="there is nothing in it to run")
        taken: list[Descriptor] = []

        def add() -> None:
            with open_room(self.store, self.layers) as room, self.store.use():
                taken.append(puller.pull(source, chosen, name, room))

        take_in(self.store, add, chosen.blobs)
        if os.path.lexists(puller.files.path(chain_ids(chosen.config.diff_ids)[-1])):
            # The other way to keep it goes, where nobody needs that.
            collect(self.store, kept=machine_layers())
        return Image(name, taken[0], chosen.manifest, chosen.config)


def split_path(transport: str, rest: str) -> tuple[str, str]:
    """Return path and name of `PATH[:NAME]`."""
    if transport == "dir":
        return os.path.abspath(rest), ""
    path, _, name = rest.partition(":")
    if not path:
        raise ImageError(f"{transport}:{rest} names no path", hint=f"{transport}:PATH[:NAME]")
    return os.path.abspath(path), name


def _own_name(path: str, name: str) -> str:
    """Return the name in the store of an image from a file: its own, where that is one."""
    try:
        reference = parse_reference(name, "localhost")
    except ImageError:
        pass
    else:
        if not is_short(name):
            return str(reference if reference.tag else reference.replace(tag="latest"))
    base = os.path.basename(path.rstrip("/")).partition(".")[0].lower()
    base = "".join(c if c.isascii() and c.isalnum() else "-" for c in base).strip("-") or "image"
    while "--" in base:
        base = base.replace("--", "-")
    tag = "".join(c for c in name if c.isascii() and (c.isalnum() or c in "_.-")).lstrip(".-")
    if name and is_short(name) and ":" in name:
        with contextlib.suppress(ImageError):
            return str(parse_reference(name, "localhost"))
    return f"localhost/{base}:{tag[:128] or 'latest'}"
