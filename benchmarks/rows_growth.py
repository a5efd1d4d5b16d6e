"""What many machines, or a large parent, do to a start (row 8)."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import peers
from measure import Figure, at_most, compare, interleave
from workers import python_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from measure import Effort

__all__ = ["growth_rows"]

MACHINES = 1000
EDGE = 50
"""So many starts are timed before there are machines, and beside all the others."""
REPEATS = 3
BALLAST = 2 << 30
BATCH = 20
MOST_GROWTH = 1.5
MOST_OF_PARENT = 1.1


def _series(lab: Lab) -> Iterator[tuple[float, float]]:
    """Yield the median start without other machines and beside all of them."""
    jobs = {"grow": {"kind": "grow", "edge": EDGE, "options": {"rootfs": lab.rootfs}}}
    for _ in range(REPEATS):
        with python_worker(jobs)() as worker:
            starts = worker.measure("grow", MACHINES)
        yield statistics.median(starts[:EDGE]) / 1000, statistics.median(starts[EDGE:]) / 1000


def growth_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """The 1,000th live machine against the first; a parent of 2 GB against a small one."""
    series = list(_series(lab))
    first, last = (statistics.median(values) for values in zip(*series, strict=True))
    value = statistics.median(last / first for first, last in series)
    name = f"start of live machine {MACHINES} / of the first"
    yield Figure("8", name, last, first, value, target=at_most(MOST_GROWTH))
    options = {**peers.LIMITS, "rootfs": lab.rootfs}
    jobs = {"launch": {"kind": "launch", "command": ["/bin/true"], "options": options}}
    large, small = lab.start(python_worker(jobs, ballast=BALLAST)), lab.start(python_worker(jobs))
    sides = {"large": (large.side("launch"), BATCH), "small": (small.side("launch"), BATCH)}
    rounds = interleave(sides, effort.part(2))
    name = "launch from a parent of 2 GB / from a small one"
    yield compare("8", name, rounds, "large", "small", at_most(MOST_OF_PARENT))
