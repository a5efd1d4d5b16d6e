"""The names and numbers of system calls."""

from __future__ import annotations

from .policy import ARCHES, X32_BIT, arch_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .policy import Arch, Key, Rule, Segments

__all__ = ["numbers", "segments"]


def numbers(arch: str) -> dict[str, int]:
    """Return the numbers of the system calls of `arch`, a name from ARCHES."""
    module = __import__(f"viscum.guard.syscalls_{arch_name(arch)}", fromlist=["TABLE"])
    table: dict[str, int] = {}
    number = 0
    for word in module.TABLE.split():
        if word.isdecimal():
            number = module.BASE + int(word)
        else:
            table[word] = number
            number += 1
    return table


def segments(rules: Sequence[Rule], arch: str) -> Segments:
    """Return the ranges of call numbers of `arch` by the names in `rules`."""
    table = numbers(arch)
    owners: dict[int, list[int]] = {}
    for place, rule in enumerate(rules):
        if not rule.arches or arch in rule.arches:
            for name in rule.names:
                if name in table:
                    owners.setdefault(table[name], []).append(place)
    starts: list[int] = []
    keys: list[Key] = []
    upcoming = X32_BIT if arch == "x32" else 0
    newer = _newer(ARCHES[arch], owners)
    for number in sorted(owners):
        if number > upcoming:
            _extend(starts, keys, upcoming, None if upcoming in newer else ())
        _extend(starts, keys, number, tuple(owners[number]))
        upcoming = number + 1
    _extend(starts, keys, upcoming, None if upcoming in newer else ())
    distinct: dict[Key, int] = {}
    indexes = [distinct.setdefault(key, len(distinct)) for key in keys]
    return starts, indexes, list(distinct)


def _newer(arch: Arch, owners: dict[int, list[int]]) -> set[int]:
    """Return where the ranges of calls newer than all named begin."""
    first, last = arch.private
    common = [number for number in owners if not first <= number < last]
    if not common:
        return set()
    return {max(common) + 1, max(owners) + 1}


def _extend(starts: list[int], keys: list[Key], start: int, key: Key) -> None:
    """Append a range unless it continues the last."""
    if not keys or keys[-1] != key:
        starts.append(start)
        keys.append(key)
