"""A CPU for each machine that yields, while there are machines that go first.

The kernel puts a waking thread where it ran last or where it was woken from, unless it finds a CPU
that is idle, and a CPU that becomes idle takes over what waits elsewhere. Batch work leaves no CPU
idle, so threads that go first queue behind each other while the next CPU runs batch work. Where a
batch task may not move, the kernel evens the load out by moving those threads instead.

A machine is given a home only where that takes nothing from it: it uses no more than one CPU, it
does not have to share that, and no CPU is without such a machine to use it. If CPUs stand idle all
the same, the homes are given up, and it is tried again later.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .live import Live

__all__ = ["Homes"]

BUSY_CPUS = 0.1
ONE_CPU = 1.05
IDLE_CPUS = 0.3
"""What may stand idle at most; a part of that is due to limits that follow with a delay."""
AGAIN_SECONDS = 30.0


class Homes:
    """Who is kept on which CPU; looked at about once a second."""

    def __init__(self, cpus: Iterable[int]) -> None:
        self._cpus = sorted(cpus)
        self._kept: dict[str, int] = {}
        self._files: dict[str, list[tuple[str, str]]] = {}
        self._looked, self._idle, self._not_before = 0.0, 0, 0.0

    def look(self, lives: list[Live], now: float, idle: int) -> dict[str, int]:
        """Give homes and take them back; return the machines that got one, with their CPUs.

        `idle` is the idle time of the host's CPUs so far, in hundredths of a second.
        """
        wasted = (idle - self._idle) / 100 > IDLE_CPUS * (now - self._looked)
        self._looked, self._idle = now, idle
        busy = self._busy(lives)
        if wasted or now < self._not_before or len(busy) != len(self._cpus):
            if wasted and self._kept:
                self._not_before = now + AGAIN_SECONDS
            self._release(set())
            return {}
        self._release({live.governed.name for live in busy})
        free = [cpu for cpu in self._cpus if cpu not in self._kept.values()]
        given = {}
        for live in busy:
            name = live.governed.name
            if name not in self._kept and (files := _keep(live, free[0], self._cpus)):
                self._files[name] = files
                self._kept[name] = given[name] = free.pop(0)
        return given

    def _busy(self, lives: list[Live]) -> list[Live]:
        """Return the machines that yield to others and are at work; none where one needs more than
        a CPU, or where nobody goes first.
        """
        found, first = [], False
        for live in lives:
            cpu = live.member.cpu
            if cpu is None or not live.governed.manner.rank:
                first |= cpu is not None
            elif live.governed.cpuset is None:
                if cpu.used > ONE_CPU:
                    return []
                if cpu.used > BUSY_CPUS or live.governed.name in self._kept:
                    found.append(live)
        return found if first else []

    def _release(self, stay: set[str]) -> None:
        for name in self._kept.keys() - stay:
            self.forget(name)

    def forget(self, name: str) -> None:
        """Let a machine run wherever it could before, unless somebody else has set its CPUs."""
        cpu = self._kept.pop(name, None)
        for path, before in self._files.pop(name, ()):
            try:
                if path.endswith("/cpuset.cpus") and _read(path) != str(cpu):
                    continue
                _write(path, before)
            except OSError:
                continue  # it has ended

    def rest_lines(self, name: str) -> Iterator[str]:
        """Yield the lines for `viscum-rest` that let a machine run everywhere again."""
        for path, before in self._files.get(name, ()):
            yield f"{path}\t{before}\n"


def _keep(live: Live, cpu: int, cpus: list[int]) -> list[tuple[str, str]]:
    """Keep a machine on a CPU, where it runs while nobody else wants to; return the files that
    were written with what to write back, nothing where it cannot be kept.
    """
    handles = live.handles
    path = f"{handles.v2 if handles.owns_v2 else handles.v1.get('cpuset', '')}/cpuset.cpus"
    try:
        before = _read(path) or f"{cpus[0]}-{cpus[-1]}"
        _write(path, str(cpu))
    except OSError:
        return []  # the machine has no such group, or is gone
    files = [(path, before)]
    folder = handles.v2 if handles.owns_v2 else handles.v1.get("cpu", "")
    weight = f"{folder}/{'cpu.weight' if handles.owns_v2 else 'cpu.shares'}"
    try:
        if live.shares_before is not None and _read(f"{folder}/cpu.idle") == "0":
            weight_before = _read(weight)
            _write(f"{folder}/cpu.idle", "1")
            files += [(f"{folder}/cpu.idle", "0"), (weight, weight_before)]
    except OSError:
        pass  # Linux before 5.15
    return files


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("ascii").strip()
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
