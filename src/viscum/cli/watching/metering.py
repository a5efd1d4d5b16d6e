"""Every machine that lives on with its figures, read again and again."""

from __future__ import annotations

from ...detached import machines
from ...host import probe
from ...resources.groups import GroupSet
from ...resources.meter import Meter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...detached import DetachedMachine
    from ...native import Figures

__all__ = ["Metered"]


class Metered:
    """Reads all machines through descriptors that stay open between readings."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._groups: dict[str, GroupSet] = {}

    def read(self) -> list[tuple[DetachedMachine, GroupSet, Figures | None]]:
        """Return each machine with its groups and figures; None where it has no group to read."""
        found = {machine.config.group: machine for machine in machines()}
        for group in self._groups.keys() - found.keys():
            self._forget(group)
        for group in found.keys() - self._groups.keys():
            self._groups[group] = GroupSet.of(group, probe().cgroups)
            self._meter.add(self._groups[group])
        figures, known = self._meter.read(), dict(self._groups)
        for group in known.keys() - figures.keys():
            self._forget(group)  # when it is started again it has new groups
        return [(machine, known[group], figures.get(group)) for group, machine in found.items()]

    def _forget(self, group: str) -> None:
        self._meter.remove(group)
        del self._groups[group]

    def close(self) -> None:
        """Give back the descriptors."""
        self._meter.close()
