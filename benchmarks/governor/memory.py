"""A build and a Python service with cold data: memory held, and what taking it back costs.

The service reads a file of 192 MiB once and keeps a heap of which it uses a quarter: the page cache
is cold, and so is most of the heap. Without a swap the kernel can take back the first alone.
The peer is the rule of Senpai, as the TMO paper gives it (Weiner et al., ASPLOS 2022, section 3.3):
every 6 s reclaim `memory * 0.0005 * max(0, 1 - pressure / 0.1 %)`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import threading
import time

import viscum
from viscum.governor.groups import Handles
from viscum.governor.reclaiming import has_swap
from viscum.launching import this_host

MIB = 1 << 20
FILES = 24
BUILD = "cd /work && for n in $(seq {files}); do gcc -O2 -c -o $n.o $n.c || exit 1; done"
SERVICE = """
import time
data = open("/work/cold", "rb").read() and None
heap = [bytearray(1 << 20) for _ in range(64)]
end, done = 0, 0
for turn in range({turns}):
    for block in heap[:16]:
        for at in range(0, len(block), 4096):
            block[at] = (block[at] + 1) & 255
    sum(i * i for i in range(20000))
    time.sleep(0.002)
"""
TURNS = 5000
MEMORY_TARGET, TIME_TARGET = 25, 3
SENPAI_SECONDS, SENPAI_RATIO, SENPAI_PRESSURE = 6.0, 0.0005, 0.001


def prepare(folder):
    """Write what is built and what is read."""
    for number in range(1, FILES + 1):
        with open(f"{folder}/{number}.c", "w", encoding="ascii") as file:
            file.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n")
            file.writelines(
                f"int f{number}_{n}(int a, char *b) {{ for (int i = 0; i < a; i++) "
                f"b[i] = (char)(strlen(b) * {n} + (size_t)a); return printf(b, a) + {n}; }}\n"
                for n in range(160)
            )
    with open(f"{folder}/cold", "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(192))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Watcher:
    """Samples what the machines hold, and plays Senpai where asked to."""

    def __init__(self, machines, *, senpai=False):
        cgroups = this_host().cgroups
        self.handles = [Handles(cgroups, machine.id) for machine in machines]
        self.samples, self.senpai = [], senpai
        self.stalled = [0] * len(self.handles)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        """Sample five times a second."""
        turn = 0
        while not self.ended.wait(0.2):
            self.samples.append(sum(handles.memory_used() for handles in self.handles))
            turn += 1
            if self.senpai and turn % int(SENPAI_SECONDS / 0.2) == 0:
                self.probe()

    def probe(self):
        """Take back what Senpai's rule says."""
        for index, handles in enumerate(self.handles):
            seen = handles.memory()
            pressure = (seen.stalled_us - self.stalled[index]) / 1e6 / SENPAI_SECONDS
            self.stalled[index] = seen.stalled_us
            amount = int(seen.used * SENPAI_RATIO * max(0.0, 1 - pressure / SENPAI_PRESSURE))
            if amount:
                handles.take_back(amount, handles.memory_limit() or 1 << 62)

    def close(self):
        """Return the mean of bytes held."""
        self.ended.set()
        self.thread.join()
        for handles in self.handles:
            handles.close()
        return statistics.fmean(self.samples)


def busy_seconds(machine):
    """Return CPU time, and time in which all of a machine stood still for memory or I/O: what
    having less memory can add to, whatever else runs on the host.
    """
    folder = f"{this_host().cgroups.v2}/{machine.id}"
    stalled = 0
    for kind in ("memory", "io"):
        with open(f"{folder}/{kind}.pressure", encoding="ascii") as file:
            stalled += int(file.read().split("total=")[-1])
    return machine.usage().cpu_seconds + stalled / 1e6


def once(folder, how):
    """Run both to their ends; return seconds of each, seconds that each was busy or stood still
    for memory or I/O, and the mean of MiB held together.
    """
    prepare(folder)
    mounts = [viscum.Mount(folder, "/work")]
    options = {"mounts": mounts, "memory": "16M..1G", "userns": "host"}
    governor = viscum.Governor(follow=False).start() if how == "governed" else None
    build = viscum.Machine(["sh", "-c", BUILD.format(files=FILES)], name="build", **options)
    code = SERVICE.format(turns=TURNS)
    service = viscum.Machine(["python3", "-c", code], name="service", **options)
    with build, service:
        began = time.monotonic()
        if governor:
            governor.add(build, machine_class="batch")
            governor.add(service, machine_class="latency")
        watcher = Watcher([build, service], senpai=how == "senpai")
        ends = {}
        threads = [
            threading.Thread(target=lambda m=m: ends.update({m.name: (m.wait(), time.monotonic())}))
            for m in (build, service)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = watcher.close()
        busy = [busy_seconds(machine) for machine in (build, service)]
    if governor:
        governor.close()
    if any(code for code, _ in ends.values()):
        raise RuntimeError(f"a machine failed: {ends}")
    return ends["build"][1] - began, ends["service"][1] - began, *busy, held / MIB


def measure(rounds):
    """Print medians of interleaved rounds."""
    runs = {"not governed": [], "governed": [], "senpai": []}
    folder = tempfile.mkdtemp(dir="/var/tmp")
    os.chmod(folder, 0o777)
    try:
        for _ in range(rounds):
            for how, values in runs.items():
                values.append(once(folder, how))
    finally:
        shutil.rmtree(folder)
    swap = "with a swap" if has_swap() else "without a swap"
    print(f"memory: a build and a service with cold data, {swap}, {rounds} rounds")
    base = [statistics.median(column) for column in zip(*runs["not governed"], strict=True)]
    for how, values in runs.items():
        build, service, busy, served, held = map(statistics.median, zip(*values, strict=True))
        less = 100 * (1 - held / base[4])
        print(f"  {how:<14} held {held:5.0f} MiB ({less:+.0f} % less)")
        for what, time_, work, at in (("build", build, busy, 0), ("service", service, served, 1)):
            print(
                f"    {what:<8} {time_:6.1f} s ({100 * (time_ / base[at] - 1):+.1f} %), of which "
                f"busy or stalled {work:6.2f} s ({100 * (work / base[at + 2] - 1):+.1f} %)"
            )
    print(f"  target: at least {MEMORY_TARGET} % less, at most {TIME_TARGET} % more time")
