"""Figures: measured in interleaved rounds, as medians, compared pair by pair."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Side = tuple[Callable[[int], list[int]], int]
    """What measures a number of repetitions, and how many of them make one round."""
    Rounds = Mapping[str, list[list[int]]]

__all__ = [
    "Effort",
    "Figure",
    "Target",
    "at_least",
    "at_most",
    "compare",
    "interleave",
    "medians",
    "ratio_of",
]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds` of the cheap benchmarks; the dear ones take a part of it."""

    rounds: int

    def part(self, divisor: int, least: int = 3) -> int:
        """Return the rounds of a benchmark that is `divisor` times as dear."""
        return max(least, self.rounds // divisor)


@dataclasses.dataclass(frozen=True)
class Target:
    """A bound on a ratio or on a value."""

    bound: float
    most: bool
    unit: str = "x"

    def holds(self, value: float) -> bool:
        """Return whether `value` is within the bound."""
        return value <= self.bound if self.most else value >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.bound:g} {self.unit}"


def at_most(bound: float, unit: str = "x") -> Target:
    """Return the target of being at most `bound`."""
    return Target(bound, most=True, unit=unit)


def at_least(bound: float, unit: str = "x") -> Target:
    """Return the target of being at least `bound`."""
    return Target(bound, most=False, unit=unit)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table. `ours` and `theirs` are in `unit`; `value` is what the target is
    about, mostly their ratio, with the quartiles of the rounds."""

    row: str
    name: str
    ours: float
    theirs: float | None
    value: float
    unit: str = "us"
    quartiles: tuple[float, float] | None = None
    target: Target | None = None
    note: str = ""
    value_unit: str = "x"
    """Of `value`, where no target says it."""

    @property
    def verdict(self) -> str:
        """Return "ok", "short", or nothing where there is no target."""
        if self.target is None:
            return ""
        return "ok" if self.target.holds(self.value) else "short"

    def as_dict(self) -> dict[str, object]:
        """Return the figure as plain data for JSON."""
        plain = dataclasses.asdict(self)
        plain["target"] = str(self.target) if self.target else None
        return {**plain, "verdict": self.verdict}


def interleave(sides: Mapping[str, Side], rounds: int) -> Rounds:
    """Measure the sides in turn, `rounds` times, each second round in the opposite order.

    A round before the first is thrown away. Returns the nanoseconds by side and round.
    """
    results: dict[str, list[list[int]]] = {name: [] for name in sides}
    order = list(sides)
    for number in range(rounds + 1):
        for name in order if number % 2 else reversed(order):
            measure, count = sides[name]
            durations = measure(count)
            if number:
                results[name].append(durations)
    return results


def medians(rounds: Sequence[Sequence[int]]) -> list[float]:
    """Return the median of each round in microseconds."""
    return [statistics.median(durations) / 1000 for durations in rounds]


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def ratio_of(over: Sequence[float], under: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the median of the ratios pair by pair, and their quartiles."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return statistics.median(ratios), _quartiles(ratios)


def compare(
    row: str,
    name: str,
    rounds: Rounds,
    ours: str,
    theirs: str,
    target: Target | None = None,
    *,
    faster: bool = False,
    note: str = "",
) -> Figure:
    """Return the figure of two sides: ours over theirs, or with `faster` theirs over ours."""
    mine, other = medians(rounds[ours]), medians(rounds[theirs])
    value, quartiles = ratio_of(other, mine) if faster else ratio_of(mine, other)
    return Figure(
        row,
        name,
        statistics.median(mine),
        statistics.median(other),
        value,
        quartiles=quartiles,
        target=target,
        note=note,
    )
