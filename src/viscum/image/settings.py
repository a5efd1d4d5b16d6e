"""Settings of a store, in `store.json` of its data folder: how images are kept, and how many bytes
it may hold.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import ImageError
from ..frozen import Frozen
from . import document

__all__ = ["OVER", "STORAGES", "StoreSettings", "read_settings", "write_settings"]

STORAGES = ("overlay", "erofs")
OVER = ("fail", "gc", "evict")
"""What a pull does that would exceed the quota: fail; remove what nothing needs first; remove also
the images that no machine has, the oldest first.
"""
MAX_FILE = 64 << 10


class StoreSettings(Frozen):
    """What was set for a store."""

    storage: str = "overlay"
    quota: int | None = None
    over: str = "fail"


def _path(folder: str) -> str:
    return f"{folder}/store.json"


def read_settings(folder: str) -> StoreSettings:
    """Return the settings of the store in a data folder; raises ImageError where they are
    damaged.
    """
    path = _path(folder)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return StoreSettings()
    except OSError as error:
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
    table = document.parse(data, path, MAX_FILE)
    made = StoreSettings(
        document.field(table, "storage", str, "overlay", path),
        document.field(table, "quota", int, 0, path) or None,
        document.field(table, "over", str, "fail", path),
    )
    if made.storage not in STORAGES or made.over not in OVER or (made.quota or 1) < 0:
        raise ImageError(f"{path} has settings that are unknown", hint="viscum store set …")
    return made


def write_settings(folder: str, settings: StoreSettings) -> None:
    """Keep settings, whole or not at all."""
    path = _path(folder)
    table = {"storage": settings.storage, "quota": settings.quota or 0, "over": settings.over}
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "xb") as file:
            file.write(document.write(table))
            file.flush()
            os.fdatasync(file.fileno())
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise ImageError(f"{path}: {(error.strerror or '').lower()}") from None
