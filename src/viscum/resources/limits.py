"""Limits as cgroup operations, for version 1, version 2 and the hybrid of both.

Shares and weight are converted as the OCI runtime specification's reference does:
weight = 1 + (shares - 2) * 9999 / 262142.
"""

from __future__ import annotations

import os

from ..errors import HostError
from ..frozen import Frozen
from ..plan import NONE, op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..host import Cgroups
    from ..plan import Operation
    from ..spec import Limits

__all__ = [
    "Groups",
    "apply_limits",
    "compile_groups",
    "group_folders",
    "settings_v1",
    "settings_v2",
    "write_all_or_none",
]

PERIOD_US = 100_000
RESIZABLE = ("cpu", "memory", "pids", "freezer")
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


def settings_v1(limits: Limits) -> list[tuple[str, str, str]]:
    """Return (controller, file, value) for each limit, in the order they must be written."""
    settings = []
    if limits.memory is not None:
        settings.append(("memory", "memory.limit_in_bytes", str(limits.memory)))
    if limits.memory_swap is not None:
        settings.append(("memory", "memory.memsw.limit_in_bytes", str(limits.memory_swap)))
    if limits.cpus is not None:
        settings.append(("cpu", "cpu.cfs_period_us", str(PERIOD_US)))
        settings.append(("cpu", "cpu.cfs_quota_us", str(round(limits.cpus * PERIOD_US))))
    if limits.cpu_shares is not None:
        settings.append(("cpu", "cpu.shares", str(limits.cpu_shares)))
    if limits.cpuset_cpus is not None:
        settings.append(("cpuset", "cpuset.cpus", limits.cpuset_cpus))
        settings.append(("cpuset", "cpuset.mems", "0"))
    if limits.pids is not None:
        settings.append(("pids", "pids.max", str(limits.pids)))
    return settings


def settings_v2(limits: Limits) -> list[tuple[str, str, str]]:
    """Return (controller, file, value) for each limit; the v2 counterpart of `settings_v1`."""
    settings = []
    if limits.memory is not None:
        settings.append(("memory", "memory.max", str(limits.memory)))
    if limits.memory_swap is not None:
        swap = "max" if limits.memory_swap == -1 else limits.memory_swap - (limits.memory or 0)
        settings.append(("memory", "memory.swap.max", str(swap)))
    if limits.cpus is not None:
        settings.append(("cpu", "cpu.max", f"{round(limits.cpus * PERIOD_US)} {PERIOD_US}"))
    if limits.cpu_shares is not None:
        weight = 1 + (limits.cpu_shares - 2) * 9999 // 262142
        settings.append(("cpu", "cpu.weight", str(weight)))
    if limits.cpuset_cpus is not None:
        settings.append(("cpuset", "cpuset.cpus", limits.cpuset_cpus))
    if limits.pids is not None:
        settings.append(("pids", "pids.max", str(limits.pids)))
    return settings


class _Builder:
    """Collects the operations of the groups that are needed."""

    def __init__(self, new_slot: Callable[[], int], name: str) -> None:
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
        for controller in keep:
            if controller in folders:
                self.group(controller, folders[controller])
                self.enter.append(op("cgroup-join", self.new_slot()))
        for controller, file, value in settings_v1(limits):
            if controller not in folders:
                yield file
                continue
            if controller not in self.slots:
                slot = self.group(controller, folders[controller])
                tasks = self.new_slot()
                self.enter.append(op("cgroup-join", tasks))
            else:
                slot = self.slots[controller]
            self.prepare.append(op("cgroup-write", slot, file, value))
        # Opened once the limits stand: an empty cpuset takes no task.
        for slot, join in zip(self.slots.values(), self.enter, strict=True):
            self.prepare.append(op("cgroup-open", join["slot"], slot, "tasks"))

    def v2(self, cgroups: Cgroups, limits: Limits) -> Iterator[str]:
        """Add the settings of the v2 group; yield those that this host cannot give."""
        for controller, file, value in settings_v2(limits):
            if controller in cgroups.v2_controllers:
                self.prepare.append(op("cgroup-write", self.slots[""], file, value))
            else:
                yield file


def compile_groups(
    limits: Limits, cgroups: Cgroups, new_slot: Callable[[], int], *, resizable: bool = False
) -> Groups:
    """Lower `limits` to operations for this host's layout.

    Every machine gets a v2 group where there is one: for pressure, freezing and killing. A v1
    group is made only for the controllers that have a limit to hold, or with `resizable` for those
    that may get one.
    """
    builder = _Builder(new_slot, "{id}")
    lost: list[str] = []
    into = NONE
    if cgroups.v1:
        lost += builder.v1(dict(cgroups.v1), limits, RESIZABLE if resizable else ())
    if cgroups.v2:
        into = builder.group("", cgroups.v2)
        if not cgroups.v1:
            lost += builder.v2(cgroups, limits)
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


def _read_text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write_text(path: str, text: str) -> None:
    """Write a file of a group in one call; raises OSError."""
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())


def write_all_or_none(places: list[tuple[str, str, str]]) -> None:
    """Write (folder, file, value) each, or leave everything as it was and raise HostError.

    What a value may be can depend on another one (v1 memory below memory and swap), so those
    that are refused are tried once more after the rest.
    """
    done: list[tuple[str, str]] = []
    waiting = list(places)
    for attempt in range(2):
        refused = []
        for folder, file, value in waiting:
            path = f"{folder}/{file}"
            try:
                before = _read_text(path) if folder else ""
                write_text(path, value)
            except OSError as error:
                refused.append((folder, file, value))
                reason = (error.strerror or "").lower() if folder else "no controller for it here"
            else:
                done.append((path, before))
        waiting = refused
        if not waiting:
            return
        if attempt:
            break
    for path, before in reversed(done):
        write_text(path, before)
    raise HostError(
        f"{waiting[0][1]} cannot become {waiting[0][2]}: {reason}",
        hint="is it below what is in use? nothing was changed",
    )


def apply_limits(limits: Limits, folders: Mapping[str, str], *, v1: bool) -> None:
    """Write `limits` to the groups in `folders` (by v1 controller; v2 under ""), all or none.

    Raises HostError.
    """
    settings = settings_v1(limits) if v1 else settings_v2(limits)
    write_all_or_none([(folders.get(c if v1 else "", ""), file, v) for c, file, v in settings])
