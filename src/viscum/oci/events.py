"""`events`: what a container uses, as JSON, once or again and again; and when memory runs out."""

from __future__ import annotations

import os
import re
import sys
import time

from ..errors import MachineError, SpecError
from .document import dump
from .store import open_stored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .main import Call
    from .store import Stored

__all__ = ["main", "usage"]

TICK_NS = 10_000_000
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1, "m": 60, "h": 3600}
_PART = re.compile("([0-9]+(?:[.][0-9]*)?|[.][0-9]+)(us|µs|ms|s|m|h)", re.ASCII)


def _find(stored: Stored, file: str) -> str:
    for folder in stored.cgroups:
        if os.path.exists(f"{folder}/{file}"):
            return f"{folder}/{file}"
    return ""


def _text(stored: Stored, file: str) -> str:
    path = _find(stored, file)
    if not path:
        return ""
    try:
        with open(path, "rb") as opened:
            return opened.read().decode()
    except OSError:
        return ""


def _number(stored: Stored, file: str) -> int:
    text = _text(stored, file).strip()
    return int(text) if text.isdigit() else 0


def _pairs(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _cpu(stored: Stored) -> dict[str, object]:
    v2 = _pairs(_text(stored, "cpu.stat"))
    total = _number(stored, "cpuacct.usage") or v2.get("usage_usec", 0) * 1000
    ticks = _pairs(_text(stored, "cpuacct.stat"))
    each = _text(stored, "cpuacct.usage_percpu").split()
    usage: dict[str, object] = {
        "total": total,
        "percpu": [int(word) for word in each],
        "kernel": ticks.get("system", 0) * TICK_NS or v2.get("system_usec", 0) * 1000,
        "user": ticks.get("user", 0) * TICK_NS or v2.get("user_usec", 0) * 1000,
    }
    throttling = {
        "periods": v2.get("nr_periods", 0),
        "throttledPeriods": v2.get("nr_throttled", 0),
        "throttledTime": v2.get("throttled_time", 0) or v2.get("throttled_usec", 0) * 1000,
    }
    return {"usage": usage, "throttling": throttling}


def _entry(stored: Stored, prefix: str) -> dict[str, int]:
    return {
        "limit": _number(stored, f"{prefix}.limit_in_bytes"),
        "usage": _number(stored, f"{prefix}.usage_in_bytes"),
        "max": _number(stored, f"{prefix}.max_usage_in_bytes"),
        "failcnt": _number(stored, f"{prefix}.failcnt"),
    }


def _memory(stored: Stored) -> dict[str, object]:
    raw = _pairs(_text(stored, "memory.stat"))
    if _find(stored, "memory.usage_in_bytes"):
        usage = _entry(stored, "memory")
    else:
        usage = {
            "limit": _number(stored, "memory.max"),
            "usage": _number(stored, "memory.current"),
            "max": _number(stored, "memory.peak"),
            "failcnt": _pairs(_text(stored, "memory.events")).get("max", 0),
        }
    return {
        "cache": raw.get("cache", raw.get("file", 0)),
        "usage": usage,
        "swap": _entry(stored, "memory.memsw"),
        "kernel": _entry(stored, "memory.kmem"),
        "kernelTCP": _entry(stored, "memory.kmem.tcp"),
        "raw": raw,
    }


def _pids(stored: Stored) -> dict[str, int]:
    found = {"current": _number(stored, "pids.current")}
    limit = _number(stored, "pids.max")
    return {**found, "limit": limit} if limit else found


def _blocks(stored: Stored) -> dict[str, object]:
    rows = []
    for line in _text(stored, "blkio.throttle.io_service_bytes").splitlines():
        fields = line.split()
        if len(fields) == 3:
            major, _, minor = fields[0].partition(":")
            numbers = {"major": int(major), "minor": int(minor)}
            rows.append({**numbers, "op": fields[1], "value": int(fields[2])})
    return {"ioServiceBytesRecursive": rows} if rows else {}


def usage(stored: Stored) -> dict[str, object]:
    """Return what a container uses, in the shape that runc prints."""
    return {
        "cpu": _cpu(stored),
        "memory": _memory(stored),
        "pids": _pids(stored),
        "blkio": _blocks(stored),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


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
    counts = _pairs(_text(stored, "memory.oom_control")) or _pairs(_text(stored, "memory.events"))
    return counts.get("oom_kill", 0)


def main(call: Call) -> int:
    """Print usage once with --stats, else until the container ends."""
    interval = _interval(call.given.text("interval", "5s"))
    stored = open_stored(call.root, call.words[0])
    if stored.status() == "stopped":
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
