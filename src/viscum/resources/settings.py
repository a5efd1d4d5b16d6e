"""The mapping: what each limit is called in groups of version 1 and of version 2.

Docs: docs/reference/limits.md has the same as a table. Shares and weights are converted as the OCI
runtime specification's reference does: weight = 1 + (shares - 2) * 9999 / 262142 for the CPU, and
weight = 1 + (blkio - 10) * 9999 / 990 for I/O.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from ..limits import IoLimit, Limits

    Setting = tuple[str, str, str]
    """Controller, file, value."""

__all__ = [
    "DEFAULT_PERIOD_US",
    "THROTTLE",
    "bfq_weight",
    "blkio_to_weight",
    "quota_of",
    "settings",
    "settings_v1",
    "settings_v2",
    "shares_to_weight",
    "unheld",
    "weight_to_shares",
]

DEFAULT_PERIOD_US = 100_000


def shares_to_weight(shares: int) -> int:
    """Return the `cpu.weight` that stands for CPU shares."""
    return 1 + (shares - 2) * 9999 // 262142


def weight_to_shares(weight: int) -> int:
    """Return the CPU shares that stand for a `cpu.weight`; the inverse of `shares_to_weight`."""
    return 2 + ((weight - 1) * 262142 + 9998) // 9999


def blkio_to_weight(blkio: int) -> int:
    """Return the I/O weight of 1 to 10000 that stands for a blkio weight of 10 to 1000."""
    return 1 + (blkio - 10) * 9999 // 990


def bfq_weight(weight: int) -> int:
    """Return the weight of 1 to 1000 that BFQ takes for an I/O weight of 1 to 10000.

    100 is the default of both and stays 100; below and above it the ranges are scaled.
    """
    return weight if weight <= 100 else 100 + (weight - 100) * 900 // 9900


def quota_of(limits: Limits) -> tuple[int | None, int | None]:
    """Return quota and period in microseconds, -1 for no quota, None for what was not asked."""
    if limits.cpus is not None:
        return max(1000, round(limits.cpus * DEFAULT_PERIOD_US)), DEFAULT_PERIOD_US
    return limits.cpu_quota, limits.cpu_period


def settings(
    limits: Limits, v1: Container[str], v2: Container[str]
) -> tuple[list[Setting], list[str]]:
    """Return the settings for a host with these controllers, and in words what is lost.

    `v1` and `v2` hold names of controllers as these versions have them.
    """
    new = settings_v2(limits)
    found = [setting for setting in settings_v1(limits) if setting[0] in v1]
    found += [setting for setting in new if setting[0] in v2]
    lost = [
        f"the limit {file} (no cgroup controller for it)"
        for name, file, _ in new
        if name not in v2 and _NAMES_V1.get(name, name) not in v1
    ]
    return found, [*dict.fromkeys(lost), *_without_counterpart(limits, v1)]


_NAMES_V1 = {"io": "blkio"}
_ONLY_V1 = ("memory_swappiness", "oom_kill_disable")
_ONLY_V2 = ("memory_high", "memory_low", "memory_min", "memory_zswap", "oom_group")


def unheld(limits: Limits, v1: Container[str]) -> list[str]:
    """Return in words what limits let through although they are there: buffered writes on v1, and
    weights of I/O where no disk is given out by weight.
    """
    found = []
    if limits.io_weight is not None and not (_bfq_schedules() or _io_cost_is_on()):
        found.append("the weight of I/O (no disk has bfq in its /sys/block/DISK/queue/scheduler)")
    if "blkio" not in v1:
        return found
    return found + [
        f"the limit of {bound.device} for buffered writes (cgroups of version 1 count direct and "
        "synchronous ones; see viscum volume create --size)"
        for bound in limits.io
        if not bound.own_disk and (bound.wbps, bound.wiops) != (None, None)
    ]


def _bfq_schedules() -> bool:
    """Whether a disk of this host is scheduled by BFQ."""
    from .reading import read_bytes

    schedulers = (f"/sys/block/{disk}/queue/scheduler" for disk in os.listdir("/sys/block"))
    return any(b"[bfq]" in read_bytes(path) for path in schedulers)


def _io_cost_is_on() -> bool:
    """Whether the cost model of version 2 gives a disk of this host out by weight."""
    from .reading import read_bytes

    return b"enable=1" in read_bytes("/sys/fs/cgroup/io.cost.qos")


def _without_counterpart(limits: Limits, v1: Container[str]) -> Iterator[str]:
    """Yield what is asked for and has no file in the version that the controller has."""
    if "memory" not in v1:
        for name in _ONLY_V1:
            if getattr(limits, name) not in (None, False):
                yield f"{name.replace('_', '-')} (only cgroups of version 1 have it)"
    if "memory" in v1:
        for name in _ONLY_V2:
            if getattr(limits, name) not in (None, False):
                yield f"{name.replace('_', '-')} (only cgroups of version 2 have it)"
    if "blkio" in v1 and any(bound.latency_us is not None for bound in limits.io):
        yield "io-latency (only cgroups of version 2 have it)"
    for name in ("rdma", "misc"):
        if name in v1 and getattr(limits, name):
            yield f"{name} (only cgroups of version 2 have it)"


def settings_v1(limits: Limits) -> list[Setting]:
    """Return (controller, file, value) for each limit, in the order they must be written."""
    return [*_memory_v1(limits), *_cpu_v1(limits), *_sets(limits), *_rest_v1(limits)]


def _memory_v1(limits: Limits) -> Iterator[Setting]:
    for value, file in (
        (limits.memory, "memory.limit_in_bytes"),
        (limits.memory_swap, "memory.memsw.limit_in_bytes"),
        (limits.memory_reservation, "memory.soft_limit_in_bytes"),
        (limits.memory_swappiness, "memory.swappiness"),
    ):
        if value is not None:
            yield "memory", file, str(value)
    if limits.oom_kill_disable is not None:
        yield "memory", "memory.oom_control", str(int(limits.oom_kill_disable))


def _cpu_v1(limits: Limits) -> Iterator[Setting]:
    quota, period = quota_of(limits)
    if period is not None:
        yield "cpu", "cpu.cfs_period_us", str(period)
    if quota is not None:
        yield "cpu", "cpu.cfs_quota_us", str(quota)
    if limits.cpu_burst is not None:
        yield "cpu", "cpu.cfs_burst_us", str(limits.cpu_burst)
    if limits.cpu_idle is not None:
        yield "cpu", "cpu.idle", str(int(limits.cpu_idle))
    if limits.cpu_shares is not None:
        yield "cpu", "cpu.shares", str(limits.cpu_shares)
    elif limits.cpu_weight is not None:
        yield "cpu", "cpu.shares", str(weight_to_shares(limits.cpu_weight))


def _sets(limits: Limits) -> Iterator[Setting]:
    if limits.cpuset_cpus is not None:
        yield "cpuset", "cpuset.cpus", limits.cpuset_cpus
    if limits.cpuset_mems is not None:
        yield "cpuset", "cpuset.mems", limits.cpuset_mems


THROTTLE = (
    ("rbps", "read_bps"),
    ("wbps", "write_bps"),
    ("riops", "read_iops"),
    ("wiops", "write_iops"),
)


def _tasks(limits: Limits) -> Iterator[Setting]:
    if limits.pids is not None:
        yield "pids", "pids.max", "max" if limits.pids == -1 else str(limits.pids)


def _rest_v1(limits: Limits) -> Iterator[Setting]:
    yield from _tasks(limits)
    for bound in limits.io:
        for field, word in THROTTLE:
            value = getattr(bound, field)
            if value is not None:
                yield "blkio", f"blkio.throttle.{word}_device", f"{bound.device} {value}"
        if bound.weight is not None:
            value = f"{bound.device} {bfq_weight(bound.weight)}"
            yield "blkio", "blkio.bfq.weight_device", value
    if limits.io_weight is not None:
        yield "blkio", "blkio.bfq.weight", str(bfq_weight(limits.io_weight))
    for size, count in limits.hugetlb:
        yield "hugetlb", f"hugetlb.{size}.limit_in_bytes", str(count)


def settings_v2(limits: Limits) -> list[Setting]:
    """Return (controller, file, value) for each limit; the v2 counterpart of `settings_v1`."""
    return [*_memory_v2(limits), *_cpu_v2(limits), *_sets(limits), *_rest_v2(limits)]


def _memory_v2(limits: Limits) -> Iterator[Setting]:
    low = limits.memory_low if limits.memory_low is not None else limits.memory_reservation
    for value, file in (
        (limits.memory, "memory.max"),
        (limits.memory_high, "memory.high"),
        (low, "memory.low"),
        (limits.memory_min, "memory.min"),
        (limits.memory_zswap, "memory.zswap.max"),
    ):
        if value is not None:
            yield "memory", file, "max" if value == -1 else str(value)
    if limits.memory_swap is not None:
        both = limits.memory_swap
        yield "memory", "memory.swap.max", "max" if both == -1 else str(both - (limits.memory or 0))
    if limits.oom_group is not None:
        yield "memory", "memory.oom.group", str(int(limits.oom_group))


def _cpu_v2(limits: Limits) -> Iterator[Setting]:
    quota, period = quota_of(limits)
    if quota is not None or period is not None:
        # A missing half stays what it is: the kernel takes a quota alone; KEEP stands for it.
        first = KEEP if quota is None else "max" if quota < 0 else str(quota)
        yield "cpu", "cpu.max", first if period is None else f"{first} {period}"
    if limits.cpu_burst is not None:
        yield "cpu", "cpu.max.burst", str(limits.cpu_burst)
    if limits.cpu_idle is not None:
        yield "cpu", "cpu.idle", str(int(limits.cpu_idle))
    if limits.cpu_shares is not None:
        yield "cpu", "cpu.weight", str(shares_to_weight(limits.cpu_shares))
    elif limits.cpu_weight is not None:
        yield "cpu", "cpu.weight", str(limits.cpu_weight)


KEEP = "max"
"""The quota that `cpu.max` of a new group has."""


def _io_max(bound: IoLimit) -> str:
    pairs = [
        f"{field}={'max' if value <= 0 else value}"
        for field, _ in THROTTLE
        if (value := getattr(bound, field)) is not None
    ]
    return " ".join(pairs)


def _rest_v2(limits: Limits) -> Iterator[Setting]:
    yield from _tasks(limits)
    if limits.io_weight is not None:
        yield "io", "io.weight", f"default {limits.io_weight}"
        if _bfq_schedules():  # whose weights are its own
            yield "io", "io.bfq.weight", f"default {bfq_weight(limits.io_weight)}"
    for bound in limits.io:
        pairs = _io_max(bound)
        if pairs:
            yield "io", "io.max", f"{bound.device} {pairs}"
        if bound.weight is not None:
            yield "io", "io.weight", f"{bound.device} {bound.weight}"
        if bound.latency_us is not None:
            yield "io", "io.latency", f"{bound.device} target={bound.latency_us}"
    for size, count in limits.hugetlb:
        yield "hugetlb", f"hugetlb.{size}.max", str(count)
    for device, bounds in limits.rdma:
        yield "rdma", "rdma.max", f"{device} {bounds}"
    for resource, count in limits.misc:
        yield "misc", "misc.max", f"{resource} {count}"
