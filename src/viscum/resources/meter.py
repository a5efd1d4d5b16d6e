"""The figures of many machines at once, read by the core through descriptors that stay open."""

from __future__ import annotations

import os

from ..native import CoreMeter, Figures
from .reading import read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from .groups import GroupSet

__all__ = ["Figures", "Meter"]

MANY = 16
"""Machines in one group of which the kernel sums up less dearly together (`_sums`)."""

_FILES = (
    (0, 1, "cpu", "cpu.stat"),
    (1, 2, "cpu", "cpu.stat"),
    (2, 0, "", "cpu.stat"),
    (3, 1, "cpuacct", "cpuacct.usage"),
    (4, 1, "memory", "memory.usage_in_bytes"),
    (4, 2, "memory", "memory.current"),
    (5, 1, "memory", "memory.stat"),
    (6, 2, "memory", "memory.stat"),
    (7, 1, "memory", "memory.max_usage_in_bytes"),
    (7, 2, "memory", "memory.peak"),
    (8, 1, "memory", "memory.oom_control"),
    (8, 2, "memory", "memory.events"),
    (9, 2, "memory", "memory.swap.current"),
    (10, 1, "pids", "pids.current"),
    (10, 2, "pids", "pids.current"),
    (11, 1, "io", "blkio.throttle.io_serviced_recursive"),
    (12, 1, "io", "blkio.throttle.io_service_bytes_recursive"),
    (13, 2, "io", "io.stat"),
    (14, 0, "", "cpu.pressure"),
    (15, 0, "", "memory.pressure"),
    (16, 0, "", "io.pressure"),
)
"""The kind that native/meter.c has for a file, the version of the group that has it (0 for the v2
group, whether it holds limits or not), the controller, the name."""


def _files(groups: GroupSet) -> Iterator[tuple[int, str]]:
    skipped = {"cpuacct"} if groups.v2 else set()  # the v2 group counts CPU time as well
    for kind, version, controller, name in _FILES:
        if controller in skipped or (version and groups.version(controller) != version):
            continue
        if not version and name == "cpu.stat" and groups.version("cpu") == 2:
            continue
        folder = groups.folder(controller) if version else groups.v2
        path = f"{folder}/{name}"
        if folder and os.path.exists(path):
            yield kind, path


def _sums(groups: GroupSet) -> set[str]:
    """Return files of the parents of a machine's groups, whose reading sums up for all in them.

    The kernel counts on each CPU, and sums up for a group whose file is read. There it looks for
    the group in a list of all that have something to add, so a thousand cost a thousand times a
    thousand; the parent takes the whole list at once. The root group of version 2 does not.
    """
    folders = {(groups.v2, "cpu.stat"), (groups.folder("memory"), "memory.stat")}
    return {f"{os.path.dirname(folder)}/{name}" for folder, name in folders if folder}


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
        self._sums: dict[str, set[str]] = {}

    def add(self, groups: GroupSet) -> None:
        """Read this machine from now on; it replaces one of the same id."""
        self.remove(groups.id)
        self._core.add(groups.id, tuple(_files(groups)), self._most)
        for path in _sums(groups):
            self._sums.setdefault(path, set()).add(groups.id)

    def remove(self, machine_id: str) -> None:
        """Read this machine no more; nothing happens where it is not known."""
        if self._core.remove(machine_id):
            for path, below in list(self._sums.items()):
                below.discard(machine_id)
                if not below:
                    del self._sums[path]

    def read(self) -> dict[str, Figures]:
        """Return the figures of each machine by its id; one whose groups are gone is left out.

        They have the names that `Usage` has; pressure is spread out: `cpu_some_avg10` (a share
        from 0 to 1), `cpu_some_seconds`, `memory_full_avg10` and so on. 0 stands for what the
        machine has no group to count.
        """
        for path, below in list(self._sums.items()):
            if len(below) >= MANY:
                read_bytes(path)
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
