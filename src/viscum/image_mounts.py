"""Roots of images in folders of the host."""

from __future__ import annotations

import os

from .errors import ImageError
from .images import SOURCE, Root, find, find_name, mounted, own_store, prepare
from .places import data_folder
from .showing import shown

__all__ = ["mount", "unmount"]

READ_ONLY = 1 | 2 | 4
"""MS_RDONLY, MS_NOSUID, MS_NODEV: mount(2)."""


def mount(name: str, folder: str | None = None) -> str:
    """Show the root of an image read-only in a folder; return its path. Needs root."""
    if os.geteuid():
        raise ImageError("only root can mount an image", hint="viscum run --image NAME")
    root = prepare(find(own_store(), name))
    target = os.path.abspath(folder) if folder else _mount_folder(root)
    if folder and not os.path.isdir(target):
        raise ImageError(f"{folder!r} is no folder", hint="make it first")
    if any(path == target for _, path in mounted()):
        return target
    if not folder:
        os.makedirs(target, exist_ok=True)
    from . import native

    empty = f"{data_folder()}/mounts/empty"  # an overlay without an upper layer needs two
    os.makedirs(empty, exist_ok=True)
    try:
        with shown(root.layers) as layers:
            lower = [path.replace("\\", "\\\\").replace(":", "\\:") for path in layers]
            options = "lowerdir=" + ":".join([*lower, empty]).replace(",", "\\,")
            native.mount(f"{SOURCE}{root.name}", target, "overlay", READ_ONLY, options)
    except OSError as error:
        raise ImageError(f"{target}: {(error.strerror or '').lower()}") from None
    return target


def _mount_folder(root: Root) -> str:
    return f"{data_folder()}/mounts/{root.digest.partition(':')[2][:16]}"


def unmount(text: str) -> None:
    """Take away what `mount` shows, by the image's name or by the folder."""
    from . import native

    store = own_store()
    found = find_name(store, text)
    names = {text, found[0] if found else text}
    paths = [path for name, path in mounted() if name in names or path == os.path.abspath(text)]
    if not paths:
        raise ImageError(f"{text!r} is not mounted", hint="viscum image mount lists what is")
    for path in paths:
        native.unmount(path)
        if path.startswith(f"{data_folder()}/mounts/"):
            os.rmdir(path)
