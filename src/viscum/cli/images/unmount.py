"""`viscum image unmount`."""

from __future__ import annotations

from ... import image_mounts
from ..several import each
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Take away what `image mount` shows."""
    words(parsed, 1, 1 << 10, "image unmount IMAGE|FOLDER…")
    return each(parsed.words, image_mounts.unmount)
