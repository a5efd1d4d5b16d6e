"""`viscum pause`."""

from __future__ import annotations

from .finding import each_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Freeze every process of machines."""
    return each_machine(parsed, lambda machine: machine.pause())
