"""Control groups of an OCI container: its path in every hierarchy, its limits, its devices."""

from __future__ import annotations

import os

from ..errors import HostError, SpecError
from ..frozen import Frozen
from ..host import cgroup_mounts, own_groups
from ..plan import NONE, op
from ..resources.control import control_v1, control_v2
from ..resources.device_filter import DEFAULT_RULES, device_lines, device_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..bundle import Bundle
    from .parts import Sections, Slots

__all__ = ["GroupPath", "Hierarchies", "add_groups", "find_groups", "join_classes", "join_groups"]


class GroupPath(Frozen):
    """A container's group in one hierarchy: the mount's folder, the path below it, what controls
    there; no controllers: version 2.
    """

    point: str
    path: str
    controllers: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The group's folder."""
        return f"{self.point}/{self.path}"


class Hierarchies(Frozen):
    """The groups of a container; `unified` where version 2 is all there is."""

    groups: tuple[GroupPath, ...]
    unified: bool

    @property
    def freezer(self) -> str:
        """The file that freezes the container; empty where nothing can."""
        for group in self.groups:
            if "freezer" in group.controllers:
                return group.folder + "/freezer.state"
        v2 = [group.folder + "/cgroup.freeze" for group in self.groups if not group.controllers]
        return v2[0] if v2 else ""


def _below(asked: str, own: str, identity: str, root: str) -> str:
    """Return the container's path below the mount point of a hierarchy, with no slash around it."""
    if "\n" in asked:
        raise SpecError(f"linux.cgroupsPath {asked!r} contains a line break")
    path = asked if asked.startswith("/") else f"{own}/{asked or identity}"
    path = os.path.normpath("/" + path)
    if root not in ("/", "") and (path + "/").startswith(root + "/"):
        path = path[len(root) :]
    path = path.strip("/")
    if not path:
        raise SpecError(f"linux.cgroupsPath {asked!r} is the root", hint="name a group")
    return path


def _may_make(point: str, path: str) -> bool:
    while path and not os.path.isdir(f"{point}/{path}"):
        path = path.rpartition("/")[0]
    return os.access(f"{point}/{path}", os.W_OK)


def find_groups(bundle: Bundle) -> Hierarchies:
    """Return where the groups of a container are; none where this user may make none."""
    asked = bundle.group or bundle.linux.get("cgroupsPath", "")
    mounts, own = cgroup_mounts(), own_groups()
    points: dict[str, list[str]] = {}
    for name, (point, _) in mounts.items():
        points.setdefault(point, []).append(name)
    unified = list(points.values()) == [[""]]
    groups = []
    for point, names in points.items():
        root = mounts[names[0]][1]
        mine = own.get(names[0]) or own.get("name=" + names[0]) or "/"
        path = _below(asked, mine, bundle.id, root)
        if not asked and not _may_make(point, path):
            continue
        groups.append(GroupPath(point, path, tuple(name for name in names if name)))
    return Hierarchies(tuple(groups), unified)


def _check_device(rule: dict[str, Any], where: str) -> None:
    if rule.get("type", "a") not in ("a", "b", "c", "u", ""):
        raise SpecError(f"{where}.type {rule['type']!r} is unknown", hint="a, b, c or u")
    access = rule.get("access", "")
    if set(access) - set("rwm"):
        raise SpecError(f"{where}.access {access!r} is unknown", hint="made of r, w and m")


class GroupBuilder:
    """Adds the operations of a container's groups to `parts`."""

    def __init__(self, found: Hierarchies, slots: Slots, parts: Sections) -> None:
        self.found = found
        self.slots = slots
        self.parts = parts
        self.made: dict[str, int] = {}
        """The slot of each group, by mount point."""
        self.into = NONE

    def _slot_of(self, controller: str) -> int:
        for group in self.found.groups:
            if controller in group.controllers or (self.found.unified and not group.controllers):
                return self.made[group.point]
        return NONE

    def make(self) -> None:
        """Add the groups themselves; those that a task enters by itself come to `enter`."""
        for group in self.found.groups:
            root, slot = self.slots(), self.slots()
            self.parts.load.append(op("cgroup-root", root, group.point))
            self.parts.prepare.append(op("cgroup-path", slot, root, group.path))
            self.parts.release.insert(0, op("cgroup-path-end", slot, root, group.path))
            self.made[group.point] = slot

    def limit(self, resources: dict[str, Any]) -> None:
        """Add the limits."""
        settings = (control_v2 if self.found.unified else control_v1)(resources)
        for controller, file, value in settings:
            slot = self._slot_of(controller)
            if slot == NONE:
                raise HostError(
                    f"the limit {file} has no cgroup controller here",
                    hint=f"mount the controller {controller}, or leave the limit out",
                )
            if file == "memory.memsw.limit_in_bytes" and not self._counts_swap():
                continue
            self.parts.prepare.append(op("cgroup-write", slot, file, value))

    def _counts_swap(self) -> bool:
        for group in self.found.groups:
            if "memory" in group.controllers:
                return os.path.exists(group.point + "/memory.memsw.limit_in_bytes")
        return False

    def devices(self, resources: dict[str, Any]) -> None:
        """Add the rules of devices, with what every container may use."""
        rules = resources.get("devices", [])
        for at, rule in enumerate(rules):
            _check_device(rule, f"linux.resources.devices[{at}]")
        rules = [{"allow": False}, *rules, *DEFAULT_RULES]
        slot = self._slot_of("devices")
        if self.found.unified and slot != NONE:
            self.parts.prepare.append(op("device-filter", slot, device_program(rules)))
        elif slot != NONE:
            for file, line in device_lines(rules):
                self.parts.prepare.append(op("cgroup-write", slot, file, line))

    def leave(self, folders: tuple[str, ...]) -> None:
        """Have the parent, which is in the group, go back to those at `folders`."""
        for folder in folders:
            group, processes = self.slots(), self.slots()
            self.parts.load.append(op("cgroup-root", group, folder))
            self.parts.prepare.append(op("cgroup-open", processes, group, "cgroup.procs"))
            self.parts.adopt.append(op("cgroup-leave", processes))

    def join(self) -> None:
        """Add what makes the child a member: by its own write, and of version 2 by the clone."""
        for group in self.found.groups:
            slot = self.made[group.point]
            if not group.controllers:
                self.into = slot
                continue
            _enter_tasks(slot, self.slots, self.parts)


def add_groups(
    bundle: Bundle, found: Hierarchies, slots: Slots, parts: Sections, *, devices: bool
) -> GroupBuilder:
    """Add the groups of a new container."""
    builder = GroupBuilder(found, slots, parts)
    resources = bundle.linux.get("resources", {})
    builder.make()
    builder.limit(resources)
    if devices:
        builder.devices(resources)
    builder.join()
    builder.leave(bundle.leave)
    return builder


def join_groups(folders: list[str], slots: Slots, parts: Sections) -> int:
    """Have a process enter the groups at `folders`; return the slot of that of version 2."""
    into = NONE
    for folder in folders:
        group = slots()
        parts.load.append(op("open", group, folder, os.O_DIRECTORY))
        if not os.path.exists(folder + "/tasks"):
            into = group
            continue
        _enter_tasks(group, slots, parts)
    return into


def join_classes(folders: tuple[str, ...], slots: Slots, parts: Sections) -> None:
    """Have a process enter the classes of service at `folders`, which may not be there yet."""
    for folder in folders:
        slot = slots()
        parts.load.append(op("open", slot, folder, os.O_DIRECTORY))
        _enter_tasks(slot, slots, parts)


def _enter_tasks(group: int, slots: Slots, parts: Sections) -> None:
    tasks = slots()
    parts.prepare.append(op("cgroup-open", tasks, group, "tasks"))
    parts.enter.append(op("cgroup-join", tasks))
