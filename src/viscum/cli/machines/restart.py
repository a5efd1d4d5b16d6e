"""`viscum restart`."""

from __future__ import annotations

from .finding import each_machine
from .stop import patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Stop machines and start them again."""
    timeout = patience(parsed)
    return each_machine(parsed, lambda machine: machine.restart(timeout))
