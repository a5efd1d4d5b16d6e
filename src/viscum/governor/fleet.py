"""All machines of a host under one budget: the policies put together, still without clock or files.

Events go in (`throttled`, `look_cpu`, `look_memory`, `look_neighbours`), limits come out
(`decide`): those that are lowered first, then those that are raised, so that the sum never exceeds
the budget on the way either.
"""

from __future__ import annotations

import math

from ..errors import SpecError
from ..frozen import Frozen
from .budget import Claim, check_budget, share_out
from .cpu import Cpu
from .invariants import broken_invariants
from .memory import Memory
from .neighbours import Neighbours, Party

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .manners import Bounds, Manner
    from .memory import MemoryView

__all__ = ["Decision", "Fleet", "Member"]

NOTABLE = 0.005
"""A limit is left alone when it would change by less than this share, except to be lowered for
the budget's sake.
"""
ACTIVE_CPUS = 0.02
LEAN_STEP = 0.01
"""CPUs by which somebody has to need more or less before what is short is shared out anew."""
MEMORY_STEP = 4 << 20
STEP = 0.01
REST_STEP = 0.1


class Decision(Frozen):
    """One limit that changes: CPUs or bytes, with the signal and the rule that led to it."""

    name: str
    what: str
    old: float
    new: float
    rule: str
    signal: str = ""


class Member:
    """One machine: the policies' state, and the limits that it has."""

    __slots__ = (
        "cpu",
        "cpu_limit",
        "manner",
        "memory",
        "memory_limit",
        "name",
        "pressure",
        "signal",
        "weight",
    )

    def __init__(self, name: str, manner: Manner, weight: float = 1.0) -> None:
        self.name = name
        self.manner = manner
        self.weight = weight
        self.cpu: Cpu | None = None
        self.cpu_limit = 0.0
        self.memory: Memory | None = None
        self.memory_limit = 0.0
        self.pressure = 0.0
        self.signal = ""

    def allows(self, cpus: float) -> bool:
        """Return whether the bounds allow a limit of `cpus`."""
        return self.cpu is None or self.cpu.bounds.low <= cpus <= self.cpu.bounds.high


class Fleet:
    """The machines of one host and its budget: `cpus`, and `memory` in bytes."""

    def __init__(self, cpus: float, memory: float) -> None:
        self.cpus = cpus
        self.memory = memory
        self.members: dict[str, Member] = {}
        self.neighbours = Neighbours()
        self.midnight = 0.0
        """A midnight, on the clock that the looks are told of."""
        self.pressed = False
        self._touched: set[str] = set()
        self.memory_touched = True
        self.short = True

    def add(
        self,
        name: str,
        manner: Manner,
        *,
        cpus: tuple[Bounds, float] | None = None,
        memory: tuple[Bounds, float] | None = None,
        weight: float = 1.0,
    ) -> Member:
        """Take a machine under the budget, with its bounds and its limits as they are now.

        Raises SpecError where the budget cannot keep what would then be owed; nothing changes.
        """
        if name in self.members:
            raise SpecError(f"machine {name!r} is governed already")
        member = Member(name, manner, weight)
        if cpus is not None:
            bounds, limit = cpus
            check_budget(self.cpus, bounds.low + self._owed_cpus(), f"CPUs for {name!r}")
            member.cpu = Cpu(manner, bounds, limit)
            member.cpu_limit = limit
        if memory is not None:
            bounds, limit = memory
            check_budget(self.memory, bounds.low + self._owed_memory(), f"memory for {name!r}")
            member.memory = Memory(manner, bounds, limit)
            member.memory_limit = limit
        self.members[name] = member
        self._touched.add(name)
        self.memory_touched = True
        return member

    def _owed_cpus(self) -> float:
        return sum(m.cpu.bounds.low for m in self.members.values() if m.cpu)

    def _owed_memory(self) -> float:
        return sum(m.memory.bounds.low for m in self.members.values() if m.memory)

    def remove(self, name: str) -> None:
        """Forget a machine: it has ended."""
        self.members.pop(name, None)
        self.short = self.memory_touched = True  # what it had may be given to others

    # What was seen.

    def throttled(self, name: str, lost: float, now: float) -> bool:
        """Note that a machine stood at its limit for `lost` seconds; return whether that can
        change anything.
        """
        member = self.members[name]
        cpu = member.cpu
        if cpu is None:
            return False
        before, held = cpu.want, cpu.held
        cpu.throttled(member.cpu_limit, lost, now)
        member.signal = f"throttled at {member.cpu_limit:.3g} CPUs"
        self._touched.add(name)
        return cpu.want > before or (not held and cpu.want > member.cpu_limit)

    def spending(self, name: str, lately: float, now: float) -> bool:
        """Note that a machine will soon have used up what it had in store, at `lately` CPUs;
        return whether that can change anything.
        """
        member = self.members[name]
        cpu = member.cpu
        if cpu is None:
            return False
        cpu.spending(member.cpu_limit, lately, now)
        member.signal = f"used {lately:.3g} CPUs just now, of {member.cpu_limit:.3g}"
        self._touched.add(name)
        return cpu.want > member.cpu_limit

    def look_cpu(
        self, name: str, used: float, throttled: float, seconds: float, now: float
    ) -> bool:
        """Note the average of the last seconds: CPUs used, and the share of time throttled; return
        whether that can change anything.
        """
        member = self.members[name]
        cpu = member.cpu
        if cpu is None:
            return False
        want, lean = cpu.want, cpu.lean()
        cpu.look(used, throttled, seconds, now, now - self.midnight)
        self._touched.add(name)
        member.signal = f"used {used:.3g} CPUs over {seconds:.1f} s"
        if abs(cpu.want - want) > want * NOTABLE:
            return True
        return self.short and abs(cpu.lean() - lean) > LEAN_STEP

    def look_neighbours(self, shares: dict[str, float]) -> str:
        """Note what share of its time each machine waited for a CPU although below its limit;
        return who was squeezed for it.
        """
        parties = [
            Party(
                member.name,
                member.manner.rank,
                member.cpu.used,
                member.cpu.bounds.low,
                max(shares.get(member.name, 0.0) - member.manner.pressure, 0.0),
                member.cpu.used > ACTIVE_CPUS,
            )
            for member in self.members.values()
            if member.cpu is not None
        ]
        squeezed = self.neighbours.look(parties)
        if squeezed:
            victim = self.neighbours.victim
            waited = f"{victim} waited {shares[victim]:.0%} of its time for a CPU"
            self.members[squeezed].signal = waited
        return squeezed

    def look_memory(self, name: str, view: MemoryView, now: float) -> int:
        """Note what a machine holds; return how many bytes to ask the kernel to take back."""
        member = self.members[name]
        memory = member.memory
        if memory is None:
            return 0
        used, want = memory.used, memory.want
        memory.look(view, now, pressed=self.pressed and member.manner.rank > 0)
        if abs(memory.used - used) > MEMORY_STEP / 2 or memory.want != want:
            self.memory_touched = True
        member.signal = f"{view.used >> 20} MiB in use, stalled {view.pressure:.2%} of the time"
        return memory.reclaim

    # What follows from it.

    def rest_cpus(self) -> dict[str, float]:
        """Return limits in CPUs that need nobody to watch over them: what each machine usually
        needs at most, within its bounds and the budget.
        """
        members = [(m, m.cpu) for m in self.members.values() if m.cpu is not None]
        claims = [Claim(cpu.bounds.low, cpu.rest(), m.manner.rank, m.weight) for m, cpu in members]
        given = share_out(self.cpus, claims)
        return {
            m.name: max(_round_down(value, REST_STEP), cpu.bounds.low)
            for (m, cpu), value in zip(members, given, strict=True)
        }

    def decide(self) -> list[Decision]:
        """Return the limits that change, in the order to write them, and take them as given."""
        changes = self._decide_cpus()
        if self.memory_touched:
            self.memory_touched = False
            changes += self._decide_memory()
        for change in changes:
            member = self.members[change.name]
            if change.what == "cpus":
                member.cpu_limit = change.new
            else:
                member.memory_limit = change.new
        return changes

    def _claimants(self) -> list[tuple[Member, Cpu]]:
        """Return whose limits may change. While everybody can have what he wants, only those of
        machines that were looked at since the last time.
        """
        members = [(m, m.cpu) for m in self.members.values() if m.cpu is not None]
        wanted = sum(cpu.want for _, cpu in members)
        if not self.short and wanted <= self.cpus * (1 - NOTABLE):
            members = [(m, cpu) for m, cpu in members if m.name in self._touched]
        self._touched.clear()
        return members

    def _share_cpus(self, members: list[tuple[Member, Cpu]]) -> tuple[list[float], list[float]]:
        """Return what each may want, and gets. When that is too much together, what everybody
        gets by on comes first; the room that they keep above it is lent to those who need more.
        """
        caps = self.neighbours.caps
        wants = [
            max(min(cpu.want, caps.get(m.name, cpu.want)), cpu.bounds.low) for m, cpu in members
        ]
        self.short = bool(caps) or sum(wants) > self.cpus * (1 - NOTABLE)
        if sum(wants) <= self.cpus:
            return wants, wants
        lean = [
            Claim(cpu.bounds.low, min(cpu.lean(), want), m.manner.rank, m.weight)
            for (m, cpu), want in zip(members, wants, strict=True)
        ]
        given = share_out(self.cpus, lean)
        # Who has room above that keeps it if nobody needs it; nobody is given room anew.
        full = [
            Claim(have, min(want, max(have, m.cpu_limit)), m.manner.rank, m.weight)
            for (m, _), have, want in zip(members, given, wants, strict=True)
        ]
        given = share_out(self.cpus, full)
        return wants, [
            max(_round_down(value), cpu.bounds.low) if value < want else value
            for value, want, (_, cpu) in zip(given, wants, members, strict=True)
        ]

    def _decide_cpus(self) -> list[Decision]:
        members = self._claimants()
        wants, given = self._share_cpus(members)
        changes = []
        for (member, _), want, value in zip(members, wants, given, strict=True):
            old = member.cpu_limit
            small = abs(value - old) < old * NOTABLE and member.allows(old)
            if value == old or (small and not (self.short and value < old)):
                continue
            rule = self._rule(member, want, value)
            changes.append(Decision(member.name, "cpus", old, value, rule, member.signal))
        return self._in_order(changes, "cpus")

    def _rule(self, member: Member, want: float, value: float) -> str:
        if value < want * (1 - NOTABLE):
            raised = member.cpu is not None and value > member.cpu_limit
            return f"{member.cpu.rule}, budget" if raised and member.cpu else "budget"
        if want == self.neighbours.caps.get(member.name):
            return "noisy neighbour"
        return member.cpu.rule if member.cpu is not None else ""

    def _decide_memory(self) -> list[Decision]:
        members = [(m, m.memory) for m in self.members.values() if m.memory is not None]
        if not members:
            return []
        given = self._share_memory([memory for _, memory in members], [m for m, _ in members])
        changes = []
        for (member, memory), value in zip(members, given, strict=True):
            old, new = member.memory_limit, _round_memory(value, memory)
            if new < old or new > old * (1 + NOTABLE) or new == memory.bounds.high > old:
                rule = memory.rule if self.pressed else "room"
                changes.append(Decision(member.name, "memory", old, new, rule, member.signal))
        return self._in_order(changes, "memory")

    def _share_memory(self, policies: list[Memory], members: list[Member]) -> list[float]:
        """Return the limits. While there is room for every upper bound, a machine has its upper
        bound: a limit below it would help nobody and could kill. Else what is in use comes first,
        then what is wanted by class, and what is left is spread evenly.
        """
        if sum(memory.bounds.high for memory in policies) <= self.memory:
            self.pressed = False
            return [memory.bounds.high for memory in policies]
        claims = [
            Claim(
                max(memory.bounds.low, memory.used), max(memory.want, memory.need()), m.manner.rank
            )
            for memory, m in zip(policies, members, strict=True)
        ]
        given = share_out(self.memory, claims)
        self.pressed = any(g < c.want for g, c in zip(given, claims, strict=True))
        spread = [
            Claim(have, max(memory.bounds.high, have))
            for have, memory in zip(given, policies, strict=True)
        ]
        return share_out(self.memory, spread)

    def _in_order(self, changes: list[Decision], what: str) -> list[Decision]:
        if not changes:
            return []
        changes.sort(key=lambda change: change.new - change.old)
        self._check(changes, what)
        return changes

    def _check(self, changes: list[Decision], what: str) -> None:
        """Raise AssertionError rather than hand out limits that break an invariant."""
        given: dict[str, float] = {}
        bounds: dict[str, Bounds] = {}
        in_use: dict[str, float] = {}
        for member in self.members.values():
            policy = member.cpu if what == "cpus" else member.memory
            if policy is not None:
                limit = member.cpu_limit if what == "cpus" else member.memory_limit
                given[member.name], bounds[member.name] = limit, policy.bounds
                if what == "memory":
                    in_use[member.name] = policy.used
        changed = {change.name: change.new for change in changes}
        budget = self.cpus if what == "cpus" else self.memory
        wrong = broken_invariants(what, {**given, **changed}, bounds, budget, in_use)
        if wrong:
            raise AssertionError("; ".join(wrong))


def _round_down(value: float, step: float = STEP) -> float:
    """Return the value on a scale of even steps: small shifts between machines write nothing."""
    return math.exp(math.floor(math.log(value) / step) * step)


def _round_memory(value: float, memory: Memory) -> float:
    """Return the limit in whole steps, rounded down, so that it is not rewritten for every page."""
    if value >= memory.bounds.high:
        return float(int(value))
    return max(value // MEMORY_STEP * MEMORY_STEP, memory.bounds.low, float(memory.used))
