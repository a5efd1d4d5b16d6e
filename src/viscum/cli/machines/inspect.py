"""`viscum inspect`."""

from __future__ import annotations

from ...errors import SpecError
from ..format import check_form, print_records
from ..several import each
from .finding import find
from .rows import details

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Print all that is known of machines."""
    form = parsed.text("format")
    check_form(form)
    if not parsed.words:
        raise SpecError("there is no machine named", hint="viscum ps -a lists them")
    found: list[dict[str, Any]] = []
    code = each(parsed.words, lambda word: found.append(details(find(word).record)))
    print_records(found, form)
    return code
