"""A web server whose load jumps from 1 to 8 times and back, beside two batch jobs on its CPUs."""

from __future__ import annotations

import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import viscum

HERE = pathlib.Path(__file__).parent
PORT = 18431
COST_US = 500
BASE, BURST = 6, 42
"""Connections of the base load, and of what is added to it for 8 times as much."""
QUIET, BUSY, CYCLES = 4, 4, 2
JOBS = 2
SERVER = ["/srv/server", str(PORT), str(COST_US)]
SPIN = "while :; do :; done"
LATENCY_TARGET, BATCH_TARGET = 1.3, 1.15


def build(folder):
    """Compile the server."""
    path = f"{folder}/server"
    subprocess.run(["gcc", "-O1", "-pthread", "-o", path, str(HERE / "server.c")], check=True)


def wrk(connections, seconds):
    """Start a load."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "paced.lua")]
    command.append(f"http://127.0.0.1:{PORT}/")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def latencies(loads):
    """Return all latencies of the loads, as (microseconds, count)."""
    rows = []
    for load in loads:
        for line in load.communicate()[0].splitlines():
            words = line.split()
            if words[:1] == ["latency"]:
                rows.append((int(words[1]), int(words[2])))
    return sorted(rows)


def percentile(rows, share):
    """Return the latency in ms that `share` of the requests did not exceed."""
    wanted, seen = share * sum(count for _, count in rows), 0
    for value, count in rows:
        seen += count
        if seen >= wanted:
            return value / 1000
    return 0.0


def jumping_load():
    """Load the server: quiet and busy phases in turn; return the latencies."""
    loads = [wrk(BASE, (QUIET + BUSY) * CYCLES)]
    for _ in range(CYCLES):
        time.sleep(QUIET)
        loads.append(wrk(BURST, BUSY))
        time.sleep(BUSY)
    return latencies(loads)


def idle_seconds():
    """Return the idle time of this process's CPUs so far."""
    with open("/proc/stat", encoding="ascii") as file:
        words = file.readline().split()
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")


def alone(server):
    """The server with the whole host; p50 and p99 in ms."""
    with viscum.Machine(SERVER, network="host", mounts=[server], cpu_shares=10240):
        time.sleep(0.3)
        rows = jumping_load()
    return percentile(rows, 0.5), percentile(rows, 0.99)


def beside(server, *, governed):
    """The server beside the jobs: p50, p99 in ms, and what the jobs could have had of what they
    got, at best 1.0.
    """
    governor = viscum.Governor(follow=False).start() if governed else None
    bounds = {"cpus": "0.1..2"} if governed else {}
    jobs = [viscum.Machine(["sh", "-c", SPIN], name=f"job{n}", **bounds) for n in range(JOBS)]
    web = viscum.Machine(SERVER, name="web", network="host", mounts=[server], **bounds)
    try:
        for job in jobs:
            job.start()
            if governor:
                governor.add(job, machine_class="batch")
        web.start()
        if governor:
            governor.add(web, machine_class="latency")
        time.sleep(1.0)
        before = sum(job.usage().cpu_seconds for job in jobs)
        idle = idle_seconds()
        rows = jumping_load()
        used = sum(job.usage().cpu_seconds for job in jobs) - before
        left = idle_seconds() - idle
    finally:
        for machine in (*jobs, web):
            machine.close()
        if governor:
            governor.close()
    return percentile(rows, 0.5), percentile(rows, 0.99), (used + left) / used


def measure(rounds):
    """Print medians of interleaved rounds."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        build(folder)
        server = viscum.Mount(folder, "/srv", read_only=True)
        runs = {"alone": [], "governed": [], "not governed": []}
        for _ in range(rounds):
            runs["alone"].append((*alone(server), 1.0))
            runs["governed"].append(beside(server, governed=True))
            runs["not governed"].append(beside(server, governed=False))
    base = statistics.median(run[1] for run in runs["alone"])
    print(f"web server, load 1 to 8 times and back, {JOBS} jobs beside it, {rounds} rounds")
    for name, values in runs.items():
        p50, p99, leftover = (statistics.median(column) for column in zip(*values, strict=True))
        each = " ".join(f"{run[1]:.1f}" for run in values)
        print(
            f"  {name:<14} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms = {p99 / base:4.2f} x"
            f"  jobs {leftover:4.2f} x  (p99 of each: {each})"
        )
    print(f"  target         p99 at most {LATENCY_TARGET} x, jobs at most {BATCH_TARGET} x")
