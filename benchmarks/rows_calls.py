"""Do both sides make the same kernel calls? Counted by `perf stat`, where there is one (row 1)."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import bare
from measure import Figure, at_most
from rows_launch import compiled, options_of
from workers import WorkerDied, bare_worker, python_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab import Lab
    from measure import Effort
    from workers import Worker

__all__ = ["call_rows"]

FEW, MANY = 20, 120
MOST_DIFFERENCE = 5.0
PERCENT = 100
EVENT = "raw_syscalls:sys_enter"
TRACED = 'mount -t tracefs tracefs "$0" && exec "$@"'


def _count(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        for line in file:
            if EVENT in line:
                return int(line.split(",")[0])
    raise OSError(f"{path}: no count")


def _per_launch(
    lab: Lab, name: str, start: Callable[[Sequence[str]], Callable[[], Worker]]
) -> float:
    """Return the system calls of one launch: those of many launches less those of few."""
    seen = []
    for count in (FEW, MANY):
        output = os.path.join(lab.base, f"{name}-{count}.count")
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", TRACED]
        argv += [lab.folder("tracing"), "perf", "stat", "-x", ",", "-e", EVENT, "-o", output]
        with start([*argv, "--"])() as worker:
            worker.measure("launch", count)
        seen.append(_count(output))
    return (seen[1] - seen[0]) / (MANY - FEW)


def call_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """The number of system calls of a launch, ours against the bare program's."""
    del effort
    for network, what in (("host", "no network namespace"), ("none", "lo up")):
        command, options = options_of(lab, "rootfs", network)
        job = {"launch": {"kind": "launch", "command": command, "options": options}}
        program = bare.build(lab, compiled(command, options), f"bare-calls-{network}")
        name = f"system calls of a launch, {what}, ours / bare C"
        if not shutil.which("perf"):
            yield Figure("1", f"{name}: perf is not installed", 0.0, None, 0.0)
            continue
        try:
            ours = _per_launch(lab, "ours", lambda argv, job=job: python_worker(job, before=argv))  # type: ignore[misc]
            theirs = _per_launch(
                lab,
                "bare",
                lambda argv, program=program: bare_worker(program, before=argv),  # type: ignore[misc]
            )
        except (WorkerDied, OSError):
            yield Figure("1", f"{name}: perf does not work here", 0.0, None, 0.0)
            continue
        share = PERCENT * abs(ours - theirs) / theirs
        yield Figure("1", name, ours, theirs, share, unit="", target=at_most(MOST_DIFFERENCE, "%"))
