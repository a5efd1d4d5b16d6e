"""Limits as cgroup operations, for version 1, version 2 and the hybrid of both."""

from __future__ import annotations

import os

from ..frozen import Frozen
from ..plan import NONE, op
from .settings import settings_v1, settings_v2, unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..host import Cgroups
    from ..plan import Operation
    from ..spec import Limits

__all__ = ["PREFIX", "Groups", "compile_groups", "group_folders"]

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

    def v1(self, folders: dict[str, str], limits: Limits, keep: tuple[str, ...]) -> Iterator[str]:
        """Add the v1 groups of `limits` and those to `keep`; yield what this host cannot give."""
        settings = settings_v1(limits)
        for controller in dict.fromkeys((*keep, *(name for name, _, _ in settings))):
            if controller in folders:
                self.group(controller, folders[controller])
                self.enter.append(op("cgroup-join", self.new_slot()))
        if "cpuset" in self.slots:
            settings = [*self.whole_set(limits), *settings]
        for controller, file, value in settings:
            if controller in self.slots:
                self.prepare.append(op("cgroup-write", self.slots[controller], file, value))
            else:
                yield file
        yield from unsupported(limits, v1=True)
        # Opened once the limits stand: an empty cpuset takes no task.
        for slot, join in zip(self.slots.values(), self.enter, strict=True):
            self.prepare.append(op("cgroup-open", join["slot"], slot, "tasks"))

    def whole_set(self, limits: Limits) -> Iterator[tuple[str, str, str]]:
        """Yield the CPUs and memory nodes of a new v1 group, where the limits leave them open."""
        if limits.cpuset_cpus is None:
            yield "cpuset", "cpuset.cpus", self.cgroups.cpus
        if limits.cpuset_mems is None:
            yield "cpuset", "cpuset.mems", self.cgroups.mems

    def v2(self, limits: Limits) -> Iterator[str]:
        """Add the settings of the v2 group; yield those that this host cannot give."""
        for controller, file, value in settings_v2(limits):
            if controller in self.cgroups.v2_controllers:
                self.prepare.append(op("cgroup-write", self.slots[""], file, value))
            else:
                yield file
        yield from unsupported(limits, v1=False)


def compile_groups(
    limits: Limits, cgroups: Cgroups, new_slot: Callable[[], int], *, resizable: bool = False
) -> Groups:
    """Lower `limits` to operations for this host's layout.

    Every machine gets a v2 group where there is one: for pressure, freezing and killing. A v1
    group is made only for the controllers that have a limit to hold, or with `resizable` for those
    that may get one.
    """
    builder = _Builder(cgroups, new_slot, "{id}")
    lost: list[str] = []
    into = NONE
    if cgroups.v1:
        lost += builder.v1(dict(cgroups.v1), limits, RESIZABLE if resizable else ())
    if cgroups.v2:
        into = builder.group("", cgroups.v2)
        if not cgroups.v1:
            lost += builder.v2(limits)
    elif not cgroups.v1:
        lost += [file for _, file, _ in settings_v2(limits)]
    return Groups(
        tuple(builder.load),
        tuple(builder.prepare),
        tuple(builder.enter),
        tuple(builder.release),
        tuple(builder.slots.items()),
        into,
        tuple(lost),
    )


def group_folders(cgroups: Cgroups, name: str) -> dict[str, str]:
    """Return the folders that the groups called `name` have, by v1 controller; v2 under ""."""
    roots = {**dict(cgroups.v1), **({"": cgroups.v2} if cgroups.v2 else {})}
    folders = {controller: f"{root}/{name}" for controller, root in roots.items()}
    return {controller: path for controller, path in folders.items() if os.path.isdir(path)}
