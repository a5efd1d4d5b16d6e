"""What a machine used, from its groups and from the kernel's accounting of its processes."""

from __future__ import annotations

from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .limits import Groups

__all__ = ["DeviceUsage", "Pressure", "Usage", "oom_kills", "usage_files", "usage_from"]

BLOCK = 512
"""Bytes in a block of getrusage(2)."""


class Pressure(Frozen):
    """How long tasks of a machine waited for a resource (Documentation/accounting/psi.rst).

    `some_*` is of the time in which at least one task waited, `full_*` of that in which all did;
    averages over 10 s are shares from 0 to 1, the rest are seconds since the group was made.
    """

    some_avg10: float = 0.0
    full_avg10: float = 0.0
    some_seconds: float = 0.0
    full_seconds: float = 0.0


class DeviceUsage(Frozen):
    """Block I/O on one device, `device` by its number as `254:0`; bytes and operations."""

    device: str
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


class Usage(Frozen):
    """What a machine has used; seconds, bytes and counts since its start, the rest as of now.

    The figures are of the whole machine where it had a group to count them, else of its first
    process and the children that process waited for (getrusage(2)). Without a memory group a peak
    below this process's own cannot be told, and is 0.

    `periods` are CPU periods that ran under a quota, `throttled_periods` those in which it ran
    out, `throttled_seconds` what was waited for it. `memory_bytes` is all that is charged,
    `working_set_bytes` that without file pages which are not in active use, `refaults` counts
    pages that were reclaimed and needed again. `io` is by device; a pressure is None where the
    kernel does not tell.
    """

    cpu_seconds: float = 0.0
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    peak_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_seconds: float = 0.0
    memory_bytes: int = 0
    working_set_bytes: int = 0
    swap_bytes: int = 0
    refaults: int = 0
    pids: int = 0
    oom_kills: int = 0
    cpu_pressure: Pressure | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None
    io: tuple[DeviceUsage, ...] = ()


_FILES_V1 = (
    ("memory", "memory.max_usage_in_bytes"),
    ("memory", "memory.oom_control"),
    ("", "cpu.stat"),
)
_FILES_V2 = (("", "memory.peak"), ("", "memory.events"), ("", "cpu.stat"))


def usage_files(groups: Groups, *, v1: bool) -> tuple[tuple[int, str], ...]:
    """Return (slot, file) of peak, out-of-memory count and CPU time, in this order."""
    files = _FILES_V1 if v1 else _FILES_V2
    return tuple((groups.slot(controller), file) for controller, file in files)


def _field(data: bytes | None, name: bytes) -> int:
    for line in (data or b"").splitlines():
        if line.startswith(name + b" "):
            return int(line.split()[1])
    return 0


def oom_kills(files: tuple[bytes | None, ...]) -> int:
    """Return how many of the machine's processes the kernel killed for its memory limit."""
    return _field(files[1], b"oom_kill")


def usage_from(stat: tuple[int, ...], files: tuple[bytes | None, ...]) -> Usage:
    """Return the usage from the status that the core gives and the files of `usage_files`."""
    user, system = stat[2] / 1e6, stat[3] / 1e6
    cpu = user + system
    counted = _field(files[2], b"usage_usec") / 1e6
    if counted > cpu:
        user = max(user, _field(files[2], b"user_usec") / 1e6)
        system = max(system, _field(files[2], b"system_usec") / 1e6)
        cpu = counted
    peak = int(files[0]) if files[0] and files[0].strip().isdigit() else 0
    return Usage(cpu, user, system, max(peak, stat[4] << 10), stat[5] * BLOCK, stat[6] * BLOCK)
