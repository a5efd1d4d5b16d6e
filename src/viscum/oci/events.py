"""`events`: what a container uses, as JSON, once or again and again; and when memory runs out."""

from __future__ import annotations

import re
import sys
import time

from ..errors import MachineError, SpecError
from .document import dump
from .store import open_stored
from .usage import Groups, pairs, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call
    from .store import Stored

__all__ = ["main"]

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1, "m": 60, "h": 3600}
_PART = re.compile("([0-9]+(?:[.][0-9]*)?|[.][0-9]+)(us|µs|ms|s|m|h)", re.ASCII)


def _interval(text: str) -> float:
    """Return the seconds of a duration as Go writes it, such as 1m30s."""
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if _PART.sub("", text) or seconds <= 0:
        raise SpecError(f"interval {text!r} is not a duration above zero", hint="such as 5s")
    return seconds


def _print(kind: str, stored: Stored, data: object = None) -> None:
    event: dict[str, object] = {"type": kind, "id": stored.id}
    if data is not None:
        event["data"] = data
    print(dump(event))
    sys.stdout.flush()


def _oom_count(stored: Stored) -> int:
    groups = Groups(stored)
    counts = pairs(groups.text("memory.oom_control")) or pairs(groups.text("memory.events"))
    return counts.get("oom_kill", 0)


def main(call: Call) -> int:
    """Print usage once with --stats, else until the container ends."""
    interval = _interval(call.given.text("interval", "5s"))
    stored = open_stored(call.root, call.words[0])
    if stored.status() in ("stopped", "creating"):
        raise MachineError(f"container with id {stored.id} is not running")
    if call.given.on("stats"):
        _print("stats", stored, usage(stored))
        return 0
    kills, due = _oom_count(stored), time.monotonic() + interval
    while stored.lives():
        time.sleep(min(0.2, max(0.0, due - time.monotonic())))
        if _oom_count(stored) > kills:
            kills = _oom_count(stored)
            _print("oom", stored)
        if time.monotonic() >= due:
            due += interval
            _print("stats", stored, usage(stored))
    return 0
