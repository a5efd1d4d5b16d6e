"""Settings of a store, in `store.json` of its data folder: how images are kept, and how many bytes
it may hold.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import ImageError
from ..frozen import Frozen
from . import document

__all__ = ["OVER", "STORAGES", "Measured", "StoreSettings", "read_settings", "write_settings"]

STORAGES = ("overlay", "erofs")
OVER = ("fail", "gc", "evict")
"""What a pull does that would exceed the quota: fail; remove what nothing needs first; remove also
the images that no machine has, the oldest first.
"""
MAX_FILE = 64 << 10
CLEARLY = 0.9
"""EROFS is chosen where it takes at most so much of the time of folders: noise decides nothing."""


class Measured(Frozen):
    """How long the root of a machine takes in each form on a kernel, in microseconds; or why it
    could not be tried.
    """

    kernel: str
    overlay: int = 0
    erofs: int = 0
    reason: str = ""

    @property
    def best(self) -> str:
        """The form to keep images in: EROFS only where that is clearly faster."""
        return "erofs" if 0 < self.erofs <= self.overlay * CLEARLY else "overlay"


class StoreSettings(Frozen):
    """What was set for a store; `storage` is empty where what was measured decides."""

    storage: str = ""
    quota: int | None = None
    over: str = "fail"
    measured: Measured | None = None


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
        document.field(table, "storage", str, "", path),
        document.field(table, "quota", int, 0, path) or None,
        document.field(table, "over", str, "fail", path),
        _measured(document.fields(table, "measured", path), path),
    )
    if made.storage not in ("", *STORAGES) or made.over not in OVER or (made.quota or 1) < 0:
        raise ImageError(f"{path} has settings that are unknown", hint="viscum store set …")
    return made


def _measured(table: dict[str, object], path: str) -> Measured | None:
    if not table:
        return None
    overlay, erofs = (document.field(table, form, int, 0, path) for form in STORAGES)
    kernel, reason = (document.field(table, key, str, "", path) for key in ("kernel", "reason"))
    return Measured(kernel, overlay, erofs, reason)


def write_settings(folder: str, settings: StoreSettings) -> None:
    """Keep settings, whole or not at all."""
    path = _path(folder)
    table: dict[str, object] = {"storage": settings.storage, "quota": settings.quota or 0}
    table["over"] = settings.over
    if settings.measured is not None:
        table["measured"] = vars(settings.measured)
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
