"""Machines named on the command line."""

from __future__ import annotations

import sys

from ...detached import DetachedMachine, machines
from ...errors import SpecError
from ..several import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..parser import Parsed

__all__ = ["each_machine", "find", "one_machine"]


def find(word: str) -> DetachedMachine:
    """Return the machine of that name or id; one that lost its monitor is given a new one."""
    machine = DetachedMachine.find(word)
    if machine.monitor_is_lost and machine.take_over():
        print(
            f"viscum: warning: the monitor of {machine.name} was lost; it has a new one now",
            file=sys.stderr,
        )
    return machine


def each_machine(parsed: Parsed, action: Callable[[DetachedMachine], object]) -> int:
    """Do `action` to each machine that was named, or to all with --all; print what was named."""
    words = list(parsed.words)
    if parsed.on("all"):
        words += [machine.id for machine in machines(all=True)]
    if not words and not parsed.on("all"):
        raise SpecError("there is no machine named", hint="viscum ps -a lists them")

    def act(word: str) -> None:
        action(find(word))
        print(word)

    return each(words, act)


def one_machine(parsed: Parsed, usage: str, count: int = 1) -> DetachedMachine:
    """Return the machine of the first word, where there are `count`; raises SpecError."""
    if len(parsed.words) < count:
        raise SpecError("there is too little to do something with", hint=usage)
    if len(parsed.words) > count:
        raise SpecError(f"{parsed.words[count]!r} is too much", hint=usage)
    return find(parsed.words[0])
