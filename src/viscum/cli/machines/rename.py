"""`viscum rename`."""

from __future__ import annotations

from .finding import one_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Give a machine another name."""
    machine = one_machine(parsed, "viscum rename NAME NEW", 2)
    machine.rename(parsed.words[1])
    return 0
