"""`viscum volume ls`."""

from __future__ import annotations

from ...errors import SpecError
from ..format import check_form, print_rows
from ..listing import Column
from .rows import filtered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = (
    Column("Name", "VOLUME NAME", yields=1, least=12),
    Column("Created", "CREATED"),
    Column("Labels", "LABELS", yields=3),
    Column("Mountpoint", "MOUNTPOINT", yields=2, front=True),
)


def main(parsed: Parsed) -> int:
    """List volumes."""
    if parsed.words:
        raise SpecError(f"{parsed.words[0]!r} is too much", hint="--filter name=…")
    form = parsed.text("format")
    check_form(form)
    quiet = "Name" if parsed.on("quiet") else ""
    found = filtered(parsed.texts("filter"))
    print_rows(found, COLUMNS, form, quiet=quiet, whole=parsed.on("no_trunc"))
    return 0
