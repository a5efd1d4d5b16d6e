"""Memory: given at once, taken back by asking the kernel for a little and watching the answer.

What a machine holds and what it needs differ: pages are kept until somebody wants them back. As
described for TMO (Weiner et al., ASPLOS 2022), the need is found by probing: reclaim a little,
watch the share of time that the machine then stalls for memory (PSI) and the pages that it reads
back (refaults), and go on while neither answers. Unlike there, the step grows while nothing
answers, and rests for longer each time something does.

The hard limit is another matter: it is a promise, and never set below what is in use and a margin.
"""

from __future__ import annotations

from ..frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .manners import Bounds, Manner

__all__ = ["Memory", "MemoryView", "Reclaimed"]

MIB = 1 << 20
MARGIN = 0.25
LEAST_MARGIN = 32 * MIB
STEP = 0.02
SMALLEST_STEP = 0.0025
LARGEST_STEP = 0.1
STEP_GROWTH = 2.0
LEAST_RECLAIM = MIB
PROBE_SECONDS = 1.0
REST_SECONDS = 30.0
LONGEST_REST_SECONDS = 600.0
WORKED = 0.2
"""A probe that freed less than this share of what was asked for found nothing cold."""
REFAULTED = 0.1
"""Pages read back, as a share of those reclaimed, that count as an answer."""
NEAR = 0.92
LOUD = 20.0
"""Pressure above this multiple of what is borne asks for room, not only for an end of probing."""


class MemoryView(Frozen):
    """What was seen since the last look, over `seconds`: bytes `used` now, `pressure` as a share
    of time stalled, bytes `refaulted`, whether the limit was hit, bytes that the kernel `freed`
    when it was last asked to, and how many can be asked for at `most`.
    """

    used: int
    pressure: float = 0.0
    refaulted: int = 0
    hit: bool = False
    seconds: float = PROBE_SECONDS
    freed: int = 0
    most: int = 1 << 62


class Reclaimed(Frozen):
    """What asking the kernel for memory brought: bytes that it `freed`, and how often the machine
    hit the limit that was lowered for it.
    """

    freed: int
    hits: int


class Memory:
    """The policy's state for one machine, in bytes.

    `want` is the limit it should have if the budget allows, `reclaim` what the kernel should be
    asked to take back now, `rule` what decided last.
    """

    __slots__ = (
        "_asked",
        "_manner",
        "_next",
        "_rest",
        "_step",
        "bounds",
        "reclaim",
        "rule",
        "used",
        "want",
    )

    def __init__(self, manner: Manner, bounds: Bounds, limit: float) -> None:
        self._manner = manner
        self.bounds = bounds
        self.want = bounds.clamp(limit)
        self.used = 0
        self.reclaim = 0
        self.rule = "start"
        self._step = STEP
        self._rest = REST_SECONDS
        self._next = 0.0
        self._asked = 0

    def need(self) -> float:
        """Return the lowest limit that leaves room above what is in use, within the bounds."""
        return self.bounds.clamp(self.used + max(self.used * MARGIN, LEAST_MARGIN))

    def look(self, view: MemoryView, now: float, *, pressed: bool = False) -> None:
        """Take in what was seen. `pressed`: others need the room, so pressure is no answer."""
        self.used = view.used
        self.reclaim = 0
        self._want(view)
        answered = view.pressure > self._manner.memory_pressure or view.hit
        answered = answered or view.refaulted > max(self._asked * REFAULTED, LEAST_RECLAIM)
        if self._asked:
            self._judge(view, now, answered=answered and not pressed)
        elif answered and not pressed:
            self._next = max(self._next, now + PROBE_SECONDS * 2)
        if now >= self._next and (pressed or not answered):
            self._probe(view.most, now, pressed=pressed)

    def _want(self, view: MemoryView) -> None:
        loud = view.pressure > self._manner.memory_pressure * LOUD
        if view.hit or loud or view.used > self.want * NEAR:
            grown = max(self.want * (1 + MARGIN), self.need())
            self.want, self.rule = self.bounds.clamp(grown), "pressure" if loud else "near limit"
        else:
            need = self.need()
            if need < self.want * NEAR:
                self.want, self.rule = need, "follow use"

    def _judge(self, view: MemoryView, now: float, *, answered: bool) -> None:
        if answered:
            self._step = max(self._step / 4, SMALLEST_STEP)
            self._next = now + self._rest
            self._rest = min(self._rest * 2, LONGEST_REST_SECONDS)
            self.rule = "probe answered"
        elif view.freed < self._asked * WORKED:
            self._next = now + self._rest
            self.rule = "nothing cold"
        else:
            self._step = min(self._step * STEP_GROWTH, LARGEST_STEP)
            self._rest = max(self._rest / 2, REST_SECONDS)
        self._asked = 0

    def _probe(self, most: int, now: float, *, pressed: bool) -> None:
        room = self.used - int(self.bounds.low)
        step = LARGEST_STEP if pressed else self._step
        amount = min(int(self.used * step), room, most)
        self._next = now + PROBE_SECONDS
        if amount < LEAST_RECLAIM:
            return
        self.reclaim = self._asked = amount
        self.rule = "pressed" if pressed else "probe"
