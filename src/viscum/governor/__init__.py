"""The governor: it moves machines' limits within their bounds, as the workload needs.

| module | what it holds |
|---|---|
| `manners`, `budget`, `cpu`, `memory`, `neighbours`, `learning` | policy: no clock, no files |
| `fleet` | the policies together: what a host of machines is given; no clock, no files |
| `invariants` | what must be true of every decision; checked at run time and by property tests |
| `simulate`, `traces` | the policies replayed over traces |
| `loop` and the rest | the live governor: control groups, time, disk |
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import Governor

__all__ = ["Governor"]


def __getattr__(name: str) -> object:
    """Import the live loop when it is asked for; simulations do without it."""
    if name != "Governor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .loop import Governor

    return Governor
