"""The live governor: the policies, the clock, and the host's control groups."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time

from ..errors import HostError, SpecError, ViscumError
from .crowding import Crowding
from .decisions import Journal, governor_folder
from .fleet import Decision, Fleet
from .groups import Handles
from .holding import Holding
from .live import Live
from .memories import load_memories, save_memories
from .memory import PROBE_SECONDS
from .neighbours import SQUEEZE
from .reclaiming import Reclaimer, has_swap
from .resting import Resting
from .roster import Governed, Roster
from .sweeping import Sweep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from ..host import Cgroups
    from ..machine import Machine

__all__ = ["Governor"]

NICE = -15
SLOW_TICK_SECONDS = 0.1
"""How often the times of the next looks are compared with the clock."""
APPLY_SECONDS = 0.5
"""How often limits are shared out anew while the budget is short, unless one is throttled."""
ROSTER_SECONDS = 0.5
NEIGHBOURS_SECONDS = 1.0
SAVE_SECONDS = 60.0
REST_SECONDS = 5.0
MEMORY_SECONDS = 2.0
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
        self, cpus: float | None = None, memory: int | None = None, *, follow: bool = True
    ) -> None:
        from ..launching import this_host

        self._cgroups: Cgroups = this_host().cgroups
        if self._cgroups.layout == "none":
            raise HostError("there are no control groups to govern", hint="viscum doctor")
        self.fleet = Fleet(cpus or _host_cpus(), memory or _host_memory())
        local = time.localtime()
        today = local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec
        self.fleet.midnight = time.monotonic() - today
        self._lives: dict[str, Live] = {}
        self._roster = Roster(self._cgroups, follow=follow)
        self._refused: dict[str, str] = {}
        self._sweep = Sweep()
        self._crowding = Crowding()
        self._lock = threading.RLock()
        self._due: list[tuple[float, int, Live]] = []
        self._turns = itertools.count()
        self._thread: threading.Thread | None = None
        self._holding: Holding | None = None
        self._pending = False
        self._changed = True
        self._next = dict.fromkeys(("slow", "apply", "roster", "neighbours", "rest"), 0.0)
        self._next["save"] = time.monotonic() + SAVE_SECONDS

    # Its life.

    def start(self) -> Self:
        """Take the host's lock and govern in a thread from now on; raises ViscumError."""
        self._take_over()
        self._thread = threading.Thread(target=self._loop, name="viscum-governor", daemon=True)
        self._thread.start()
        return self

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Take the host's lock, call `ready`, and govern in this thread until `stop` is called."""
        self._take_over()
        try:
            ready()
            self._loop()
        finally:
            self.close()

    def stop(self) -> None:
        """Let `run` return; may be called from a signal handler."""
        self._sweep.stop()

    def close(self) -> None:
        """Stop, and leave the machines with limits to rest at; idempotent."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock:
            if self._holding is None:
                return
            holding, self._holding = self._holding, None
            self._reclaimer.close()
            save_memories(self.fleet)
            for live in list(self._lives.values()):
                self._leave(live)
            self._resting.stop()
            self._journal.close()
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
        folder = governor_folder(make=True)
        holding = Holding(f"{folder}/lock")
        try:
            self._resting = Resting(holding.path)
        except OSError as error:
            holding.close()
            raise ViscumError(f"viscum-rest: {(error.strerror or '').lower()}") from None
        self._journal = Journal()
        self._memories = load_memories()
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
        machine_class: str = "latency",
    ) -> None:
        """Govern a machine of this program, or the one of a control group's name.

        `cpus` and `memory` are the bounds, `(0.5, 2.0)` or "0.5..2"; without them those that the
        machine was made with. Raises SpecError where they make no sense or the budget is short.
        """
        governed = _governed(machine, name, cpus, memory, machine_class)
        with self._lock:
            self._roster.give(governed)
            try:
                self._adopt(governed)
            except ViscumError:
                self._roster.drop(governed.name)
                raise

    def remove(self, name: str) -> None:
        """Govern a machine no more; its limits stay as they are."""
        with self._lock:
            self._roster.drop(name)
            live = self._lives.pop(name, None)
            if live is not None:
                self._forget(live)

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
        return dict(self._refused)

    def _adopt(self, governed: Governed) -> None:
        handles = Handles(self._cgroups, governed.group)
        try:
            self._adopt_with(governed, handles)
        except BaseException:
            handles.close()
            raise

    def _adopt_with(self, governed: Governed, handles: Handles) -> None:
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
        self._lives[governed.name] = live
        now = time.monotonic()
        if member.cpu is not None:
            self._memories.give(member)
            handles.bursts = governed.manner.bursts
            live.start_interval(now)
            if governed.shares is None:
                live.shares_before = handles.set_shares(governed.manner.shares)
            self._sweep.add(live)
        if member.memory is not None:
            member.memory.used = handles.memory_used()
        self._schedule(live)
        self._refused.pop(governed.name, None)
        self._changed, self._next["rest"] = True, 0.0

    def _forget(self, live: Live) -> None:
        self._memories.keep(live.member)
        self._sweep.remove(live)
        self._crowding.forget(live)
        self._lives.pop(live.governed.name, None)
        self.fleet.remove(live.governed.name)
        live.handles.close()
        self._changed, self._next["rest"] = True, 0.0

    def _leave(self, live: Live) -> None:
        """Set the limits to rest at, and the scheduler's weight back."""
        cpus = self.fleet.rest_cpus().get(live.governed.name)
        try:
            live.handles.end_bursts()
            if cpus is not None:
                live.handles.set_cpus(cpus)
            if live.shares_before is not None:
                live.handles.restore_shares(live.shares_before)
            self._crowding.forget(live)
        except OSError:
            pass  # it has ended
        live.handles.close()

    # The loop.

    def _loop(self) -> None:
        try:  # this thread is needed most when CPUs are short
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        except OSError:
            pass  # an ordinary user's
        while self._sweep.wait(max(self._next["slow"] - time.monotonic(), 0.001)):
            with self._lock:
                self.tick(time.monotonic())

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        urgent = self._fast(now) if self._sweep.due(now) else False
        if now >= self._next["slow"]:
            self._next["slow"] = now + SLOW_TICK_SECONDS
            self._pending |= self._slow(now)
        if urgent or (self._pending and (not self.fleet.short or now >= self._next["apply"])):
            self._pending = False
            self._next["apply"] = now + APPLY_SECONDS
            self._apply(now)

    def _fast(self, now: float) -> bool:
        changed = False
        idle = -1
        for live, total in self._sweep.look(now):
            if total < 0:
                self._forget(live)
                continue
            if now < live.quiet_until:
                continue
            idle = self._sweep.idle() if idle < 0 else idle
            try:
                lost = live.stood_at_limit(now, total, idle)
            except OSError:
                self._forget(live)
                continue
            live.held_total = total
            if lost <= 0.0:
                self._sweep.soon = True
                continue
            if self.fleet.throttled(live.governed.name, lost, now):
                live.raised_at, changed = now, True
            else:
                live.quiet_until = live.next_look
        return changed

    def _slow(self, now: float) -> bool:
        changed = False
        if now >= self._next["roster"]:
            self._next["roster"] = now + ROSTER_SECONDS
            changed |= self._call_roll()
        while self._due and self._due[0][0] <= now:
            due, _, live = heapq.heappop(self._due)
            if due == live.queued and self._lives.get(live.governed.name) is live:
                try:
                    changed |= self._look(live, now)
                    self._schedule(live)
                except OSError:
                    self._forget(live)
        if now >= self._next["neighbours"]:
            self._next["neighbours"] = now + NEIGHBOURS_SECONDS
            changed |= self._look_neighbours(now)
        if now >= self._next["rest"]:
            self._next["rest"] = now + REST_SECONDS
            if self._changed:
                self._changed = False
                self._write_rest()
        if now >= self._next["save"]:
            self._next["save"] = now + SAVE_SECONDS
            save_memories(self.fleet)
        return changed

    def _call_roll(self) -> bool:
        new, gone = self._roster.changes()
        for governed in new:
            if governed.name in self._lives:
                continue
            try:
                self._adopt(governed)
            except (ViscumError, OSError) as error:
                self._refused[governed.name] = str(error)
                if isinstance(error, SpecError):
                    self._roster.forget(governed.group)  # the budget may have room later
        for live in [live for live in self._lives.values() if live.governed.group in gone]:
            self._forget(live)
        return bool(new or gone)

    def _schedule(self, live: Live) -> None:
        """Queue the machine's next look; an entry queued before is void."""
        due = live.due()
        if due != live.queued:
            live.queued = due
            heapq.heappush(self._due, (due, next(self._turns), live))

    def _look(self, live: Live, now: float) -> bool:
        looked = False
        if live.member.cpu is not None and now >= live.next_look:
            reading = live.handles.cpu()
            used, throttled, seconds = live.interval(now, reading)
            self.fleet.look_cpu(live.governed.name, used, throttled, seconds, now)
            live.start_interval(now, reading)
            looked = True
        if live.member.memory is not None and now >= live.next_memory:
            self._look_memory(live, now)
            looked = True
        return looked

    def _look_memory(self, live: Live, now: float) -> None:
        memory = live.member.memory
        limited = memory is not None and live.member.memory_limit < memory.bounds.high
        live.next_memory = now + (LIMITED_MEMORY_SECONDS if limited else MEMORY_SECONDS)
        if live.memory_stands(now):
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
        lives = list(self._lives.values())
        if len({live.governed.manner.rank for live in lives}) < 2:
            return False
        shares = self._crowding.suffering(lives, "cpu", now)
        changed = shares is not None or bool(self.fleet.neighbours.caps)
        if changed:
            self.fleet.look_neighbours(shares or {})
        squeezed = self._crowding.look_io(lives, now)
        if squeezed:
            self._note_io(squeezed)
        self._crowding.looked(now)
        return changed

    def _note_io(self, name: str) -> None:
        victim, cap = self._crowding.io.victim, self._crowding.io.caps[name]
        signal = f"{victim} stood still for I/O"
        decision = Decision(name, "io", cap / SQUEEZE, cap, "noisy neighbour", signal)
        self._journal.note([decision], time.time())

    def _apply(self, now: float) -> None:
        try:
            decisions = self.fleet.decide()
        except AssertionError as broken:  # rather no change than one that breaks a promise
            self._journal.note(
                [Decision("", "none", 0.0, 0.0, "invariant", str(broken))], time.time()
            )
            return
        written = []
        for decision in decisions:
            live = self._lives[decision.name]
            try:
                self._write(live, decision, now)
            except OSError:
                if os.path.isdir(live.handles.v2 or next(iter(live.handles.v1.values()))):
                    self._undo(live, decision)
                else:
                    self._forget(live)
                continue
            written.append(decision)
        if written:
            self._changed = True
            self._journal.note(written, time.time())

    def _write(self, live: Live, decision: Decision, now: float) -> None:
        if decision.what == "cpus":
            live.handles.set_cpus(decision.new)
            if live.since != now:
                live.start_interval(now)
                self._schedule(live)
        else:
            live.handles.set_memory(int(decision.new))

    def _undo(self, live: Live, decision: Decision) -> None:
        """Take a limit that the kernel refused as not given."""
        if decision.what == "cpus":
            live.member.cpu_limit = live.handles.cpus() or decision.old
        else:
            live.member.memory_limit = float(live.handles.memory_limit() or decision.old)

    def _write_rest(self) -> None:
        cpus = self.fleet.rest_cpus()
        lines: list[str] = []
        for name, live in self._lives.items():
            limit = int(live.member.memory_limit) if live.member.memory is not None else None
            lines += live.handles.rest_lines(cpus.get(name), limit)
            lines += self._crowding.rest_lines(live)
        self._resting.write(lines)


def _host_cpus() -> float:
    return float(len(os.sched_getaffinity(0)))


def _host_memory() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.9


def _governed(
    machine: Machine | str,
    name: str | None,
    cpus: tuple[float, float] | str | None,
    memory: tuple[int, int] | str | None,
    machine_class: str,
) -> Governed:
    from ..spec import parse_cpu_bounds, parse_memory_bounds
    from .manners import Bounds, manner_of

    group = machine if isinstance(machine, str) else machine.id
    spec = None if isinstance(machine, str) else machine.spec
    cpu_bounds = parse_cpu_bounds(cpus) if cpus is not None else spec and spec.cpu_bounds
    memory_bounds = (
        parse_memory_bounds(memory) if memory is not None else spec and spec.memory_bounds
    )
    if not cpu_bounds and not memory_bounds:
        raise SpecError("a governed machine needs bounds", hint='cpus="0.5..2", memory="64M..1G"')
    given = name or (None if isinstance(machine, str) else machine.name)
    return Governed(
        given or group,
        group,
        manner_of(machine_class),
        Bounds(*cpu_bounds) if cpu_bounds else None,
        Bounds(*memory_bounds) if memory_bounds else None,
        spec.limits.cpu_shares if spec else None,
    )
