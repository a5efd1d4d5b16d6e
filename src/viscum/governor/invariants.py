"""What must hold of every set of limits, whatever was observed; checked before one is written."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .manners import Bounds

__all__ = ["broken_invariants"]

SLACK = 1e-6


def broken_invariants(
    what: str,
    given: Mapping[str, float],
    bounds: Mapping[str, Bounds],
    budget: float,
    in_use: Mapping[str, float] | None = None,
) -> list[str]:
    """Return what is wrong with the limits `given`, one sentence each; an empty list is right.

    `in_use` is what cannot be taken back at once (memory): a limit may stand above the upper
    bound for it, and the sum above the budget by as much as is in use above it.
    """
    held = in_use or {}
    broken = []
    for name, value in given.items():
        low, high = bounds[name].low, max(bounds[name].high, held.get(name, 0.0))
        if not low * (1 - SLACK) <= value <= high * (1 + SLACK):
            broken.append(f"{what} of {name!r}: {value:g} is outside {low:g} to {high:g}")
        if value < held.get(name, 0.0):
            broken.append(f"{what} of {name!r}: {value:g} is below the {held[name]:g} in use")
    floor = sum(max(bounds[name].low, held.get(name, 0.0)) for name in given)
    total = sum(given.values())
    if total > max(budget, floor) * (1 + SLACK):
        broken.append(f"{what}: limits add up to {total:g}, the budget is {budget:g}")
    return broken
