"""The host's budget: who gets what when not everybody can get what he wants.

Everybody gets the low end of his bounds, whatever others ask: that is owed. The rest is shared out
class by class, latency before batch before idle. Within a class it is max-min fair by weight: who
wants less than his share gets what he wants, and the others share what he left. Nothing can be
saved up: a machine that was idle has no more claim afterwards than one that was not.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..errors import SpecError
from ..limits import parse_cpus, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Claim", "check_budget", "cpu_budget", "memory_budget", "share_out"]

CLOSE_ENOUGH = 1e-9


class Claim(NamedTuple):
    """What one machine is owed (`low`), what it wants, and how it stands beside others."""

    low: float
    want: float
    rank: int = 0
    weight: float = 1.0


def check_budget(budget: float, owed: float, what: str) -> None:
    """Raise SpecError where what is owed to machines exceeds what there is."""
    if owed > budget * (1 + CLOSE_ENOUGH):
        raise SpecError(
            f"{what}: the lower bounds add up to {owed:g}, the budget is {budget:g}",
            hint="lower the bounds of a machine, or raise the budget",
        )


def cpu_budget(value: str | float | None) -> float:
    """Return a budget in CPUs, by default those of this process; raises SpecError."""
    if value is None:
        return float(len(os.sched_getaffinity(0)))
    cpus, most = parse_cpus(value), os.cpu_count() or 1
    if cpus > most:
        raise SpecError(f"cpus {value!r}: this host has {most}")
    return cpus


def memory_budget(value: str | int | None) -> float:
    """Return a budget in bytes, by default nine tenths of the host's; raises SpecError."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if value is None:
        return most * 0.9
    memory = parse_size(value, "memory")
    if memory > most:
        raise SpecError(f"memory {value!r}: this host has {most >> 20}M")
    return float(memory)


def share_out(budget: float, claims: Sequence[Claim]) -> list[float]:
    """Return what each claim gets: at least `low`, at most `want`, together at most `budget`.

    Where the lows alone exceed the budget, each gets its low: bounds are promises, and who adds
    machines sees to it that they can be kept (`check_budget`).
    """
    given = [claim.low for claim in claims]
    left = budget - sum(given)
    if left <= 0:
        return given
    if sum(max(claim.want, claim.low) for claim in claims) <= budget:
        return [max(claim.want, claim.low) for claim in claims]
    for rank in sorted({claim.rank for claim in claims}):
        members = [i for i, claim in enumerate(claims) if claim.rank == rank]
        wanted = sum(max(claims[i].want - given[i], 0.0) for i in members)
        if wanted <= left:
            for i in members:
                given[i] = max(given[i], claims[i].want)
            left -= wanted
            continue
        _fill(left + sum(given[i] for i in members), claims, members, given)
        break
    return given


def _fill(total: float, claims: Sequence[Claim], members: list[int], given: list[float]) -> None:
    """Share `total` among members who together want more: one water level, by weight, within what
    each is owed and wants. A machine with a high lower bound gets no full share on top of it.
    """
    level = _level(total, [claims[i] for i in members])
    for i in members:
        claim = claims[i]
        given[i] = max(claim.low, min(level * claim.weight, claim.want))


def _level(total: float, claims: list[Claim]) -> float:
    """Return the level at which the claims take `total`: between two levels at which somebody
    begins to get more than he is owed, or has all that he wants, what they take rises evenly.
    """
    marks = sorted(
        mark
        for claim in claims
        if claim.want > claim.low
        for mark in (
            (claim.low / claim.weight, claim.weight),
            (claim.want / claim.weight, -claim.weight),
        )
    )
    level, slope, taken = 0.0, 0.0, sum(claim.low for claim in claims)
    for mark, change in marks:
        after = taken + slope * (mark - level)
        if after > total:
            break
        level, taken, slope = mark, after, slope + change
    return level + max(total - taken, 0.0) / slope if slope > CLOSE_ENOUGH else level
