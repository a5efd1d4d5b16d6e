"""`pause` and `resume`, by the freezer of either version of control groups."""

from __future__ import annotations

import os
import time

from ..errors import HostError, MachineError
from .store import open_stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call

__all__ = ["main", "set_frozen"]

PATIENCE_SECONDS = 5.0
STEP_SECONDS = 0.005


def _is_done(file: str, *, frozen: bool) -> bool:
    if file.endswith("freezer.state"):
        with open(file, "rb") as state:
            return state.read().strip() == (b"FROZEN" if frozen else b"THAWED")
    with open(os.path.dirname(file) + "/cgroup.events", "rb") as events:
        return (b"frozen 1" if frozen else b"frozen 0") in events.read()


def set_frozen(file: str, *, frozen: bool) -> None:
    """Freeze or thaw a group by its file and wait until it is; raises HostError."""
    words = ("FROZEN", "THAWED") if file.endswith("freezer.state") else ("1", "0")
    end = time.monotonic() + PATIENCE_SECONDS
    try:
        while True:
            # Version 1 may have to be told again: what forks meanwhile escapes.
            with open(file, "wb", buffering=0) as state:
                state.write(words[0 if frozen else 1].encode())
            if _is_done(file, frozen=frozen):
                return
            if time.monotonic() > end:
                break
            time.sleep(STEP_SECONDS)
        if frozen:
            set_frozen(file, frozen=False)
    except OSError as error:
        raise HostError(f"{file}: {(error.strerror or '').lower()}") from None
    raise HostError(f"{file}: not all processes can be {'frozen' if frozen else 'thawed'}")


def main(call: Call) -> int:
    """Pause or resume a container."""
    stored = open_stored(call.root, call.words[0])
    status, file = stored.status(), stored.fields.get("freezer", "")
    if call.verb == "pause" and status not in ("running", "created"):
        raise MachineError(f"container not running or created: {status}")
    if call.verb == "resume" and status != "paused":
        raise MachineError(f"container not paused: {status}")
    if not file:
        raise HostError("this host has no freezer for the container", hint="a cgroup is needed")
    set_frozen(file, frozen=call.verb == "pause")
    return 0
