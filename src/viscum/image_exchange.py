"""Images between the store and elsewhere: pushed, saved, loaded, imported, committed; passwords."""

from __future__ import annotations

import contextlib
import os

from .admission import MADE_HERE, ORIGIN, ask
from .errors import ImageError, SpecError
from .image.manifest import Descriptor, Index, parse_manifest
from .image.platforms import parse_platform
from .image.reference import parse_reference, split_transport
from .image.room import open_room
from .image.store import Store
from .image_pulling import load, split_path
from .images import (
    Image,
    collect,
    configured_registries,
    find,
    open_layers,
    own_store,
    read_image,
)
from .storing import machine_layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    from .image.auth import Credentials
    from .image.pulling import Progress
    from .image.room import Room
    from .image.transport import Settings

__all__ = [
    "commit",
    "import_file",
    "import_stream",
    "load_stream",
    "login",
    "push",
    "save",
    "save_stream",
]


def push(
    name: str, destination: str | None, settings: Settings, progress: Progress | None = None
) -> str:
    """Put an image into a registry, a layout or an archive; return the digest of its manifest."""
    store = own_store()
    image = find(store, name)
    transport, rest = split_transport(destination or image.name)
    if transport != "docker":
        save([name], transport, rest)
        return image.digest
    from .image.registry import Repository
    from .image.targets import push as push_image

    reference = parse_reference(rest, "localhost" if destination is None else "docker.io")
    if destination is None and image.name.startswith("@"):
        raise ImageError(f"image {name!r} has no name to push it to", hint="give a destination")
    registries = configured_registries()
    endpoint = registries.endpoints(reference, writes=True)[-1]
    repository = Repository(
        endpoint, settings, name=reference.repository, helpers=registries.helpers, writes=True
    )
    try:
        return push_image(store, image.descriptor, repository, reference, progress or _silent)
    finally:
        repository.close()


def _silent(_digest: str, _what: str, _done: int, _size: int, /) -> None:
    """Tell nothing."""


def save(names: Sequence[str], form: str, path: str) -> None:
    """Write images as `form`: docker-archive, oci-archive, oci (PATH[:NAME]) or dir."""
    from .image import targets

    store = own_store()
    found = [find(store, name) for name in names]
    if form in ("oci", "dir"):
        where, name = split_path(form, path)
        if form == "dir" and len(found) > 1:
            raise SpecError("a dir: folder holds one image", hint="save them one by one")
        for image in found:
            if form == "dir":
                targets.save_dir(store, image.descriptor, where)
            else:
                targets.save_layout(store, image.descriptor, where, name or image.name)
        return
    if os.path.isdir(path):
        raise SpecError(f"{path!r} is a folder", hint="name a file")
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            save_stream(names, form, file)
        os.rename(temporary, path)
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def save_stream(names: Sequence[str], form: str, file: BinaryIO) -> None:
    """Write images as an archive: docker-archive or oci-archive."""
    from .image import targets

    store = own_store()
    found = [find(store, name) for name in names]
    pairs = [("" if i.name.startswith("@") else i.name, i.descriptor) for i in found]
    write = targets.save_oci_archive if form == "oci-archive" else targets.save_docker
    write(store, pairs, file)


def _spooled(file: BinaryIO) -> str:
    """Return the path of what comes from a stream, below the store."""
    path = f"{own_store().pulls}/stream-{os.getpid()}-{id(file):x}"
    with open(path, "xb") as kept:
        while data := file.read(1 << 20):
            kept.write(data)
    return path


def load_stream(
    file: BinaryIO, progress: Progress | None = None, storage: str | None = None
) -> list[Image]:
    """Take every image of the archive in a stream into the store."""
    path = _spooled(file)
    try:
        return load(path, progress, storage)
    finally:
        os.unlink(path)


def import_stream(
    file: BinaryIO, name: str | None, changes: Sequence[str] = (), message: str = ""
) -> Image:
    """Make an image of a root's tar archive in a stream."""
    path = _spooled(file)
    try:
        return import_file(path, name, changes, message)
    finally:
        os.unlink(path)


def import_file(
    path: str, name: str | None, changes: Sequence[str] = (), message: str = ""
) -> Image:
    """Make an image of a root's tar archive, plain or compressed; `changes` are instructions of a
    Dockerfile for its configuration, such as `CMD ["sh"]`.
    """
    from .image import building

    store, origin = own_store(), f"tarball:{os.path.abspath(path)}"
    full = _new_name(name)
    ask(origin)
    config = building.new_config(parse_platform(None), changes)

    def add(room: Room, own: set[str]) -> Image:
        layer, diff_id = building.add_layer(store, path)
        own.add(layer.digest)
        room.take(layer.size)
        building.add_history(config, diff_id, f"viscum import {os.path.basename(path)}", message)
        return _built(store, config, [layer], full, origin, room, own)

    return _within_quota(store, add)


def commit(
    upper: str,
    base: str,
    name: str | None,
    *,
    skip: Sequence[str] = (),
    changes: Sequence[str] = (),
    message: str = "",
) -> Image:
    """Make an image of the one whose manifest has the digest `base` and of what a machine changed:
    the upper folder of its overlay. `skip` are paths that are not the machine's doing.
    """
    from .image import building, document
    from .unpacker import make_worker

    store, full = own_store(), _new_name(name)
    manifest = parse_manifest(store.read(base, "manifest"), "", f"manifest {base}")
    if isinstance(manifest, Index):
        raise ImageError(f"{base} is an index, and no image")
    config = document.parse(store.read(manifest.config.digest, "configuration"), "configuration")
    path = f"{store.pulls}/commit-{os.getpid()}-{id(config):x}"

    def add(room: Room, own: set[str]) -> Image:
        try:
            make_worker().pack(upper, path, skip)
            layer, diff_id = building.add_layer(store, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        own.add(layer.digest)
        room.take(layer.size)
        building.extend(config, diff_id, "viscum commit", message, changes)
        layers = [*manifest.layers, layer]
        return _built(store, config, layers, full, f"{MADE_HERE}{full}", room, own)

    return _within_quota(store, add)


def _within_quota(store: Store, add: Callable[[Room, set[str]], Image]) -> Image:
    """Have `add` add an image; where that fails, remove the blobs that it tells of."""
    own: set[str] = set()
    try:
        with open_room(store, open_layers(store)) as room, store.use():
            return add(room, own)
    except ImageError:
        collect(store, spare=own, kept=machine_layers())
        raise


def _new_name(name: str | None) -> str:
    if name is None:
        return ""
    reference = parse_reference(name, "localhost")
    return str(reference if reference.tag else reference.replace(tag="latest"))


def _built(
    store: Store,
    config: dict[str, object],
    layers: Sequence[Descriptor],
    name: str,
    origin: str,
    room: Room,
    own: set[str],
) -> Image:
    from .image.targets import add_image

    descriptor = add_image(store, config, layers).replace(annotations=((ORIGIN, origin),))
    own.add(descriptor.digest)
    image = read_image(store, name, descriptor, parse_platform(None))
    own.add(image.id)
    unpacked, chains = open_layers(store), image.chains
    unpacked.unpack(layers[-1], image.config.diff_ids[-1], chains, room=room)
    store.name(name, descriptor)
    return image.replace(name=name or f"@{descriptor.digest}")


# Passwords.


def login(registry: str, credentials: Credentials, settings: Settings) -> None:
    """Have a registry check credentials, and keep them; raises ImageError where it refuses."""
    from .image import auth
    from .image.registries import Endpoint
    from .image.registry import Repository

    reference = parse_reference(f"{registry.partition('/')[0]}/x")
    endpoint = configured_registries().endpoints(reference)[-1].replace(path="")
    given = settings.replace(creds=f"{credentials.user}:{credentials.password}")
    repository = Repository(Endpoint(registry.partition("/")[0], "", endpoint.insecure), given)
    try:
        repository.check_login()
    finally:
        repository.close()
    auth.remember(auth.auth_file(settings.authfile), registry, credentials)
