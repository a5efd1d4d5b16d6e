"""What a machine's groups tell by themselves: lack of memory, pressure, ends. As descriptors.

Every watch has `fileno()` and `mask`, to be given to poll(2) or epoll; `Watches` holds many of them
in one epoll and is itself readable (POLLIN) when one of them has something to say. `read()` then
says what, and arms the watch again.
"""

from __future__ import annotations

import errno
import os
import select
import time

from ..errors import HostError
from ..frozen import Frozen
from .reading import number, pairs, read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self

    from .groups import GroupSet

    class Watch(Protocol):
        """A source of events."""

        mask: int

        def fileno(self) -> int:
            """Return the descriptor to poll."""

        def close(self) -> None:
            """Give it back."""


__all__ = [
    "MemoryEvents",
    "MemoryWatch",
    "PressureLevel",
    "PressureTrigger",
    "StateWatch",
    "Watches",
]

POLLPRI = select.EPOLLPRI
POLLIN = select.EPOLLIN
KILL_SECONDS, KILL_STEP_SECONDS = 0.25, 0.001
MIN_WINDOW_US, MAX_WINDOW_US = 500_000, 10_000_000
UNPRIVILEGED_WINDOW_US = 2_000_000
"""Without CAP_SYS_RESOURCE the kernel wants a window that is a multiple of this."""


class _Descriptor:
    """A descriptor that is closed once."""

    mask = POLLIN

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor to poll for `mask`."""
        return self._fd

    def close(self) -> None:
        """Close it; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise HostError(f"cannot watch {path}: {reason}", hint="has the machine ended?") from None


class PressureTrigger(_Descriptor):
    """Tells when tasks waited for `resource` ("cpu", "memory", "io") longer than `stall` seconds
    within `window` seconds (0.5 to 10). `kind` is "some" or "full".

    Needs the group of version 2. Without CAP_SYS_RESOURCE the window becomes the next multiple of
    2 s and the stall grows with it; `window` and `stall` say what it is. The kernel tells at most
    once for each window. Nothing has to be read.
    """

    mask = POLLPRI

    def __init__(
        self,
        groups: GroupSet,
        resource: str,
        *,
        kind: str = "some",
        stall: float = 0.15,
        window: float = 2.0,
    ) -> None:
        if not groups.v2:
            raise HostError(f"no pressure of {groups.id}", hint="it takes a cgroup of version 2")
        stall_us, window_us = round(stall * 1e6), round(window * 1e6)
        super().__init__(_open(f"{groups.v2}/{resource}.pressure", os.O_RDWR))
        try:
            self.stall, self.window = self._arm(kind, stall_us, window_us)
        except OSError as error:
            self.close()
            raise HostError(
                f"no trigger for {kind} {resource} pressure: {(error.strerror or '').lower()}",
                hint=f"stall {stall:g} s must be below the window of {window:g} s, 0.5 to 10 s",
            ) from None

    def _arm(self, kind: str, stall_us: int, window_us: int) -> tuple[float, float]:
        windows = [window_us]
        wide = -(-window_us // UNPRIVILEGED_WINDOW_US) * UNPRIVILEGED_WINDOW_US
        if wide != window_us:
            windows.append(wide)
        for number_, width in enumerate(windows, 1):
            stall = stall_us * width // window_us
            try:
                os.write(self._fd, f"{kind} {stall} {width}\0".encode())
            except OSError as error:
                if number_ == len(windows) or error.errno not in (errno.EINVAL, errno.EPERM):
                    raise
            else:
                return stall / 1e6, width / 1e6
        raise AssertionError

    def read(self) -> None:
        """Do nothing: the kernel arms it again by itself."""


class MemoryEvents(Frozen):
    """Counts since the machine's start (memory.events(5) of version 2; the kills of version 1).

    `low`: reclaimed although below memory-low. `high`: went over memory-high. `max`: reached the
    limit. `oom`: the limit left no way out. `oom_kill`: processes killed for it. `under_oom`:
    tasks wait for memory now, because killing is disabled (version 1).
    """

    low: int = 0
    high: int = 0
    max: int = 0
    oom: int = 0
    oom_kill: int = 0
    under_oom: bool = False


class MemoryWatch(_Descriptor):
    """Tells when a machine runs out of memory, on both versions; `read` returns MemoryEvents.

    On version 1 an eventfd of `memory.oom_control` becomes readable; on version 2 the file
    `memory.events` has something urgent, also for memory-low, memory-high and the limit reached.
    """

    def __init__(self, groups: GroupSet) -> None:
        folder = groups.folder("memory")
        if not folder:
            raise HostError(f"no memory group of {groups.id}", hint="it has none on this host")
        self._v1 = groups.version("memory") == 1
        self._folder = folder
        self._kills = 0
        if self._v1:
            super().__init__(_eventfd(folder, "memory.oom_control"))
            self.read()
        else:
            self.mask = POLLPRI
            super().__init__(_open(folder + "/memory.events", os.O_RDONLY))
            self.read()

    def read(self) -> MemoryEvents:
        """Return the counts so far, and arm the watch again.

        On version 1 the kernel tells first and kills then: after an event the count is given a
        moment to change.
        """
        if self._v1:
            told = _drain(self._fd)
            found = self._settled(told)
            failures = number(read_bytes(self._folder + "/memory.failcnt"))
            kills = found.get(b"oom_kill", 0)
            return MemoryEvents(
                max=failures, oom=kills, oom_kill=kills, under_oom=bool(found.get(b"under_oom"))
            )
        found = pairs(os.pread(self._fd, 4096, 0))
        return MemoryEvents(
            found.get(b"low", 0),
            found.get(b"high", 0),
            found.get(b"max", 0),
            found.get(b"oom", 0),
            found.get(b"oom_kill", 0),
        )

    def _settled(self, told: int) -> dict[bytes, int]:
        """Return memory.oom_control, after an event once a kill has been counted, if one is."""
        end = time.monotonic() + KILL_SECONDS
        while True:
            found = pairs(read_bytes(self._folder + "/memory.oom_control"))
            kills = found.get(b"oom_kill", 0)
            waits = found.get(b"under_oom") and found.get(b"oom_kill_disable")
            if not told or kills != self._kills or waits or not found or time.monotonic() > end:
                self._kills = kills
                return found
            time.sleep(KILL_STEP_SECONDS)


class PressureLevel(_Descriptor):
    """Tells when reclaim in a v1 memory group gets hard: `level` is low, medium or critical."""

    def __init__(self, groups: GroupSet, level: str = "low") -> None:
        folder = groups.folder("memory")
        if groups.version("memory") != 1:
            raise HostError(
                f"no memory pressure level of {groups.id}",
                hint="only cgroups of version 1 have it; use PressureTrigger",
            )
        super().__init__(_eventfd(folder, "memory.pressure_level", level))

    def read(self) -> int:
        """Return how often that was since the last read."""
        return _drain(self._fd)


class StateWatch(_Descriptor):
    """Tells when a machine becomes empty or is frozen (`cgroup.events` of version 2)."""

    mask = POLLPRI

    def __init__(self, groups: GroupSet) -> None:
        if not groups.v2:
            raise HostError(f"no state of {groups.id}", hint="it takes a cgroup of version 2")
        super().__init__(_open(groups.v2 + "/cgroup.events", os.O_RDONLY))
        self.read()

    def read(self) -> tuple[bool, bool]:
        """Return whether there are processes, and whether they are frozen; (False, False) when
        the group is gone.
        """
        try:
            found = pairs(os.pread(self._fd, 4096, 0))
        except OSError:
            return False, False
        return bool(found.get(b"populated")), bool(found.get(b"frozen"))


def _eventfd(folder: str, file: str, argument: str = "") -> int:
    """Return an eventfd that a v1 group counts up (cgroup.event_control)."""
    watched = _open(f"{folder}/{file}", os.O_RDONLY)
    try:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with open(folder + "/cgroup.event_control", "wb", buffering=0) as control:
                control.write(f"{fd} {watched} {argument}".rstrip().encode())
        except OSError as error:
            os.close(fd)
            reason = (error.strerror or "").lower()
            raise HostError(f"cannot watch {folder}/{file}: {reason}") from None
    finally:
        os.close(watched)
    return fd


def _drain(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


class Watches:
    """Many watches, each with what it means, in one descriptor that is readable when one speaks."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._known: dict[int, tuple[Watch, object]] = {}

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._epoll.fileno()

    def add(self, watch: Watch, meaning: object = None) -> None:
        """Add a watch; `ready` will give `meaning` with it."""
        self._epoll.register(watch.fileno(), watch.mask)
        self._known[watch.fileno()] = (watch, meaning)

    def remove(self, watch: Watch) -> None:
        """Take a watch out; it stays open."""
        if self._known.pop(watch.fileno(), None):
            self._epoll.unregister(watch.fileno())

    def ready(self, timeout: float = 0.0) -> list[tuple[Watch, object]]:
        """Return the watches that have something to say, after at most `timeout` seconds.

        A watch whose group is gone is among them again and again until it is removed.
        """
        return [self._known[fd] for fd, _ in self._epoll.poll(timeout) if fd in self._known]

    def close(self) -> None:
        """Close the epoll and every watch in it; idempotent."""
        for watch, _ in self._known.values():
            watch.close()
        self._known.clear()
        self._epoll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
