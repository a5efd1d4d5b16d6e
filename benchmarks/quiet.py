"""Waiting until nobody else computes on this host."""

from __future__ import annotations

import time

__all__ = ["wait_for_quiet"]

LOOK_SECONDS = 2.0
MOST_WAIT_SECONDS = 900.0
LEAST_IDLE = 0.95
IDLE_FIELDS = (3, 4)
"""idle and iowait of the first line of /proc/stat (proc(5))."""


def _ticks() -> tuple[int, int]:
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:]]
    return sum(fields[at] for at in IDLE_FIELDS), sum(fields)


def wait_for_quiet() -> bool:
    """Wait until the CPUs have been idle for a moment, at most a quarter of an hour."""
    end = time.monotonic() + MOST_WAIT_SECONDS
    while time.monotonic() < end:
        idle, total = _ticks()
        time.sleep(LOOK_SECONDS)
        now_idle, now_total = _ticks()
        if now_idle - idle >= LEAST_IDLE * (now_total - total):
            return True
    return False
