"""`viscum start`."""

from __future__ import annotations

from ...errors import SpecError
from .finding import each_machine, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..parser import Parsed

__all__ = ["main"]


def main(parsed: Parsed) -> int:
    """Start machines; with --attach, stay with one until it ends."""
    if not (parsed.on("attach") or parsed.on("interactive")):
        return each_machine(parsed, lambda machine: machine.start())
    if len(parsed.words) != 1:
        raise SpecError("only one machine can be attached to", hint="viscum start -a NAME")
    from .attach import Console, detach_keys

    machine = find(parsed.words[0])
    keys = detach_keys(parsed.text("detach_keys"))
    return Console(machine, machine.start_attached(), keys, typed=parsed.on("interactive")).run()
