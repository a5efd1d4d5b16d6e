"""`viscum history`."""

from __future__ import annotations

import time

from ... import images
from ..format import check_form, print_rows
from ..listing import Column, ago, size
from .options import words
from .rows import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

COLUMNS = (
    Column("Layer", "LAYER"),
    Column("CreatedSince", "CREATED", yields=2),
    Column("CreatedBy", "CREATED BY", yields=1, least=20),
    Column("Size", "SIZE", right=True),
    Column("Comment", "COMMENT", yields=3),
)


def main(parsed: Parsed) -> int:
    """Tell how the layers of an image were made, the last one first."""
    (name,) = words(parsed, 1, 1, "history [OPTIONS] IMAGE")
    form = parsed.text("format")
    check_form(form)
    image = images.find(images.own_store(), name)
    layers = list(image.manifest.layers)
    rows: list[dict[str, object]] = []
    for created, command, comment, empty in image.config.history:
        layer = None if empty or not layers else layers.pop(0)
        rows.append(_row(layer.digest if layer else "", created, command, comment, layer))
    rows += [_row(layer.digest, "", "", "", layer) for layer in layers]
    print_rows(rows[::-1], COLUMNS, form, quiet="", whole=parsed.on("no_trunc"))
    return 0


def _row(digest: str, created: str, command: str, comment: str, layer: object) -> dict[str, object]:
    made = moment(created)
    return {
        "Layer": digest.partition(":")[2][:12] or "<none>",
        "Digest": digest,
        "CreatedAt": created,
        "CreatedSince": "" if made is None else ago(made, time.time()),
        "CreatedBy": " ".join(command.split()),
        "Size": size(getattr(layer, "size", 0)),
        "Comment": comment,
    }
