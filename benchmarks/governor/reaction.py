"""From throttling to a raised limit."""

from __future__ import annotations

import os
import statistics
import time

import viscum
from viscum.launching import this_host

POLL = 0.0005
PERIOD = 0.1
SPIN = "while :; do :; done"


def _throttled(folder):
    """Return seconds and periods throttled so far. The seconds are counted when it goes on."""
    with open(f"{folder}/cpu.stat", encoding="ascii") as file:
        rows = dict(line.split() for line in file)
    seconds = int(rows.get("throttled_time", 0)) / 1e9 + int(rows.get("throttled_usec", 0)) / 1e6
    return seconds, int(rows["nr_throttled"])


def _quota(folder):
    name = "cpu.max" if os.path.exists(f"{folder}/cpu.max") else "cpu.cfs_quota_us"
    with open(f"{folder}/{name}", encoding="ascii") as file:
        return file.read()


def one(machine, folder, limit):
    """Start a loop in a machine at its lowest limit; return seconds from when the kernel first
    throttled it until its limit was another one. Waiting for other machines does not count.
    """
    quota, before = _quota(folder), _throttled(folder)
    process = machine.exec(["sh", "-c", SPIN])
    end = time.monotonic() + 5
    try:
        while time.monotonic() < end:
            if _quota(folder) != quota:
                seconds, periods = _throttled(folder)
                ran = (periods - before[1]) * limit * PERIOD  # in the periods that passed meanwhile
                return seconds - before[0] + ran
            time.sleep(POLL)
    finally:
        process.kill()
        process.wait()
    raise RuntimeError("the limit was not raised within 5 s")


def measure(rounds):
    """Print the median and the worst of `rounds`."""
    found = []
    cgroups = this_host().cgroups
    with viscum.Governor(follow=False) as governor:
        for number in range(rounds):
            bounds = f"0.{2 + number % 20:02d}..2"
            with viscum.Machine(name="m", cpus=bounds) as machine:
                governor.add(machine)
                folder = f"{dict(cgroups.v1).get('cpu', cgroups.v2)}/{machine.id}"
                # As after a long idle time:
                live = governor.fleet.members["m"]
                while live.cpu_limit > live.cpu.bounds.low * 1.01:
                    live.cpu.envelope, live.cpu.want = 0.0, live.cpu.bounds.low
                    time.sleep(0.1)
                time.sleep(0.37 + number * 0.013)
                found.append(one(machine, folder, live.cpu.bounds.low))
                governor.remove("m")
    found.sort()
    median = statistics.median(found) * 1000
    print(f"from throttling to a raised limit, {rounds} times")
    print(f"  median {median:.0f} ms, at most {found[-1] * 1000:.0f} ms")
    print("  target: median at most 50 ms, at most 250 ms")
