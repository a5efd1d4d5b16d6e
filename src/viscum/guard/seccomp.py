"""The compiler that makes filter programs of seccomp policies.

The kernel runs a new filter once for every call number to learn which are always allowed, and
from then on skips it for those. So the program is a balanced tree over ranges of numbers, in
which wide ranges lie near the root, and only calls that a rule looks into read arguments.
"""

from __future__ import annotations

from ..errors import SpecError
from .bpf import (
    ARCH,
    ARGUMENTS,
    INSTRUCTION_SIZE,
    JEQ,
    JSET,
    MAX_INSTRUCTIONS,
    NR,
    Graph,
)
from .policy import ARCHES, KILL_PROCESS, X32_BIT, Condition, Policy, Rule, arch_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .policy import Key

__all__ = ["Condition", "Policy", "Rule", "compile_policy"]

_LOWER = 0xFFFFFFFF


def compile_policy(policy: Policy, arch: str) -> bytes:
    """Return the filter program of `policy` for a host of architecture `arch`.

    The program is an array of `struct sock_filter` in the host's byte order. Raises SpecError
    for an architecture without tables and for a policy that needs more than 4096 instructions.
    """
    host = ARCHES[arch_name(arch)]
    families = _families(policy, arch)
    graph = Graph()
    judges = {bits: _Judge(graph, policy, bits, big=host.big) for bits in (32, 64)}
    root = graph.ret(KILL_PROCESS)
    for audit, members in reversed(families.items()):
        tree = graph.load(NR, _numbers_tree(graph, policy, members, judges))
        root = graph.jump(JEQ, audit, tree, root)
    program = graph.assemble(graph.load(ARCH, root), "big" if host.big else "little")
    if len(program) > MAX_INSTRUCTIONS * INSTRUCTION_SIZE:
        raise SpecError(
            f"the policy needs {len(program) // INSTRUCTION_SIZE} instructions",
            hint=f"the kernel takes {MAX_INSTRUCTIONS}: use fewer conditions",
        )
    return program


def _families(policy: Policy, arch: str) -> dict[int, list[str]]:
    """Return the architectures that `policy` is for on a host, by their AUDIT_ARCH_* value."""
    host = ARCHES[arch_name(arch)]
    families: dict[int, list[str]] = {}
    for given in policy.arches or (arch, *host.companions):
        name = arch_name(given)
        member = ARCHES[name]
        if member.big != host.big:
            raise SpecError(
                f"no kernel runs both {arch} and {given}",
                hint="name only architectures of the host",
            )
        family = families.setdefault(member.audit, [])
        if name not in family:
            family.append(name)
    return families


_PROBED = 600
"""The kernel probes a new filter with the numbers of the common sequence, none above these."""


def _numbers_tree(
    graph: Graph, policy: Policy, members: list[str], judges: dict[int, _Judge]
) -> int:
    """Return the tree over the numbers of architectures that share an AUDIT_ARCH_* value."""
    starts: list[int] = []
    targets: list[int] = []
    outside = graph.ret(KILL_PROCESS)
    if members == ["x32"]:
        starts, targets = [0], [outside]
    for name in sorted(members, key=lambda name: name == "x32"):
        first, indexes, keys = policy.segments(name)
        judge = judges[ARCHES[name].bits]
        nodes = [judge.target(key) for key in keys]
        starts += first
        targets += [nodes[index] for index in indexes]
    if members == ["x86_64"]:
        # -1 is what a tracer puts in place of a number to have the call skipped.
        starts += [X32_BIT, _LOWER]
        targets += [outside, targets[-1]]
    return _tree(graph, starts, targets)


def _tree(graph: Graph, starts: Sequence[int], targets: Sequence[int]) -> int:
    """Return the tree over ranges of call numbers, by how many of each the kernel probes."""
    merged_starts: list[int] = []
    merged: list[int] = []
    weights: list[int] = []
    latest = -1
    edge = 0
    for start, target in zip(starts, targets, strict=True):
        if target != latest:
            if merged:
                weights.append((min(start, _PROBED) - edge << 4) + 1)
            edge = min(start, _PROBED)
            merged_starts.append(start)
            merged.append(target)
            latest = target
    weights.append((_PROBED - edge << 4) + 1)
    return graph.search(merged_starts, merged, weights)


class _Judge:
    """Makes the part of a program that decides by the rules which name a call."""

    __slots__ = ("_big", "_default", "_graph", "_ready", "_rules", "_top")

    def __init__(self, graph: Graph, policy: Policy, bits: int, *, big: bool) -> None:
        self._graph = graph
        self._rules = policy.rules
        self._big = big
        self._top = (1 << bits) - 1
        self._default = graph.ret(policy.default)
        newer = self._default if policy.newer is None else graph.ret(policy.newer)
        self._ready: dict[Key, int] = {None: newer, (): self._default}

    def target(self, key: Key) -> int:
        """Return the node that decides for a call that the rules at the places `key` name."""
        node = self._ready.get(key)
        if node is None:
            rules = []
            for place in key or ():
                rules.append(self._rules[place])
                if not rules[-1].conditions:
                    break
            node = self._ready[key] = self._decide(rules)
        return node

    def _decide(self, rules: list[Rule]) -> int:
        """Return the node that tries `rules` in order."""
        graph = self._graph
        node = self._default
        last = len(rules)
        while last:
            last -= 1
            rule = rules[last]
            if not rule.conditions:
                node = graph.ret(rule.action)
                continue
            index = _only_argument(rule)
            if index is None:
                node = self._all(rule.conditions, graph.ret(rule.action), node)
                continue
            layers = [rule]
            while last and _only_argument(rules[last - 1]) == index:
                last -= 1
                layers.append(rules[last])
            node = self._overlay(index, layers, node)
        return node

    def _all(self, conditions: Sequence[Condition], then: int, otherwise: int) -> int:
        """Return the node that leads to `then` if all conditions hold."""
        for condition in reversed(conditions):
            if condition.op == "MASKED_EQ":
                then = self._masked(condition, then, otherwise)
            else:
                values = _Values(self._top, otherwise)
                for first, last in _intervals(condition, self._top):
                    values.paint(first, last, then)
                then = self._by_value(condition.index, values)
        return then

    def _overlay(self, index: int, layers: Sequence[Rule], under: int) -> int:
        """Return the node for rules, last first, that compare only the argument `index`."""
        values = _Values(self._top, under)
        for rule in layers:
            intervals = [(0, self._top)]
            for condition in rule.conditions:
                intervals = _common(intervals, _intervals(condition, self._top))
            target = self._graph.ret(rule.action)
            for first, last in intervals:
                values.paint(first, last, target)
        return self._by_value(index, values)

    def _offsets(self, index: int) -> tuple[int, int]:
        """Return where the lower and the upper word of an argument lie."""
        offset = ARGUMENTS + 8 * index
        return (offset + 4, offset) if self._big else (offset, offset + 4)

    def _masked(self, condition: Condition, then: int, otherwise: int) -> int:
        """Return the node for MASKED_EQ."""
        lower, upper = self._offsets(condition.index)
        mask, wanted = condition.value & self._top, condition.value_two & condition.value
        then = self._masked_word(lower, mask & _LOWER, wanted & _LOWER, then, otherwise)
        return self._masked_word(upper, mask >> 32, wanted >> 32, then, otherwise)

    def _masked_word(self, offset: int, mask: int, wanted: int, then: int, otherwise: int) -> int:
        """Return the node that compares the bits `mask` of one word with those of `wanted`."""
        graph = self._graph
        if not mask or then == otherwise:
            return then
        if mask == _LOWER:
            then, otherwise = graph.loaded(then, offset), graph.loaded(otherwise, offset)
            return graph.load(offset, graph.jump(JEQ, wanted, then, otherwise))
        if not wanted:
            then, otherwise = graph.loaded(then, offset), graph.loaded(otherwise, offset)
            return graph.load(offset, graph.jump(JSET, mask, otherwise, then))
        return graph.load(offset, graph.mask(mask, graph.jump(JEQ, wanted, then, otherwise)))

    def _by_value(self, index: int, values: _Values) -> int:
        """Return the node that leads an argument to its target."""
        lower, upper = self._offsets(index)
        if self._top == _LOWER:
            return self._by_word(lower, values.starts, values.targets)
        uppers: list[int] = []
        targets: list[int] = []
        for high, starts, inner in values.halves():
            uppers.append(high)
            targets.append(self._by_word(lower, starts, inner))
        return self._by_word(upper, uppers, targets)

    def _by_word(self, offset: int, starts: Sequence[int], targets: Sequence[int]) -> int:
        """Return the node that leads the word at `offset` to its target."""
        graph = self._graph
        places: list[int] = []
        leaves: list[int] = []
        for place, target in enumerate(targets):
            leaf = graph.loaded(target, offset)
            if not leaves or leaves[-1] != leaf:
                places.append(place)
                leaves.append(leaf)
        if len(leaves) == 1:
            return targets[0]
        starts = [starts[place] for place in places]
        return graph.load(offset, graph.search(starts, leaves, [1] * len(leaves)))


class _Values:
    """All values of an argument, in ranges with a target each."""

    __slots__ = ("_top", "starts", "targets")

    def __init__(self, top: int, target: int) -> None:
        self._top = top
        self.starts = [0]
        self.targets = [target]

    def _find(self, value: int) -> int:
        """Return the place of the range that holds `value`."""
        first, last = 0, len(self.starts) - 1
        while first < last:
            place = (first + last + 1) // 2
            if self.starts[place] <= value:
                first = place
            else:
                last = place - 1
        return first

    def paint(self, first: int, last: int, target: int) -> None:
        """Give the values `first` to `last` a new target."""
        low, high = self._find(first), self._find(last)
        starts, targets = [first], [target]
        if self.starts[low] < first:
            starts.insert(0, self.starts[low])
            targets.insert(0, self.targets[low])
        ends = self.starts[high + 1] - 1 if high + 1 < len(self.starts) else self._top
        if last < ends:
            starts.append(last + 1)
            targets.append(self.targets[high])
        self.starts[low : high + 1] = starts
        self.targets[low : high + 1] = targets

    def halves(self) -> list[tuple[int, list[int], list[int]]]:
        """Return each upper word where something changes, with the ranges of the lower word."""
        highs = {start >> 32 for start in self.starts}
        highs |= {(start >> 32) + 1 for start in self.starts if start & _LOWER}
        found = []
        for high in sorted(highs - {1 << 32}):
            place = self._find(high << 32)
            starts, targets = [0], [self.targets[place]]
            for later in range(place + 1, len(self.starts)):
                if self.starts[later] >> 32 != high:
                    break
                starts.append(self.starts[later] & _LOWER)
                targets.append(self.targets[later])
            found.append((high, starts, targets))
        return found


def _only_argument(rule: Rule) -> int | None:
    """Return the argument that all conditions of `rule` compare as a whole, if there is one."""
    indexes = {-1 if each.op == "MASKED_EQ" else each.index for each in rule.conditions}
    index = indexes.pop() if len(indexes) == 1 else -1
    return None if index < 0 else index


def _intervals(condition: Condition, top: int) -> list[tuple[int, int]]:
    """Return the values up to `top` for which a comparison other than MASKED_EQ holds."""
    value = condition.value & top
    found = {
        "EQ": [(value, value)],
        "NE": [(0, value - 1), (value + 1, top)],
        "LT": [(0, value - 1)],
        "LE": [(0, value)],
        "GE": [(value, top)],
        "GT": [(value + 1, top)],
    }[condition.op]
    return [(first, last) for first, last in found if first <= last]


def _common(
    left: Sequence[tuple[int, int]], right: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the values that lie in both of two lists of intervals."""
    both = [(max(a, c), min(b, d)) for a, b in left for c, d in right]
    return [(first, last) for first, last in both if first <= last]
