"""The live governor: the policies, the clock, and the host's control groups."""

from __future__ import annotations

import os
import threading
import time
from heapq import nlargest

from ..errors import HostError, SpecError, ViscumError
from .applying import Applier
from .budget import cpu_budget, memory_budget
from .crew import Crew
from .decisions import Journal, governor_folder
from .fleet import Decision, Fleet
from .holding import Holding
from .live import Live
from .memories import load_memories, save_memories
from .memory import PROBE_SECONDS
from .neighbours import SQUEEZE
from .reclaiming import Reclaimer, has_swap
from .resting import Resting
from .roster import Roster, governed_by_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..machine import Machine

__all__ = ["Governor"]

NICE = -15
SLOW_TICK_SECONDS = 0.1
LONG_TICK_SECONDS = 0.4
MANY = 20
"""How often the times of the next looks are compared with the clock; with many machines less."""
APPLY_SECONDS = 0.5
"""How often limits are shared out anew while the budget is short, unless one is throttled."""
ROSTER_SECONDS = 0.5
NEIGHBOURS_SECONDS = 1.0
SAVE_SECONDS = 60.0
REST_SECONDS = 5.0
LEND_SECONDS = 0.25
LENDERS = 4
"""Who needs more than there is has the machines with the highest limits looked at."""
HELD_SECONDS = 1.0
"""When a machine that is throttled and cannot be raised is looked at."""
MEMORY_SECONDS = 4.0
CALM_MEMORY_SECONDS = 15.0
LIMITED_MEMORY_SECONDS = 0.25


class Governor:
    """Moves the limits of machines within their bounds, in a thread of this program or in `run`.

    `cpus` and `memory` (bytes) are the budget that all limits together stay within; by default
    all CPUs of this process and nine tenths of the host's memory. With `follow` the machines that
    live on (`viscum run`) are found by themselves; others are added with `add`. There is one
    governor for each host and user: a second one raises ViscumError.

        with viscum.Governor() as governor, viscum.Machine(["./server"]) as machine:
            governor.add(machine, name="web", cpus=(0.2, 2.0), machine_class="latency")
    """

    def __init__(
        self,
        cpus: str | float | None = None,
        memory: str | int | None = None,
        *,
        follow: bool = True,
    ) -> None:
        from ..launching import this_host

        cgroups = this_host().cgroups
        if cgroups.layout == "none":
            raise HostError("there are no control groups to govern", hint="viscum doctor")
        self.fleet = Fleet(cpu_budget(cpus), memory_budget(memory))
        local = time.localtime()
        today = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec
        self.fleet.midnight = time.monotonic() - today
        self._crew = Crew(cgroups, self.fleet, Roster(cgroups, follow=follow))
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._holding: Holding | None = None
        self._closed = False
        self._pending = False
        self._refused: Callable[[str, str], None] = lambda _name, _reason: None
        self._next = dict.fromkeys(("slow", "apply", "lend", "roster", "neighbours", "rest"), 0.0)
        self._next["save"] = time.monotonic() + SAVE_SECONDS

    # Its life.

    def start(self) -> Self:
        """Take the host's lock and govern in a thread from now on; raises ViscumError."""
        self._take_over()
        self._thread = threading.Thread(target=self._loop, name="viscum-governor", daemon=True)
        self._thread.start()
        return self

    def run(
        self,
        ready: Callable[[], None] = lambda: None,
        refused: Callable[[str, str], None] | None = None,
    ) -> None:
        """Take the host's lock, call `ready`, and govern in this thread until `stop` is called.

        `refused` is called with name and reason of each machine that is found and not governed.
        """
        self._refused = refused or self._refused
        self._take_over()
        try:
            ready()
            self._loop()
        finally:
            self.close()

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler."""
        self._crew.sweep.stop()

    def close(self) -> None:
        """Stop, and leave the machines with limits to rest at; idempotent."""
        self._closed = True
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock:
            if self._holding is None:
                return
            holding, self._holding = self._holding, None
            self._reclaimer.close()
            save_memories(self.fleet)
            for live in list(self._crew.lives.values()):
                self._crew.leave(live)
            self._resting.stop()
            self._journal.close()
            self._crew.sweep.close()
            self._crew.crowding.close()
            holding.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take_over(self) -> None:
        if self._closed:
            raise ViscumError("the governor is closed", hint="make a new one")
        folder = governor_folder(make=True)
        holding = Holding(f"{folder}/lock")
        try:
            self._resting = Resting(holding.path)
        except OSError as error:
            holding.close()
            raise ViscumError(f"viscum-rest: {(error.strerror or '').lower()}") from None
        self._journal = Journal()
        self._applier = Applier(self._crew, self._journal)
        self._crew.memories = load_memories()
        self._reclaimer = Reclaimer()
        self._swap = has_swap()
        self._holding = holding

    # Machines.

    def add(
        self,
        machine: Machine | str,
        *,
        name: str | None = None,
        cpus: tuple[float, float] | str | None = None,
        memory: tuple[int, int] | str | None = None,
        machine_class: str | None = None,
    ) -> None:
        """Govern a machine of this program, or the one of a control group's name.

        `cpus` and `memory` are the bounds, `(0.5, 2.0)` or "0.5..2"; without them, and without a
        class, those that the machine was made with. Raises SpecError where they make no sense or
        the budget is short.
        """
        governed = governed_by_call(machine, name, cpus, memory, machine_class)
        with self._lock:
            if governed.group in {live.governed.group for live in self._crew.lives.values()}:
                raise SpecError(f"machine {governed.name!r} is governed already")
            self._crew.roster.give(governed)
            try:
                self._crew.adopt(governed)
            except ViscumError:
                self._crew.roster.drop(governed.name)
                raise

    def remove(self, name: str) -> None:
        """Govern a machine no more; its limits stay as they are, its weight is set back."""
        with self._lock:
            self._crew.roster.drop(name)
            live = self._crew.lives.get(name)
            if live is not None:
                self._crew.let_go(live)

    def limits(self) -> dict[str, dict[str, float]]:
        """Return the limits of every governed machine: {"web": {"cpus": 0.5, "memory": …}}."""
        with self._lock:
            rows: dict[str, dict[str, float]] = {}
            for member in self.fleet.members.values():
                row = rows[member.name] = {}
                if member.cpu is not None:
                    row["cpus"] = member.cpu_limit
                if member.memory is not None:
                    row["memory"] = member.memory_limit
            return rows

    @property
    def refused(self) -> dict[str, str]:
        """Why machines that were found are not governed, by name."""
        return dict(self._crew.refused.values())

    # The loop.

    def _loop(self) -> None:
        try:  # this thread is needed most when CPUs are short
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        except OSError:
            pass  # an ordinary user's
        while self._crew.sweep.wait(max(self._next["slow"] - time.monotonic(), 0.001)):
            with self._lock:
                self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        urgent = self._fast(now) if self._crew.sweep.due(now) else False
        if now >= self._next["slow"]:
            many = len(self._crew.lives) > MANY
            self._next["slow"] = now + (LONG_TICK_SECONDS if many else SLOW_TICK_SECONDS)
            self._pending |= self._slow(now)
        if urgent or (self._pending and (not self.fleet.short or now >= self._next["apply"])):
            self._next["apply"] = now + APPLY_SECONDS
            self._pending = self._applier.apply(now)

    def _fast(self, now: float) -> bool:
        changed = self._fast_spending(now)
        short = False
        idle = -1
        for live, total in self._crew.sweep.look(now):
            if total < 0:
                self._crew.forget(live)
                continue
            if now < live.quiet_until:
                continue
            idle = self._crew.sweep.idle() if idle < 0 else idle
            try:
                lost = live.stood_at_limit(now, total, idle)
            except OSError:
                self._crew.forget(live)
                continue
            live.held_total = total
            if lost <= 0.0:
                self._crew.sweep.soon = True
                continue
            if self.fleet.throttled(live.governed.name, lost, now):
                live.raised_at, changed = now, True
            else:
                self._deny(live, now)
                short = True
        return (short and self._call_in(now)) or changed

    def _fast_spending(self, now: float) -> bool:
        changed = False
        for live, lately in self._crew.sweep.spending(now):
            if self.fleet.spending(live.governed.name, lately, now):
                live.raised_at, changed = now, True
                continue
            try:  # it stays at its limit: then it must not stand still for most of a long period
                live.handles.set_cpus(live.member.cpu_limit)
            except OSError:
                self._crew.forget(live)
                continue
            self._crew.sweep.save(live, live.member.cpu_limit)
        return changed

    def _deny(self, live: Live, now: float) -> None:
        """Leave a machine at its limit: it has all that it may, or there is nothing left."""
        live.next_look = min(live.next_look, now + HELD_SECONDS)
        live.quiet_until = min(live.next_look, now + LEND_SECONDS + len(self._crew.lives) / 100)
        self._crew.schedule(live)

    def _call_in(self, now: float) -> bool:
        """Look at those with the highest limits: somebody needs what they may not use just now."""
        if not self.fleet.short or now < self._next["lend"]:
            return False
        self._next["lend"] = now + LEND_SECONDS
        lenders = [
            live
            for live in self._crew.lives.values()
            if live.member.cpu is not None
            and live.member.cpu.bounds.low < live.member.cpu_limit
            and now - live.since > LEND_SECONDS * 0.8
            and now >= live.quiet_until
        ]
        changed = False
        for live in nlargest(LENDERS, lenders, key=lambda live: live.member.cpu_limit):
            live.next_look = now
            try:
                changed |= self._look(live, now)
            except OSError:
                self._crew.forget(live)
                continue
            self._crew.schedule(live)
        return changed

    def _slow(self, now: float) -> bool:
        changed = False
        if now >= self._next["roster"]:
            many = len(self._crew.lives) > MANY
            self._next["roster"] = now + ROSTER_SECONDS * (2 if many else 1)
            changed |= self._crew.call_roll()
            self._tell_refused()
        for live in self._crew.due(now):
            try:
                changed |= self._look(live, now)
            except OSError:
                self._crew.forget(live)
        if now >= self._next["neighbours"]:
            self._next["neighbours"] = now + NEIGHBOURS_SECONDS
            changed |= self._look_neighbours(now)
        if now >= self._next["rest"]:
            self._next["rest"] = now + REST_SECONDS
            if self._crew.changed:
                self._crew.changed = False
                self._resting.write(self._crew.rest_lines())
        if now >= self._next["save"]:
            self._next["save"] = now + SAVE_SECONDS
            save_memories(self.fleet)
        return changed

    def _tell_refused(self) -> None:
        while self._crew.told_off:
            name, reason = self._crew.told_off.pop(0)
            self._journal.note([Decision(name, "none", 0.0, 0.0, "refused", reason)], time.time())
            self._refused(name, reason)

    def _look(self, live: Live, now: float) -> bool:
        looked = False
        if live.member.cpu is not None and now >= live.next_look:
            reading = live.handles.cpu()
            used, throttled, seconds = live.interval(now, reading)
            looked = self.fleet.look_cpu(live.governed.name, used, throttled, seconds, now)
            live.start_interval(now, reading)
        if live.member.memory is not None and now >= live.next_memory:
            self._look_memory(live, now)
            looked |= self.fleet.memory_touched
        return looked

    def _look_memory(self, live: Live, now: float) -> None:
        memory = live.member.memory
        limited = memory is not None and live.member.memory_limit < memory.bounds.high
        live.next_memory = now + (LIMITED_MEMORY_SECONDS if limited else MEMORY_SECONDS)
        if live.memory_stands(now):
            if not limited:
                live.next_memory = now + 2 * MEMORY_SECONDS
            return
        amount = self.fleet.look_memory(
            live.governed.name, live.memory_view(now, swap=self._swap), now
        )
        live.full_memory = now + CALM_MEMORY_SECONDS
        if amount:
            self._reclaimer.ask(live, amount)
            live.next_memory = live.full_memory = now + PROBE_SECONDS

    def _look_neighbours(self, now: float) -> bool:
        """Find out who crowds whom; only where there is somebody who yields to somebody else."""
        lives = list(self._crew.lives.values())
        if len({live.governed.manner.rank for live in lives}) < 2:
            return False
        idle = self._crew.sweep.idle()
        for name, cpu in self._crew.homes.look(lives, now, idle).items():
            signal = f"kept on CPU {cpu}, so that who goes first is not queued behind it"
            decision = Decision(name, "home", 0.0, float(cpu), "home", signal)
            self._journal.note([decision], time.time())
            self._crew.changed = True
        shares = self._crew.crowding.suffering(lives, "cpu", now)
        changed = shares is not None or bool(self.fleet.neighbours.caps)
        if changed:
            self.fleet.look_neighbours(shares or {})
        squeezed = self._crew.crowding.look_io(lives, now)
        if squeezed:
            self._note_io(squeezed)
        self._crew.crowding.looked(now)
        return changed

    def _note_io(self, name: str) -> None:
        victim, cap = self._crew.crowding.io.victim, self._crew.crowding.io.caps[name]
        signal = f"{victim} stood still for I/O"
        decision = Decision(name, "io", cap / SQUEEZE, cap, "noisy neighbour", signal)
        self._journal.note([decision], time.time())
