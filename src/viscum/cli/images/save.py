"""`viscum save`."""

from __future__ import annotations

import os
import sys

from ... import image_exchange
from ...errors import SpecError
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

FORMATS = ("docker-archive", "oci-archive", "oci", "dir")


def main(parsed: Parsed) -> int:
    """Write images as an archive or a folder."""
    names = words(parsed, 1, 1 << 10, "save [OPTIONS] IMAGE…")
    form = parsed.text("format") or "docker-archive"
    path = parsed.text("output")
    if form not in FORMATS:
        raise SpecError(f"format {form!r} is unknown", hint=f"one of: {', '.join(FORMATS)}")
    if path is None:
        if form in ("oci", "dir") or os.isatty(1):
            raise SpecError("there is nowhere to write to", hint="-o PATH")
        image_exchange.save_stream(names, form, sys.stdout.buffer)
        return 0
    image_exchange.save(names, form, path)
    return 0
