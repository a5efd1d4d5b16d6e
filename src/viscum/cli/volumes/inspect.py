"""`viscum volume inspect`."""

from __future__ import annotations

from ... import volumes
from ...errors import SpecError
from ..format import check_form, print_records
from ..several import each
from .rows import complete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Print all that is known of volumes, as JSON."""
    if not parsed.words:
        raise SpecError("there is no volume to inspect", hint="viscum volume inspect NAME…")
    form = parsed.text("format")
    check_form(form)
    found: list[dict[str, object]] = []
    code = each(parsed.words, lambda name: found.append(complete(volumes.find(name))))
    print_records(found, form)
    return code
