"""Other ways to set CPU limits, written from their papers' and documents' descriptions.

Each is a function from the demand of a trace to one limit for each sample. A limit is made from
the samples before it only, except for the fixed one, which knows the day. Peers see the whole
demand, also what exceeded their limit: that favours them over the governor, which sees usage.

- `fixed-peak`: the limit that is guessed once and right, the highest sample of the whole trace.
- `vpa`: the recommender of the Kubernetes Vertical Pod Autoscaler. A histogram with buckets that
  grow by 5 % from 0.01 CPUs, weights that halve in 24 hours, p95 plus a margin of 15 %.
- `autopilot`: Rzadca et al., "Autopilot: workload autoscaling at Google", EuroSys 2020, the moving
  window of section 3.2: weights that halve in 12 hours, the 95th percentile, as for services, plus
  15 %, and the highest recommendation of the last hour.
"""

from __future__ import annotations

import bisect
import math
from collections import deque

MARGIN = 1.15
LOWEST = 0.01
FIRST = 0.25
"""Limit while nothing has been seen, as a share of one CPU; those hours are not counted."""


def fixed_peak(samples, _period):
    """The highest sample, known in advance."""
    return [max(LOWEST, *samples)] * len(samples)


class _Decaying:
    """A histogram whose weights halve in `half_life` seconds."""

    def __init__(self, half_life, growth=1.05, smallest=0.01):
        self.half_life, self.growth = half_life, growth
        self.ends = [smallest]
        while self.ends[-1] < 1000.0:
            self.ends.append(self.ends[-1] * growth)
        self.weights = [0.0] * len(self.ends)
        self.total = 0.0

    def add(self, level, age):
        weight = 2.0 ** (age / self.half_life)
        self.weights[min(bisect.bisect_left(self.ends, level), len(self.ends) - 1)] += weight
        self.total += weight

    def quantile(self, share):
        seen = 0.0
        for end, weight in zip(self.ends, self.weights, strict=True):
            seen += weight
            if seen >= share * self.total:
                return end
        return self.ends[-1]


def vpa(samples, period):
    """The recommender of the Vertical Pod Autoscaler."""
    histogram, limits = _Decaying(24 * 3600.0), []
    for index, sample in enumerate(samples):
        limits.append(max(LOWEST, histogram.quantile(0.95) * MARGIN) if index else FIRST)
        histogram.add(sample, index * period)
    return limits


def autopilot(samples, period):
    """Autopilot's moving window for services."""
    histogram, limits = _Decaying(12 * 3600.0), []
    last_hour = deque(maxlen=max(1, math.ceil(3600 / period)))
    for index, sample in enumerate(samples):
        last_hour.append(max(LOWEST, histogram.quantile(0.95) * MARGIN) if index else FIRST)
        limits.append(max(last_hour))
        histogram.add(sample, index * period)
    return limits


PEERS = {"fixed-peak": fixed_peak, "vpa": vpa, "autopilot": autopilot}
