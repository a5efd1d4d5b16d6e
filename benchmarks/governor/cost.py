"""What the governor takes of a core with 100 machines under it."""

from __future__ import annotations

import os
import time

import viscum

MACHINES = 100
SETTLE, SECONDS = 60, 15
CLASSES = ("latency", "batch", "idle")
NOW_AND_THEN = "while :; do sleep 0.5; done"
TARGET = 0.5


def _cpu_seconds(thread):
    with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / 1e9


def measure(_rounds):
    """Print the share of a core: machines that wait, then with a tenth that wake twice a second."""
    machines = []
    print(f"the governor's cost with {MACHINES} machines, over {SECONDS} s")
    with viscum.Governor(follow=False) as governor:
        try:
            for number in range(MACHINES):
                kind = CLASSES[number % 3]
                bounds = {"cpus": "0.01..2", "memory": "16M..128M"}
                machine = viscum.Machine(name=f"m{number}", machine_class=kind, **bounds).start()
                machines.append(machine)
                governor.add(machine, machine_class=kind)
            time.sleep(SETTLE)
            _show("all wait")
            for machine in machines[:: MACHINES // 10]:
                machine.exec(["sh", "-c", NOW_AND_THEN])
            time.sleep(5)
            _show("a tenth wakes twice a second")
        finally:
            for machine in machines:
                machine.close()
    print(f"  target: at most {TARGET} % of a core")


def _show(what):
    threads = [int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()]
    before, began = sum(map(_cpu_seconds, threads)), time.monotonic()
    time.sleep(SECONDS)
    share = (sum(map(_cpu_seconds, threads)) - before) / (time.monotonic() - began)
    with open("/proc/loadavg", encoding="ascii") as file:
        load = file.read().split()[0]
    print(f"  {what}: {share:.2%} of a core (load of the host: {load})")
