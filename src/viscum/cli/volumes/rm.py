"""`viscum volume rm`."""

from __future__ import annotations

from ... import volumes
from ...errors import SpecError
from ...wiping import wipe
from ..several import each
from .rows import users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Remove volumes and print their names."""
    if not parsed.words:
        raise SpecError("there is no volume to remove", hint="viscum volume rm NAME…")

    def remove(name: str) -> None:
        volumes.check_volume_name(name)
        if parsed.on("force") and name not in volumes.names():
            return
        volumes.remove(name, users, wipe)
        print(name)

    code = each(parsed.words, remove)
    volumes.sweep(wipe)
    return code
