"""`viscum load`."""

from __future__ import annotations

import os
import sys

from ... import image_exchange, image_pulling
from ...errors import SpecError
from .options import words
from .progress import Bars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Take the images of an archive or a layout into the store; print their names."""
    words(parsed, 0, 0, "load [-i FILE]")
    path, storage = parsed.text("input"), parsed.text("storage")
    with Bars(quiet=parsed.on("quiet")) as bars:
        if path is not None:
            loaded = image_pulling.load(path, bars, storage)
        else:
            if os.isatty(0):
                raise SpecError("there is no archive to load", hint="-i FILE, or < FILE")
            loaded = image_exchange.load_stream(sys.stdin.buffer, bars, storage)
    for image in loaded:
        print(image.name)
    return 0
