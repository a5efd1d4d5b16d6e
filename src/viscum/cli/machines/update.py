"""`viscum update`."""

from __future__ import annotations

import sys

from ...errors import SpecError
from ..limit_options import limit_options
from ..machine_options import seconds
from .finding import each_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Change limits of machines while they run, all that are given or none."""
    limits = limit_options(parsed)
    if parsed.text("pids_limit") in ("-1", "0"):
        limits["pids"] = -1  # at a launch there is nothing to lift
    if parsed.text("class") is not None:
        limits["machine_class"] = parsed.text("class")
    restart, reclaim = parsed.text("restart"), parsed.text("reclaim")
    if not limits and restart is None:
        raise SpecError("there is nothing to change", hint="such as --memory 1g")
    time = None if reclaim is None else seconds(reclaim, "--reclaim")

    def update(machine: DetachedMachine) -> None:
        applied = machine.update(restart=restart, reclaim=time, **limits)  # type: ignore[arg-type]
        for text in applied.lost if applied else ():
            print(f"viscum: warning: {machine.name} does not get {text}", file=sys.stderr)
        for text in applied.rounded if applied else ():
            print(f"viscum: {machine.name}: {text}", file=sys.stderr)
        if applied and applied.reclaimed:
            count = applied.reclaimed >> 10
            print(f"viscum: {machine.name}: {count} KiB were taken back", file=sys.stderr)

    return each_machine(parsed, update)
