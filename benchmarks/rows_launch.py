"""Launches from Python against the bare C program, and what of them is Python's (rows 1-3, 7)."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import bare
import peers
import viscum
from measure import Figure, at_least, at_most, compare, interleave
from viscum import launching
from viscum.request import make_spec
from workers import bare_worker, python_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab import Lab
    from measure import Effort
    from viscum.drivers.process import Compiled
    from workers import Worker

__all__ = ["compiled", "launch_rows", "options_of", "profile", "rate_rows", "second_rows"]

BATCH = 20
WARM = 50
MOST_OVER_BARE = 1.15
MOST_COMPILING = 5.0
LEAST_RATE = 85.0
THREADS = 4
RATE_BATCH = 200
PERCENT = 100
COLD_STARTS = 5


def options_of(lab: Lab, root: str, network: str) -> tuple[list[str], dict[str, object]]:
    """Return the command and the options of a launch in a given root or in the host's."""
    options: dict[str, object] = {**peers.LIMITS, "network": network}
    if root == "rootfs":
        return ["/bin/true"], {**options, "rootfs": lab.rootfs}
    mount = {"source": lab.folder("bin"), "target": "/mnt", "read_only": True}
    return ["/mnt/true"], {**options, "mounts": [mount]}


def compiled(command: list[str], options: dict[str, object]) -> Compiled:
    """Return the plan that `viscum.run` compiles for them."""
    given = dict(options)
    mounts = given.pop("mounts", [])
    given["mounts"] = tuple(viscum.Mount(**mount) for mount in mounts)  # type: ignore[attr-defined]
    return launching.compile_machine(make_spec(command, given), launching.this_host())


def _pair(lab: Lab, root: str, network: str) -> tuple[Worker, Worker]:
    """Return a Python worker with the jobs `launch` and `split`, and the bare one of its plan."""
    command, options = options_of(lab, root, network)
    jobs = {
        kind: {"kind": kind, "command": command, "options": options} for kind in ("launch", "split")
    }
    program = bare.build(lab, compiled(command, options), f"bare-{root}-{network}")
    ours, theirs = lab.start(python_worker(jobs)), lab.start(bare_worker(program))
    ours.measure("launch", WARM)
    theirs.measure("launch", WARM)
    return ours, theirs


def launch_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """Launch to reaped, with its output read, against the bare program."""
    for row, network, what in (("1", "host", "no network namespace"), ("2", "none", "lo up")):
        for root in ("rootfs", "host"):
            ours, theirs = _pair(lab, root, network)
            sides = {"ours": (ours.side("launch"), BATCH), "bare": (theirs.side("launch"), BATCH)}
            rounds = interleave(sides, effort.rounds)
            where = "a given root" if root == "rootfs" else "the host's root"
            name = f"launch in {where}, {what} / bare C"
            yield compare(row, name, rounds, "ours", "bare", at_most(MOST_OVER_BARE))


def second_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """What of a launch passes in Python, before the core and after it."""
    ours, _ = _pair(lab, "rootfs", "none")
    parts = ours.measure("split", BATCH * effort.rounds)
    triples = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
    whole = statistics.median(map(sum, triples)) / 1000
    for part, what in ((0, "before the core"), (2, "after it")):
        own = statistics.median(triple[part] for triple in triples) / 1000
        share = statistics.median(PERCENT * triple[part] / sum(triple) for triple in triples)
        target = at_most(MOST_COMPILING, "%") if part == 0 else None
        name = f"second launch of a spec, Python {what} / launch"
        yield Figure("3", name, own, whole, share, target=target, value_unit="%")
    yield _first(lab)


def _first(lab: Lab) -> Figure:
    """The first launch of a process: its host probed, its spec compiled and loaded."""
    command, options = options_of(lab, "rootfs", "none")
    first, second = [], []
    for _ in range(COLD_STARTS):
        jobs = {"launch": {"kind": "launch", "command": command, "options": options}}
        with python_worker(jobs)() as worker:
            durations = worker.measure("launch", 2)
        first.append(durations[0] / 1000)
        second.append(durations[1] / 1000)
    ours, theirs = statistics.median(first), statistics.median(second)
    return Figure("3", "first launch of a process / second", ours, theirs, ours / theirs)


def rate_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """Launches a second with several threads."""
    for network in ("host", "none"):
        ours, theirs = _pair(lab, "rootfs", network)
        count = RATE_BATCH // THREADS * THREADS
        sides = {
            name: (lambda n, worker=worker: worker.measure("launch", n, THREADS), count)
            for name, worker in (("ours", ours), ("bare", theirs))
        }
        rounds = interleave(sides, effort.part(5, 5))
        seconds = {name: [r[0] / 1e9 for r in rounds[name]] for name in rounds}
        rates = {name: count / statistics.median(times) for name, times in seconds.items()}
        shares = [PERCENT * b / a for a, b in zip(seconds["ours"], seconds["bare"], strict=True)]
        what = "no network namespace" if network == "host" else "lo up"
        yield Figure(
            "7",
            f"launches a second, {THREADS} threads, {what} / bare C",
            rates["ours"],
            rates["bare"],
            statistics.median(shares),
            unit="/s",
            target=at_least(LEAST_RATE, "%"),
        )


def profile(lab: Lab, effort: Effort, network: str) -> Iterator[tuple[str, float]]:
    """Yield what each step of the bare program takes, in microseconds, in the plan's order."""
    command, options = options_of(lab, "rootfs", network)
    made = compiled(command, options)
    names = bare.mark_names(made)
    with bare_worker(bare.build(lab, made, f"profile-{network}", profile=True))() as worker:
        worker.measure("launch", WARM)
        flat = worker.measure("launch", BATCH * effort.rounds)
    launches = [flat[at : at + len(names)] for at in range(0, len(flat), len(names))]
    for name, before, after in bare.steps(made):
        spans = [launch[after] - launch[before] for launch in launches]
        yield name, statistics.median(spans) / 1000
