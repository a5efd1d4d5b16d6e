"""`list`: the containers below a root."""

from __future__ import annotations

import os

from ..errors import SpecError
from .document import dump
from .store import Stored, list_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call

__all__ = ["main"]

COLUMNS = ("id", "pid", "status", "bundle", "created", "owner")


def _owner(folder: str) -> str:
    uid = os.stat(folder).st_uid
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _row(folder: str) -> dict[str, object]:
    stored = Stored(folder)
    status = stored.status()
    row: dict[str, object] = {
        "ociVersion": stored.text("version"),
        "id": stored.id,
        "pid": 0 if status == "stopped" else stored.pid,
        "status": status,
        "bundle": stored.text("bundle"),
        "rootfs": stored.text("rootfs"),
        "created": stored.text("created"),
    }
    if stored.annotations:
        row["annotations"] = stored.annotations
    row["owner"] = _owner(folder)
    return row


def main(call: Call) -> int:
    """Print the containers as a table, as JSON, or their ids."""
    form = call.given.text("format", "table")
    if form not in ("table", "json"):
        raise SpecError(f"invalid format option {form!r}", hint="table or json")
    ids = list_ids(call.root)
    if call.given.on("quiet"):
        print("".join(f"{identity}\n" for identity in ids), end="")
        return 0
    rows = []
    for identity in ids:
        try:
            rows.append(_row(f"{call.root}/{identity}"))
        except (SpecError, OSError) as error:  # damaged, or deleted meanwhile
            call.warn(f"container {identity}: {error}")
    if form == "json":
        print(dump(rows) if rows else "null")
        return 0
    lines = [[name.upper() for name in COLUMNS]]
    lines += [[str(row[name]) for name in COLUMNS] for row in rows]
    widths = [max(12, *(len(line[at]) + 3 for line in lines)) for at in range(len(COLUMNS))]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("".join(cells).rstrip())
    return 0
