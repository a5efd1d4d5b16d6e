"""The Python program that launches: reads requests and answers as workers.py says.

Its only argument is JSON: `jobs` by name, each with its `kind` and what that kind takes, and
`ballast`, bytes of memory to hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import viscum
from viscum import native

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PAGE = 4096


def _launch(job: dict[str, Any]) -> Callable[[], None]:
    """A machine run to its end."""
    command, options = job["command"], dict(job["options"])
    options["mounts"] = tuple(viscum.Mount(**mount) for mount in options.get("mounts", ()))

    def once() -> None:
        result = viscum.run(command, **options)
        if result.verdict != "ok":
            raise SystemExit(f"{command}: {result}")

    return once


def _spawn(job: dict[str, Any]) -> Callable[[], None]:
    """Another program, through `subprocess.run`.

    `{fd}` is a descriptor of the file `seccomp`, `{n}` a number of its own.
    """
    argv, filters = job["argv"], job.get("seccomp")
    fd = os.open(filters, os.O_RDONLY) if filters else -1
    passed = (fd,) if filters else ()
    numbers = iter(range(1 << 62))

    def once() -> None:
        number = str(next(numbers))
        words = [word.replace("{fd}", str(fd)).replace("{n}", number) for word in argv]
        if filters:
            os.lseek(fd, 0, os.SEEK_SET)
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=passed, check=False
        )
        if done.returncode:
            raise SystemExit(f"{words}: {done.returncode}: {done.stderr.decode()}")

    return once


def _nothing(_: dict[str, Any]) -> Callable[[], None]:
    return lambda: None


MAKERS: dict[str, Callable[[dict[str, Any]], Callable[[], None]]] = {
    "launch": _launch,
    "split": _launch,
    "spawn": _spawn,
    "grow": _nothing,
}


def _repeat(once: Callable[[], None], count: int) -> list[int]:
    durations = []
    for _ in range(count):
        start = time.perf_counter_ns()
        once()
        durations.append(time.perf_counter_ns() - start)
    return durations


def _together(once: Callable[[], None], count: int, threads: int) -> list[int]:
    def many() -> None:
        for _ in range(count // threads):
            once()

    crew = [threading.Thread(target=many) for _ in range(threads)]
    start = time.perf_counter_ns()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return [time.perf_counter_ns() - start]


def _split(once: Callable[[], None], count: int) -> list[int]:
    """Before, in and after the core, for each launch: the three parts of its time."""
    marks: list[int] = []
    run = native.run

    def marked(*args: Any, **named: Any) -> Any:
        marks.append(time.perf_counter_ns())
        result = run(*args, **named)
        marks.append(time.perf_counter_ns())
        return result

    native.run = marked
    parts = []
    for _ in range(count):
        start = time.perf_counter_ns()
        once()
        end = time.perf_counter_ns()
        first, last = marks
        parts += [first - start, last - first, end - last]
        marks.clear()
    native.run = run
    return parts


def _starts(options: dict[str, Any], count: int) -> list[int]:
    """Machines started and closed one after another: the time of each start."""
    durations = []
    for _ in range(count):
        start = time.perf_counter_ns()
        machine = viscum.Machine(**options).start()
        durations.append(time.perf_counter_ns() - start)
        machine.close()
    return durations


def _grow(options: dict[str, Any], edge: int, count: int) -> list[int]:
    """The time of `edge` starts while no machine lives, then beside `count` - 1 live ones."""
    machines: list[viscum.Machine] = []
    _starts(options, edge)
    durations = _starts(options, edge)
    try:
        while len(machines) < count - 1:
            machines.append(viscum.Machine(**options).start())
        return durations + _starts(options, edge)
    finally:
        for machine in machines:
            machine.close()


def _answer(job: dict[str, Any], once: Callable[[], None], count: int, threads: int) -> list[int]:
    if job["kind"] == "grow":
        return _grow(job["options"], job["edge"], count)
    if job["kind"] == "split":
        return _split(once, count)
    return _repeat(once, count) if threads == 1 else _together(once, count, threads)


def main() -> None:
    config = json.loads(sys.argv[1])
    ballast = bytearray(config["ballast"])
    ballast[::PAGE] = b"\1" * len(ballast[::PAGE])  # every page is really there
    jobs = config["jobs"]
    actions = {name: MAKERS[job["kind"]](job) for name, job in jobs.items()}
    for line in sys.stdin:
        name, count, threads = line.split()
        answer = _answer(jobs[name], actions[name], int(count), int(threads))
        print(json.dumps(answer), flush=True)
    del ballast


if __name__ == "__main__":
    main()
