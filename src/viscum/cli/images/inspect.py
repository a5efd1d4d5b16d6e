"""`viscum image inspect`."""

from __future__ import annotations

from ... import images
from ..format import check_form, print_records
from ..several import each
from .options import words
from .rows import image_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Print all that is known of images, as JSON."""
    words(parsed, 1, 1 << 10, "image inspect [OPTIONS] IMAGE…")
    form = parsed.text("format")
    check_form(form)
    store, found = images.own_store(), []
    code = each(parsed.words, lambda name: found.append(image_record(images.find(store, name))))
    print_records(found, form)
    return code
