"""A model of a host whose machines' limits a fleet sets: what the kernel would show of demands.

Time goes in steps; a machine uses what it asks for up to its limit, and the fleet is told of
throttling as late as the live governor would tell it at worst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from viscum.governor.fleet import Fleet
from viscum.governor.manners import Bounds, manner_of

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 0.1


class HostModel:
    """Machines with a demand as a function of time, in CPUs, under one fleet."""

    def __init__(self, cpus: float) -> None:
        self.fleet = Fleet(cpus, 1 << 34)
        self.now = 0.0
        self.demands: dict[str, Callable[[float], float]] = {}
        self.since: dict[str, float] = {}
        self.used: dict[str, float] = {}
        self.history: list[tuple[float, str, float, float]] = []

    def add(
        self,
        name: str,
        demand: Callable[[float], float],
        bounds: tuple[float, float],
        kind: str = "latency",
        limit: float | None = None,
    ) -> None:
        found = bounds[1] if limit is None else limit
        self.fleet.add(name, manner_of(kind), cpus=(Bounds(*bounds), found))
        self.demands[name] = demand
        self.since[name], self.used[name] = self.now, 0.0

    def limit(self, name: str) -> float:
        return self.fleet.members[name].cpu_limit

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.step()

    def step(self) -> None:
        held = []
        for name, demand in self.demands.items():
            asked, limit = demand(self.now), self.limit(name)
            self.used[name] += min(asked, limit) * STEP
            if asked > limit * 1.001:
                held.append(name)
        self.now += STEP
        for name in held:
            self.fleet.throttled(name, STEP, self.now)
        for name in self.demands:
            self.look(name, STEP if name in held else 0.0)
        self.apply()

    def look(self, name: str, held: float) -> None:
        cpu = self.fleet.members[name].cpu
        seconds = self.now - self.since[name]
        if seconds >= cpu.look_after - 1e-9:
            self.fleet.look_cpu(name, self.used[name] / seconds, held / seconds, seconds, self.now)
            self.since[name], self.used[name] = self.now, 0.0

    def apply(self) -> None:
        """Take the decisions one by one: the sum must never exceed the budget on the way."""
        limits = {name: member.cpu_limit for name, member in self.fleet.members.items()}
        before = sum(limits.values())
        for decision in self.fleet.decide():
            assert decision.old == limits[decision.name]
            limits[decision.name] = decision.new
            total = sum(limits.values())
            assert total <= max(self.fleet.cpus, before) * (1 + 1e-6)
            before = min(before, max(total, self.fleet.cpus))
            self.since[decision.name], self.used[decision.name] = self.now, 0.0
            self.history.append((self.now, decision.name, decision.old, decision.new))
        for name, member in self.fleet.members.items():
            bounds = member.cpu.bounds
            assert bounds.low * (1 - 1e-6) <= limits[name] <= bounds.high * (1 + 1e-6), name
