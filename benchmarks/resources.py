"""What reading and changing limits costs: all figures of 1,000 machines, a limit changed, a kill.

Of the 1,000 machines that sleep there are the groups only, with nothing in them. What of a machine
that has not run since the last reading is not read again (its memory statistics, for one), so there
are also 1,000 machines at work: two processes each, all of which run and touch memory in between.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import resource
import select
import statistics
import subprocess
import sys
import tempfile
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


def more_files() -> None:
    """Allow as many open files as may be: a dozen are read of each machine."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def reading(ids: list[str], rounds: int, pause: float = 0.0) -> None:
    """Measure readings of all figures of machines, with a pause before each."""
    more_files()
    with Meter() as meter:
        begin = time.perf_counter()
        for name in ids:
            meter.add(GroupSet.of(name, launching.this_host().cgroups))
        row(f"{len(ids)} machines added to a meter", (time.perf_counter() - begin) * 1e3, "ms")
        before = meter.read()
        taken, cpu, ran = [], [], []
        for _ in range(rounds):
            time.sleep(pause)
            begin, used = time.perf_counter(), time.process_time()
            found = meter.read()
            taken.append((time.perf_counter() - begin) * 1e3)
            cpu.append((time.process_time() - used) * 1e3)
            ran.append(sum(found[name].cpu_seconds > before[name].cpu_seconds for name in ids))
            before = found
    took = statistics.median(taken)
    row("  all figures of them, until they are there", took, "ms", f"<= {TARGET_MS}")
    row("  CPU time of that, on all cores", statistics.median(cpu), "ms")
    row("  a machine of it", took * 1e3 / len(ids), "us")
    row("  machines that had run since the reading before", min(ran), "")


def asleep(rounds: int) -> None:
    """Measure readings of groups with nothing in them."""
    names = [f"viscum-benchmark-{os.getpid()}-{number}" for number in range(MACHINES)]
    made = [f"{folder}/{name}" for folder in folders() for name in names]
    for path in made:
        os.mkdir(path)
    try:
        reading(names, rounds)
    finally:
        for path in made:
            os.rmdir(path)


def at_work(rounds: int) -> None:
    """Measure readings of machines that run; in a process that does not hold their descriptors."""
    more_files()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        source = str(pathlib.Path(__file__).with_name("busy.c"))
        subprocess.run(["gcc", "-O1", "-static", "-o", f"{folder}/busy", source], check=True)
        mounts = [viscum.Mount(folder, "/srv", read_only=True)]
        options = {"network": "host", "mounts": mounts, "cpus": 0.5, "memory": "64M", "pids": 64}
        machines = [viscum.Machine(["/srv/busy", "2"], **options) for _ in range(MACHINES)]
        try:
            ids = "\n".join(machine.start().id for machine in machines)
            words = [sys.executable, __file__, "--read", "--rounds", str(rounds)]
            subprocess.run(words, input=ids, text=True, check=True)
        finally:
            for machine in machines:
                machine.close()


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
    parser.add_argument("--read", action="store_true", help="of the ids on standard input")
    arguments = parser.parse_args()
    launching.this_host()
    if arguments.read:
        reading(sys.stdin.read().split(), arguments.rounds, pause=1.0)
        return 0
    asleep(arguments.rounds)
    at_work(min(9, arguments.rounds))
    changing(arguments.rounds * 5)
    killing(min(7, arguments.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
