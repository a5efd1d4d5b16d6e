"""What reading and changing limits costs: all figures of 1,000 machines, a limit changed, a kill.

The 1,000 machines are their groups, with nothing in them: what is read is as much, and they take no
memory. What of a machine that has not run since the last reading is not read again (its memory
statistics) is read with --all.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import statistics
import sys
import time

import viscum
from viscum import launching
from viscum.resources.groups import GroupSet
from viscum.resources.meter import Meter
from viscum.resources.oom import OomWatch

MACHINES = 1000
CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "blkio", "freezer")
TARGET_MS = 20.0
PYTHON = "/usr/bin/python3"


def row(name: str, value: float, unit: str, target: str = "") -> None:
    """Print one figure."""
    print(f"{name:58} {value:10.3f} {unit:4} {target}", flush=True)


def folders() -> list[str]:
    """Return the folders that machines' groups are made in."""
    cgroups = launching.this_host().cgroups
    found = [folder for name, folder in cgroups.v1 if name in CONTROLLERS]
    return [*found, *([cgroups.v2] if cgroups.v2 else [])]


def reading(rounds: int) -> None:
    """Measure a reading of all figures of 1,000 machines."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    names = [f"viscum-benchmark-{os.getpid()}-{number}" for number in range(MACHINES)]
    made = [f"{folder}/{name}" for folder in folders() for name in names]
    for path in made:
        os.mkdir(path)
    try:
        with Meter() as meter:
            begin = time.perf_counter()
            for name in names:
                meter.add(GroupSet.of(name, launching.this_host().cgroups))
            row("1,000 machines added to a meter", (time.perf_counter() - begin) * 1e3, "ms")
            meter.read()
            taken, cpu = [], []
            for _ in range(rounds):
                begin, before = time.perf_counter(), time.process_time()
                found = meter.read()
                taken.append((time.perf_counter() - begin) * 1e3)
                cpu.append((time.process_time() - before) * 1e3)
                assert len(found) == MACHINES
            row(
                "  all figures of them, until they are there",
                statistics.median(taken),
                "ms",
                f"<= {TARGET_MS}",
            )
            row("  CPU time of that, on all cores", statistics.median(cpu), "ms")
            row("  a machine of it", statistics.median(taken) * 1e3 / MACHINES, "us")
    finally:
        for path in made:
            os.rmdir(path)


def changing(rounds: int) -> None:
    """Measure limits changed on a running machine."""
    with viscum.Machine(memory="64M", cpus=0.5) as machine:
        groups, taken = machine.groups, []
        for number in range(rounds):
            limits = viscum.Limits(cpus=0.5 + number % 2 * 0.1)
            begin = time.perf_counter()
            groups.apply(limits)
            taken.append((time.perf_counter() - begin) * 1e6)
        row("the CPU limit of a machine changed and read back", statistics.median(taken), "us")
        taken = []
        for _ in range(rounds):
            begin = time.perf_counter()
            groups.usage()
            taken.append((time.perf_counter() - begin) * 1e6)
        row("usage() of one machine, its files opened each time", statistics.median(taken), "us")


def killing(rounds: int) -> None:
    """Measure how soon lack of memory is told, from the kernel's record of the kill."""
    taken = []
    for _ in range(rounds):
        with viscum.Machine(memory="32M", memory_swap="32M") as machine:
            watch = OomWatch(machine.groups)
            process = machine.exec([PYTHON, "-c", "bytearray(200 << 20)"])
            poll = select.poll()
            poll.register(watch.fileno(), watch.mask)
            report = None
            while report is None:
                poll.poll(10_000)
                report = watch.read()
            told = time.perf_counter()
            process.wait()
            taken.append((time.perf_counter() - told) * 1e3)
            watch.close()
    row("told of a kill for memory, before the victim is reaped", statistics.median(taken), "ms")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    arguments = parser.parse_args()
    launching.this_host()
    reading(arguments.rounds)
    changing(arguments.rounds * 5)
    killing(min(7, arguments.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
