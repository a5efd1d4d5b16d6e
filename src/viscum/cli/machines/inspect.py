"""`viscum inspect`."""

from __future__ import annotations

from ...errors import MachineError, SpecError
from ..format import check_form, print_records
from ..several import each
from .finding import find
from .rows import details

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..parser import Parsed

__all__ = ["main"]


def _record(word: str) -> dict[str, Any]:
    """Return what is known of the machine of that name, else of the image; or MachineError."""
    try:
        return details(find(word).record)
    except MachineError:
        image = _image(word)
        if image is None:
            raise
        return image


def _image(word: str) -> dict[str, Any] | None:
    from ... import images
    from ..images.rows import image_record

    store = images.own_store()
    known = images.find_name(store, word)
    return None if known is None else image_record(images.find(store, word))


def main(parsed: Parsed) -> int:
    """Print all that is known of machines and images."""
    form = parsed.text("format")
    check_form(form)
    if not parsed.words:
        raise SpecError("there is no machine named", hint="viscum ps -a lists them")
    found: list[dict[str, Any]] = []
    code = each(parsed.words, lambda word: found.append(_record(word)))
    print_records(found, form)
    return code
