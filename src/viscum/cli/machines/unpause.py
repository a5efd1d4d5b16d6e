"""`viscum unpause`."""

from __future__ import annotations

from .finding import each_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Let paused machines go on."""
    return each_machine(parsed, lambda machine: machine.unpause())
