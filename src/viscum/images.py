"""Images: pulled, kept, listed, pushed, and what a machine needs to run one."""

from __future__ import annotations

import contextlib
import os

from .errors import ImageError, SpecError
from .frozen import Frozen
from .image.image_files import ImageFiles
from .image.layers import chain_ids
from .image.manifest import (
    Config,
    Descriptor,
    Index,
    Manifest,
    parse_config,
    parse_manifest,
)
from .image.platforms import Platform, choose, parse_platform
from .image.reference import Reference, is_short, parse_reference, split_transport
from .image.room import open_room
from .image.settings import STORAGES, read_settings
from .image.store import FROM_INDEX, Store
from .places import data_folder
from .storing import (
    SOURCE,
    check,
    collect,
    mounted,
    open_layers,
    own_store,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from .image.layers import Layers
    from .image.pulling import Progress
    from .image.registries import Registries
    from .image.room import Room
    from .image.transport import Settings

    Ask = Callable[[str, Sequence[Reference]], Reference]

__all__ = [
    "SOURCE",
    "Image",
    "Root",
    "check",
    "collect",
    "find",
    "mounted",
    "open_layers",
    "own_store",
    "prepare",
]

MIN_DIGITS = 4


class Root(Frozen):
    """What a machine needs of an image: folders for its root, the highest first, and what the
    image says about running it.
    """

    layers: tuple[str, ...]
    config: Config
    name: str
    digest: str
    descriptor: Descriptor | None = None
    """The entry of the store; the policy is asked about it before it runs."""


class Image(Frozen):
    """An image of the store, under one of its names."""

    name: str
    descriptor: Descriptor
    manifest: Manifest
    config: Config

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.descriptor.digest

    @property
    def id(self) -> str:
        """The digest of the configuration: equal for equal images."""
        return self.manifest.config.digest

    @property
    def size(self) -> int:
        """Bytes of its blobs, as they are compressed."""
        return sum(layer.size for layer in (self.manifest.config, *self.manifest.layers))

    @property
    def platform(self) -> str:
        """What it runs on, such as linux/amd64."""
        return str(Platform(self.config.os, self.config.architecture))

    @property
    def chains(self) -> list[str]:
        """The chain id of each layer, the lowest first."""
        return chain_ids(self.config.diff_ids)

    @classmethod
    def pull(
        cls,
        reference: str,
        *,
        platform: str | None = None,
        storage: str | None = None,
        progress: Progress | None = None,
        tls_verify: bool | None = None,
        creds: str | None = None,
        authfile: str | None = None,
        cert_dir: str | None = None,
    ) -> Self:
        """Take an image from a registry, a layout or an archive into the store, unpacked.

        `reference` is a name, or one with a transport: `oci:PATH[:NAME]`, `oci-archive:PATH`,
        `docker-archive:PATH`, `dir:PATH`. `storage` is "overlay" or "erofs".
        `progress(digest, what, done, size)` is told how far each layer is.

        Raises ImageError, and TrustError where the host's policy does not allow the image: then
        nothing of it is unpacked.
        """
        settings = _settings(
            tls_verify=tls_verify, creds=creds, authfile=authfile, cert_dir=cert_dir
        )
        wanted = parse_platform(platform)
        from .image_pulling import pull

        return cls._made(pull(reference, wanted, settings, progress, storage))

    @classmethod
    def get(cls, name: str, *, platform: str | None = None) -> Self:
        """Return an image of the store by its name, id or digest; raises ImageError for none."""
        return cls._made(find(own_store(), name, platform))

    @classmethod
    def list(cls) -> list[Self]:
        """Return the images of the store, by their names."""
        return [cls._made(each) for each in list_images(own_store())]

    @classmethod
    def _made(cls, image: Image) -> Self:
        return cls(image.name, image.descriptor, image.manifest, image.config)


def _settings(**given: str | bool | None) -> Settings:
    from .image.transport import Settings

    return Settings(**given)  # type: ignore[arg-type]


def identity() -> tuple[int, ...]:
    """Return what changes when a name of the store comes to stand for another image."""
    try:
        is_ = os.stat(f"{data_folder()}/images/index.json")
    except OSError:
        return ()
    return is_.st_dev, is_.st_ino, is_.st_mtime_ns, is_.st_size


def configured_registries() -> Registries:
    """Return what registries.conf says; raises ImageError where it is malformed."""
    from .image.registries import read_registries

    return read_registries()


# What the store has.


def read_image(store: Store, name: str, descriptor: Descriptor, platform: Platform) -> Image:
    """Return an image of the store; of an index the one for a platform. Raises ImageError."""
    made = store.manifest(descriptor)
    if isinstance(made, Index):
        descriptor = choose(platform, made.manifests, f"index {descriptor.digest}")
        made = store.manifest(descriptor)
        if isinstance(made, Index):
            raise ImageError(f"{name} is an index of indexes")
    what = f"configuration {made.config.digest}"
    data = store.read(made.config.digest, "configuration")
    return Image(name, descriptor, made, parse_config(data, len(made.layers), what))


def list_images(store: Store) -> list[Image]:
    """Return the images that are whole; what is damaged, `store check` tells of."""
    own = parse_platform(None)
    found = []
    for name, descriptor in sorted(store.names().items()):
        with contextlib.suppress(ImageError):
            found.append(read_image(store, name, descriptor, own))
    return found


def local_names(text: str) -> list[str]:
    """Return the names of the store that `text` may stand for, in the order they are tried."""
    reference = parse_reference(text, "localhost")
    tag = "" if reference.tag or reference.digest else ":latest"
    if not is_short(text):
        return [f"{parse_reference(text)}{tag}"]
    names = [f"{reference}{tag}"]
    with contextlib.suppress(ImageError):
        names += [f"{each}{tag}" for each in configured_registries().choices(text)]
    return list(dict.fromkeys([*names, f"{parse_reference(text)}{tag}"]))


def find_name(store: Store, text: str, least: int = MIN_DIGITS) -> tuple[str, Descriptor] | None:
    """Return the name and the descriptor that `text` stands for in the store, None for none.

    `text` is a name, a digest, or at least `least` digits of an id or a digest.
    """
    names = store.names()
    if text in names:
        return text, names[text]
    digits = text.removeprefix("sha256:").lower()
    if least <= len(digits) <= 64 and not set(digits) - set("0123456789abcdef"):
        found = _by_digits(store, names, digits)
        if found is not None:
            return found
    try:
        wanted = local_names(text)
    except ImageError:
        return None
    for name in wanted:
        if name in names:
            return name, names[name]
    return _by_digest(names, wanted)


def _by_digits(
    store: Store, names: dict[str, Descriptor], digits: str
) -> tuple[str, Descriptor] | None:
    found: dict[str, tuple[str, Descriptor]] = {}
    for name, descriptor in names.items():
        ids = [descriptor.digest]
        with contextlib.suppress(ImageError):
            made = store.manifest(descriptor)
            ids += [made.config.digest] if isinstance(made, Manifest) else []
        if any(each.partition(":")[2].startswith(digits) for each in ids):
            found.setdefault(descriptor.digest, (name, descriptor))
    if len(found) > 1:
        raise ImageError(f"{digits!r} could be one of {len(found)} images", hint="more digits")
    return next(iter(found.values()), None)


def _by_digest(names: dict[str, Descriptor], wanted: list[str]) -> tuple[str, Descriptor] | None:
    """Return an image asked for as NAME@DIGEST that was pulled under a tag."""
    for want in wanted:
        repository, _, digest = want.partition("@")
        repository = parse_reference(repository).repository if digest else ""
        for name, descriptor in names.items():
            digests = (descriptor.digest, descriptor.note(FROM_INDEX))
            if digest in digests and name.startswith((f"{repository}:", f"{repository}@")):
                return name, descriptor
    return None


def find(store: Store, text: str, platform: str | None = None) -> Image:
    """Return an image of the store; raises ImageError for none."""
    found = find_name(store, text)
    if found is None:
        parse_check(text)
        raise ImageError(f"image {text!r} is not in the store", hint=f"viscum pull {text}")
    return read_image(store, *found, parse_platform(platform))


def parse_check(text: str) -> None:
    """Raise ImageError where `text` can be no reference at all."""
    transport, rest = split_transport(text)
    if transport == "docker":
        parse_reference(rest)


# Running.


def check_storage(storage: str | None) -> None:
    """Raise SpecError for a way to keep images that there is not, or not for this user."""
    if storage is not None and storage not in STORAGES:
        raise SpecError(f"storage {storage!r} is unknown", hint=f"one of: {', '.join(STORAGES)}")
    if storage == "erofs" and os.geteuid():
        raise SpecError(
            "only root can keep images as EROFS: the kernel mounts them for nobody else",
            hint="--storage overlay",
        )


def kept_as(store: Store, files: ImageFiles, chain: str, storage: str | None) -> str:
    """Return how an image with a chain of layers is to be kept: as asked, as it is, else as the
    store has new ones.
    """
    if storage or files.ready(chain):
        return storage or "erofs"
    own = read_settings(store.folder).storage
    if own or files.layers.ready(chain):
        return own or "overlay"
    from .storage_choice import default_storage

    return default_storage(store)


def prepare(image: Image, storage: str | None = None) -> Root:
    """Return what a machine needs of an image, kept as `storage` says: "overlay", "erofs", or None
    for as it is, else as the store has it. What is not there is unpacked again.
    """
    check_storage(storage)
    store = own_store()
    layers, chains = open_layers(store), image.chains
    files = ImageFiles(layers)
    if kept_as(store, files, chains[-1], storage) == "erofs" and not os.geteuid():
        if not files.ready(chains[-1]):
            _make_file(store, files, image)
        roots: tuple[str, ...] = (files.path(chains[-1]),)
    else:
        _unpack_missing(store, layers, image)
        roots = layers.roots(chains)
    return Root(roots, image.config, image.name, image.digest, image.descriptor)


def _make_file(store: Store, files: ImageFiles, image: Image) -> None:
    with open_room(store, files.layers) as room, store.use():
        _unpack_layers(files.layers, image, room)
        files.make(image.chains, room)


def _unpack_missing(store: Store, layers: Layers, image: Image) -> None:
    if not all(layers.ready(chain) for chain in image.chains):
        with open_room(store, layers) as room, store.use():
            _unpack_layers(layers, image, room)


def _unpack_layers(layers: Layers, image: Image, room: Room) -> None:
    chains = image.chains
    for index, layer in enumerate(image.manifest.layers):
        if not layers.ready(chains[index]):
            diff_id = image.config.diff_ids[index]
            layers.unpack(layer, diff_id, chains[: index + 1], room=room)


def config_of(digest: str) -> Config:
    """Return what the image says whose manifest has this digest; raises ImageError."""
    store = own_store()
    made = parse_manifest(store.read(digest, "manifest"), "", f"manifest {digest}")
    if isinstance(made, Index):
        raise ImageError(f"{digest} is an index, and no image")
    data = store.read(made.config.digest, "configuration")
    return parse_config(data, len(made.layers), f"configuration {made.config.digest}")


def one_folder(folders: tuple[str, ...]) -> str:
    """Return a folder or image file with what layers, the highest first, show together."""
    if len(folders) == 1:
        return folders[0]
    chains = [os.path.basename(path).replace("-", ":", 1) for path in reversed(folders)]
    store = own_store()
    with store.use():
        return open_layers(store).flatten(chains)


# Names.


def tag(store: Store, source: str, name: str) -> str:
    """Give an image another name; return it in full."""
    image = find(store, source)
    reference = parse_reference(name, "localhost")
    if reference.digest:
        raise ImageError(f"{name!r} has a digest, and names are given by tags")
    full = str(reference if reference.tag else reference.replace(tag="latest"))
    store.name(full, image.descriptor)
    return full


def remove(
    store: Store, text: str, *, force: bool = False, kept: set[str] | None = None
) -> tuple[list[str], int]:
    """Take an image's name away, and the image with its last one; return the names that are gone
    and how many bytes that freed.
    """
    found = find_name(store, text)
    if found is None:
        parse_check(text)
        raise ImageError(f"image {text!r} is not in the store", hint="viscum images")
    name, descriptor = found
    same = [each for each, other in store.names().items() if other.digest == descriptor.digest]
    by_id = not any(text in each for each in same)
    if by_id and len(same) > 1 and not force:
        raise ImageError(
            f"image {text!r} has {len(same)} names: {', '.join(same)}",
            hint="--force removes all of them",
        )
    gone = same if by_id or force else [name]
    before = store.reachable(store.entries())
    for each in gone:
        store.forget(each)
    return gone, collect(store, spare=before, kept=kept)
