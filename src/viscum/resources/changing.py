"""Limits of a running machine changed: all of them or none, and what the kernel made of each."""

from __future__ import annotations

import errno
import math
import os
import time

from ..errors import HostError, SpecError
from ..frozen import Frozen
from ..limits import IoLimit, Limits
from .buffered import hold_buffered
from .reading import number, read_bytes
from .settings import THROTTLE, quota_of, settings, unheld
from .writing import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from .groups import GroupSet

__all__ = [
    "Applied",
    "Change",
    "apply",
    "lift_io",
    "read_limits",
    "write_all_or_none",
    "write_text",
]

UNLIMITED = 1 << 62
"""What version 1 shows for no limit on memory is a little below 2^63."""
RECLAIM_STEP_SECONDS = 0.02
RECLAIM_CHUNK = 64 << 20


class Change(Frozen):
    """One file that was written: what it said before, what was asked, what it says now."""

    file: str
    before: str
    asked: str
    now: str

    @property
    def rounded(self) -> bool:
        """Whether the kernel made something else of what was asked for."""
        unlimited = self.asked == "-1" and self.now.isdigit() and _limited(self.now) is None
        return self.now != self.asked and not unlimited


class Applied(Frozen):
    """What came of new limits. `reclaimed` is how many bytes of memory the machine gave up, `lost`
    what the limits let through all the same, in words.
    """

    changes: tuple[Change, ...]
    reclaimed: int = 0
    lost: tuple[str, ...] = ()

    @property
    def rounded(self) -> tuple[str, ...]:
        """One line for each value that the kernel changed, for people."""
        return tuple(
            f"{change.file} became {change.now or 'nothing'} instead of {change.asked}"
            for change in self.changes
            if change.rounded
        )


# A file's value, as it must be written to have the same again.

_BY_DEVICE = (
    "blkio.throttle.",
    "blkio.bfq.weight_device",
    "io.max",
    "io.latency",
    "io.weight",
    "io.bfq.weight",
)
_BY_NAME = ("rdma.max", "misc.max")


def _keyed(file: str) -> bool:
    return file.startswith(_BY_DEVICE) or file in _BY_NAME


def _value_of(file: str, text: str, asked: str) -> str:
    """Return the part of a file's text that `asked` is about, in the form of `asked`."""
    if file == "memory.oom_control":
        return str(dict(line.split() for line in text.splitlines()).get("oom_kill_disable", "0"))
    if file == "cpu.max" and " " not in asked:
        return text.split(maxsplit=1)[0]  # the quota, without the period
    if not _keyed(file):
        return text.strip()
    key = asked.split(" ", 1)[0]
    lines = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    if key not in lines:
        return f"{key} {_absent(file, asked)}"
    if "=" not in asked:
        return f"{key} {lines[key].strip()}"
    names = [word.split("=")[0] for word in asked.split()[1:]]
    now = dict(word.split("=") for word in lines[key].split())
    return " ".join([key, *(f"{name}={now.get(name, 'max')}" for name in names)])


def _absent(file: str, asked: str) -> str:
    """Return what a device without a line has: no bound, the default weight."""
    if file.startswith("blkio.throttle."):
        return "0"
    if "weight" in file:
        return "default"
    if file == "misc.max":
        return "max"
    nothing = "0" if file == "io.latency" else "max"
    return " ".join(f"{word.split('=')[0]}={nothing}" for word in asked.split()[1:])


def _read(folder: str, file: str, asked: str) -> str:
    with open(f"{folder}/{file}", "rb", buffering=0) as opened:
        return _value_of(file, opened.readall().decode(), asked)


def _write(folder: str, file: str, value: str) -> str:
    """Write `value` where it is not there already; return what was. Raises OSError."""
    if not folder:
        raise OSError(errno.ENOENT, "no controller for it here")
    before = _read(folder, file, value)
    if before != value:
        write_text(f"{folder}/{file}", value)
    return before


def write_all_or_none(
    places: Sequence[tuple[str, str, str]], last: Callable[[], None] | None = None
) -> tuple[Change, ...]:
    """Write (folder, file, value) each, or leave everything as it was and raise HostError.

    `last` is called after that, and what it raises undoes the rest too.

    What a value may be can depend on another one (v1 memory below memory and swap, burst below
    quota), so those that are refused are tried again as long as others went through.
    """
    done: list[tuple[str, str, str, str]] = []
    waiting = list(places)
    while waiting:
        refused, reasons = [], []
        for folder, file, value in waiting:
            try:
                before = _write(folder, file, value)
            except OSError as error:
                refused.append((folder, file, value))
                reasons.append(error)
            else:
                done.append((folder, file, before, value))
        if len(refused) == len(waiting):
            kept = _undo(done)
            raise _refusal(refused[0], reasons[0], kept)
        waiting = refused
    try:
        if last is not None:
            last()
    except BaseException:
        _undo(done)
        raise
    return tuple(_changes(done))


def _changes(done: list[tuple[str, str, str, str]]) -> list[Change]:
    found = []
    for folder, file, before, value in done:
        try:
            now = _read(folder, file, value)
        except OSError:
            now = ""
        found.append(Change(file, before, value, now))
    return found


def _undo(done: list[tuple[str, str, str, str]]) -> list[str]:
    """Write back what was there, in whatever order goes; return the files where it failed."""
    waiting = [
        (folder, file, before) for folder, file, before, value in reversed(done) if before != value
    ]
    while waiting:
        refused = []
        for folder, file, value in waiting:
            try:
                write_text(f"{folder}/{file}", value)
            except OSError:
                refused.append((folder, file, value))
        if len(refused) == len(waiting):
            return [file for folder, file, _ in refused if os.path.isdir(folder)]
        waiting = refused
    return []


_HINTS = {
    errno.EBUSY: "it is below what is in use; nothing was changed",
    errno.EINVAL: "the kernel does not take this value; nothing was changed",
    errno.ENODEV: "there is no such block device; nothing was changed",
    errno.EACCES: "the group is not this user's; nothing was changed",
    errno.EPERM: "the group is not this user's; nothing was changed",
}


def _refusal(place: tuple[str, str, str], error: OSError, kept: list[str]) -> HostError:
    folder, file, value = place
    hint = _HINTS.get(error.errno or 0, "nothing was changed")
    reason = (error.strerror or "").lower()
    if error.errno in (errno.ENOENT, errno.ENODEV) and folder and not os.path.isdir(folder):
        return HostError(
            f"{file} cannot become {value}: the machine's group {folder} is gone",
            hint="the machine has ended, or somebody removed its group",
        )
    if error.errno == errno.ENOENT and folder:
        reason, hint = "this kernel does not have it", "nothing was changed"
    if kept:
        hint = f"{kept[0]} could not be put back to what it was"
    return HostError(f"{file} cannot become {value}: {reason}", hint=hint)


# Limits.


def places(groups: GroupSet, limits: Limits) -> list[tuple[str, str, str]]:
    """Return (folder, file, value) for each limit; raises HostError for what cannot be had."""
    wanted, lost = settings(limits, dict(groups.v1), groups.controllers)
    if lost:
        raise HostError(
            f"this machine cannot have {lost[0]}",
            hint="nothing was changed; docs/reference/limits.md says what each version has",
        )
    found = []
    for controller, file, value in wanted:
        folder, text = groups.folder(controller), value
        if file == "cpu.max" and limits.cpus is None and limits.cpu_quota is None:
            current = read_bytes(f"{folder}/cpu.max").decode().split()
            text = " ".join([*current[:1], *value.split()[1:]])
        found.append((folder, file, text))
    return [*found, *_lower_burst(groups, limits)]


def _lower_burst(groups: GroupSet, limits: Limits) -> Iterator[tuple[str, str, str]]:
    """Yield what is to be written where more may be saved up than a new quota: the kernel takes
    no such quota, and a governor has the machine save as much as the quota that it had given.
    """
    quota, _ = quota_of(limits)
    if quota is None or quota < 0 or limits.cpu_burst is not None:
        return
    folder = groups.folder("cpu")
    file = "cpu.cfs_burst_us" if groups.version("cpu") == 1 else "cpu.max.burst"
    try:
        saved = number(read_bytes(f"{folder}/{file}"))
    except OSError:
        return  # Linux before 5.14
    if saved > quota:
        yield folder, file, str(quota)


def apply(
    groups: GroupSet,
    limits: Limits,
    *,
    reclaim: float | None = None,
    hold_link: Callable[[Limits], None] | None = None,
) -> Applied:
    """Change limits all or none; see `GroupSet.apply`."""
    if reclaim is not None and not (isinstance(reclaim, (int, float)) and 0 <= reclaim < math.inf):
        raise SpecError(f"reclaim {reclaim!r} is no number of seconds")
    wanted = places(groups, limits)
    reclaimed = _make_room(groups, limits, reclaim)
    last = (lambda: hold_link(limits)) if hold_link and limits.of_network else None
    changes = write_all_or_none(wanted, last)
    if groups.version("io") == 1:
        hold_buffered(limits.io, os.path.dirname(groups.folder("io")))
    return Applied(changes, reclaimed, tuple(unheld(limits, dict(groups.v1))))


def lift_io(groups: GroupSet, bounds: Sequence[IoLimit]) -> None:
    """Lift the bounds that stand in the machine's groups."""
    folder, v2 = groups.folder("io"), groups.version("io") == 2
    for bound in bounds:
        for field, word in THROTTLE:
            if getattr(bound, field) is None:
                continue
            if v2:
                write_text(f"{folder}/io.max", f"{bound.device} {field}=max")
            else:
                write_text(f"{folder}/blkio.throttle.{word}_device", f"{bound.device} 0")


def _memory_in_use(folder: str, *, v1: bool) -> int:
    return number(read_bytes(f"{folder}/memory.{'usage_in_bytes' if v1 else 'current'}"))


def _make_room(groups: GroupSet, limits: Limits, seconds: float | None) -> int:
    """Make sure that the memory in use is below its new limit; return how much was given up."""
    folder, v1 = groups.folder("memory"), groups.version("memory") == 1
    if limits.memory is None or not folder:
        return 0
    before = used = _memory_in_use(folder, v1=v1)
    if used <= limits.memory:
        return 0
    if seconds is None:
        raise HostError(
            f"memory cannot become {limits.memory} bytes: {used} are in use",
            hint="nothing was changed; with reclaim the kernel is given time to take them back",
        )
    used = (_reclaim_v1 if v1 else _reclaim_v2)(folder, limits.memory, seconds)
    if used > limits.memory:
        raise HostError(
            f"memory cannot become {limits.memory} bytes: of {before} in use "
            f"{max(0, before - used)} were taken back in {seconds:g} s, {used} are left",
            hint="no limit was changed; give it more time, or a higher limit",
        )
    return before - used


def _reclaim_v1(folder: str, target: int, seconds: float) -> int:
    """Lower the soft and then the hard limit for a moment: the kernel reclaims to make it fit."""
    path, end = folder + "/memory.limit_in_bytes", time.monotonic() + seconds
    before = read_bytes(path).decode().strip()
    while True:
        try:
            write_text(path, str(target))
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINTR):
                return _memory_in_use(folder, v1=True)
        else:
            # Held already: put back until the whole set is written, which may still fail.
            write_text(path, before)
            return min(target, _memory_in_use(folder, v1=True))
        if time.monotonic() >= end:
            return _memory_in_use(folder, v1=True)
        time.sleep(RECLAIM_STEP_SECONDS)


def _reclaim_v2(folder: str, target: int, seconds: float) -> int:
    """Ask for the difference until it is there or the time is over (`memory.reclaim`, Linux 5.19).

    Before that, and against growth meanwhile, `memory.high` is lowered for the time it takes.
    """
    high, end = folder + "/memory.high", time.monotonic() + seconds
    before = read_bytes(high).decode().strip()
    try:
        write_text(high, str(target))
        while (used := _memory_in_use(folder, v1=False)) > target and time.monotonic() < end:
            try:
                write_text(folder + "/memory.reclaim", str(min(used - target, RECLAIM_CHUNK)))
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                    break
                time.sleep(RECLAIM_STEP_SECONDS)
    finally:
        write_text(high, before)
    return _memory_in_use(folder, v1=False)


# Limits that stand.


def _limited(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isdigit() and int(word) < UNLIMITED else None


def _text(folder: str, file: str) -> str:
    return read_bytes(f"{folder}/{file}").decode().strip() if folder else ""


def read_limits(groups: GroupSet) -> Limits:
    """Return the limits that stand in the groups now; see `GroupSet.limits`."""
    fields: dict[str, object] = {}
    for controller, readers in _READERS.items():
        version = groups.version(controller)
        if version:
            fields.update(readers[version - 1](groups.folder(controller)))
    cpuset, pids = groups.folder("cpuset"), groups.folder("pids")
    fields["cpuset_cpus"] = _text(cpuset, "cpuset.cpus") or None
    fields["cpuset_mems"] = _text(cpuset, "cpuset.mems") or None
    fields["pids"] = _limited(_text(pids, "pids.max"))
    return Limits(**fields)  # type: ignore[arg-type]


def _cpu_v1(folder: str) -> dict[str, object]:
    quota = _text(folder, "cpu.cfs_quota_us")
    return {
        "cpu_quota": int(quota) if quota not in ("", "-1") else None,
        "cpu_period": _limited(_text(folder, "cpu.cfs_period_us")),
        "cpu_burst": _limited(_text(folder, "cpu.cfs_burst_us")) or None,
        "cpu_shares": _limited(_text(folder, "cpu.shares")),
        "cpu_idle": _text(folder, "cpu.idle") == "1" or None,
    }


def _cpu_v2(folder: str) -> dict[str, object]:
    words = _text(folder, "cpu.max").split()
    return {
        "cpu_quota": _limited(words[0]) if words else None,
        "cpu_period": _limited(words[1]) if words else None,
        "cpu_burst": _limited(_text(folder, "cpu.max.burst")) or None,
        "cpu_weight": _limited(_text(folder, "cpu.weight")) or None,
        "cpu_idle": _text(folder, "cpu.idle") == "1" or None,
    }


def _memory_v1(folder: str) -> dict[str, object]:
    return {
        "memory": _limited(_text(folder, "memory.limit_in_bytes")),
        "memory_swap": _limited(_text(folder, "memory.memsw.limit_in_bytes")),
        "memory_reservation": _limited(_text(folder, "memory.soft_limit_in_bytes")),
    }


def _memory_v2(folder: str) -> dict[str, object]:
    limit, swap = (_limited(_text(folder, f"memory.{name}max")) for name in ("", "swap."))
    return {
        "memory": limit,
        "memory_swap": None if limit is None or swap is None else limit + swap,
        "memory_high": _limited(_text(folder, "memory.high")),
        "memory_low": _limited(_text(folder, "memory.low")) or None,
        "memory_min": _limited(_text(folder, "memory.min")) or None,
    }


def _io_v1(folder: str) -> dict[str, object]:
    bounds: dict[str, dict[str, Any]] = {}
    for field, word in THROTTLE:
        for line in _text(folder, f"blkio.throttle.{word}_device").splitlines():
            device, value = line.split()
            bounds.setdefault(device, {})[field] = int(value)
    return {"io": tuple(IoLimit(device, **found) for device, found in bounds.items())}


def _io_v2(folder: str) -> dict[str, object]:
    bounds = []
    for line in _text(folder, "io.max").splitlines():
        device, *words = line.split()
        found = dict(word.split("=") for word in words)
        numbers: dict[str, Any] = {
            name: int(value) for name, value in found.items() if value.isdigit()
        }
        bounds.append(IoLimit(device, **numbers))
    return {"io": tuple(bounds)}


_READERS = {"cpu": (_cpu_v1, _cpu_v2), "memory": (_memory_v1, _memory_v2), "io": (_io_v1, _io_v2)}
