"""`viscum __names`: what completion scripts offer as names, fast, a line each."""

from __future__ import annotations

import os

from ...places import data_folder
from ..listing import emit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name[0] != "."]
    except OSError:
        return []


def machine_names() -> list[str]:
    """Return the names of machines, without asking whether they are still there."""
    return sorted(_listed(data_folder() + "/names"))


def volume_names() -> list[str]:
    """Return the names of volumes."""
    from ... import volumes

    return volumes.names()


def image_names() -> list[str]:
    """Return the names of images."""
    from ...errors import ViscumError
    from ...image.store import Store
    from ...places import data_folder

    try:
        return sorted(name for name in Store(data_folder()).names() if name[0] != "@")
    except ViscumError:
        return []


def main(parsed: Parsed) -> int:
    """Print the names of a kind; nothing for a kind that is not known."""
    kind = parsed.words[0] if parsed.words else ""
    listed = {
        "machines": machine_names,
        "volumes": volume_names,
        "images": image_names,
        "paths": machine_names,
    }
    found = listed[kind]() if kind in listed else []
    emit("".join(f"{name}:\n" if kind == "paths" else f"{name}\n" for name in found))
    return 0
