"""`viscum import`."""

from __future__ import annotations

import sys

from ... import image_exchange
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Make an image of a tar archive of a root; print its id."""
    path, *rest = words(parsed, 1, 2, "import [OPTIONS] FILE|- [NAME]")
    name = rest[0] if rest else None
    changes, message = parsed.texts("change"), parsed.text("message") or ""
    if path == "-":
        image = image_exchange.import_stream(sys.stdin.buffer, name, changes, message)
    else:
        image = image_exchange.import_file(path, name, changes, message)
    print(image.id)
    return 0
