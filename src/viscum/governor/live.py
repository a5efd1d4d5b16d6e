"""One machine under the live governor: its groups, and what was read of them last."""

from __future__ import annotations

from .memory import MemoryView, Reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .fleet import Member
    from .groups import CpuReading, Handles
    from .roster import Governed

__all__ = ["Live"]

STILL = 0.05
"""A machine that uses less than this share of one CPU stands still."""
MOSTLY = 0.6
"""A machine that could not run for this share of the time stands still, too."""
RAISED_SECONDS = 0.3
NEVER = float("inf")
UNBOUNDED = 1 << 62
STANDS = 0.02


class Live:
    """The readings that the next ones are compared with; times are of the monotonic clock."""

    __slots__ = (
        "_hits",
        "_refaulted",
        "_seen",
        "_stalled",
        "_suspect",
        "full_memory",
        "governed",
        "handles",
        "held_total",
        "member",
        "memory_at",
        "next_look",
        "next_memory",
        "periods",
        "queued",
        "quiet_until",
        "raised_at",
        "reclaimed",
        "reclaiming",
        "shares_before",
        "since",
        "throttled_us",
        "used_us",
    )

    def __init__(self, governed: Governed, handles: Handles, member: Member) -> None:
        self.governed = governed
        self.handles = handles
        self.member = member
        self.shares_before: str | None = None
        self.held_total = 0
        self.quiet_until = self.raised_at = self.next_look = self.next_memory = 0.0
        self.since = self.memory_at = 0.0
        self.queued = -1.0
        self.full_memory = 0.0
        self.reclaiming = False
        self.reclaimed = Reclaimed(0, 0)
        self.periods = self.used_us = 0
        self.throttled_us = 0.0
        self._suspect: tuple[float, int, int] | None = None
        self._seen = False
        self._hits = self._refaulted = self._stalled = 0

    # CPU.

    def start_interval(self, now: float, reading: CpuReading | None = None) -> None:
        """Begin a new interval to take an average over."""
        if reading is None:
            reading = self.handles.cpu()
        self.used_us, self.throttled_us, self.periods = reading
        self.since = now
        self._suspect = None
        cpu = self.member.cpu
        if cpu is not None:
            self.next_look = now + cpu.look_after

    def interval(self, now: float, reading: CpuReading) -> tuple[float, float, float]:
        """Return CPUs used and the share of time throttled since the interval began, and its
        length in seconds.
        """
        seconds = max(now - self.since, 1e-3)
        used = max(reading.used_us - self.used_us, 0) / 1e6 / seconds
        throttled = max(reading.throttled_us - self.throttled_us, 0.0) / 1e6 / seconds
        return used, min(throttled, 1.0), seconds

    def due(self) -> float:
        """Return when to look at the machine next."""
        look = self.next_look if self.member.cpu is not None else NEVER
        memory = self.next_memory if self.member.memory is not None else NEVER
        return min(look, memory)

    def stood_at_limit(self, now: float, total: int, idle: int) -> float:
        """Return for how many seconds the machine was throttled, 0.0 if it was not (known) so.

        `total` is the time in which nothing of it could run, in microseconds; `idle` counts the
        host's idle time. A machine that could not run was throttled if the kernel counted a
        throttled period. That comes up to a period late; sooner it is known if the machine stood
        still from one sweep to the next, and nothing but its limit can have kept it: the host had
        idle CPUs, or it goes before most others, or it was raised just now.
        """
        lost = (total - self.held_total) / 1e6
        used, _, periods = self.handles.cpu()
        if periods > self.periods:
            self.periods, self._suspect = periods, None
            return max(lost, 1e-3)
        before, self._suspect = self._suspect, (now, used, idle)
        if before is None:
            return 0.0
        elapsed = now - before[0]
        stood = used - before[1] < STILL * elapsed * 1e6 and lost > MOSTLY * elapsed
        first = self.governed.manner.rank == 0
        sure = first or idle > before[2] or now - self.raised_at < RAISED_SECONDS
        return lost if stood and sure and elapsed < RAISED_SECONDS else 0.0

    # Memory.

    def memory_stands(self, now: float) -> bool:
        """Return whether a closer look can wait: about as much is in use as at the last one, or
        the kernel is still at what it was asked for, which can take long beside others.
        """
        memory = self.member.memory
        if self.reclaiming:
            return True
        if memory is None or not self._seen or now >= self.full_memory:
            return False
        used = self.handles.memory_used()
        return abs(used - memory.used) <= memory.used * STANDS

    def memory_view(self, now: float, *, swap: bool) -> MemoryView:
        """Return what happened since the last time that this was called. Without a `swap` only
        files can be taken back: a machine is never brought to where its next page would have
        nothing to make room for it.
        """
        reading = self.handles.memory()
        most = UNBOUNDED if swap else reading.cache // 2
        seconds = max(now - self.memory_at, 1e-3)
        if not self._seen:
            view = MemoryView(reading.used, seconds=seconds)
        else:
            view = MemoryView(
                reading.used,
                min((reading.stalled_us - self._stalled) / 1e6 / seconds, 1.0),
                max(reading.refaulted - self._refaulted, 0),
                reading.hits - self._hits > self.reclaimed.hits,
                seconds,
                self.reclaimed.freed,
                most,
            )
        self.reclaimed = Reclaimed(0, 0)
        self._seen, self.memory_at = True, now
        self._stalled, self._refaulted = reading.stalled_us, reading.refaulted
        self._hits = reading.hits
        return view
