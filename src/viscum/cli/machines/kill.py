"""`viscum kill`."""

from __future__ import annotations

from ..machine_options import signal_number
from .finding import each_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Send a signal to machines' first processes."""
    number = signal_number(parsed.text("signal") or "KILL")
    return each_machine(parsed, lambda machine: machine.kill(number))
