"""`viscum push`."""

from __future__ import annotations

from ... import image_exchange
from .options import settings, words
from .progress import Bars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Put an image into a registry, a layout or an archive; print the digest of its manifest."""
    name, *rest = words(parsed, 1, 2, "push [OPTIONS] IMAGE [DESTINATION]")
    with Bars(quiet=parsed.on("quiet")) as bars:
        digest = image_exchange.push(name, rest[0] if rest else None, settings(parsed), bars)
    print(digest)
    return 0
