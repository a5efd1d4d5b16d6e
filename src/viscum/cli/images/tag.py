"""`viscum tag`."""

from __future__ import annotations

from ... import images
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Give an image more names."""
    source, *names = words(parsed, 2, 1 << 10, "tag IMAGE NAME…")
    for name in names:
        images.tag(images.own_store(), source, name)
    return 0
