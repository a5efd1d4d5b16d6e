"""Controllers of version 2, handed down to the machines' groups (cgroups(7))."""

from __future__ import annotations

from .reading import read_bytes
from .writing import write_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Cgroups

__all__ = ["delegate"]

HOLDING_LIMITS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")


def _handed_down(folder: str) -> list[str]:
    return read_bytes(folder + "/cgroup.subtree_control").decode().split()


def delegate(cgroups: Cgroups) -> Cgroups:
    """Hand down the controllers that hold limits; return what machines will really have.

    A controller that stays behind (the folder has processes of its own, or it is not this user's)
    is not among `v2_controllers` of what is returned. Beside version 1 nothing is changed: limits
    are held there, and version 2 adds what was handed down by whoever set the host up.
    """
    if not cgroups.v2:
        return cgroups
    given = _handed_down(cgroups.v2)
    for name in () if cgroups.v1 else HOLDING_LIMITS:
        if name in cgroups.v2_controllers and name not in given:
            try:
                write_text(cgroups.v2 + "/cgroup.subtree_control", f"+{name}")
            except OSError:
                continue
    given = _handed_down(cgroups.v2)
    return cgroups.replace(v2_controllers=tuple(name for name in HOLDING_LIMITS if name in given))
