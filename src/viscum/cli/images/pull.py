"""`viscum pull`."""

from __future__ import annotations

from ... import image_pulling
from ...image.platforms import parse_platform
from ..several import each
from .choosing_name import ask
from .options import settings, words
from .progress import Bars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Take images into the store; print their ids."""
    words(parsed, 1, 1 << 10, "pull [OPTIONS] IMAGE…")
    platform = parse_platform(parsed.text("platform"))

    storage = parsed.text("storage")

    def pull(name: str) -> None:
        with Bars(quiet=parsed.on("quiet")) as bars:
            image = image_pulling.pull(name, platform, settings(parsed), bars, storage, ask())
        print(image.id)

    return each(parsed.words, pull)
