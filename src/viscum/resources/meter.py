"""The figures of many machines at once, read through descriptors that stay open."""

from __future__ import annotations

from . import reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .groups import GroupSet
    from .usage import Usage

__all__ = ["Meter"]


class Meter:
    """Reads the usage of many machines. `add` each, then `read` as often as needed."""

    def __init__(self) -> None:
        self._known: dict[str, GroupSet] = {}

    def add(self, groups: GroupSet) -> None:
        """Read this machine from now on; it replaces one of the same id."""
        self._known[groups.id] = groups

    def remove(self, machine_id: str) -> None:
        """Read this machine no more; nothing happens where it is not known."""
        self._known.pop(machine_id, None)

    def read(self) -> dict[str, Usage]:
        """Return the usage of each machine by its id; one whose groups are gone is left out."""
        return {name: reading.usage(groups) for name, groups in self._known.items()}

    def close(self) -> None:
        """Close every descriptor; idempotent."""
        self._known.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
