"""The store of this user: what is in use of it, what can go, and the room that is left."""

from __future__ import annotations

import contextlib
import os

from .errors import ImageError
from .image import document
from .image import layers as layers_module
from .image.manifest import Descriptor, Index, parse_config
from .image.room import OverQuota, measure
from .image.settings import StoreSettings, read_settings, write_settings
from .image.store import Store, open_store
from .places import data_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .image.collecting import Fault
    from .image.layers import Layers
    from .image.room import Usage

__all__ = [
    "SOURCE",
    "check",
    "collect",
    "configure",
    "machine_layers",
    "mounted",
    "open_layers",
    "own_store",
    "take_in",
    "usage",
]

SOURCE = "viscum-image:"


def own_store() -> Store:
    """Return the store of this user."""
    return open_store()


def open_layers(store: Store) -> Layers:
    """Return the unpacked layers of a store."""
    return layers_module.Layers(store, _worker)


def _worker() -> layers_module.Worker:
    from .unpacker import make_worker

    return make_worker()


# What goes, and what stays.


def collect(
    store: Store,
    *,
    spare: set[str] | None = None,
    kept: set[str] | None = None,
    everything: bool = False,
) -> int:
    """Remove what no image needs; return the bytes. `spare` are blobs that may go at once, others
    only when they are an hour old: somebody may be about to name them. `kept` are the names of
    layers' folders that machines have which do not run.
    """
    from .image.collecting import collect as collect_store

    layers, held = open_layers(store), mounted_layers() | (kept or set())
    return collect_store(store, layers, spare or set(), held, everything=everything)


def check(store: Store, *, repair: bool = False) -> list[Fault]:
    """Return what is wrong with the store; see `viscum.image.collecting.check`."""
    from .image.collecting import check as check_store

    return check_store(store, open_layers(store), repair=repair)


# What is mounted.


def mounted() -> list[tuple[str, str]]:
    """Return the images that are mounted, and where."""
    from .host import mount_lines

    return [
        (source.removeprefix(SOURCE), path)
        for source, path, _ in mount_lines()
        if source.startswith(SOURCE)
    ]


def mounted_layers() -> set[str]:
    """Return the names of the layers that are mounted."""
    from .host import mount_lines

    found: set[str] = set()
    for source, _, options in mount_lines():
        if source.startswith(SOURCE):
            found.update(part.rpartition("/")[2] for part in options.replace(",", ":").split(":"))
    return found


def machine_layers() -> set[str]:
    """Return the names of the layers that machines have which live on, running or not, as their
    configs say: the modules that write these stand above this one.
    """
    found: set[str] = set()
    for path in _configs():
        try:
            with open(path, "rb") as file:
                table = document.parse(file.read(document.MAX_DOCUMENT), path)
            spec = document.field(table, "spec", dict, {}, path)
            layers = document.field(spec, "layers", list, [], path)
        except (OSError, ImageError):
            continue  # it is being removed, or `viscum ps` tells of it
        found.update(os.path.basename(layer) for layer in layers if isinstance(layer, str))
    return found


def _configs() -> list[str]:
    folder = f"{data_folder()}/machines"
    try:
        return [f"{folder}/{name}/config.json" for name in os.listdir(folder)]
    except FileNotFoundError:
        return []


# Room.


def usage(store: Store) -> Usage:
    """Return what a store takes."""
    return measure(store, open_layers(store))


def configure(store: Store, **changes: object) -> StoreSettings:
    """Change settings of a store, and return all of them; see `viscum.image.settings`."""
    with store.index_lock():
        settings = read_settings(store.folder).replace(**changes)
        if changes:
            write_settings(store.folder, settings)
    return settings


def take_in(store: Store, add: Callable[[], None], blobs: tuple[Descriptor, ...]) -> None:
    """Have `add` add to a store. Where it raises OverQuota, make room as the settings say, and
    try again; where there is none, what it added goes again, of `blobs` those that were not there.
    """
    own = {each.digest for each in blobs if not store.has(each)}
    begun = {each.digest for each in blobs if store.partial_size(each)}
    rooms = _rooms(store, own)
    while True:
        try:
            return add()
        except OverQuota as error:
            quota = read_settings(store.folder).quota or 0
            if error.wanted > quota or not next(rooms, False):
                _take_back(store, own, begun)
                raise


def _take_back(store: Store, own: set[str], begun: set[str]) -> None:
    for digest in own - begun:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(store.partial_path(digest))
    collect(store, spare=own, kept=machine_layers())


def _rooms(store: Store, own: set[str]) -> Iterator[bool]:
    """Make room, as far as the settings allow, a step each time; yield that it was done."""
    over = read_settings(store.folder).over
    if over == "fail":
        return
    collect(store, kept=machine_layers(), everything=True)
    yield True
    for name in _unused(store) if over == "evict" else ():
        spare = store.reachable(store.entries()) - own
        store.forget(name)
        collect(store, spare=spare, kept=machine_layers())
        yield True


def _unused(store: Store) -> list[str]:
    """Return the names of images that no machine has and that are not mounted, the oldest first."""
    layers, held = open_layers(store), machine_layers() | mounted_layers()
    unused = []
    for name, descriptor in store.names().items():
        with contextlib.suppress(ImageError):
            made = store.manifest(descriptor)
            if isinstance(made, Index):
                continue
            data = store.read(made.config.digest, "configuration")
            chains = layers_module.chain_ids(parse_config(data, len(made.layers)).diff_ids)
            if chains and not layers.in_use(chains, held):
                unused.append(name)
    return unused
