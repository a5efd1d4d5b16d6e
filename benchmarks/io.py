"""I/O kept apart: a machine that writes as fast as it may, beside one with 4 KiB synced writes.

The second one is measured alone and beside the first in turn, many short rounds, and compared
pair by pair. The first writes buffered, synced and direct, within `--io-max`, on a disk of its own;
with --compare also without any limit, and on a folder of the host with the same limit, where
version 1 holds no buffered writes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile

import viscum
from viscum import IoLimit, volumes
from viscum.resources.devices import find_storage

QUIET = """
import os, sys, time
fd = os.open("/to/quiet", os.O_RDWR | os.O_CREAT, 0o600)
data, count = os.urandom(4096), 1024
for place in range(count):
    os.pwrite(fd, data, place * 4096)
os.fsync(fd)
for line in sys.stdin:
    taken, place, end = [], 0, time.perf_counter() + float(line)
    while (begin := time.perf_counter()) < end:
        os.pwrite(fd, data, place * 7 % count * 4096)
        os.fdatasync(fd)
        place += 1
        taken.append(time.perf_counter() - begin)
    taken.sort()
    print(len(taken) / float(line), taken[len(taken) * 99 // 100] * 1e6, flush=True)
"""
NOISY = """
import mmap, os, sys, time
flags = {"buffered": 0, "synced": os.O_DSYNC, "direct": os.O_DIRECT}
data = mmap.mmap(-1, 1 << 20)
data.write(os.urandom(1 << 20))
print("ready", flush=True)
for line in sys.stdin:
    mode, seconds = line.split()
    fd = os.open("/to/noisy", os.O_RDWR | os.O_CREAT | flags[mode], 0o600)
    place, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < float(seconds):
        os.pwrite(fd, data, place % 128 << 20)
        place += 1
    print(place / (time.perf_counter() - begin), flush=True)
    os.close(fd)
"""
MODES = ("buffered", "synced", "direct")
PYTHON = "/usr/bin/python3"


class Talker:
    """A program in a machine that does one piece of work for each line."""

    def __init__(self, machine: viscum.Machine, program: str) -> None:
        self.process = machine.exec([PYTHON, "-c", program], stdin=viscum.PIPE, stdout=viscum.PIPE)

    def tell(self, line: str) -> None:
        """Begin a piece of work."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> list[float]:
        """Wait for its end and return its figures."""
        return [float(word) for word in self.process.stdout.readline().split()]


def rounds(
    quiet: Talker, noisy: Talker, count: int, seconds: float
) -> dict[str, list[list[float]]]:
    """Return (ops, p99 in us) of the quiet one alone and beside each kind of noise, by round."""
    found: dict[str, list[list[float]]] = {"alone": [], **{mode: [] for mode in MODES}}
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(count):
        quiet.tell(f"{seconds}")
        found["alone"].append(quiet.answer())
        for mode in MODES:
            noisy.tell(f"{mode} {seconds + 0.4}")
            quiet.tell(f"{seconds}")
            found[mode].append(quiet.answer())
            rates[mode] += noisy.answer()
    for mode in MODES:
        found[f"rate {mode}"] = [[statistics.median(rates[mode])]]
    return found


def report(title: str, found: dict[str, list[list[float]]]) -> None:
    """Print the ratios, as medians of the rounds."""
    alone = found["alone"]
    ops = statistics.median(one[0] for one in alone)
    p99 = statistics.median(one[1] for one in alone)
    print(f"{title}: alone {ops:.0f} ops/s, p99 {p99:.0f} us")
    for mode in MODES:
        pairs = list(zip(alone, found[mode], strict=True))
        kept = statistics.median(beside[0] / one[0] for one, beside in pairs)
        slower = statistics.median(beside[1] / one[1] for one, beside in pairs)
        rate = found[f"rate {mode}"][0][0]
        print(
            f"  beside {mode:8} at {rate:7.1f} MiB/s: {kept:5.2f} x the ops (>= 0.8), "
            f"{slower:5.2f} x the p99 (<= 2)"
        )


def measure(
    title: str, quiet_at: str, noisy_at: str, bounds: list[IoLimit], arguments: argparse.Namespace
) -> None:
    """Run both machines, one on each folder, and print what comes of it."""
    to = "/to"
    with (
        viscum.Machine(mounts=[viscum.Mount(quiet_at, to)], memory="256M") as first,
        viscum.Machine(mounts=[viscum.Mount(noisy_at, to)], memory="256M", io=bounds) as second,
    ):
        quiet, noisy = Talker(first, QUIET), Talker(second, NOISY)
        noisy.process.stdout.readline()
        report(title, rounds(quiet, noisy, arguments.rounds, arguments.seconds))
        for talker in (quiet, noisy):
            talker.process.kill()
            talker.process.wait()


def disk_volumes() -> tuple[str, str]:
    """Make two volumes with disks of their own; return their folders."""
    for name in ("quiet", "noisy"):
        volumes.create(name, size=256 << 20)
        os.close(volumes.hold(name))
        os.chmod(volumes.path_of(name), 0o777)
    return volumes.path_of("quiet"), volumes.path_of("noisy")


def bounds_of(path: str, rate: int) -> list[IoLimit]:
    """Return the bound for what lies at `path`."""
    return [IoLimit(find_storage(path).device, wbps=rate)]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rate", type=int, default=16, help="MiB/s that the first may write")
    parser.add_argument("--compare", action="store_true", help="also without the mechanism")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="viscum-io-", dir="/var/tmp")
    os.environ["VISCUM_DATA"], os.environ["VISCUM_RUN"] = folder + "/data", folder + "/run"
    rate = arguments.rate << 20
    plain = f"{folder}/plain"
    os.mkdir(plain)
    os.chmod(folder, 0o755)
    os.chmod(plain, 0o777)
    try:
        quiet, noisy = disk_volumes()
        measure(
            f"own disks, {arguments.rate} MiB/s", quiet, noisy, bounds_of(noisy, rate), arguments
        )
        if arguments.compare:
            measure("own disks, no limit", quiet, noisy, [], arguments)
            measure("one folder each, same limit", quiet, plain, bounds_of(plain, rate), arguments)
    finally:
        for name in volumes.names():
            volumes.remove(name, lambda _name: [])
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
