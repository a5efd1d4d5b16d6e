"""`viscum update`."""

from __future__ import annotations

from ...errors import SpecError
from .finding import each_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]

LIMITS = ("memory", "memory_swap", "cpus", "cpu_shares", "cpuset_cpus")


def main(parsed: Parsed) -> int:
    """Change limits of machines while they run, all that are given or none."""
    limits: dict[str, str | float | None] = {
        key: text for key in LIMITS if (text := parsed.text(key)) is not None
    }
    if parsed.text("pids_limit") is not None:
        limits["pids"] = parsed.text("pids_limit")
    restart = parsed.text("restart")
    if not limits and restart is None:
        raise SpecError("there is nothing to change", hint="such as --memory 1g")
    return each_machine(parsed, lambda machine: machine.update(restart=restart, **limits))
