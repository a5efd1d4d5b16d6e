"""`viscum gc`."""

from __future__ import annotations

from ..listing import size
from .options import collect, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Remove blobs, layers and broken pulls that nothing needs."""
    words(parsed, 0, 0, "gc [--all]")
    print(f"freed {size(collect(everything=parsed.on('all')))}")
    return 0
