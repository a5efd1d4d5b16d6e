"""`viscum stop`."""

from __future__ import annotations

from ..machine_options import seconds, signal_number
from .finding import each_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main", "patience"]


def patience(parsed: Parsed) -> float | None:
    """Return the seconds of --time, or None."""
    text = parsed.text("time")
    return None if text is None else seconds(text, "--time")


def main(parsed: Parsed) -> int:
    """Ask machines to end, and kill those that do not."""
    timeout, text = patience(parsed), parsed.text("signal")
    number = None if text is None else signal_number(text)
    return each_machine(parsed, lambda machine: machine.stop(timeout, number))
