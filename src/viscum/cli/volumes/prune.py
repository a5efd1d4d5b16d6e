"""`viscum volume prune`."""

from __future__ import annotations

from ... import volumes
from ...errors import SpecError, ViscumError
from ...wiping import wipe
from ..several import confirm
from .rows import filtered, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Remove every volume that no machine has, and print their names."""
    if parsed.words:
        raise SpecError(f"{parsed.words[0]!r} is too much", hint="viscum volume rm NAME")
    found = filtered(parsed.texts("filter"))
    unused = [str(row["Name"]) for row in found if not users(str(row["Name"]))]
    question = f"remove {len(unused)} volumes, with all that is in them?"
    if unused and not parsed.on("force") and not confirm(question):
        return 1
    for name in unused:
        try:
            volumes.remove(name, users, wipe)
        except ViscumError:
            continue  # a machine has begun to use it, or somebody else removed it
        print(name)
    volumes.sweep(wipe)
    return 0
