"""`viscum start`."""

from __future__ import annotations

from ...errors import SpecError
from .finding import each_machine, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ..parser import Parsed

__all__ = ["main"]


def _start(parsed: Parsed) -> int:
    if parsed.text("sdnotify") is None:
        return each_machine(parsed, lambda machine: machine.start())
    from ..sdnotify import Notifier

    if len(parsed.words) != 1:
        raise SpecError("a service is one machine", hint="viscum start --sdnotify monitor NAME")

    def start(machine: DetachedMachine) -> None:
        machine.start()
        notifier.tell(machine)

    with Notifier(parsed) as notifier:
        return each_machine(parsed, start)


def main(parsed: Parsed) -> int:
    """Start machines; with --attach, stay with one until it ends."""
    if not (parsed.on("attach") or parsed.on("interactive")):
        return _start(parsed)
    if len(parsed.words) != 1:
        raise SpecError("only one machine can be attached to", hint="viscum start -a NAME")
    from .attach import Console, detach_keys

    machine = find(parsed.words[0])
    keys = detach_keys(parsed.text("detach_keys"))
    return Console(machine, machine.start_attached(), keys, typed=parsed.on("interactive")).run()
