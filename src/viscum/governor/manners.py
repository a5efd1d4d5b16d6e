"""The classes of machines, and how each is treated."""

from __future__ import annotations

from ..errors import SpecError
from ..frozen import Frozen

__all__ = ["BATCH", "CLASSES", "DEFAULT_CLASS", "IDLE", "LATENCY", "Bounds", "Manner", "manner_of"]


class Bounds(Frozen):
    """What the owner allows a limit to be, in CPUs or in bytes; both ends belong to it."""

    low: float
    high: float

    def clamp(self, value: float) -> float:
        """Return the nearest value that is allowed."""
        return min(max(value, self.low), self.high)


class Manner(Frozen):
    """How a class of machines is treated.

    `rank`: who is served first when the budget is short, 0 before 1. `headroom`: share of what is
    used that is given on top. `release`: seconds in which the memory of a past peak fades to a
    third. `shares`: weight of the scheduler (v1 cpu.shares), where the owner set none. `pressure`:
    share of time waiting for a resource that the machine is not asked to bear from others.
    `memory_pressure`: share of time stalled for memory at which shrinking stops.
    """

    name: str
    rank: int
    headroom: float
    release: float
    shares: int
    pressure: float
    memory_pressure: float
    bursts: bool = False
    """May spend in one period what it left of the one before."""
    idle: bool = False
    """Runs only while nobody else on the host wants to (v1 and v2 cpu.idle)."""


LATENCY = Manner("latency", 0, 0.15, 15.0, 10240, 0.05, 0.001, bursts=True)
BATCH = Manner("batch", 1, 0.10, 10.0, 32, 1.0, 0.004)
IDLE = Manner("idle", 2, 0.05, 5.0, 2, 1.0, 0.02, idle=True)
CLASSES = {manner.name: manner for manner in (LATENCY, BATCH, IDLE)}
DEFAULT_CLASS = "latency"


def manner_of(name: str) -> Manner:
    """Return the manner of a class; raises SpecError for one that does not exist."""
    try:
        return CLASSES[name]
    except KeyError:
        raise SpecError(f"class {name!r} is unknown", hint="latency, batch or idle") from None
