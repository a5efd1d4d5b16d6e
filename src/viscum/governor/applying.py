"""Decisions, written to the control groups."""

from __future__ import annotations

import time

from .fleet import NOTABLE, Decision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .crew import Crew
    from .decisions import Journal
    from .live import Live

__all__ = ["Applier"]


class Applier:
    """Writes what the fleet decides, and notes it in the journal."""

    def __init__(self, crew: Crew, journal: Journal) -> None:
        self._crew = crew
        self._journal = journal

    def apply(self, now: float) -> bool:
        """Write what changed; return whether something could not be, and is to be tried again."""
        try:
            decisions = self._crew.fleet.decide()
        except AssertionError as broken:  # rather no change than one that breaks a promise
            self._journal.note(
                [Decision("", "none", 0.0, 0.0, "invariant", str(broken))], time.time()
            )
            return False
        written: list[Decision] = []
        kept: set[str] = set()
        for decision in decisions:
            live = self._crew.lives.get(decision.name)
            if live is None:
                continue
            try:
                # What could not be lowered has not made room for what would be raised.
                done = decision.what not in kept or decision.new < decision.old
                done = done and self._write(live, decision, now)
                if not done:
                    self._undo(live, decision)
            except OSError:
                done = self._refused(live, decision)
            if done:
                written.append(decision)
            else:
                kept.add(decision.what)
        if written:
            self._crew.changed = True
            self._journal.note(written, time.time())
        return bool(kept)

    def _write(self, live: Live, decision: Decision, now: float) -> bool:
        """Write a limit; return False where memory has meanwhile grown into what was to go."""
        if decision.what == "cpus":
            cpu = live.member.cpu
            store = cpu is not None and decision.new < cpu.bounds.high * (1 - NOTABLE)
            store = store and cpu is not None and decision.new > cpu.lean() * 0.9
            live.handles.set_cpus(decision.new, store=store)
            if live.handles.bursts:
                self._crew.sweep.save(live, decision.new)
            if live.since != now:
                live.start_interval(now)
                self._crew.schedule(live)
            return True
        memory = live.member.memory
        if memory is not None and decision.new < decision.old:
            memory.used = live.handles.memory_used()
            if memory.used > decision.new:
                return False
        live.handles.set_memory(int(decision.new))
        return True

    def _refused(self, live: Live, decision: Decision) -> bool:
        """Take in that the kernel refused a limit; return whether that is because the machine's
        group is gone, and its room with it.
        """
        try:
            self._undo(live, decision)
        except OSError:
            self._crew.forget(live)
            return True
        return False

    def _undo(self, live: Live, decision: Decision) -> None:
        """Take a limit that the kernel refused as not given."""
        if decision.what == "cpus":
            live.member.cpu_limit = live.handles.cpus() or decision.old
        else:
            live.member.memory_limit = float(live.handles.memory_limit() or decision.old)
