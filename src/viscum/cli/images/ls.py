"""`viscum images`."""

from __future__ import annotations

from ... import images
from ..filters import Filters, labels_match
from ..format import check_form, print_rows
from ..listing import Column
from .rows import image_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = (
    Column("Repository", "REPOSITORY", yields=2, least=16, front=True),
    Column("Tag", "TAG", yields=1),
    Column("ID", "IMAGE ID"),
    Column("CreatedSince", "CREATED", yields=3),
    Column("Size", "SIZE", right=True),
    Column("OwnSize", "OWN", right=True),
)

TESTS = {
    "reference": lambda row, value: value in f"{row['Repository']}:{row['Tag']}",
    "label": lambda row, value: labels_match(row["Labels"], value),
    "digest": lambda row, value: str(row["Digest"]).startswith(value),
}


def main(parsed: Parsed) -> int:
    """List the images of the store: what each takes, and how much of that it shares with none."""
    form = parsed.text("format")
    check_form(form)
    filters = Filters(parsed.texts("filter"), TESTS)
    rows = image_rows(images.own_store(), whole=parsed.on("no_trunc"))
    words = parsed.words
    rows = [row for row in rows if not words or words[0] in f"{row['Repository']}:{row['Tag']}"]
    rows = [row for row in rows if filters.match(row)]
    quiet = "ID" if parsed.on("quiet") else ""
    print_rows(rows, COLUMNS, form, quiet=quiet, whole=parsed.on("no_trunc"))
    return 0
