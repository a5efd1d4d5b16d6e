"""What a machine may use: limits, and the sizes, counts and bounds that they are written as."""

from __future__ import annotations

import os

from .errors import SpecError
from .frozen import Frozen

__all__ = [
    "IoLimit",
    "Limits",
    "check_limits",
    "parse_cpu_bounds",
    "parse_cpus",
    "parse_memory_bounds",
    "parse_size",
]

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
MAX_BYTES = (1 << 63) - 4096
MIN_MEMORY = 512 << 10
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_SLOWEST = 1024
"""Bytes a second. Less than that is an outage, not a bandwidth."""


def parse_size(text: str | int, what: str = "size") -> int:
    """Return a number of bytes from `64m`, `1.5G`, `4096`; units are powers of 1024.

    Raises SpecError for anything that is not a positive, finite number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        number, unit = float(min(max(text, -1), 1 << 64)), ""
    else:
        word = str(text).strip().lower()
        word = word.removesuffix("b") if word[-2:-1] in (*"kmgti",) else word
        word = word.removesuffix("i")
        unit = word[-1:] if word[-1:] in UNITS and word else ""
        number = _parse_number(word[: len(word) - len(unit)], text, what)
    size = number * UNITS[unit]
    if not 0 < size <= MAX_BYTES:
        raise SpecError(
            f"{what} {text!r} is out of range", hint="give bytes above 0, such as 512M or 2g"
        )
    return int(text) if isinstance(text, int) else int(size)


def _parse_number(word: str, text: object, what: str) -> float:
    if word and word.isascii() and word.replace(".", "", 1).isdigit():
        return float(word)
    if word[:1] == "-" and word[1:].replace(".", "", 1).isdigit():
        return float(word)
    raise SpecError(f"{what} {text!r} is not a size", hint="give bytes above 0, such as 512M or 2g")


def parse_cpus(value: str | float) -> float:
    """Return a number of CPUs, at least 0.01, from `1.5`; raises SpecError for anything else."""
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0.01 <= number <= 1 << 16:
        raise SpecError(f"cpus {value!r} is out of range", hint="give CPUs of at least 0.01: 1.5")
    return number


def _ends(value: object, what: str) -> tuple[object, object]:
    """Return both ends of bounds given as `0.5..2` or as a pair."""
    if isinstance(value, str):
        low, dots, high = value.partition("..")
        if dots and low.strip() and high.strip() and ".." not in high:
            return low.strip(), high.strip()
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0], value[1]
    raise SpecError(f"{what} {value!r} are no bounds", hint="give MIN..MAX, such as 0.5..2")


def parse_cpu_bounds(value: object) -> tuple[float, float]:
    """Return the bounds in CPUs of `0.5..2` or of a pair; raises SpecError."""
    low, high = (parse_cpus(end) for end in _ends(value, "cpus"))  # type: ignore[arg-type]
    if low > high:
        raise SpecError(f"cpus {value!r}: the lower bound is above the upper one")
    most = float(os.cpu_count() or 1)
    if high > most:
        raise SpecError(
            f"cpus {value!r}: this host has {most:g} CPUs", hint=f"at most {most:g} as upper bound"
        )
    return low, high


def parse_memory_bounds(value: object) -> tuple[int, int]:
    """Return the bounds in bytes of `64M..1G` or of a pair; raises SpecError."""
    low, high = (parse_size(end, "memory") for end in _ends(value, "memory"))  # type: ignore[arg-type]
    if low > high:
        raise SpecError(f"memory {value!r}: the lower bound is above the upper one")
    if low < MIN_MEMORY:
        raise SpecError(f"memory {value!r}: the lower bound is too low", hint="at least 512K")
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if high > most:
        raise SpecError(f"memory {value!r}: this host has {most >> 20}M")
    return low, high


class IoLimit(Frozen):
    """Bounds of a machine's I/O on one device; None is no bound.

    `device` is a block device by number (`254:0`), or an absolute path, which stands for the
    device that what lies there is stored on. `rbps`, `wbps`: bytes a second read and written.
    `riops`, `wiops`: operations a second. `weight`: 1 to 10000, 100 by default. `latency_us`:
    the latency in microseconds that the machine is owed (version 2 only).
    """

    device: str
    rbps: int | None = None
    wbps: int | None = None
    riops: int | None = None
    wiops: int | None = None
    weight: int | None = None
    latency_us: int | None = None
    own_disk: bool = False
    """The device is a volume's own disk. Found out, not asked for."""


class Limits(Frozen):
    """What a machine may use; None is no limit.

    CPU. `cpus`: CPUs' worth of time; or `cpu_quota` microseconds (-1 for no limit) in each period
    of `cpu_period` microseconds, 100000 by default. `cpu_burst`: microseconds of unused quota that
    may be saved for later. `cpu_shares`: relative weight, 2 to 262144, 1024 by default; or
    `cpu_weight`, 1 to 10000, 100 by default. `cpu_idle`: runs only when nothing else wants to.
    `cpuset_cpus`, `cpuset_mems`: CPUs and memory nodes as `0-2,4`.

    Memory, in bytes. `memory`: the limit. `memory_swap`: of memory and swap together, -1 for no
    limit on swap. `memory_high`: reclaimed and slowed above it. `memory_low`, `memory_min`: not
    reclaimed below it as long as others have something, or ever. `memory_reservation`: what
    `memory_low` is on version 2, and the soft limit on version 1. `memory_zswap`: compressed swap.
    `memory_swappiness`: 0 to 100, version 1 only. `oom_group`: processes are killed together.
    `oom_kill_disable`: processes wait instead (version 1; else what `--oom-policy pause` does).

    Network, in bytes a second, -1 for no limit. `network_rx`, `network_tx`: received and sent over
    the link that a private network has.

    `pids`: number of tasks, -1 for no limit. `io`: bounds by device. `io_weight`: 1 to 10000, 100
    by default. `hugetlb`: pairs of a page size (`2MB`) and bytes. `rdma`: pairs of a device and its
    bounds (`hca_handle=2 hca_object=2000`). `misc`: pairs of a resource and a number.
    """

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    pids: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_burst: int | None = None
    cpu_weight: int | None = None
    cpu_idle: bool | None = None
    cpuset_mems: str | None = None
    memory_high: int | None = None
    memory_low: int | None = None
    memory_min: int | None = None
    memory_reservation: int | None = None
    memory_zswap: int | None = None
    memory_swappiness: int | None = None
    oom_group: bool | None = None
    oom_kill_disable: bool | None = None
    io: tuple[IoLimit, ...] = ()
    io_weight: int | None = None
    hugetlb: tuple[tuple[str, int], ...] = ()
    rdma: tuple[tuple[str, str], ...] = ()
    misc: tuple[tuple[str, int], ...] = ()
    network_rx: int | None = None
    network_tx: int | None = None

    @property
    def of_network(self) -> bool:
        """Whether the link is limited."""
        return (self.network_rx, self.network_tx) != (None, None)


def check_limits(limits: Limits) -> None:
    """Raise SpecError where a limit makes no sense."""
    _check_memory(limits)
    _check_cpu(limits)
    for name, low, high in _RANGES:
        value = getattr(limits, name)
        if value is None or (name == "pids" and value == -1):
            continue
        if not low <= value <= high:
            raise SpecError(
                f"{name.replace('_', '-')} {value} is out of range", hint=f"{low} to {high}"
            )
    for name in ("cpuset_cpus", "cpuset_mems"):
        value = getattr(limits, name)
        if value is not None:
            _check_set(value, name.replace("_", "-"))
    for bound in limits.io:
        _check_io(bound)
    for value in (limits.network_rx, limits.network_tx):
        if value is not None and value != -1 and not _SLOWEST <= value <= MAX_BYTES:
            raise SpecError(
                f"network-max of {value} bytes a second is out of range",
                hint=f"at least {_SLOWEST}, or -1 for no limit",
            )
    for size, _ in limits.hugetlb:
        if not (size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")):
            raise SpecError(f"hugetlb page size {size!r} is unknown", hint="such as 2MB or 1GB")
    for name, value in (*limits.rdma, *limits.misc):
        if not name or not NAME_CHARACTERS.issuperset(name) or "\n" in str(value):
            raise SpecError(f"the limit of {name!r} is not usable", hint="NAME=VALUE")


_RANGES = (
    ("cpu_shares", 2, 262144),
    ("cpu_weight", 1, 10000),
    ("cpu_period", 1000, 1_000_000),
    ("io_weight", 1, 10000),
    ("memory_swappiness", 0, 100),
    ("pids", 1, 1 << 22),
)


def _check_memory(limits: Limits) -> None:
    if limits.memory is not None and not MIN_MEMORY <= limits.memory <= MAX_BYTES:
        raise SpecError(
            f"memory of {limits.memory} bytes is out of range", hint="give at least 512K"
        )
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limits.memory is not None and limits.memory > there:
        raise SpecError(
            f"memory of {limits.memory} bytes is above what this host has",
            hint=f"at most {there >> 20}M",
        )
    swap = limits.memory_swap
    if swap is not None and swap != -1:
        if limits.memory is None:
            raise SpecError("memory-swap needs memory", hint="it is the sum of memory and swap")
        if swap < limits.memory:
            raise SpecError(
                f"memory-swap of {swap} bytes is below memory of {limits.memory}",
                hint="it is the sum of memory and swap",
            )
    bounds = [("memory", limits.memory), ("memory-high", limits.memory_high)]
    for name in ("memory_reservation", "memory_low", "memory_min"):
        value = getattr(limits, name)
        for other, most in bounds:
            if value is not None and most is not None and 0 <= most < value:
                raise SpecError(
                    f"{name.replace('_', '-')} of {value} bytes is above {other} of {most}",
                    hint="what is kept for a machine must fit into what it may use",
                )
    if limits.memory_low is not None and limits.memory_reservation is not None:
        raise SpecError("memory-low and memory-reservation are the same", hint="give one of them")


def _check_cpu(limits: Limits) -> None:
    quota, period = limits.cpu_quota, limits.cpu_period
    count = os.cpu_count() or 1
    if limits.cpus is not None and (quota is not None or period is not None):
        raise SpecError("cpus excludes cpu-quota and cpu-period", hint="cpus is their ratio")
    if limits.cpus is not None and limits.cpus > count:
        raise SpecError(
            f"cpus {limits.cpus:g} is above what this host has", hint=f"0.01 to {count}"
        )
    if limits.cpu_shares is not None and limits.cpu_weight is not None:
        raise SpecError("cpu-shares and cpu-weight are the same", hint="give one of them")
    if quota is not None and quota != -1 and quota < 1000:
        raise SpecError(f"cpu-quota {quota} is out of range", hint="microseconds from 1000, or -1")
    if quota is not None and quota > count * (period or 100_000):
        raise SpecError(
            f"cpu-quota {quota} is above what this host has",
            hint=f"at most {count * (period or 100_000)}: {count} CPUs in each period",
        )
    if limits.cpu_idle and (limits.cpu_shares, limits.cpu_weight) != (None, None):
        raise SpecError("cpu-idle excludes a weight", hint="who is idle has the least of all")
    burst = limits.cpu_burst
    if burst is not None and burst < 0:
        raise SpecError(f"cpu-burst {burst} is out of range", hint="microseconds from 0")
    if burst and quota is not None and burst > quota:
        raise SpecError(f"cpu-burst {burst} is above cpu-quota {quota}")


def _check_set(text: str, what: str) -> None:
    for part in text.split(","):
        low, dash, high = part.partition("-")
        digits = low.isascii() and low.isdigit() and (high or low).isascii()
        if (
            (dash and not high)
            or not digits
            or not (high or low).isdigit()
            or int(high or low) < int(low)
        ):
            raise SpecError(f"{what} {text!r} is not a list of numbers", hint="such as 0-2,4")
        if what == "cpuset-cpus" and int(high or low) >= (os.cpu_count() or 1):
            raise SpecError(f"{what} {text!r} names a CPU that this host does not have")


def _check_io(bound: IoLimit) -> None:
    major, _, minor = bound.device.partition(":")
    if not (bound.device.isascii() and major.isdigit() and minor.isdigit()):
        raise SpecError(
            f"I/O device {bound.device!r} is not a device's number", hint="such as 254:0"
        )
    for name in ("rbps", "wbps", "riops", "wiops", "latency_us"):
        value = getattr(bound, name)
        if value is not None and type(value) is not int:
            raise SpecError(f"I/O limit {name} {value!r} is not a whole number")
        if value is not None and not 0 < value <= MAX_BYTES:
            raise SpecError(f"I/O limit {name} {value} is out of range", hint="a number above 0")
        if value is not None and name in ("rbps", "wbps") and value < _SLOWEST:
            raise SpecError(
                f"I/O limit {name} of {value} bytes a second is out of range",
                hint=f"at least {_SLOWEST}",
            )
    if bound.weight is not None and type(bound.weight) is not int:
        raise SpecError(f"I/O weight {bound.weight!r} is not a whole number")
    if bound.weight is not None and not 1 <= bound.weight <= 10000:
        raise SpecError(f"I/O weight {bound.weight} is out of range", hint="1 to 10000")
