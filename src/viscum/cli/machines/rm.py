"""`viscum rm`."""

from __future__ import annotations

import sys

from ...detached import DetachedMachine
from ...errors import MachineError, SpecError
from ..several import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...spec import Mount
    from ..parser import Parsed

__all__ = ["main"]


def _mounts(machine: DetachedMachine) -> tuple[Mount, ...]:
    try:
        return machine.config.spec.mounts
    except MachineError:
        return ()  # damaged: what it had is not known


def main(parsed: Parsed) -> int:
    """Remove machines; with --force also those that run, and none is no error."""
    force = parsed.on("force")
    words = list(parsed.words)
    if parsed.on("all"):
        from ...detached import machines

        words += [machine.id for machine in machines(all=True)]
    elif not words:
        raise SpecError("there is no machine named", hint="viscum ps -a lists them")

    def remove(word: str) -> None:
        try:
            machine = DetachedMachine.find(word)
        except MachineError as error:
            if not force or "no machine" not in error.message:
                raise
            print(f"viscum: {error.message}", file=sys.stderr)
            return
        mounts = _mounts(machine) if parsed.on("volumes") else ()
        machine.remove(force=force)
        if mounts:
            from ... import volumes
            from ...wiping import wipe
            from ..volumes.rows import users

            volumes.remove_anonymous(mounts, users, wipe)
        print(word)

    return each(words, remove)
