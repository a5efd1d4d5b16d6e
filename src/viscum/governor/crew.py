"""The machines under a live governor: taken on, looked after in turn, let go."""

from __future__ import annotations

import heapq
import itertools
import os
import time

from ..errors import HostError, SpecError, ViscumError
from .crowding import Crowding
from .groups import Handles
from .homes import Homes
from .live import Live
from .memories import Memories
from .sweeping import Sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..host import Cgroups
    from .fleet import Fleet
    from .roster import Governed, Renewed, Roster

__all__ = ["Crew"]


class Crew:
    """Every governed machine by its name, with the queue of who is looked at next.

    `changed`: somebody came, went, or got another limit since it was last set to False. `refused`
    has name and reason of each machine that is not governed, by group; `told_off` those of whom
    nobody was told yet.
    """

    def __init__(self, cgroups: Cgroups, fleet: Fleet, roster: Roster) -> None:
        self._cgroups = cgroups
        self.fleet = fleet
        self.roster = roster
        self.lives: dict[str, Live] = {}
        self.refused: dict[str, tuple[str, str]] = {}
        self.told_off: list[tuple[str, str]] = []
        self.sweep = Sweep()
        self.crowding = Crowding()
        self.homes = Homes(os.sched_getaffinity(0))
        self.memories = Memories({})
        self.changed = True
        self._due: list[tuple[float, int, Live]] = []
        self._turns = itertools.count()

    def adopt(self, governed: Governed) -> None:
        """Take a machine on; raises ViscumError, and nothing of it is changed then."""
        handles = Handles(self._cgroups, governed.group)
        try:
            self._take_on(governed, handles)
        except BaseException:
            handles.close()
            raise

    def _take_on(self, governed: Governed, handles: Handles) -> None:
        cpus = memory = None
        if governed.cpus is not None:
            if not handles.has_cpus:
                raise HostError(
                    f"machine {governed.name!r} has no group that limits CPUs",
                    hint="viscum doctor says which controllers there are",
                )
            found = handles.cpus()
            cpus = (governed.cpus, governed.cpus.high if found is None else found)
        if governed.memory is not None:
            if not handles.has_memory:
                raise HostError(f"machine {governed.name!r} has no group that limits memory")
            limit = handles.memory_limit()
            memory = (governed.memory, governed.memory.high if limit is None else float(limit))
        member = self.fleet.add(governed.name, governed.manner, cpus=cpus, memory=memory)
        live = Live(governed, handles, member)
        self.lives[governed.name] = live
        now = time.monotonic()
        if member.cpu is not None:
            self.memories.give(member)
            handles.bursts = governed.manner.bursts
            live.start_interval(now)
            if governed.shares is None:
                manner = governed.manner
                live.shares_before = handles.set_shares(manner.shares, idle=manner.idle)
            self.sweep.add(live)
        if member.memory is not None:
            member.memory.used = handles.memory_used()
        self.schedule(live)
        self.refused.pop(governed.group, None)
        self.changed = True

    def forget(self, live: Live) -> None:
        """Drop a machine."""
        self.memories.keep(live.member)
        self.sweep.remove(live)
        self.crowding.forget(live)
        self.homes.forget(live.governed.name)
        self.lives.pop(live.governed.name, None)
        self.fleet.remove(live.governed.name)
        live.handles.close()
        self.changed = True

    def leave(self, live: Live) -> None:
        """Set the limits to rest at, and the scheduler's weight back."""
        cpus = self.fleet.rest_cpus().get(live.governed.name)
        try:
            live.handles.end_bursts()
            if cpus is not None:
                live.handles.set_cpus(cpus)
        except OSError:
            pass  # it has ended
        self.let_go(live)

    def let_go(self, live: Live) -> None:
        """Govern a machine no more: its limits stay, its weight is set back."""
        self.homes.forget(live.governed.name)
        try:
            live.handles.end_bursts()
            if live.shares_before is not None:
                live.handles.restore_shares(live.shares_before)
        except OSError:
            pass  # it has ended
        self.forget(live)

    def call_roll(self) -> bool:
        """Drop who is gone, take on who is new, and treat those otherwise whose owner wants it;
        return whether there was anybody.
        """
        new, gone = self.roster.changes()
        for live in [live for live in self.lives.values() if live.governed.group in gone]:
            self.forget(live)
        for group in gone:
            self.refused.pop(group, None)
        renewed = self.roster.renewed()
        for machine in renewed:
            self._release(machine)
        for governed in (*new, *(machine.governed for machine in renewed)):
            if governed is None or governed.name in self.lives:
                continue
            try:
                self.adopt(governed)
            except (ViscumError, OSError) as error:
                self._refuse(governed, error)
        return bool(new or gone or renewed)

    def _refuse(self, governed: Governed, error: Exception) -> None:
        reason = (governed.name, str(error))
        if self.refused.get(governed.group) != reason:
            self.refused[governed.group] = reason
            self.told_off.append(reason)
        if isinstance(error, SpecError):
            self.roster.forget(governed.group)  # the budget may have room later

    def _release(self, machine: Renewed) -> None:
        """Let a machine go whose owner has changed its bounds. Limits that have none any more are
        set to what the owner wrote: the governor may have moved them since.
        """
        for live in [live for live in self.lives.values() if live.governed.group == machine.group]:
            now, limits = machine.governed, machine.limits
            try:
                live.handles.end_bursts()
                if live.member.cpu is not None and limits.cpus and not (now and now.cpus):
                    live.handles.set_cpus(limits.cpus)
                if live.member.memory is not None and limits.memory and not (now and now.memory):
                    live.handles.set_memory(limits.memory)
            except OSError:
                pass  # it has ended, or (memory) holds more by now
            self.let_go(live)

    def schedule(self, live: Live) -> None:
        """Queue the machine's next look; an entry queued before is void."""
        due = live.due()
        if due != live.queued:
            live.queued = due
            heapq.heappush(self._due, (due, next(self._turns), live))

    def due(self, now: float) -> Iterator[Live]:
        """Yield the machines that are to be looked at by now, and queue them again."""
        while self._due and self._due[0][0] <= now:
            due, _, live = heapq.heappop(self._due)
            if due == live.queued and self.lives.get(live.governed.name) is live:
                live.queued = -1.0
                yield live
                if self.lives.get(live.governed.name) is live:
                    self.schedule(live)

    def rest_lines(self) -> Iterator[str]:
        """Yield the lines for `viscum-rest`."""
        cpus = self.fleet.rest_cpus()
        for name, live in self.lives.items():
            limit = int(live.member.memory_limit) if live.member.memory is not None else None
            yield from live.handles.rest_lines(cpus.get(name), limit)
            yield from self.crowding.rest_lines(live)
            yield from self.homes.rest_lines(name)
