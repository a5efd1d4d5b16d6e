"""Machines that are held up, throttled or waiting for a resource, as events while one looks."""

from __future__ import annotations

import time

from ...journal import Event
from .metering import Metered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...detached import DetachedMachine
    from ...native import Figures

__all__ = ["Strain"]

SECONDS = 1.0
FROM, UNTIL = 0.1, 0.05
"""The share of its time that a machine is held up when that is told, and below which it is over."""


class Strain:
    """Looks at all machines once a second and tells of each strain once, when it begins."""

    def __init__(self) -> None:
        self._metered = Metered()
        self._seen: dict[str, tuple[float, Figures]] = {}
        self._told: set[tuple[str, str]] = set()
        self._next = 0.0

    def events(self) -> Iterator[Event]:
        """Yield what began since the last look, nothing where it is too early for another one."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SECONDS
        for machine, _, figures in self._metered.read():
            if figures is None:
                self._seen.pop(machine.id, None)
                continue
            at, before = self._seen.get(machine.id, (now, figures))
            self._seen[machine.id] = (now, figures)
            if now > at:
                yield from self._begun(machine, before, figures, now - at)

    def _begun(
        self, machine: DetachedMachine, before: Figures, figures: Figures, span: float
    ) -> Iterator[Event]:
        def share(name: str) -> float:
            spent: float = getattr(figures, name) - getattr(before, name)
            return min(spent / span, 1.0)

        held = share("throttled_seconds")
        if self._begins(machine, "throttled", held):
            yield _event(machine, "throttled", time=f"{held:.0%}")
        for resource in ("cpu", "memory", "io"):
            some, full = share(f"{resource}_some_seconds"), share(f"{resource}_full_seconds")
            if self._begins(machine, resource, some):
                shares = {"waiting": f"{some:.0%}", "stalled": f"{full:.0%}"}
                yield _event(machine, "pressure", resource=resource, **shares)

    def _begins(self, machine: DetachedMachine, what: str, share: float) -> bool:
        key = (machine.id, what)
        if share < UNTIL:
            self._told.discard(key)
        if share < FROM or key in self._told:
            return False
        self._told.add(key)
        return True

    def close(self) -> None:
        """Give back the descriptors."""
        self._metered.close()


def _event(machine: DetachedMachine, event: str, **attributes: str) -> Event:
    return Event(
        time.time_ns(), "machine", event, machine.id, machine.name, tuple(attributes.items())
    )
