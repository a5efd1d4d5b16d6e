"""The cheap sweep: which machines were held up since the last time, for all in one call.

While no task of the host waits for a CPU, nobody is throttled: a throttled task counts as one that
waits. So the host's own pressure is read at each tick, and the machines' only when it moved.
"""

from __future__ import annotations

import math
import os
import time
from array import array

from ..native import wait_pressure, watch, watch_use

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .live import Live

__all__ = ["Sweep"]

HOST_PRESSURE = "/proc/pressure/cpu"
TICK_MS = 20
LONGEST_TICK_MS = 80
MACHINES_A_TICK_MS = 1.25
"""With more machines than this for each millisecond the ticks are longer, too."""
MOVED_US = 200
"""Microseconds of waiting on the host, for each ms of a tick, from which machines are looked at."""
LEAST_US = 3000
"""Microseconds in which nothing of a machine could run, from which it is looked at closely."""
SHORTEST_SECONDS = 0.02
LONGEST_SECONDS = 0.2
SUSPECT_SECONDS = 0.01
SHARE_OF_CORE = 0.0015
"""What sweeping may cost: with more machines it is done less often, down to the longest time."""
CHECK_SECONDS = 0.5
CHECK_EACH_SECONDS = 0.01
"""How often everybody is looked at while the host is at rest: the least, and for each machine."""
SPENT = 0.4
"""Share of what a machine has in store from which it is given more, before it has used it up."""
FIGURES = 5
"""Those of `watch_use`, by their places: total, level, most, rate, lately."""
_LEVEL, _MOST, _RATE, _LATELY = 1, 2, 3, 4
NEVER_MOVED = 1 << 62


class Sweep:
    """Watches the machines' files: `wait` for something to happen, `due`, `look` who it was."""

    def __init__(self) -> None:
        self._lives: list[Live] = []
        self._descriptors = array("i")
        self._totals = array("q")
        self._savers: list[Live] = []
        self._uses = array("i")
        self._spendings = array("d")
        self._looked = time.monotonic()
        self._is_time = True
        self._host = self._open(HOST_PRESSURE)
        self._stat = self._open("/proc/stat")
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._last = 0.0
        self._spacing = SHORTEST_SECONDS
        self._moved = False
        self.soon = False

    @staticmethod
    def _open(path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1

    def stop(self) -> None:
        """Let `wait` return False from now on; may be called from a signal handler."""
        if self._stop >= 0:
            os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """Close the host's files."""
        for fd in (self._host, self._stat, self._stop):
            if fd >= 0:
                os.close(fd)
        self._host = self._stat = self._stop = -1

    def add(self, live: Live) -> None:
        """Watch a machine."""
        self._is_time = live.handles.held_up_is_time
        self._lives.append(live)
        self._descriptors.append(live.handles.held_up)
        self._totals.append(0)
        watch(self._descriptors[-1:], first := array("q", [0]), 1)
        self._totals[-1] = live.held_total = first[0]

    def save(self, live: Live, cpus: float) -> None:
        """Note the limit of a machine, and watch for when what it has in store is going."""
        store = live.handles.store_us()
        if live not in self._savers:
            if not store:
                return
            self._savers.append(live)
            self._uses.append(live.handles.usage)
            self._spendings.extend([0.0] * FIGURES)
        at = self._savers.index(live) * FIGURES
        self._spendings[at + _LEVEL] = 0.0
        self._spendings[at + _MOST] = store * SPENT if store else math.inf
        self._spendings[at + _RATE] = cpus

    def spending(self, now: float) -> list[tuple[Live, float]]:
        """Return the machines that will soon have used up what they have in store, each with the
        CPUs it used lately.
        """
        elapsed, self._looked = now - self._looked, now
        if not self._savers:
            return []
        found = watch_use(self._uses, self._spendings, elapsed * 1e6)
        return [(self._savers[i], self._spendings[i * FIGURES + _LATELY]) for i in found]

    def remove(self, live: Live) -> None:
        """Watch a machine no more."""
        if live in self._savers:
            index = self._savers.index(live)
            del self._savers[index], self._uses[index]
            del self._spendings[index * FIGURES : (index + 1) * FIGURES]
        if live not in self._lives:
            return
        index = self._lives.index(live)
        for column in (self._lives, self._descriptors, self._totals):
            del column[index]

    def wait(self, most: float) -> bool:
        """Wait for pressure on the host, at most for `most` seconds; False: it was stopped."""
        tick = min(max(int(len(self._lives) / MACHINES_A_TICK_MS), TICK_MS), LONGEST_TICK_MS)
        if self.soon:
            least, most = NEVER_MOVED, min(most, SUSPECT_SECONDS)
        elif self._moved:  # known already, but it is too early to look
            rest = self._last + self._spacing - time.monotonic()
            least, most = NEVER_MOVED, min(most, max(rest, 0.001))
        elif self._lives and self._host < 0:
            least, most = NEVER_MOVED, min(most, self._spacing)
        else:
            least = MOVED_US * tick if self._lives else NEVER_MOVED
        outcome = wait_pressure(self._host, self._stop, least, tick, math.ceil(most * 1000))
        self._moved |= outcome == 1
        return outcome != 2

    def due(self, now: float) -> bool:
        """Return whether to look now."""
        since = now - self._last
        if not self._lives or since < (SUSPECT_SECONDS if self.soon else self._spacing):
            return False
        check = max(CHECK_SECONDS, len(self._lives) * CHECK_EACH_SECONDS)
        return self.soon or self._moved or self._host < 0 or since >= check

    def look(self, now: float) -> list[tuple[Live, int]]:
        """Return the machines that were held up, each with its total; -1: its group is gone."""
        began = time.thread_time()
        found = watch(self._descriptors, self._totals, LEAST_US if self._is_time else 1)
        cost = time.thread_time() - began
        spacing = min(max(cost / SHARE_OF_CORE, SHORTEST_SECONDS), LONGEST_SECONDS)
        self._spacing += (spacing - self._spacing) * 0.2
        self._last, self.soon, self._moved = now, False, False
        return [
            (self._lives[i], self._totals[i]) if i >= 0 else (self._lives[-i - 1], -1)
            for i in found
        ]

    def idle(self) -> int:
        """Return the idle time of the host's CPUs so far, in hundredths of a second."""
        if self._stat < 0:
            return 0
        words = os.pread(self._stat, 128, 0).split()
        return int(words[4]) + int(words[5])
