"""CPU: how much a machine should be allowed, from what it used and whether it was throttled.

What a machine asks for above its limit cannot be seen: only that it was throttled. So there are
two paths. The fast one answers throttling by raising at once, as far as the machine is known to
go and at least to twice the limit. The slow one looks about once a second, at a true average by
then, and follows an envelope of what was used: up at once, down as the memory of the peak fades.

Three things are learned on the way:

- *Bursts.* Throttled although the average stayed below the limit: the machine works in bursts
  that an average does not show, and gets a multiple of its average.
- *Caution.* A machine that is throttled for more than a small share of its time keeps its peaks
  in memory for longer.
- *Patience.* The last few percent are taken back only after the load stood still for a while,
  and each time this turned out to be wrong the while doubles: so a steady load sees no swinging.
"""

from __future__ import annotations

from math import exp, inf

from .learning import DayProfile, Histogram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .manners import Bounds, Manner

__all__ = ["Cpu"]

RAISE = 2.0
"""How far a throttled machine is raised, as a multiple of its limit, if not known to go further."""
RAISE_AGAIN = 4.0
"""The same while that was not enough: so 0.01 to 64 CPUs take seven steps, well under a second."""
BAND = 0.9
"""A limit is left alone while what is wanted lies between this share of it and all of it."""
SETTLED = 0.98
FIRST_LOOK_SECONDS = 0.3
"""The first look, and the one after a raise: what it overshot by is soon taken back."""
LOOK_SECONDS = 1.0
LOWERING_SECONDS = 3.0
LONGEST_LOOK_SECONDS = 8.0
NOTHING = 0.005
"""CPUs that are none."""
PATIENCE_SECONDS = 20.0
LONGEST_PATIENCE_SECONDS = 600.0
BURST_STEP = 1.3
MOST_BURST = 8.0
FORGET_SECONDS = 600.0
"""In which bursts and throttling fade to a third."""
TOLERATED = 0.002
"""Share of time throttled from which caution grows; it is full at four times as much."""
CAUTIOUS_RELEASE = 10.0
LENT_ROOM = 0.04
"""Headroom of a machine with something in store while others need the rest: it is raised before
the store is used up.
"""
HELD = 0.05
"""Share of time throttled from which a machine counts as held at its limit by the budget."""


class Cpu:
    """The policy's state for one machine; limits and levels are in CPUs, times in seconds.

    `want` is what the machine should get if the budget allows. `rule` names what decided last.
    `held`: it may need all that it wants, for it was throttled since or during the last look.
    """

    __slots__ = (
        "_asks",
        "_burst_from",
        "_calm_since",
        "_lost",
        "_manner",
        "_patience",
        "_stood_peak",
        "bounds",
        "burst",
        "day",
        "envelope",
        "held",
        "histogram",
        "look_after",
        "rule",
        "throttled_share",
        "used",
        "want",
    )

    def __init__(self, manner: Manner, bounds: Bounds, limit: float) -> None:
        self._manner = manner
        self.bounds = bounds
        self.want = bounds.clamp(limit)
        self.used = 0.0
        self.envelope = self.want / (1 + manner.headroom)  # no jump from what was found
        self.burst = 1.0
        self.throttled_share = 0.0
        self.histogram = Histogram()
        self.day = DayProfile()
        self.look_after = FIRST_LOOK_SECONDS
        self.rule = "start"
        self._burst_from = 0.0
        self._patience = PATIENCE_SECONDS
        self._calm_since = 0.0
        self._lost = 0.0
        self.held = True  # until it was looked at, nothing of its limit is known to be idle
        self._stood_peak = 0.0
        self._asks = inf
        """What it asks for at most just now, where that is known."""

    def lean(self) -> float:
        """Return what it would get by on just now: what it used lately, unless it is held at its
        limit. The rest of what it wants can be lent to others.
        """
        if self.held:
            return min(self.want, self._asks)
        room = LENT_ROOM if self._manner.bursts else self._manner.headroom
        level = self.used * self.burst * (1 + room)
        return self.bounds.clamp(min(level, self.want))

    def rest(self) -> float:
        """Return the limit to leave behind where nobody governs: the machine's usual peak."""
        usual = self.histogram.quantile(0.95) * (1 + self._manner.headroom)
        return self.bounds.clamp(max(usual, self.want))

    def throttled(self, limit: float, lost: float, now: float) -> None:
        """Raise after throttling at `limit` for `lost` seconds: the fast path."""
        self._lost += lost
        self.held, self._asks = True, inf
        factor = RAISE_AGAIN if self._burst_from else RAISE
        if not self._burst_from:
            self._burst_from = limit
        known = self.histogram.quantile(0.5, above=limit) * (1 + self._manner.headroom)
        self.want = self.bounds.clamp(max(limit * factor, known, self.want))
        self.look_after = FIRST_LOOK_SECONDS
        self._calm_since = now
        self.rule = "throttled"

    def spending(self, limit: float, lately: float, now: float) -> None:
        """Raise before a machine has used up what it had in store: the fast path of those that
        have one. It was not throttled, so `lately` is what it asks for.
        """
        self.held = True
        asked = min(lately * (1 + self._manner.headroom), limit * RAISE_AGAIN)
        self._asks = self.bounds.clamp(max(limit * RAISE, asked))
        self.want = max(self._asks, self.want)
        self.look_after = FIRST_LOOK_SECONDS
        self._calm_since = now
        self.rule = "spending"

    def look(
        self, used: float, throttled: float, seconds: float, now: float, clock: float | None = None
    ) -> None:
        """Take in an average of `used` CPUs over the last `seconds`, of which `throttled` (a
        share) was spent throttled: the slow path. `clock` is `now` counted from a midnight.
        """
        clock = now if clock is None else clock
        self.used = used
        self.held, self._asks = throttled > HELD, inf
        self.histogram.add(used, seconds)
        self.day.add(clock, used, seconds)
        self._learn(used, throttled, seconds)
        target = self._target(used, seconds, clock)
        limit = self.want
        if used * (1 + self._manner.headroom / 2) > limit or target > limit / BAND:
            self._raise(target, now)
        elif throttled > HELD:  # it got less than it wants: what it used says nothing about that
            self._stand(limit, used, now)
        elif target < limit * BAND:
            self._move(target, "lower", now)
        else:
            self._stand(target, used, now)

    def _learn(self, used: float, throttled: float, seconds: float) -> None:
        fade = exp(-seconds / FORGET_SECONDS)
        share = throttled + self._lost / seconds
        self._lost = 0.0
        self.throttled_share = self.throttled_share * fade + share * (1 - fade)
        self.burst = 1 + (self.burst - 1) * fade
        if self._burst_from > 0.0 and throttled == 0.0:
            if used < self._burst_from:
                self.burst = min(self.burst * BURST_STEP, MOST_BURST)
            self._burst_from = 0.0

    def _target(self, used: float, seconds: float, clock: float) -> float:
        excess = (self.throttled_share - TOLERATED) / (3 * TOLERATED)
        caution = min(max(excess, 0.0), 1.0)
        release = self._manner.release * (1 + (CAUTIOUS_RELEASE - 1) * caution)
        if used >= self.envelope:
            self.envelope = used
        else:
            self.envelope = used + (self.envelope - used) * exp(-seconds / release)
        level = self.envelope * self.burst
        due = self.day.forecast(clock)
        level = max(level, due)
        return self.bounds.clamp(level * (1 + self._manner.headroom * (1 + caution)))

    def _raise(self, target: float, now: float) -> None:
        if target > self.want:
            if self._patience < LONGEST_PATIENCE_SECONDS and self.rule == "settle":
                self._patience *= 2
            self._move(target, "raise", now)
        else:
            self._stand(target, self.used, now)

    def _move(self, target: float, rule: str, now: float) -> None:
        if target > self.want * 1.5 or target < self.want * 0.5:
            self._patience = PATIENCE_SECONDS
        self.want = target
        if rule == "lower" == self.rule:  # what fades away needs no close watch
            self.look_after = min(self.look_after * 1.5, LOWERING_SECONDS)
        else:
            self.look_after = LOOK_SECONDS
        self.rule = rule
        self._calm_since, self._stood_peak = now, 0.0

    def _stand(self, target: float, used: float, now: float) -> None:
        """Leave the limit; once it stood long enough, give back what the peaks did not need."""
        self._stood_peak = max(self._stood_peak, used)
        longest = LONGEST_LOOK_SECONDS
        if used < NOTHING and self.want <= self.bounds.low:  # there is nothing to take
            longest *= 2
        self.look_after = min(max(self.look_after * 1.5, LOOK_SECONDS), longest)
        if now - self._calm_since < self._patience:
            return
        needed = self._stood_peak * self.burst * (1 + self._manner.headroom)
        lower = self.bounds.clamp(max(target, needed))
        if lower < self.want * SETTLED:
            self._move(lower, "settle", now)
        self._calm_since, self._stood_peak = now, 0.0
