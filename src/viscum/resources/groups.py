"""The groups of a running machine: its limits changed, its usage read, its processes held."""

from __future__ import annotations

import _signal as signals  # `signal` imports enum, 6 ms
import os
import time

from ..errors import HostError
from ..frozen import Frozen
from . import changing, reading
from .writing import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..host import Cgroups
    from ..limits import Limits
    from .changing import Applied
    from .usage import Usage

__all__ = ["GroupSet"]

FREEZE_SECONDS = 5.0
STEP_SECONDS = 0.005


class GroupSet(Frozen):
    """The group folders of one machine. Nothing is held open; it may be made from names alone.

    `id`: the machine's. `v1`: pairs of a controller and the machine's folder in its hierarchy.
    `v2`: its folder of version 2, empty where there is none. `controllers`: those of version 2
    that hold limits; a controller has one version at a time (cgroups(7)).
    """

    id: str
    v1: tuple[tuple[str, str], ...] = ()
    v2: str = ""
    controllers: tuple[str, ...] = ()

    @classmethod
    def of(cls, machine_id: str, cgroups: Cgroups) -> GroupSet:
        """Return the groups that the machine `machine_id` has at this moment on this host."""
        v1 = tuple(
            (controller, path)
            for controller, folder in cgroups.v1
            if os.path.isdir(path := f"{folder}/{machine_id}")
        )
        v2 = f"{cgroups.v2}/{machine_id}" if cgroups.v2 else ""
        if not v2 or not os.path.isdir(v2):
            return cls(machine_id, v1)
        return cls(machine_id, v1, v2, cgroups.v2_controllers)

    @property
    def layout(self) -> str:
        """Which version holds most limits: "v1" (also with a v2 group beside it) or "v2"."""
        return "v1" if self.v1 or not self.v2 else "v2"

    def folder(self, controller: str) -> str:
        """Return the folder that has the files of `controller`, by its v2 name; "" if none."""
        if controller in self.controllers:
            return self.v2
        return dict(self.v1).get("blkio" if controller == "io" else controller, "")

    def version(self, controller: str) -> int:
        """Return which version's files the folder of `controller` has: 1, 2, or 0 for none."""
        if controller in self.controllers:
            return 2
        return 1 if self.folder(controller) else 0

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the machine, those of version 1 first."""
        return (*(path for _, path in self.v1), *filter(None, (self.v2,)))

    # Limits and usage.

    def apply(
        self,
        limits: Limits,
        *,
        reclaim: float | None = None,
        hold_link: Callable[[Limits], None] | None = None,
    ) -> Applied:
        """Change the limits that are not None, all or none; return what the kernel made of them.

        Memory is not lowered below what is in use, unless `reclaim` gives the kernel that many
        seconds to take it back. `hold_link` is called for limits of the network. Raises
        HostError where something cannot be had: then everything is as it was.
        """
        return changing.apply(self, limits, reclaim=reclaim, hold_link=hold_link)

    def limits(self) -> Limits:
        """Return the limits that stand in the groups now; None for what is not limited."""
        return changing.read_limits(self)

    def usage(self) -> Usage:
        """Return what the machine used so far. For many machines `meter.Meter` is cheaper."""
        return reading.usage(self)

    # Processes.

    def processes(self) -> list[int]:
        """Return the process ids of the machine as this process sees them."""
        for folder in filter(None, (self.v2, *(path for _, path in self.v1))):
            try:
                with open(folder + "/cgroup.procs", encoding="ascii") as file:
                    return [int(line) for line in file]
            except OSError:
                continue
        return []

    @property
    def frozen(self) -> bool:
        """Whether every process of the machine stands still."""
        if self.v2:
            return b"frozen 1" in reading.read_bytes(self.v2 + "/cgroup.events")
        folder = dict(self.v1).get("freezer")
        return bool(folder) and reading.read_bytes(f"{folder}/freezer.state")[:6] == b"FROZEN"

    @property
    def freezing(self) -> bool:
        """Whether the machine was told to stand still, even if not every process does yet."""
        if self.v2:
            return reading.read_bytes(self.v2 + "/cgroup.freeze")[:1] == b"1"
        folder = dict(self.v1).get("freezer")
        return bool(folder) and reading.read_bytes(f"{folder}/freezer.state")[:2] == b"FR"

    def freeze(self) -> None:
        """Stop every process; returns once they stand still. Raises HostError."""
        self._freeze(frozen=True)

    def thaw(self) -> None:
        """Let the processes go on. Raises HostError."""
        self._freeze(frozen=False)

    def _freeze(self, *, frozen: bool) -> None:
        path, value = f"{self.v2}/cgroup.freeze", "1" if frozen else "0"
        if not self.v2:
            folder = dict(self.v1).get("freezer")
            if not folder:
                raise HostError("this host has no cgroup to pause a machine with")
            path, value = f"{folder}/freezer.state", "FROZEN" if frozen else "THAWED"
        write_text(path, value)
        end = time.monotonic() + FREEZE_SECONDS
        while self.frozen != frozen:
            if time.monotonic() > end or not self.processes():
                return
            time.sleep(STEP_SECONDS)

    def lift_io(self) -> bool:
        """Let the machine's I/O go on unbounded; return whether there were bounds."""
        from .changing import lift_io, read_limits

        bounds = read_limits(self).io
        lift_io(self, bounds)
        return bool(bounds)

    def kill(self) -> None:
        """Kill every process of the machine; returns once that is asked for."""
        if self.v2:
            try:
                write_text(self.v2 + "/cgroup.kill", "1")
            except FileNotFoundError:  # Linux before 5.14, or the group is gone
                self._kill_each()
        else:
            self._kill_each()

    def _kill_each(self) -> None:
        """Kill what is there until nothing is: what forks meanwhile is found the next time."""
        for _ in range(100):
            pids = self.processes()
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, signals.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(STEP_SECONDS)
