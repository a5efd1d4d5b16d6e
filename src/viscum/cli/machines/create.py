"""`viscum create`, and what `viscum run -d` shares with it."""

from __future__ import annotations

import os
import sys

from ...detached import DetachedMachine
from ...errors import SpecError
from .. import living_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...drivers.process import Compiled
    from ..parser import Parsed

__all__ = ["create", "main"]


def create(parsed: Parsed) -> DetachedMachine:
    """Write down a machine as the options say; its id goes to --cidfile."""
    arguments = living_options.create(parsed)
    if not arguments["command"] and "image" not in arguments:
        raise SpecError("there is no command to run", hint="viscum create [OPTIONS] -- COMMAND")
    path = parsed.text("cidfile")
    fd = -1
    if path is not None:
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise SpecError(f"--cidfile {path!r}: {reason}", hint="choose a new file") from None
    try:
        machine = DetachedMachine.create(**arguments)
    except BaseException:
        if path is not None:
            os.close(fd)
            os.unlink(path)
        raise
    if fd >= 0:
        os.write(fd, machine.id.encode())
        os.close(fd)
    return machine


def start(machine: DetachedMachine) -> Compiled:
    """Start a machine that was just created; where that fails it is not kept."""
    try:
        return machine.start()
    except BaseException:
        machine.remove(force=True)
        raise


def main(parsed: Parsed) -> int:
    """Write down a machine and print its id."""
    machine = create(parsed)
    print(machine.id)
    sys.stdout.flush()
    return 0
