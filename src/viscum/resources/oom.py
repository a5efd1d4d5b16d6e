"""Machines that run out of memory: told at once, and killed, paused or given more.

With the policy `kill` the kernel kills; an eventfd of `memory.oom_control` tells of it on version
1, `memory.events` on version 2. With `pause` and `grow` tasks that lack memory wait on version 1
(`oom_kill_disable`), until the limit is raised. On version 2 the kernel has nothing to wait with,
so the machine is held before it reaches its limit: tasks above `memory.high` are put to sleep for
up to 2 s at a time, in which whoever watches pauses the machine or raises the limit. Page cache is
no lack of memory: only when what cannot be reclaimed fills the memory is there something to do.
"""

from __future__ import annotations

import os
import re
import select
from _thread import allocate_lock, start_new_thread

from ..errors import HostError, SpecError
from ..frozen import Frozen
from ..limits import Limits
from .events import MemoryEvents, MemoryWatch
from .reading import number, pairs, read_bytes
from .writing import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .groups import GroupSet

__all__ = [
    "Keeper",
    "KernelLog",
    "OomWatch",
    "OutOfMemory",
    "Task",
    "limits_for_policy",
    "parse_policy",
]

MIB = 1 << 20
MARGIN_SHARE, MIN_MARGIN = 16, 2 * MIB
GROWTH_SHARE, MIN_GROWTH = 4, 16 * MIB
HELD_SHARE = 0.9
"""Of the limit or of memory.high: when memory that cannot be reclaimed is a lack of memory."""
LARGEST = 3


def parse_policy(text: str) -> tuple[str, int | None]:
    """Return policy and bound of `kill`, `pause` or `grow:SIZE`; raises SpecError."""
    from ..limits import parse_size

    name, colon, size = text.partition(":")
    if name == "grow" and size:
        return name, parse_size(size, "oom-policy grow")
    if name not in ("kill", "pause") or colon:
        raise SpecError(f"oom-policy {text!r} is unknown", hint="kill, pause or grow:SIZE")
    return name, None


def margin(limit: int) -> int:
    """Return how far below the limit memory.high is, so that tasks are held before it."""
    return max(MIN_MARGIN, limit // MARGIN_SHARE)


def limits_for_policy(limits: Limits, policy: str, version: int) -> Limits:
    """Return the limits that `policy` needs beside those asked for; `version` is memory's."""
    if policy == "kill" or limits.memory is None:
        return limits
    if version == 1:
        return limits.replace(oom_kill_disable=True)
    if limits.memory_high is None:
        return limits.replace(memory_high=limits.memory - margin(limits.memory))
    return limits


class Task(Frozen):
    """A process: its id on the host, its name, the bytes of memory it has for itself."""

    pid: int
    name: str
    bytes: int

    def describe(self) -> str:
        """Return it as a person reads it."""
        return f"{self.name} (pid {self.pid}, {_size(self.bytes)})"


def _size(count: int) -> str:
    return f"{count / MIB:.1f} MiB"


class OutOfMemory(Frozen):
    """What happened when a machine ran out of memory.

    `action` is "killed", "paused" or "grown"; `limit` is the limit then, `peak` the most that was
    in use, `now` the limit afterwards. `victims` are empty where the kernel's log cannot be read.
    """

    action: str
    limit: int
    peak: int
    now: int
    victims: tuple[Task, ...] = ()
    largest: tuple[Task, ...] = ()

    def describe(self) -> str:
        """Return it as one line for a person."""
        what = {
            "killed": "killed " + (", ".join(map(Task.describe, self.victims)) or "a process"),
            "paused": "paused",
            "grown": f"raised the limit to {_size(self.now)}",
        }[self.action]
        text = f"out of memory: {what}; limit {_size(self.limit)}, peak {_size(self.peak)}"
        if self.largest:
            text += f"; largest: {', '.join(map(Task.describe, self.largest))}"
        return text


_KILLED = re.compile(r"Killed process (\d+) \((.*)\) total-vm:\d+kB, anon-rss:(\d+)kB")
_GROUP = re.compile(r"oom_memcg=[^,]*?([^/,]+)(?:,|$)")


class KernelLog:
    """The kernel's log from now on: it alone knows whom it killed."""

    def __init__(self) -> None:
        try:
            self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:  # not for this user
            self._fd = -1

    def _lines(self) -> Iterator[str]:
        while self._fd >= 0:
            try:
                yield os.read(self._fd, 8192).decode("utf-8", "replace")
            except BrokenPipeError:
                continue  # some were overwritten
            except OSError:
                return

    def victims(self, group: str) -> tuple[Task, ...]:
        """Return the processes that were killed for the memory of `group` since the last call."""
        found, ours = [], False
        for line in self._lines():
            named = _GROUP.search(line)
            if named:
                ours = named[1] == group
            killed = _KILLED.search(line)
            if killed and ours:
                found.append(Task(int(killed[1]), killed[2], int(killed[3]) << 10))
        return tuple(found)

    def close(self) -> None:
        """Close it; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def largest_tasks(groups: GroupSet) -> list[Task]:
    """Return the machine's processes, the one with the most memory first."""
    page = os.sysconf("SC_PAGESIZE")
    found = []
    for pid in groups.processes():
        sizes = read_bytes(f"/proc/{pid}/statm").split()
        name = read_bytes(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
        if len(sizes) > 2:
            found.append(Task(pid, name, (int(sizes[1]) - int(sizes[2])) * page))
    return sorted(found, key=lambda task: -task.bytes)


class OomWatch:
    """Tells when a machine runs out of memory, and does what the policy says.

    Poll `fileno()` for `mask`, then call `read`. `policy` is "kill", "pause" or "grow", the last
    up to `most` bytes. For the last two the machine must have been started with the same policy.
    With a `log` that was opened before the machine was launched, all since its start is told.
    """

    def __init__(
        self,
        groups: GroupSet,
        policy: str = "kill",
        most: int | None = None,
        *,
        log: KernelLog | None = None,
    ) -> None:
        self.groups = groups
        self.policy = policy
        self.most = most
        self._version = groups.version("memory")
        self._watch = MemoryWatch(groups)
        self._log = log or KernelLog()
        self._paused = False
        self.mask = self._watch.mask
        self._seen = self._watch.read() if log is None else MemoryEvents()

    def fileno(self) -> int:
        """Return the descriptor to poll for `mask`."""
        return self._watch.fileno()

    def close(self) -> None:
        """Give back what it holds; idempotent."""
        self._watch.close()
        self._log.close()

    def _figures(self) -> tuple[int, int]:
        folder = self.groups.folder("memory")
        names = ("limit_in_bytes", "max_usage_in_bytes") if self._version == 1 else ("max", "peak")
        limit, peak = (number(read_bytes(f"{folder}/memory.{name}")) for name in names)
        return limit, peak

    def read(self) -> OutOfMemory | None:
        """Return what happened since the last call, after doing what the policy says; or None."""
        try:
            events, before = self._watch.read(), self._seen
        except OSError:  # the group is gone
            return None
        self._seen = events
        limit, peak = self._figures()
        if events.oom_kill > before.oom_kill:
            victims = self._log.victims(self.groups.id)
            tasks = sorted((*victims, *largest_tasks(self.groups)), key=lambda task: -task.bytes)
            first = {task.pid: task for task in reversed(tasks)}  # a victim's memory may be gone
            largest = tuple(task for task in tasks if first[task.pid] is task)[:LARGEST]
            return OutOfMemory("killed", limit, peak, limit, victims, largest)
        if self.policy == "kill" or not self._is_short(events, before):
            return None
        largest = tuple(largest_tasks(self.groups)[:LARGEST])
        if self._paused and self.groups.freezing:
            return None  # told already
        return self._act(limit, OutOfMemory("paused", limit, peak, limit, largest=largest))

    def _is_short(self, events: MemoryEvents, before: MemoryEvents) -> bool:
        folder = self.groups.folder("memory")
        if self._version == 1:
            used = number(read_bytes(folder + "/memory.usage_in_bytes"))
            return events.under_oom and used >= HELD_SHARE * self._figures()[0]
        if events.high == before.high and events.max == before.max:
            return False
        stat = pairs(read_bytes(folder + "/memory.stat"))
        held = number(read_bytes(folder + "/memory.current"))
        held -= stat.get(b"inactive_file", 0) + stat.get(b"active_file", 0)
        high = number(read_bytes(folder + "/memory.high")) or 1
        return held >= HELD_SHARE * high

    def _act(self, limit: int, report: OutOfMemory) -> OutOfMemory | None:
        if self.policy == "pause":
            self._pause()
            return report
        wanted = min(limit + max(MIN_GROWTH, limit // GROWTH_SHARE), self.most or 0)
        if wanted > limit:
            try:
                self._raise(wanted)
            except HostError:
                wanted = limit
        if wanted <= limit:
            self._let_kill()  # what it may have is used up; the kernel decides, and is told of
            return None
        return report.replace(action="grown", now=self._figures()[0])

    def _pause(self) -> None:
        """Freeze, without waiting: tasks that wait for memory stand still without it."""
        self._paused = True
        if self.groups.v2:
            write_text(self.groups.v2 + "/cgroup.freeze", "1")
        else:
            self.groups.freeze()

    def _raise(self, wanted: int) -> None:
        now = self.groups.limits()
        swap = None
        if now.memory_swap is not None and now.memory is not None:
            swap = now.memory_swap + wanted - now.memory
        high = None if self._version == 1 else wanted - margin(wanted)
        self.groups.apply(Limits(memory=wanted, memory_swap=swap, memory_high=high))

    def _let_kill(self) -> None:
        folder = self.groups.folder("memory")
        if self._version == 1:
            write_text(folder + "/memory.oom_control", "0")
        else:
            write_text(folder + "/memory.high", "max")


class Keeper:
    """A thread that keeps to a machine's policy until the machine's first process has ended.

    `tell` is called from that thread with what happens. `ended` is a pidfd; it is duplicated.
    """

    def __init__(self, watch: OomWatch, ended: int, tell: Callable[[OutOfMemory], object]) -> None:
        self._watch = watch
        self._ended = os.dup(ended)
        self._tell = tell
        self._done = allocate_lock()
        self._done.acquire()
        start_new_thread(self._run, ())

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._watch.fileno(), self._watch.mask)
        poll.register(self._ended, select.POLLIN)
        try:
            ready: list[int] = []
            while self._ended not in ready:
                report = self._watch.read()  # also before the first event: it may have been
                if report is not None:
                    self._tell(report)
                ready = [fd for fd, _ in poll.poll()]
            report = self._watch.read()
            if report is not None:
                self._tell(report)
        finally:
            self._watch.close()
            os.close(self._ended)
            self._done.release()

    def join(self, seconds: float = 2.0) -> None:
        """Wait until the last thing was told."""
        if self._done.acquire(timeout=seconds):
            self._done.release()
