"""`viscum commit`."""

from __future__ import annotations

import os

from ... import image_exchange
from ...errors import HostError, MachineError
from ..copying.diff import own_paths
from ..machines.finding import find
from .options import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ..parser import Parsed

__all__ = ["main"]


def _pause(machine: DetachedMachine) -> bool:
    """Have nothing change meanwhile, where this host can do that."""
    try:
        machine.pause()
    except HostError:
        return False
    return True


def main(parsed: Parsed) -> int:
    """Make an image of what a machine changed in its own; print the new one's id."""
    name, *rest = words(parsed, 1, 2, "commit [OPTIONS] MACHINE [NAME]")
    machine = find(name)
    spec = machine.config.spec
    if not spec.image_digest or not spec.layer or spec.read_only:
        raise MachineError(
            f"machine {machine.name!r} has no image that it could have changed",
            hint="viscum export writes any root",
        )
    paused = machine.state == "running" and _pause(machine)
    try:
        image = image_exchange.commit(
            os.path.join(spec.layer, "upper"),
            spec.image_digest,
            rest[0] if rest else None,
            skip=sorted(own_paths(spec)),
            changes=parsed.texts("change"),
            message=parsed.text("message") or "",
        )
    finally:
        if paused:
            machine.unpause()
    print(image.id)
    return 0
