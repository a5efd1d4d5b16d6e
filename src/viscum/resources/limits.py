"""Limits as cgroup operations, for version 1, version 2 and the hybrid of both."""

from __future__ import annotations

import os

from ..frozen import Frozen
from ..plan import NONE, op
from .settings import settings, settings_v1, unheld

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..host import Cgroups
    from ..limits import Limits
    from ..plan import Operation

__all__ = ["PREFIX", "Groups", "compile_groups", "lost_limits"]

RESIZABLE = ("cpu", "cpuset", "memory", "pids", "blkio", "freezer")
PREFIX = "viscum-"
"""What the names of machines' groups begin with; the machine's id follows."""


class Groups(Frozen):
    """The operations that make a machine's groups, and where to look at them afterwards."""

    load: tuple[Operation, ...]
    prepare: tuple[Operation, ...]
    enter: tuple[Operation, ...]
    release: tuple[Operation, ...]
    slots: tuple[tuple[str, int], ...]
    into: int = NONE
    lost: tuple[str, ...] = ()

    def slot(self, controller: str) -> int:
        """Return the slot of a v1 controller's group, or of the v2 group (""); NONE if none."""
        return dict(self.slots).get(controller, NONE)

    def folders(self, cgroups: Cgroups, name: str) -> tuple[tuple[str, ...], str]:
        """Return the folders of the v1 groups and of the v2 group ("": none) of a machine whose
        groups are called `name`.
        """
        roots = {**dict(cgroups.v1), "": cgroups.v2}
        paths = {controller: f"{roots[controller]}/{name}" for controller, _ in self.slots}
        into = paths.pop("", "")
        return tuple(paths.values()), into


class _Builder:
    """Collects the operations of the groups that are needed."""

    def __init__(self, cgroups: Cgroups, new_slot: Callable[[], int], name: str) -> None:
        self.cgroups = cgroups
        self.new_slot = new_slot
        self.name = name
        self.load: list[Operation] = []
        self.prepare: list[Operation] = []
        self.enter: list[Operation] = []
        self.release: list[Operation] = []
        self.slots: dict[str, int] = {}

    def group(self, controller: str, folder: str) -> int:
        """Add the group of `controller` below `folder`; return its slot."""
        root, slot = self.new_slot(), self.new_slot()
        self.load.append(op("cgroup-root", root, folder))
        self.prepare.append(op("cgroup", slot, root, self.name))
        self.release.insert(0, op("cgroup-remove", slot, root, self.name))
        self.slots[controller] = slot
        return slot

    def v1(self, folders: dict[str, str], limits: Limits, keep: tuple[str, ...]) -> None:
        """Add the v1 groups that `limits` need, and those to `keep`."""
        wanted = [name for name, _, _ in settings_v1(limits)]
        for controller in dict.fromkeys((*keep, *wanted)):
            if controller in folders:
                self.group(controller, folders[controller])
                self.enter.append(op("cgroup-join", self.new_slot()))

    def write(self, settings: Iterable[tuple[str, str, str]]) -> None:
        """Write settings to the groups; those of version 2 have one group for all controllers."""
        for controller, file, value in settings:
            slot = self.slots.get(controller, self.slots.get("", NONE))
            self.prepare.append(op("cgroup-write", slot, file, value))

    def admit(self) -> None:
        """Open the v1 groups for who enters, once the limits stand: an empty cpuset takes none."""
        groups = [slot for controller, slot in self.slots.items() if controller]
        for slot, join in zip(groups, self.enter, strict=True):
            self.prepare.append(op("cgroup-open", join["slot"], slot, "tasks"))

    def whole_set(self, limits: Limits) -> Iterator[tuple[str, str, str]]:
        """Yield the CPUs and memory nodes of a new v1 group, where the limits leave them open."""
        if limits.cpuset_cpus is None:
            yield "cpuset", "cpuset.cpus", self.cgroups.cpus
        if limits.cpuset_mems is None:
            yield "cpuset", "cpuset.mems", self.cgroups.mems


def compile_groups(
    limits: Limits, cgroups: Cgroups, new_slot: Callable[[], int], *, resizable: bool = False
) -> Groups:
    """Lower `limits` to operations for this host's layout.

    Every machine gets a v2 group where there is one: for pressure, freezing and killing. A v1
    group is made only for the controllers that have a limit to hold, or with `resizable` for those
    that may get one.
    """
    builder = _Builder(cgroups, new_slot, "{id}")
    builder.v1(dict(cgroups.v1), limits, RESIZABLE if resizable else ())
    into = builder.group("", cgroups.v2) if cgroups.v2 else NONE
    wanted, _ = settings(limits, dict(cgroups.v1), cgroups.v2_controllers)
    if "cpuset" in builder.slots:
        wanted = [*builder.whole_set(limits), *wanted]
    builder.write(wanted)
    builder.admit()
    return Groups(
        tuple(builder.load),
        tuple(builder.prepare),
        tuple(builder.enter),
        tuple(builder.release),
        tuple(builder.slots.items()),
        into,
        lost_limits(limits, cgroups),
    )


def lost_limits(limits: Limits, cgroups: Cgroups) -> tuple[str, ...]:
    """Return in words what a host with these groups cannot give of `limits`."""
    _, lost = settings(limits, dict(cgroups.v1), cgroups.v2_controllers)
    return (*lost, *unheld(limits, dict(cgroups.v1)), *_rounded(limits))


def _rounded(limits: Limits) -> Iterator[str]:
    """Yield what the kernel rounds: memory is counted in whole pages (page_counter_memparse)."""
    page = os.sysconf("SC_PAGE_SIZE")
    for name in ("memory", "memory_swap", "memory_reservation", "memory_high"):
        value = getattr(limits, name)
        if value is not None and value > 0 and value % page:
            what = name.replace("_", "-")
            yield f"{what} of {value} bytes exactly: it becomes {value - value % page}, whole pages"
