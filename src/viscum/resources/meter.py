"""The figures of many machines at once, read by the core through descriptors that stay open."""

from __future__ import annotations

import os

from ..native import CoreMeter, Figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from .groups import GroupSet

__all__ = ["Figures", "Meter"]

_V1 = (
    ("", "cpu.stat"),
    ("cpu", "cpu.stat"),
    ("cpuacct", "cpuacct.usage"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.max_usage_in_bytes"),
    ("memory", "memory.stat"),
    ("memory", "memory.oom_control"),
    None,
    ("pids", "pids.current"),
    ("io", "blkio.throttle.io_service_bytes_recursive"),
    ("io", "blkio.throttle.io_serviced_recursive"),
    ("", "cpu.pressure"),
    ("", "memory.pressure"),
    ("", "io.pressure"),
)
_V2 = (
    ("", "cpu.stat"),
    None,
    None,
    ("memory", "memory.current"),
    ("memory", "memory.peak"),
    ("memory", "memory.stat"),
    ("memory", "memory.events"),
    ("memory", "memory.swap.current"),
    ("pids", "pids.current"),
    ("io", "io.stat"),
    None,
    ("", "cpu.pressure"),
    ("", "memory.pressure"),
    ("", "io.pressure"),
)
"""In the order of native/meter.c."""


def _paths(groups: GroupSet) -> Iterator[str | None]:
    v2 = groups.layout == "v2"
    for place in _V2 if v2 else _V1:
        if place is None or (place[0] == "cpuacct" and groups.v2):
            yield None
            continue
        controller, file = place
        folder = groups.folder(controller) if controller else groups.v2
        path = f"{folder}/{file}"
        yield path if folder and os.path.exists(path) else None


def _most_descriptors() -> int:
    """Return how many descriptors may be taken: the caller keeps an eighth of the soft limit."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft - soft // 8


class Meter:
    """Reads the figures of many machines: `add` each, then `read` as often as needed.

    A machine takes about a dozen descriptors. Where the limit of open files (`ulimit -n`) does not
    allow it, its files are opened at each reading, which takes three times as long. Methods may
    be called from any thread.
    """

    def __init__(self) -> None:
        self._core = CoreMeter()
        self._most = _most_descriptors()
        self._threads = min(4, len(os.sched_getaffinity(0)))

    def add(self, groups: GroupSet) -> None:
        """Read this machine from now on; it replaces one of the same id."""
        self._core.remove(groups.id)
        paths = tuple(_paths(groups))
        self._core.add(groups.id, paths, groups.layout == "v2", self._most)

    def remove(self, machine_id: str) -> None:
        """Read this machine no more; nothing happens where it is not known."""
        self._core.remove(machine_id)

    def read(self) -> dict[str, Figures]:
        """Return the figures of each machine by its id; one whose groups are gone is left out.

        They have the names that `Usage` has; pressure is spread out: `cpu_some_avg10` (a share
        from 0 to 1), `cpu_some_seconds`, `memory_full_avg10` and so on. 0 stands for what the
        machine has no group to count.
        """
        return self._core.read(self._threads)

    def close(self) -> None:
        """Close every descriptor; idempotent."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
