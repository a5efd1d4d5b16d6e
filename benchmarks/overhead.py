"""What a program that runs in a machine loses against the same program outside (row 9).

Like is compared with like: outside, the program works on an overlay and a tmpfs that are mounted
as a machine's are. All are pinned to the same CPU and measured in turn. A third one, outside too,
works under a filter of one instruction: what that costs, no machine with a filter can be without.
"""

from __future__ import annotations

import os
import shutil
from statistics import median
from typing import TYPE_CHECKING

from measure import Figure, at_most, interleave, medians
from rows_peers import script_path
from workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from measure import Effort

__all__ = ["overhead_rows"]

HERE = os.path.dirname(os.path.abspath(__file__))
FILTER_NS = 10
MOST_BEYOND = 1.0
PERCENT = 100
OTHERS = {"outside": "outside", "filtered": "outside, any filter"}
BATCH = 5
PIECES = {
    "integer": ("integer loop", 0),
    "calls": ("getppid loop", 10_000),
    "pipe": ("pipe", 4_000),
    "blocks-overlay": ("blocks of a file, overlay", 2_000),
    "blocks-tmpfs": ("blocks of a file, tmpfs", 2_000),
    "files-overlay": ("files made, removed, overlay", 400),
    "files-tmpfs": ("files made, removed, tmpfs", 400),
}
"""By job of steady.c: what it is, and the system calls of one piece."""
OUTSIDE = """
set -e
mount -t tmpfs -o mode=0755 viscum "$1"
mkdir "$1/upper" "$1/work" "$1/merged" "$1/shm"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work,userxattr" overlay "$1/merged"
exec "$3" "$4" "$1/merged" "$1/shm" $5
"""


def _inside(lab: Lab, cpu: str) -> Worker:
    argv = [script_path("viscum"), "run", "--rm", "--interactive", "--memory", "1g"]
    argv += ["--pids-limit", "64", "--rootfs", lab.rootfs]
    return Worker([*argv, "--", "/bin/steady", cpu, "/", "/dev/shm"])


def _outside(lab: Lab, program: str, cpu: str, name: str) -> Worker:
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", OUTSIDE, "steady"]
    words = [lab.folder(name), lab.rootfs, program, cpu]
    return Worker([*argv, *words, *(["filter"] if name == "filtered" else [])])


def _beyond(ours: list[float], theirs: list[float], allowed_us: float) -> float:
    pairs = zip(ours, theirs, strict=True)
    return median(PERCENT * ((a - allowed_us) / b - 1) for a, b in pairs)


def overhead_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """Pieces of steady work inside against outside, and against outside under any filter."""
    program = lab.static(os.path.join(HERE, "steady.c"), "steady")
    shutil.copy(program, os.path.join(lab.rootfs, "bin", "steady"))
    cpu = str(max(os.sched_getaffinity(0)))
    crew = {"inside": lab.start(lambda: _inside(lab, cpu))}
    for name in ("outside", "filtered"):
        crew[name] = lab.start(lambda name=name: _outside(lab, program, cpu, name))  # type: ignore[misc]
    for job, (what, calls) in PIECES.items():
        sides = {name: (worker.side(job), BATCH) for name, worker in crew.items()}
        rounds = interleave(sides, effort.rounds)
        times = {name: medians(rounds[name]) for name in crew}
        ours = times["inside"]
        for other, allowed_ns in (("outside", FILTER_NS), ("filtered", 0)):
            theirs = times[other]
            own = median(a - b for a, b in zip(ours, theirs, strict=True)) * 1000
            yield Figure(
                "9",
                f"{what}, inside / {OTHERS[other]}",
                median(ours),
                median(theirs),
                _beyond(ours, theirs, calls * allowed_ns / 1000),
                target=at_most(MOST_BEYOND, "%"),
                note=f"{own / calls:+.1f} ns a call" if calls else "",
            )
            if not calls:
                break
