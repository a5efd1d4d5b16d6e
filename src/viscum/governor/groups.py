"""The control groups of one governed machine, with the files that are read often kept open."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..errors import HostError
from .memory import Reclaimed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..host import Cgroups

__all__ = ["CpuReading", "Handles", "MemoryReading"]

NO_QUOTA = -1
SMALLEST_QUOTA_US = 1000
PERIOD_US = 100_000
LONG_PERIOD_US = 1_000_000
"""The longest that the kernel takes: over it a limit is an average, so short bursts pass."""
UNLIMITED = 1 << 60
"""Bytes from which a limit on memory is none."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class CpuReading(NamedTuple):
    """Totals of one machine: microseconds used, microseconds and periods throttled."""

    used_us: int
    throttled_us: float
    periods: int


class MemoryReading(NamedTuple):
    """Bytes in use, bytes read back so far, microseconds stalled, times the limit was hit, and
    bytes that could be reclaimed without a swap.
    """

    used: int
    refaulted: int
    stalled_us: int
    hits: int
    cache: int


class Handles:
    """A machine's groups of both versions. Raises HostError where there are none; reading and
    writing raise OSError once the groups are gone.
    """

    def __init__(self, cgroups: Cgroups, group: str) -> None:
        self.group = group
        self.v1 = {c: f"{folder}/{group}" for c, folder in cgroups.v1}
        self.v1 = {c: folder for c, folder in self.v1.items() if os.path.isdir(folder)}
        self.v2 = f"{cgroups.v2}/{group}" if cgroups.v2 else ""
        if self.v2 and not os.path.isdir(self.v2):
            self.v2 = ""
        self.owns_v2 = not cgroups.v1
        if not self.v1 and not self.v2:
            raise HostError(f"there is no control group {group!r}", hint="has the machine ended?")
        self._open: dict[str, int] = {}
        self._cpus_open()
        self._memory_open()

    def _cpus_open(self) -> None:
        folder = self.v2 if self.owns_v2 else self.v1.get("cpu", "")
        self._quota = self._file(folder, "cpu.max" if self.owns_v2 else "cpu.cfs_quota_us", True)
        self._burst = self._file(
            folder, "cpu.max.burst" if self.owns_v2 else "cpu.cfs_burst_us", True
        )
        self.bursts = False
        """Whether unused quota of one period may be spent in the next: as much as a quota."""
        self._period = -1
        if not self.owns_v2:
            self._period = self._file(folder, "cpu.cfs_period_us", True)
        self._stat = self._file(folder, "cpu.stat")
        self._usage = self._file(self.v2, "cpu.stat")
        if self._usage < 0:
            self._usage = self._file(self.v1.get("cpuacct", ""), "cpuacct.usage")
        self.period_us = self._read_period() if self._quota >= 0 else PERIOD_US
        self.own_period_us = PERIOD_US if self.period_us == LONG_PERIOD_US else self.period_us
        self.held_up, self.held_up_is_time = self._held_up_file()

    def _held_up_file(self) -> tuple[int, bool]:
        """Return the file to watch for throttling, and whether it counts time: pressure is live
        and sees the limits of both versions; throttled periods are counted when they are over.
        """
        pressure = self._file(self.v2, "cpu.pressure")
        if pressure >= 0 and b"full" in os.pread(pressure, 512, 0):
            return pressure, True
        return self._stat, False

    def _memory_open(self) -> None:
        v2 = self.owns_v2
        folder = self.v2 if v2 else self.v1.get("memory", "")
        self._memory = self._file(folder, "memory.current" if v2 else "memory.usage_in_bytes")
        self._limit = self._file(folder, "memory.max" if v2 else "memory.limit_in_bytes", True)
        self._memory_stat = self._file(folder, "memory.stat")
        self._hits = self._file(folder, "memory.events" if v2 else "memory.failcnt")
        self._stalled = self._file(self.v2, "memory.pressure")

    def _file(self, folder: str, name: str, writes: bool = False) -> int:  # noqa: FBT001, FBT002
        if not folder:
            return -1
        path = f"{folder}/{name}"
        try:
            fd = os.open(path, (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC) if writes else -1
            except OSError:
                return -1
        if fd >= 0:
            self._open[path] = fd
        return fd

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    @property
    def has_cpus(self) -> bool:
        """Whether there is a quota to set, and a usage to set it by."""
        return self._quota >= 0 and self._usage >= 0 and self._stat >= 0

    @property
    def has_memory(self) -> bool:
        """Whether there is a limit on memory to set, and a use to set it by."""
        return self._memory >= 0 and self._limit >= 0

    # CPU.

    @property
    def usage(self) -> int:
        """The descriptor of the file that counts CPU time."""
        return self._usage

    def store_us(self) -> float:
        """Return the CPU time in microseconds that a machine can use at once after a while in
        which it used little; 0 where nothing is saved up.
        """
        limit = self.cpus() if self.bursts and self.period_us == LONG_PERIOD_US else None
        return 2 * limit * self.period_us if limit else 0.0

    def _read_period(self) -> int:
        if self.owns_v2:
            return int(os.pread(self._quota, 64, 0).split()[1])
        return int(os.pread(self._period, 64, 0)) if self._period >= 0 else PERIOD_US

    def cpus(self) -> float | None:
        """Return the limit in CPUs; None where there is none."""
        word = os.pread(self._quota, 64, 0).split()[0]
        quota = NO_QUOTA if word == b"max" else int(word)
        return None if quota < 0 else quota / self._read_period()

    def quota_us(self, cpus: float, period_us: int) -> int:
        """Return the quota for a limit; the kernel takes none below a millisecond."""
        return max(round(cpus * period_us), SMALLEST_QUOTA_US)

    def set_cpus(self, cpus: float, *, store: bool = False) -> None:
        """Set the limit; a machine that is throttled goes on at once. With `store` it is an
        average over a long period, and as much again may be saved up: where `bursts` allows it.
        """
        store = store and self.bursts and self.own_period_us == PERIOD_US
        period = LONG_PERIOD_US if store else self.own_period_us
        quota = self.quota_us(cpus, period)
        saves = self.bursts and self._burst >= 0
        if saves:  # it may at no time be above the quota
            os.pwrite(self._burst, b"0", 0)
        if self.owns_v2:
            os.pwrite(self._quota, b"%d %d" % (quota, period), 0)
        else:
            self._write_v1(quota, period)
        self.period_us = period
        if saves:
            os.pwrite(self._burst, b"%d" % quota, 0)

    def _write_v1(self, quota: int, period: int) -> None:
        """Write both, in the order in which the limit is at no time above the new one."""
        longer = period > self.period_us
        if longer:
            os.pwrite(self._period, b"%d" % period, 0)
        os.pwrite(self._quota, b"%d" % quota, 0)
        if not longer and self._period >= 0:
            os.pwrite(self._period, b"%d" % period, 0)

    def end_bursts(self) -> None:
        """Let no quota be saved up any more."""
        if self.bursts and self._burst >= 0:
            os.pwrite(self._burst, b"0", 0)
        if self.bursts and self.period_us != self.own_period_us:
            limit = self.cpus()
            self.bursts = False
            if limit is not None:
                self.set_cpus(limit)
        self.bursts = False

    def cpu(self) -> CpuReading:
        """Return what was used and how long and how often the machine was throttled, so far."""
        text = os.pread(self._stat, 512, 0)
        if self.owns_v2:
            throttled = float(_field(text, b"throttled_usec "))
        else:
            throttled = _field(text, b"throttled_time ") / 1000
        return CpuReading(self.used_us(), throttled, _field(text, b"nr_throttled "))

    def used_us(self) -> int:
        """Return the microseconds of CPU time used so far."""
        text = os.pread(self._usage, 512, 0)
        return _field(text, b"usage_usec ") if text[:5] == b"usage" else int(text) // 1000

    def set_shares(self, shares: int, *, idle: bool = False) -> str | None:
        """Set the scheduler's weight; return what it was, None where it cannot be set. An `idle`
        machine runs where nobody else wants to (Linux 5.15; before that it has a low weight).
        """
        name = "cpu.weight" if self.owns_v2 else "cpu.shares"
        folder = self.v2 if self.owns_v2 else self.v1.get("cpu", "")
        weight = 1 + (shares - 2) * 9999 // 262142 if self.owns_v2 else shares
        try:
            with open(f"{folder}/{name}", "r+b", buffering=0) as file:
                before = file.read(64).decode().strip()
                file.seek(0)
                file.write(str(weight).encode())
        except OSError:
            return None
        if idle:
            try:
                self._set_idle(folder, b"1")
            except OSError:
                pass
        return before

    @staticmethod
    def _set_idle(folder: str, word: bytes) -> None:
        with open(f"{folder}/cpu.idle", "r+b", buffering=0) as file:
            if file.read(8).strip() != word:
                file.seek(0)
                file.write(word)

    def restore_shares(self, before: str) -> None:
        """Set the scheduler's weight back."""
        name = "cpu.weight" if self.owns_v2 else "cpu.shares"
        folder = self.v2 if self.owns_v2 else self.v1.get("cpu", "")
        try:
            self._set_idle(folder, b"0")
        except OSError:
            pass  # Linux before 5.15
        with open(f"{folder}/{name}", "wb", buffering=0) as file:
            file.write(before.encode())

    # Memory.

    def memory_limit(self) -> int | None:
        """Return the limit on memory in bytes; None where there is none."""
        text = os.pread(self._limit, 64, 0).strip()
        limit = UNLIMITED if text == b"max" else int(text)
        return None if limit >= UNLIMITED else limit

    def memory_used(self) -> int:
        """Return the bytes in use."""
        return int(os.pread(self._memory, 64, 0))

    def memory(self) -> MemoryReading:
        """Return everything about memory."""
        stat = os.pread(self._memory_stat, 8192, 0)
        prefix = b"\n" if self.owns_v2 else b"\ntotal_"
        refaulted = sum(
            _field(stat, prefix + b"workingset_refault_" + kind + b" ")
            for kind in (b"file", b"anon")
        )
        cache = _field(stat, prefix + b"inactive_file ")  # the active one is used again and again
        dirty = _field(stat, prefix + (b"file_dirty " if self.owns_v2 else b"dirty "))
        hits = os.pread(self._hits, 512, 0) if self._hits >= 0 else b"0"
        count = _field(hits, b"\nmax ") if self.owns_v2 else int(hits)
        stalled = 0
        if self._stalled >= 0:
            stalled = _field(os.pread(self._stalled, 512, 0), b"total=")
        cold = max(cache - dirty, 0)
        return MemoryReading(self.memory_used(), refaulted * PAGE, stalled, count, cold)

    def set_memory(self, limit: int) -> None:
        """Set the limit on memory; version 1 wants that of memory and swap to be no lower."""
        try:
            os.pwrite(self._limit, str(limit).encode(), 0)
        except OSError:
            if self.owns_v2:
                raise
            path = f"{self.v1['memory']}/memory.memsw.limit_in_bytes"
            with open(path, "wb", buffering=0) as file:
                file.write(str(limit).encode())
            os.pwrite(self._limit, str(limit).encode(), 0)

    def take_back(self, amount: int, limit: int) -> Reclaimed:
        """Have the kernel reclaim `amount` bytes, and wait for it.

        Version 1 has no call for that. A limit below what is in use makes it reclaim, and is
        refused if that does not succeed: the limit never stands below use. It is then set back.
        What the machine takes meanwhile hits that limit, and says nothing of its own one.
        All by path: another thread does this, and may find the group gone.
        """
        v2 = self.owns_v2
        folder = self.v2 if v2 else self.v1["memory"]
        current = f"{folder}/memory.current" if v2 else f"{folder}/memory.usage_in_bytes"
        path = f"{folder}/memory.reclaim" if v2 else f"{folder}/memory.limit_in_bytes"
        before, hits = _read(current), 0 if v2 else _read(f"{folder}/memory.failcnt")
        try:
            _write(path, amount if v2 else max(before - amount, PAGE))
        except OSError:
            pass  # it freed less, or (v2) this is before Linux 5.19
        finally:
            if not v2:
                _write(path, limit)
                hits = _read(f"{folder}/memory.failcnt") - hits
        return Reclaimed(max(before - _read(current), 0), hits)

    # What stays behind.

    def rest_lines(self, cpus: float | None, memory: int | None) -> Iterator[str]:
        """Yield the lines for `viscum-rest` that set these limits."""
        paths = {fd: path for path, fd in self._open.items()}
        if cpus is not None:
            if self.bursts and self._burst >= 0:
                yield f"{paths[self._burst]}\t0\n"
            period = self.own_period_us
            quota = self.quota_us(cpus, period)
            if self.owns_v2:
                yield f"{paths[self._quota]}\t{quota} {period}\n"
            else:
                yield f"{paths[self._quota]}\t{quota}\n"
                if self._period >= 0:
                    yield f"{paths[self._period]}\t{period}\n"
        if memory is not None:
            yield f"{paths[self._limit]}\t{memory}\n"


def _field(text: bytes, name: bytes) -> int:
    """Return the number that follows `name` in a file of the kernel, 0 where it is not there."""
    at = text.find(name)
    if at < 0:
        return 0
    start = at + len(name)
    end = text.find(b"\n", start)
    return int(text[start : end if end >= 0 else len(text)])


def _read(path: str) -> int:
    with open(path, "rb", buffering=0) as file:
        return int(file.read(64))


def _write(path: str, value: int) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(str(value).encode())
