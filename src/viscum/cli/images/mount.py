"""`viscum image mount`."""

from __future__ import annotations

from ... import image_mounts, images
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Show the root of an image read-only in a folder; without words, list what is mounted."""
    if not parsed.words:
        for name, path in images.mounted():
            print(f"{name} {path}")
        return 0
    name, *rest = words(parsed, 1, 2, "image mount [IMAGE [FOLDER]]")
    print(image_mounts.mount(name, rest[0] if rest else None))
    return 0
