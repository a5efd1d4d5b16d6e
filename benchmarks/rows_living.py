"""Machines that live on: starting, entering, keeping many, and their logs."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import uuid
from statistics import median
from typing import TYPE_CHECKING

import peers
from lab import HERE, Failed
from measure import Figure, at_least, at_most, compare, interleave
from rows_peers import script_path
from viscum.detached import DetachedMachine, machines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lab import Lab
    from measure import Effort

__all__ = ["crowd_rows", "detach_rows", "exec_rows", "log_rows"]

SLEEP_C = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
CROWD = 1000
QUIET_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
LINES, LINE_BLOCK, BLOCK = 400_000, 1, 4096
PODMAN_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


def _place(lab: Lab) -> None:
    """Keep the machines of this run in folders of its own, and end them with it."""
    os.environ["VISCUM_DATA"], os.environ["VISCUM_RUN"] = lab.folder("data"), lab.folder("run")
    os.chmod(lab.folder("data"), 0o700)
    os.chmod(lab.folder("run"), 0o700)
    shutil.copy(lab.static(lab.write("sleep.c", SLEEP_C), "pause"), f"{lab.rootfs}/bin/pause")
    lab.callback(_clear)


def _clear() -> None:
    for machine in machines(all=True):
        machine.remove(force=True)


def _run(argv: Sequence[str]) -> int:
    """Run a command and return the nanoseconds it took; raises Failed."""
    begin = time.perf_counter_ns()
    done = subprocess.run(argv, capture_output=True, check=False)
    elapsed = time.perf_counter_ns() - begin
    if done.returncode:
        raise Failed(f"{' '.join(argv)[:200]}: {done.stderr.decode()[:300]}")
    return elapsed


def _start(argv: Sequence[str]) -> None:
    """Start a container that keeps the streams that it is given: none that we would wait for."""
    null = subprocess.DEVNULL
    done = subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(argv)[:200]}: exit code {done.returncode}")


def _each(make: Callable[[], Sequence[str]]) -> Callable[[int], list[int]]:
    return lambda count: [_run(make()) for _ in range(count)]


def _podman(lab: Lab) -> list[str]:
    base = lab.folder("podman")
    words = ["podman", "--root", f"{base}/root", "--runroot", f"{base}/run"]
    words += ["--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc"]
    lab.callback(_clear_podman, words, f"{base}/root/overlay")
    return words


def _clear_podman(words: Sequence[str], mounted: str) -> None:
    """Podman leaves its store bound over itself."""
    for argv in ([*words, "rm", "-fa", "-t", "0"], ["umount", mounted]):
        subprocess.run(argv, capture_output=True, check=False)


def detach_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """`run -d` until the prompt is back, against the foreground, and against Podman."""
    _place(lab)
    ours = [script_path("viscum"), "run", "--rootfs", lab.rootfs]
    sides = {
        "detached": (_each(lambda: [*ours, "-d", "--", "/bin/pause"]), 4),
        "foreground": (_each(lambda: [*ours, "--", "/bin/true"]), 4),
    }
    if shutil.which("podman"):
        start = [*_podman(lab), "run", "-d", "--network", "none", *PODMAN_LIMITS]
        sides["podman"] = (_each(lambda: [*start, "--rootfs", lab.rootfs, "/bin/pause"]), 1)
    rounds = interleave(sides, effort.part(5))
    yield compare(
        "11", "run -d of the foreground run of true", rounds, "detached", "foreground", at_most(1.5)
    )
    if "podman" in rounds:
        yield compare(
            "11",
            "run -d faster than podman run -d",
            rounds,
            "detached",
            "podman",
            at_least(10.0),
            faster=True,
            note="podman with runc: crun 1.8 refuses this host's cgroups",
        )


def exec_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """`exec true` in a running machine, from Python, against C and others."""
    _place(lab)
    machine = DetachedMachine.create(["/bin/pause"], rootfs=lab.rootfs)
    machine.start()
    enter = lab.static(os.path.join(HERE, "enter.c"), "enter")

    def bare(count: int) -> list[int]:
        done = subprocess.run(
            [enter, str(machine.pid), str(count)], capture_output=True, check=True
        )
        return [int(line) for line in done.stdout.split()]

    def ours(count: int) -> list[int]:
        durations = []
        for _ in range(count):
            begin = time.perf_counter_ns()
            with machine.exec(["/bin/true"], stdin=-3, stdout=-3, stderr=-3) as process:
                process.wait()
            durations.append(time.perf_counter_ns() - begin)
        return durations

    sides = {"ours": (ours, 20), "bare": (bare, 20)}
    command = [script_path("viscum"), "exec", machine.id, "/bin/true"]
    sides["command"] = (_each(lambda: command), 2)
    sides.update(_entered(lab))
    rounds = interleave(sides, effort.part(5))
    yield compare(
        "12", "exec true, from Python, of setns and fork in C", rounds, "ours", "bare", at_most(3.0)
    )
    for name in ("crun", "podman"):
        if name in rounds:
            yield compare(
                "12", f"exec from Python faster than {name} exec", rounds, "ours", name, faster=True
            )
            yield compare(
                "12", f"viscum exec faster than {name} exec", rounds, "command", name, faster=True
            )


def _entered(lab: Lab) -> Mapping[str, tuple[Callable[[int], list[int]], int]]:
    """Return the peers' ways of running a command in a running container."""
    sides = {}
    if shutil.which("podman"):
        words = _podman(lab)
        _run(
            [
                *words,
                "run",
                "-d",
                "--name",
                "box",
                "--network",
                "none",
                *PODMAN_LIMITS,
                "--rootfs",
                lab.rootfs,
                "/bin/pause",
            ]
        )
        sides["podman"] = (_each(lambda: [*words, "exec", "box", "/bin/true"]), 1)
    if shutil.which("crun"):
        name, bundle = f"viscum-{uuid.uuid4().hex[:8]}", _bundle(lab, ["/bin/pause"])
        before = [*peers.detached(), "crun", "--root", lab.folder("crun-state")]
        _start([*before, "run", "-d", "--bundle", bundle, name])
        lab.callback(_run, [*before, "delete", "-f", name])
        sides["crun"] = (_each(lambda: [*before, "exec", name, "/bin/true"]), 2)
    return sides


def _bundle(lab: Lab, argv: Sequence[str]) -> str:
    bundle = lab.folder("living-bundle")
    config = peers.config(lab, network=True)
    config["process"]["args"] = list(argv)
    config["process"]["terminal"] = False
    pathlib.Path(bundle, "config.json").write_text(json.dumps(config), encoding="utf-8")
    return bundle


def crowd_rows(lab: Lab, _effort: Effort) -> Iterator[Figure]:
    """A thousand idle machines: memory, wake-ups, and commands among them."""
    _place(lab)
    start = [script_path("viscum"), "run", "-d", "--rootfs", lab.rootfs, "--", "/bin/pause"]
    for _ in range(CROWD):
        _run(start)
    found = machines()
    if len(found) != CROWD:
        raise Failed(f"{len(found)} of {CROWD} machines run")
    monitors = [machine.status.monitor for machine in found]
    private = [_private_kib(pid) for pid in monitors]
    yield Figure(
        "13",
        f"private memory of a monitor among {CROWD}",
        median(private),
        max(private),
        max(private),
        unit="KiB",
        target=at_most(300, "KiB"),
        note="median, most",
    )
    before = sum(map(_switches, monitors))
    time.sleep(QUIET_SECONDS)
    woken = sum(map(_switches, monitors)) - before
    yield Figure(
        "13",
        f"wake-ups of {CROWD} monitors in 10 s",
        woken,
        0,
        woken,
        unit="",
        target=at_most(0, ""),
    )
    for name, words, most in (
        ("ps", ["ps"], 100.0),
        ("inspect one", ["inspect", found[CROWD // 2].id], 60.0),
    ):
        times = sorted(_run([script_path("viscum"), *words]) / 1e6 for _ in range(9))
        yield Figure(
            "13",
            f"{name} among {CROWD}",
            median(times),
            times[-1],
            median(times),
            unit="ms",
            target=at_most(most, "ms"),
            note="median, most",
        )


def _private_kib(pid: int) -> float:
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def _switches(pid: int) -> int:
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return sum(int(line.split()[1]) for line in text.splitlines() if "ctxt_switches" in line)


# Logs.


def log_rows(lab: Lab, effort: Effort) -> Iterator[Figure]:
    """Lines through the monitor against lines through conmon, with the same writer."""
    _place(lab)
    writer = lab.static(os.path.join(HERE, "writer.c"), "writer")
    shutil.copy(writer, f"{lab.rootfs}/bin/writer")
    for block, what, busy in (
        (BLOCK, "4 KiB at a time", False),
        (LINE_BLOCK, "line by line", False),
        (LINE_BLOCK, "line by line on a busy host", True),
    ):
        argv = ["/bin/writer", str(LINES), str(block)]
        sides = {"ours": (lambda count, a=argv: [_log(lab, a) for _ in range(count)], 1)}
        if shutil.which("conmon") and shutil.which("crun"):
            sides["conmon"] = (lambda count, a=argv: [_conmon(lab, a) for _ in range(count)], 1)
        with _busy() if busy else contextlib.nullcontext():
            rounds = interleave(sides, effort.part(12, 5))
        if "conmon" in rounds:
            yield compare(
                "14",
                f"log of {LINES} lines, {what}, faster than conmon",
                rounds,
                "ours",
                "conmon",
                at_least(1.0),
                faster=True,
                note="aim: 2 x",
            )


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Keep each CPU busy with a process that computes."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _elapsed(text: str) -> int:
    if text.count("\n") < LINES:
        raise Failed(f"{text.count(chr(10))} of {LINES} lines were logged")
    return int(re.findall("elapsed ([0-9]+)", text)[-1])


def _log(lab: Lab, argv: Sequence[str]) -> int:
    """Return how long the writer took to write, as it says itself in the log."""
    from viscum.record import LogOptions

    machine = DetachedMachine.create(argv, rootfs=lab.rootfs, log=LogOptions(max_size=0))
    machine.start()
    machine.wait()
    text = pathlib.Path(machine.record.path("log")).read_text(encoding="utf-8")
    machine.remove()
    return _elapsed(text)


def _await(path: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise Failed(f"{path} does not come")
        time.sleep(0.01)


def _conmon(lab: Lab, argv: Sequence[str]) -> int:
    name, base = f"viscum-{uuid.uuid4().hex[:8]}", lab.folder("conmon")
    bundle, log, ended = _bundle(lab, argv), f"{base}/{name}.log", f"{base}/exits"
    os.makedirs(ended, exist_ok=True)
    inside = peers.detached()
    state = lab.folder("conmon-state")
    words = ["conmon", "-r", shutil.which("crun") or "", "--runtime-arg", f"--root={state}"]
    words += ["-b", bundle, "-c", name, "-u", name, "-n", name, "-p", f"{base}/{name}.pid"]
    words += ["-l", f"k8s-file:{log}", "--exit-dir", ended, "--full-attach"]
    _start([*inside, *words])
    _await(f"{base}/{name}.pid")  # conmon goes into the background before there is a container
    _run([*inside, "crun", "--root", state, "start", name])
    _await(f"{ended}/{name}")
    _run([*inside, "crun", "--root", state, "delete", "-f", name])
    text = pathlib.Path(log).read_text(encoding="utf-8")
    os.unlink(log)
    return _elapsed(text)
