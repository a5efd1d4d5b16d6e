"""`viscum gc`."""

from __future__ import annotations

from ... import images, storing
from ..listing import size
from .options import collect, words
from .store import of_quota

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Remove blobs, layers and broken pulls that nothing needs."""
    words(parsed, 0, 0, "gc [--all]")
    print(f"freed {size(collect(everything=parsed.on('all')))}")
    store = images.own_store()
    print(f"the store has {of_quota(storing.usage(store), storing.configure(store))}")
    return 0
