"""Noisy neighbours, found by what their victims suffer, and squeezed until the victims are well.

A machine that waits for a resource although it is below its own limit is a victim of somebody.
Who that is cannot be seen directly: blamed is, of the machines that yield to the victim, the one
of the lowest class that uses most above what it is owed. Its use is capped, a third lower at each
look while the victim suffers. Afterwards the cap rises quickly to a little below where the victim
last suffered, then slowly, and goes once nobody is there to suffer. Where squeezing does not
help the victim, the blame was wrong: the cap goes, and the machine is left alone for a while.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Neighbours", "Party"]

SQUEEZE = 0.7
RECOVER = 1.25
PROBE = 1.02
SAFE = 0.9
FORGOTTEN = 2.0
"""A cap above this multiple of what is used holds nothing, and goes."""
TRIES = 6
HELPED = 0.8
"""After so many squeezes the victim has to suffer less than this share of what it did."""
INNOCENT_LOOKS = 60


class Party(NamedTuple):
    """A machine at one look: what it used, what it is owed of that, and what it suffers: the share
    of its time that it waited for more than its class is asked to bear, and not because of its own
    limit. `active`: it is there to suffer at all.
    """

    name: str
    rank: int
    used: float
    owed: float
    suffers: float = 0.0
    active: bool = True


class _Squeezed:
    """What is known of a machine that was blamed."""

    __slots__ = ("hurt", "pain", "tries")

    def __init__(self, pain: float) -> None:
        self.pain = pain
        self.hurt = 0.0
        self.tries = 0


class Neighbours:
    """The caps in force for one resource, by name."""

    def __init__(self) -> None:
        self.caps: dict[str, float] = {}
        self.victim = ""
        self._blamed: dict[str, _Squeezed] = {}
        self._innocent: dict[str, int] = {}
        self._looks = 0

    def look(self, parties: Iterable[Party]) -> str:
        """Take in one look at everybody; return who was squeezed, or an empty string."""
        self._looks += 1
        everybody = {party.name: party for party in parties}
        for name in [name for name in self.caps if name not in everybody]:
            self._drop(name)
        victims = [party for party in everybody.values() if party.suffers > 0]
        if victims:
            victim = min(victims, key=lambda party: (party.rank, -party.suffers))
            return self._squeeze(victim, everybody)
        self._recover(everybody)
        return ""

    def _squeeze(self, victim: Party, everybody: dict[str, Party]) -> str:
        self._innocent = {n: until for n, until in self._innocent.items() if until > self._looks}
        suspects = [
            party
            for party in everybody.values()
            if party.rank > victim.rank
            and party.used > party.owed
            and party.name not in self._innocent
        ]
        if not suspects:
            return ""
        worst = max(suspects, key=lambda party: (party.rank, party.used - party.owed))
        known = self._blamed.setdefault(worst.name, _Squeezed(victim.suffers))
        if known.tries >= TRIES and victim.suffers > known.pain * HELPED:
            self._drop(worst.name)
            self._innocent[worst.name] = self._looks + INNOCENT_LOOKS
            return ""
        level = min(worst.used, self.caps.get(worst.name, worst.used))
        known.hurt, known.tries = level, known.tries + 1
        self.caps[worst.name] = max(worst.owed, level * SQUEEZE)
        self.victim = victim.name
        return worst.name

    def _recover(self, everybody: dict[str, Party]) -> None:
        for name, cap in list(self.caps.items()):
            party, known = everybody[name], self._blamed[name]
            if not any(p.active and p.rank < party.rank for p in everybody.values()):
                self._drop(name)
                continue
            known.tries = 0
            safe = known.hurt * SAFE
            raised = min(cap * RECOVER, safe) if cap < safe else cap * PROBE
            if raised > max(party.used, party.owed, known.hurt) * FORGOTTEN:
                self._drop(name)
            else:
                self.caps[name] = raised

    def _drop(self, name: str) -> None:
        self.caps.pop(name, None)
        self._blamed.pop(name, None)
