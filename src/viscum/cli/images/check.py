"""`viscum store check`."""

from __future__ import annotations

from ... import images
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Compare every blob of the store with its digest; 1 where something is wrong and stays so."""
    words(parsed, 0, 0, "store check [--repair]")
    faults = images.check(images.own_store(), repair=parsed.on("repair"))
    for fault in faults:
        name = f" of {fault.name}" if fault.name else ""
        print(f"{fault.digest}{name}: {fault.what}" + (", removed" if fault.repaired else ""))
    return 0 if all(fault.repaired for fault in faults) else 1
