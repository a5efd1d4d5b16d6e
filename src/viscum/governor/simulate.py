"""The CPU policy replayed over traces: what it would have given, and what it would have missed.

What is simulated, and what is not:

- The demand of a sample holds for its whole period. What a real machine does within five minutes
  is not in such a trace; bursts below a second are judged on real machines (benchmarks).
- The governor does not see the demand. It sees what the kernel would show: the average that was
  used, which is never above the limit, and the share of time throttled.
- Throttling is answered `REACTION` seconds after it began, later than the live governor's worst
  case when it was measured; each further doubling takes as long again. All that was asked above
  the limit meanwhile is unserved, and it is not asked for again.
- The slow path looks when the policy says so, as in the live loop. What was learned before the
  counting starts is kept, as are all samples seen since the trace began; none is seen ahead.
- A machine may have up to 100 percent, or up to its highest sample where that is more.

`slack` is the unused share of the limits given, over all machines and time together; `unserved` is
the CPU time asked above the limit, as a share of all that was asked.
"""

from __future__ import annotations

from ..frozen import Frozen
from .cpu import Cpu
from .manners import Bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .manners import Manner
    from .traces import Trace

__all__ = ["LOWEST", "REACTION", "WARM_UP", "Score", "replay", "replay_fixed"]

REACTION = 0.1
"""Seconds from the first throttling to a raised limit, and between two raises."""
WARM_UP = 7200.0
"""Seconds at the start that are not counted."""
LOWEST = 0.01
"""The lowest limit, in CPUs: the kernel's smallest quota in its usual period."""
LAUNCH = 0.25
"""The limit that a machine starts with, as a share of its upper bound."""


NEVER = float("inf")


class Score(Frozen):
    """CPU seconds: given, of those not used, asked for, of those above the limit."""

    given: float = 0.0
    unused: float = 0.0
    asked: float = 0.0
    missed: float = 0.0
    changes: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*[a + b for a, b in zip(self._key(), other._key(), strict=True)])  # type: ignore[operator]

    @property
    def slack(self) -> float:
        """The unused share of what was given."""
        return self.unused / self.given if self.given else 0.0

    @property
    def unserved(self) -> float:
        """The share of what was asked that exceeded the limit."""
        return self.missed / self.asked if self.asked else 0.0


class _Replay:
    """One machine of a trace under the policy; time goes from event to event."""

    def __init__(self, manner: Manner, high: float) -> None:
        self.cpu = Cpu(manner, Bounds(LOWEST, high), LAUNCH * high)
        self.limit = self.cpu.want
        self.now = 0.0
        self._answer = NEVER
        self.counting = WARM_UP
        self.given = self.unused = self.asked = self.missed = 0.0
        self.changes = 0
        self._since = 0.0
        self._used = 0.0
        self._throttled = 0.0

    def hold(self, demand: float, end: float) -> None:
        """Run until `end` with a constant demand."""
        cpu = self.cpu
        while self.now < end:
            if demand > self.limit and self.limit < cpu.bounds.high and self._answer == NEVER:
                self._answer = self.now + REACTION
            look_at = self._since + cpu.look_after if self._answer == NEVER else NEVER
            self._pass(demand, min(self._answer, look_at, end))
            if self.now >= self._answer:
                self._answer = NEVER
                cpu.throttled(self.limit, REACTION, self.now)
                self._apply()
                self._restart()
            elif self.now >= look_at:
                self._look()

    def _look(self) -> None:
        seconds = self.now - self._since
        self.cpu.look(self._used / seconds, self._throttled / seconds, seconds, self.now)
        self._apply()
        self._restart()

    def _restart(self) -> None:
        self._since, self._used, self._throttled = self.now, 0.0, 0.0

    def _apply(self) -> None:
        if self.cpu.want != self.limit:
            self.limit = self.cpu.want
            self.changes += 1

    def _pass(self, demand: float, until: float) -> None:
        """Let time pass at the current limit."""
        limit, span = self.limit, until - self.now
        used = min(demand, limit)
        self._used += used * span
        if demand > limit:
            self._throttled += span
        counted = until - max(self.now, self.counting)
        if counted > 0:
            self.given += limit * counted
            self.unused += (limit - used) * counted
            self.asked += demand * counted
            self.missed += (demand - used) * counted
        self.now = until


def replay(trace: Trace, period: float, manner: Manner) -> Score:
    """Return what the governor's CPU policy makes of a trace of samples `period` seconds apart."""
    run = _Replay(manner, max(1.0, *trace.samples))
    for index, demand in enumerate(trace.samples, 1):
        run.hold(demand, index * period)
    return Score(run.given, run.unused, run.asked, run.missed, run.changes)


def replay_fixed(limits: Sequence[float], trace: Trace, period: float) -> Score:
    """Return the score of one limit for each sample, as recommenders of whole periods give."""
    given = unused = asked = missed = 0.0
    for index, (limit, demand) in enumerate(zip(limits, trace.samples, strict=True)):
        counted = (index + 1) * period - max(index * period, WARM_UP)
        if counted > 0:
            used = min(limit, demand)
            given += limit * counted
            unused += (limit - used) * counted
            asked += demand * counted
            missed += (demand - used) * counted
    return Score(given, unused, asked, missed)
