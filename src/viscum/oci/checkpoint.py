"""`checkpoint` and `restore`: what CRIU does, where a usable one is installed."""

from __future__ import annotations

import os

from ..errors import HostError, MachineError
from .store import check_id, open_stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call

__all__ = ["main"]


def _find(name: str) -> str:
    """Return the path of the CRIU program; empty where there is none."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else ""
    folders = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").split(":")
    paths = [f"{folder}/{name}" for folder in folders if folder]
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def main(call: Call) -> int:
    """Refuse with the reason: what this host lacks, or what this version does not do yet."""
    if call.verb == "checkpoint":
        stored = open_stored(call.root, call.words[0])
        if stored.status() not in ("running", "paused"):
            raise MachineError(f"container not running: {stored.id} cannot be saved")
    else:
        check_id(call.words[0])
    path = _find(call.criu)
    if not path:
        raise HostError(
            f"{call.verb} needs CRIU, and {call.criu!r} is not installed",
            hint="install criu, or give its path with --criu",
        )
    raise HostError(f"{call.verb} with {path}: saving containers is not supported yet")
