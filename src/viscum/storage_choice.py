"""How a store keeps new images where nobody said it: as folders, or as EROFS where a machine starts
clearly faster from that on this host.

That is measured once for each store and kernel, in a few hundredths of a second: a small tree is
mounted in both forms, attached nowhere, as the root of a machine is, and its files are read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from . import folders, native, storing
from .errors import ImageError
from .host import kernel_version
from .image.room import Room
from .image.settings import Measured, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .image.store import Store

__all__ = ["default_storage", "measured"]

FOLDERS, FILES, BYTES = 4, 6, 6000
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What may be otherwise the next time."""
DETACHED = (6, 15)
"""Since then a mount that is attached nowhere can be cloned, into each machine."""
LEAST_ROUNDS, MOST_ROUNDS, MOST_SECONDS = 6, 12, 0.02


def default_storage(store: Store) -> str:
    """Return how new images of a store are kept: as was set, else as measured on this kernel."""
    settings = read_settings(store.folder)
    if settings.storage:
        return settings.storage
    return measured(store).best if os.geteuid() == 0 else "overlay"


def measured(store: Store) -> Measured:
    """Return what was measured on this kernel, measured now where it was not yet."""
    known = read_settings(store.folder).measured
    if known is not None and known.kernel == os.uname().release:
        return known
    found = _measure(store)
    with contextlib.suppress(ImageError):  # a disk that is full: it is measured again
        storing.configure(store, measured=found)
    return found


def _measure(store: Store) -> Measured:
    kernel = os.uname().release
    if os.geteuid():
        return Measured(kernel, reason="only root can mount EROFS")
    if kernel_version(kernel) < DETACHED:
        return Measured(kernel, reason="machines can have EROFS from Linux 6.15 on")
    try:
        with store.use(), _ground(store) as ground:
            return _compare(store, kernel, ground)
    except ImageError as error:
        return Measured(kernel, reason=error.message)
    except OSError as error:
        known = "" if error.errno in PASSING else kernel
        return Measured(known, reason=(error.strerror or "").lower())


@contextlib.contextmanager
def _ground(store: Store) -> Iterator[str]:
    """Yield a folder beside the store's layers with a small tree in it; it goes at the end."""
    ground = f"{store.layers}/new-measured-{os.getpid()}"
    os.mkdir(ground)
    try:
        for name in ("tree", "upper", "work"):
            os.mkdir(f"{ground}/{name}")
        for place in _places():
            os.makedirs(f"{ground}/tree/{os.path.dirname(place)}", exist_ok=True)
            with open(f"{ground}/tree/{place}", "wb") as file:
                file.write(b"x" * BYTES)
        yield ground
    finally:
        with contextlib.suppress(OSError):
            folders.remove_tree(ground)


def _places() -> list[str]:
    return [f"{folder}/{name}" for folder in range(FOLDERS) for name in range(FILES)]


def _compare(store: Store, kernel: str, ground: str) -> Measured:
    """Return the shortest times of both forms, in turn; the first round counts for neither."""
    image = f"{ground}/image"
    storing.open_layers(store).worker.write_image(f"{ground}/tree", image, Room().take)
    until, rounds = time.monotonic() + MOST_SECONDS, []
    with open(image, "rb") as file:
        for turn in range(MOST_ROUNDS):
            if turn > LEAST_ROUNDS and time.monotonic() > until:
                break
            rounds.append([_time_of_use(ground, form) for form in (-1, file.fileno())])
    overlay, erofs = map(min, zip(*rounds[1:], strict=True))
    slower = sum(in_file >= in_folders for in_folders, in_file in rounds[1:])
    if slower > len(rounds) // 4:
        erofs = max(erofs, overlay)  # the best of either may be chance: others had the CPU
    return Measured(kernel, overlay, erofs)


def _time_of_use(ground: str, image: int) -> int:
    """Return how many microseconds a use takes."""
    begin = time.perf_counter()
    _use(ground, image)
    return round((time.perf_counter() - begin) * 1e6)


def _use(ground: str, image: int) -> None:
    """Mount the tree, from an open image file if there is one, and read what is in it."""
    lower, below = f"{ground}/tree", -1
    if image >= 0:
        below = native.mount_erofs(image)
        lower = f"/proc/self/fd/{below}/."
    try:
        root = native.mount_overlay(lower, f"{ground}/upper", f"{ground}/work")
    finally:
        if below >= 0:
            os.close(below)
    try:
        for place in _places():
            fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
            try:
                os.read(fd, BYTES)
            finally:
                os.close(fd)
    finally:
        os.close(root)
