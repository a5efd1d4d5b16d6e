"""Which machines there are to govern, and within which bounds."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..errors import SpecError, ViscumError
from ..frozen import Frozen
from ..limits import parse_cpu_bounds, parse_memory_bounds
from ..resources.limits import PREFIX
from .manners import DEFAULT_CLASS, Bounds, manner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import Cgroups
    from ..limits import Limits
    from ..machine import Machine
    from ..registry import Record
    from ..spec import Spec
    from .manners import Manner

CALLS_A_LISTING = 8
"""One group may have come as another one went: so the folder is listed now and then anyway."""

__all__ = ["Governed", "Renewed", "Roster", "governed_by_call", "governed_of"]


class Governed(Frozen):
    """A machine that the governor is asked to govern: its group's name, and what its owner
    allows. `shares` is the scheduler's weight that the owner set, `cpuset` his choice of CPUs, None
    where he left it.
    """

    name: str
    group: str
    manner: Manner
    cpus: Bounds | None = None
    memory: Bounds | None = None
    shares: int | None = None
    cpuset: str | None = None


def governed_of(name: str, group: str, spec: Spec) -> Governed | None:
    """Return what `spec` leaves to the governor, None where it leaves nothing."""
    if spec.cpu_bounds is None and spec.memory_bounds is None:
        return None
    return Governed(
        name,
        group,
        manner_of(spec.machine_class or DEFAULT_CLASS),
        None if spec.cpu_bounds is None else Bounds(*spec.cpu_bounds),
        None if spec.memory_bounds is None else Bounds(*spec.memory_bounds),
        spec.limits.cpu_shares,
        spec.limits.cpuset_cpus,
    )


class Renewed(NamedTuple):
    """A machine whose config was written anew: what its owner allows by now, None where nothing is
    left to the governor, and its limits.
    """

    group: str
    governed: Governed | None
    limits: Limits


class _Followed(NamedTuple):
    """A machine that lives on, as it was last read, and when its config had been written."""

    record: Record
    written_ns: int
    governed: Governed | None


def governed_by_call(
    machine: Machine | str,
    name: str | None,
    cpus: tuple[float, float] | str | None,
    memory: tuple[int, int] | str | None,
    machine_class: str | None,
) -> Governed:
    """Return what `Governor.add` was asked to govern; raises SpecError."""
    group = machine if isinstance(machine, str) else machine.id
    if group in ("", ".", "..") or "/" in group:
        raise SpecError(f"{group!r} is no control group's name", hint="such as machine.id")
    spec = None if isinstance(machine, str) else machine.spec
    cpu_bounds = parse_cpu_bounds(cpus) if cpus is not None else spec and spec.cpu_bounds
    memory_bounds = (
        parse_memory_bounds(memory) if memory is not None else spec and spec.memory_bounds
    )
    if not cpu_bounds and not memory_bounds:
        raise SpecError("a governed machine needs bounds", hint='cpus="0.5..2", memory="64M..1G"')
    given = name or (None if isinstance(machine, str) else machine.name)
    return Governed(
        given or group,
        group,
        manner_of(machine_class or (spec and spec.machine_class) or DEFAULT_CLASS),
        Bounds(*cpu_bounds) if cpu_bounds else None,
        Bounds(*memory_bounds) if memory_bounds else None,
        spec.limits.cpu_shares if spec else None,
        spec.limits.cpuset_cpus if spec else None,
    )


class Roster:
    """Finds machines by their groups: a folder listing a time, and one look at each new one."""

    def __init__(self, cgroups: Cgroups, *, follow: bool = True) -> None:
        folders = dict(cgroups.v1)
        self._folder = cgroups.v2 or folders.get("cpu", "") or next(iter(folders.values()), "")
        self._follow = follow
        self._given: dict[str, Governed] = {}
        self._followed: dict[str, _Followed] = {}
        self._known: set[str] = set()
        self._count = self._calls = 0

    def give(self, governed: Governed) -> None:
        """Add a machine of this program; raises SpecError where its name is taken."""
        if governed.name in {other.name for other in self._given.values()}:
            raise SpecError(f"machine {governed.name!r} is governed already")
        self._given[governed.group] = governed

    def drop(self, name: str) -> None:
        """Leave a machine of this program alone from now on."""
        for group, governed in list(self._given.items()):
            if governed.name == name:
                del self._given[group]

    def changes(self) -> tuple[list[Governed], set[str]]:
        """Return the machines that are new since the last call, and the groups that are gone.

        Most calls only compare how many groups there are.
        """
        try:
            count = os.stat(self._folder).st_nlink
        except OSError:
            count = -1
        self._calls += 1
        if count == self._count and self._calls % CALLS_A_LISTING:
            return [], set()
        self._count = count
        try:
            present = {n for n in os.listdir(self._folder) if n.startswith(PREFIX)}
        except OSError:
            present = set()
        gone = self._known - present
        new = present - self._known
        self._known = present
        for group in gone:
            self._followed.pop(group, None)
        found = {group: self._given[group] for group in new if group in self._given}
        if self._follow and len(found) < len(new):
            found.update(self._registered(new - set(found)))
        return list(found.values()), gone

    def renewed(self) -> list[Renewed]:
        """Return the machines that live on whose bounds, class or name have changed."""
        from ..registry import Record

        found = []
        for group, (record, before, governed) in list(self._followed.items()):
            written = _written(record)
            if written == before:
                continue
            fresh = Record(record.id)
            try:
                config = fresh.config
            except ViscumError:
                continue  # it is being removed
            now = governed_of(config.name, config.group, config.spec)
            self._followed[group] = _Followed(fresh, written, now)
            if now != governed:
                found.append(Renewed(group, now, config.spec.limits))
        return found

    def forget(self, group: str) -> None:
        """Look at a group again at the next call: what it belongs to was not ready."""
        self._known.discard(group)
        self._count = -1

    def _registered(self, groups: set[str]) -> dict[str, Governed]:
        """Return those of `groups` whose machines are registered with bounds."""
        from ..registry import Record, machines

        found: dict[str, Governed] = {}
        strangers: set[str] = set()
        for group in groups:
            record = Record(group.removeprefix(PREFIX))
            if record.exists():
                self._follow_record(record, {group}, found)
            else:
                strangers.add(group)
        if strangers:  # of machines in the foreground, which have ids of their own; or of no record
            for record in machines():
                self._follow_record(record, strangers, found)
        return found

    def _follow_record(self, record: Record, groups: set[str], found: dict[str, Governed]) -> None:
        written = _written(record)
        try:
            config = record.config
        except ViscumError:
            return
        governed = governed_of(config.name, config.group, config.spec)
        if config.group in groups:
            self._followed[config.group] = _Followed(record, written, governed)
            if governed:
                found[config.group] = governed


def _written(record: Record) -> int:
    try:
        return os.stat(record.path("config.json")).st_mtime_ns
    except OSError:
        return 0
