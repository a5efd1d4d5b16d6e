"""What is remembered of a machine: how much it uses, and at what time of day.

The histogram decays as the Vertical Pod Autoscaler's does: a sample of `half_life` ago weighs half.
Instead of fading every bucket, each new sample weighs more; the weights are brought back to a size
that floats can hold now and then.
"""

from __future__ import annotations

import math

__all__ = ["DAY", "DayProfile", "Histogram"]

DAY = 86400.0
SMALLEST = 0.005
GROWTH = 1.15
BUCKETS = 112
"""Buckets from 0.005 CPUs to 26000, each 15 % wider than the one before."""
_LOG_GROWTH = math.log(GROWTH)
_MAX_SCALE = 1e12


class Histogram:
    """A histogram of levels, weighted by how long and how lately each was seen."""

    __slots__ = ("half_life", "scale", "total", "weights")

    def __init__(self, half_life: float = DAY) -> None:
        self.half_life = half_life
        self.weights = [0.0] * BUCKETS
        self.total = 0.0
        self.scale = 1.0

    def add(self, level: float, seconds: float) -> None:
        """Note that the machine was at `level` for the last `seconds`."""
        self.scale *= math.exp2(seconds / self.half_life)
        weight = seconds * self.scale
        self.weights[bucket_of(level)] += weight
        self.total += weight
        if self.scale > _MAX_SCALE:
            self._shrink()

    def _shrink(self) -> None:
        self.weights = [weight / self.scale for weight in self.weights]
        self.total /= self.scale
        self.scale = 1.0

    def quantile(self, share: float, above: float = 0.0) -> float:
        """Return the level that `share` of the time at levels over `above` did not exceed.

        The upper end of a bucket stands for it. 0 where nothing was seen.
        """
        first = bucket_of(above) + 1 if above > 0 else 0
        total = self.total if not first else sum(self.weights[first:])
        if total <= 0:
            return 0.0
        wanted, seen, last = share * total, 0.0, first
        for index in range(first, BUCKETS):
            if self.weights[index] > 0:
                seen, last = seen + self.weights[index], index
                if seen >= wanted:
                    break
        return float(SMALLEST * GROWTH ** (last + 1))

    def dump(self) -> list[float]:
        """Return the weights, for the disk, brought to a scale of 1."""
        self._shrink()
        return self.weights

    def load(self, weights: object) -> None:
        """Take over weights that `dump` gave; what does not look like it is left out."""
        if not isinstance(weights, list) or len(weights) != BUCKETS:
            return
        if all(isinstance(w, (int, float)) and 0 <= w < math.inf for w in weights):
            self.weights, self.scale = [float(weight) for weight in weights], 1.0
            self.total = sum(self.weights)


def bucket_of(level: float) -> int:
    """Return the index of the bucket that `level` falls into."""
    if level <= SMALLEST:
        return 0
    return min(int(math.log(level / SMALLEST) / _LOG_GROWTH), BUCKETS - 1)


class DayProfile:
    """What each half hour of the day can be counted on to need, learned over days.

    That is the mean of the half hour less its standard deviation: the slow change of day and night,
    without the peaks, which the fast path meets. A forecast is made only from half hours that were
    seen on an earlier day, and only while forecasts came true: their error, as a share of what
    came, is averaged.
    """

    __slots__ = ("_seconds", "_squares", "_sum", "error", "slot", "slots")

    COUNT = 48
    TRUSTED = 0.25
    LEARNING = 0.5

    def __init__(self) -> None:
        self.slots: list[float | None] = [None] * self.COUNT
        self.error = 1.0
        self.slot = -1
        self._seconds = self._sum = self._squares = 0.0

    def _slot_of(self, now: float) -> int:
        return int(now % DAY / (DAY / self.COUNT))

    def add(self, now: float, level: float, seconds: float) -> None:
        """Note the level of the last `seconds`; `now` counts from a midnight."""
        slot = self._slot_of(now)
        if slot != self.slot:
            if self._seconds > 0:
                self._close(self.slot)
            self.slot = slot
            self._seconds = self._sum = self._squares = 0.0
        self._seconds += seconds
        self._sum += level * seconds
        self._squares += level * level * seconds

    def _close(self, slot: int) -> None:
        mean = self._sum / self._seconds
        spread = math.sqrt(max(self._squares / self._seconds - mean * mean, 0.0))
        before, came = self.slots[slot], max(mean - spread, 0.0)
        if before is None:
            self.slots[slot] = came
            return
        miss = abs(came - before) / max(came, before, SMALLEST)
        self.error += (miss - self.error) * 0.2
        self.slots[slot] = before + (came - before) * self.LEARNING

    def forecast(self, now: float, ahead: float = 120.0) -> float:
        """Return what will be needed at least, `ahead` seconds from `now`; 0: unknown."""
        if self.error > self.TRUSTED:
            return 0.0
        return self.slots[self._slot_of(now + ahead)] or 0.0

    def dump(self) -> list[object]:
        """Return what was learned, for the disk."""
        return [self.error, self.slots]

    def load(self, kept: object) -> None:
        """Take over what `dump` gave; what does not look like it is left out."""
        if not (isinstance(kept, list) and len(kept) == 2 and isinstance(kept[1], list)):
            return
        error, slots = kept
        numbers = all(s is None or (isinstance(s, (int, float)) and 0 <= s < 1e6) for s in slots)
        if isinstance(error, (int, float)) and len(slots) == self.COUNT and numbers:
            self.error, self.slots = float(error), list(slots)
