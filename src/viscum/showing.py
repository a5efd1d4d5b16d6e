"""Roots of machines as the host sees them: folders, and image files that are mounted for a look."""

from __future__ import annotations

import contextlib
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["is_image", "shown"]


def is_image(path: str) -> bool:
    """Return whether a layer of a root is an image file, and no folder."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


@contextlib.contextmanager
def shown(layers: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Have paths of folders that show `layers`. An image file is mounted meanwhile, attached
    nowhere; that needs root. Raises OSError.
    """
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(_folder(path)) for path in layers)


@contextlib.contextmanager
def _folder(path: str) -> Iterator[str]:
    if not is_image(path):
        yield path
        return
    from . import native

    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        root = native.mount_erofs(file)
    finally:
        os.close(file)
    try:
        yield f"/proc/self/fd/{root}/."
    finally:
        os.close(root)
