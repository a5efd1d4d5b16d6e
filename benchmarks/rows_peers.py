"""Launches against other tools (rows 4-6)."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import bare
import peers
from lab import Failed
from measure import Figure, at_least, at_most, compare, interleave
from rows_launch import compiled
from viscum.places import run_folder
from workers import bare_worker, python_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab import Lab
    from measure import Effort, Rounds, Side

__all__ = ["command_rows", "peer_rows", "plan_rows", "script_path"]

LEAST_FASTER = {"bwrap": 4.0, "crun": 10.0, "runc": 20.0}
LEAST_FASTER_PLAN = {"crun": 3.0, "runc": 8.0}
BATCHES = {"bwrap": 8, "crun": 4, "runc": 2, "systemd-nspawn": 1}
OWN_BATCH = 10
DEAR = 3


def _installed(lab: Lab) -> tuple[dict[str, dict[str, object]], dict[str, str]]:
    """Return the jobs of the peers that work here, and why the others do not."""
    working, missing = {}, {}
    for name, job in peers.jobs(lab).items():
        trouble = peers.trouble(job)
        if trouble:
            missing[name] = trouble.splitlines()[-1]
        else:
            working[name] = job
    for name in peers.DIFFERENCES:
        if name not in working and name not in missing:
            missing[name] = "not installed"
    return working, missing


def _against(
    lab: Lab,
    effort: Effort,
    own: Mapping[str, Mapping[str, object]],
    names: Sequence[str],
    more: Mapping[str, Side] | None = None,
) -> tuple[Rounds, dict[str, str]]:
    """Measure our jobs and those of the peers in interleaved rounds, and `more` beside them.

    The peers run from the same Python program, in a mount namespace of its own where they need
    one; ours in the host's.
    """
    working, missing = _installed(lab)
    working = {name: job for name, job in working.items() if name in names}
    ours = lab.start(python_worker(own))
    theirs = lab.start(python_worker(working, before=peers.detached()))
    sides = {name: (ours.side(name), OWN_BATCH) for name in own}
    sides |= {name: (theirs.side(name), BATCHES[name]) for name in working}
    return interleave({**sides, **(more or {})}, effort.part(DEAR)), missing


def script_path(name: str) -> str:
    """Return the path of one of our programs, beside this interpreter or on the PATH."""
    beside = os.path.join(sysconfig.get_path("scripts"), name)
    found = beside if os.access(beside, os.X_OK) else shutil.which(name)
    if not found:
        raise Failed(f"{name} is not installed beside {sys.executable}")
    return found


def _flags(lab: Lab) -> list[str]:
    flags = ["--memory", str(peers.MEMORY), "--cpus", str(peers.CPUS)]
    return [*flags, "--pids-limit", str(peers.PIDS), "--rootfs", lab.rootfs]


def _bare(lab: Lab, options: Mapping[str, object], name: str) -> Side:
    """Return the side of the bare C program of a machine: what no engine can be faster than."""
    made = compiled(["/bin/true"], dict(options))
    return lab.start(bare_worker(bare.build(lab, made, name))).side("launch"), OWN_BATCH


def peer_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """`viscum.run` against `subprocess.run` of each peer; with limits where the peer has them."""
    options: dict[str, dict[str, object]] = {
        "limited": {**peers.LIMITS, "rootfs": lab.rootfs},
        "free": {"rootfs": lab.rootfs},
    }
    job = {"kind": "launch", "command": ["/bin/true"]}
    own = {name: {**job, "options": given} for name, given in options.items()}
    floors = {f"bare-{name}": _bare(lab, given, f"bare-{name}") for name, given in options.items()}
    rounds, missing = _against(lab, effort, own, list(BATCHES), floors)
    for name, less in peers.DIFFERENCES.items():
        if name in missing:
            yield Figure("4", f"{name}: {missing[name]}", 0.0, None, 0.0)
            continue
        equal = "limited" if name in peers.LIMITING else "free"
        without = "" if equal == "limited" else " without limits"
        target = at_least(LEAST_FASTER[name]) if name in LEAST_FASTER else None
        what = f"{name} / viscum.run{without}"
        yield compare("4", what, rounds, equal, name, target, faster=True, note=less)
        what = f"{name} / bare C of the same plan{without}"
        yield compare("4", what, rounds, f"bare-{equal}", name, faster=True)


def plan_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """`viscum-launch FILE` against the runtimes, all through `subprocess.run`."""
    path = os.path.join(lab.base, "job.plan")
    argv = [script_path("viscum"), "plan", *_flags(lab), "--output", path, "--", "/bin/true"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    own = {"plan": {"kind": "spawn", "argv": [script_path("viscum-launch"), path]}}
    rounds, _ = _against(lab, effort, own, list(LEAST_FASTER_PLAN))
    for name, least in LEAST_FASTER_PLAN.items():
        if name in rounds:
            what = f"{name} / viscum-launch job.plan"
            yield compare("5", what, rounds, "plan", name, at_least(least), faster=True)


def _forget(before: set[str]) -> None:
    """Remove the plans that `viscum run` has remembered meanwhile: their root is gone soon."""
    for path in set(_remembered()) - before:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _remembered() -> list[str]:
    return glob.glob(os.path.join(run_folder(), "plans", "*"))


COMMANDS = {
    "again": "viscum run, equal bundle, seen before",
    "first": "viscum run, equal bundle, never seen",
    "plain": "viscum run --rm",
}
"""`--stop-timeout` keeps a plan from being remembered, and changes nothing else here."""


def command_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """`viscum run` as a fresh process against the runtimes, and as it is typed without options."""
    lab.callback(_forget, set(_remembered()))
    run = [script_path("viscum"), "run", "--rm"]
    commands = {
        "again": [*run, *_flags(lab), "--", "/bin/true"],
        "first": [*run, *_flags(lab), "--stop-timeout", "10", "--", "/bin/true"],
        "plain": [*run, "--", "/bin/true"],
        "python": [sys.executable, "-c", "pass"],
    }
    own = {name: {"kind": "spawn", "argv": argv} for name, argv in commands.items()}
    rounds, _ = _against(lab, effort, own, ["crun", "runc"])
    for job, what in COMMANDS.items():
        for name, most in (("crun", 1.5), ("runc", 1.0)):
            if name in rounds:
                yield compare("6", f"{what} / {name}", rounds, job, name, at_most(most))
    yield compare("6", f"{COMMANDS['first']} / python3 -c pass", rounds, "first", "python")
