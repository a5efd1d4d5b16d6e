"""`viscum ps`."""

from __future__ import annotations

import time

from ... import registry
from ...errors import SpecError
from ..filters import Filters, labels_match
from ..format import check_form, print_rows
from ..listing import Column
from .rows import row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = (
    Column("ShortID", "ID"),
    Column("Image", "ROOT", yields=2, least=6, front=True),
    Column("Command", "COMMAND", yields=3, least=10),
    Column("RunningFor", "CREATED", yields=1, least=10),
    Column("Status", "STATUS", yields=1, least=14, colours={"Up": "green", "Restarting": "yellow"}),
    Column("Names", "NAME", yields=1, least=8),
)
LONGEST_COMMAND = 30

TESTS = {
    "name": lambda row, value: value in str(row["Names"]),
    "id": lambda row, value: str(row["ID"]).startswith(value),
    "status": lambda row, value: row["State"] == value,
    "label": lambda row, value: labels_match(row["Labels"], value),
    "exited": lambda row, value: row["State"] == "exited" and str(row["ExitCode"]) == value,
    "health": lambda row, value: f"({value}" in str(row["Status"]),
    "ancestor": lambda row, value: row["Image"] == value,
    "network": lambda row, value: row["Networks"] == value,
}


def _shown(found: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    command = str(found["Command"])
    cut = command if whole or len(command) <= LONGEST_COMMAND else command[:29] + "…"
    short = found["ID"] if whole else found["ID"][: registry.SHORT]
    return {**found, "Command": cut, "ShortID": short}


def main(parsed: Parsed) -> int:
    """List machines."""
    if parsed.words:
        raise SpecError(f"{parsed.words[0]!r} is too much", hint="--filter name=…")
    form, whole = parsed.text("format"), parsed.on("no_trunc")
    check_form(form)
    filters = Filters(parsed.texts("filter"), TESTS)
    everything = parsed.on("all") or bool(filters.values("status") or filters.values("exited"))
    now = time.time()
    rows = [row(record, now) for record in reversed(registry.machines())]
    if not everything:
        rows = [found for found in rows if found["State"] in registry.RUNNING]
    rows = [_shown(found, whole=whole) for found in rows if filters.match(found)]
    last = parsed.text("last")
    if last is not None:
        if not (last.isascii() and last.isdecimal()):
            raise SpecError(f"--last {last!r} is no number")
        rows = rows[: int(last)]
    quiet = ("ID" if whole else "ShortID") if parsed.on("quiet") else ""
    print_rows(rows, COLUMNS, form, quiet=quiet, whole=whole)
    return 0
