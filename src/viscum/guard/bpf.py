"""Classic BPF as seccomp(2) uses it: programs laid out from a graph of instructions.

A seccomp filter sees one record, `struct seccomp_data` of linux/seccomp.h: the call's number at
offset 0, the architecture at 4, the instruction pointer at 8 and six 64-bit arguments from 16
on. It reads it in words of 32 bits and returns a SECCOMP_RET_* value. An instruction is
`struct sock_filter` of linux/filter.h: a code, two jump distances of 8 bits, one operand.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    ByteOrder = Literal["little", "big"]
    Node = tuple[int, int, int, int]
    """A code, the nodes that follow when true and when false, and the operand."""

__all__ = ["Graph", "disassemble", "simulate"]

LOAD, MASK, RETURN, GOTO = 0x20, 0x54, 0x06, 0x05
JEQ, JGT, JGE, JSET = 0x15, 0x25, 0x35, 0x45
NR, ARCH, POINTER, ARGUMENTS, RECORD = 0, 4, 8, 16, 64

INSTRUCTION_SIZE = 8
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS: the kernel refuses longer programs."""
_FAR = 255
_NONE = -1
_SHAPES = {
    2: ((0, 2, 2, (1,)),),
    3: ((0, 2, 2, (1, 3)), (1, 3, 3, (0, 2)), (0, 3, 3, (1, 2))),
    4: ((0, 2, 4, (1, 3)),),
}
"""By the number of ranges less one: which of them may share a target, and the others."""


class Graph:
    """Instructions that name their successors; equal ones are one node.

    A node is an index. What it leads to exists before it and has a smaller one.
    """

    __slots__ = ("_index", "_nodes")

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._index: dict[Node, int] = {}

    def _add(self, node: Node) -> int:
        index = self._index.get(node)
        if index is None:
            index = self._index[node] = len(self._nodes)
            self._nodes.append(node)
        return index

    def ret(self, value: int) -> int:
        """Return the node that ends the program with `value`."""
        return self._add((RETURN, _NONE, _NONE, value))

    def load(self, offset: int, then: int) -> int:
        """Return the node that reads the word at `offset` of the record."""
        return self._add((LOAD, then, _NONE, offset))

    def mask(self, bits: int, then: int) -> int:
        """Return the node that keeps only `bits` of the word."""
        return self._add((MASK, then, _NONE, bits))

    def jump(self, code: int, value: int, then: int, otherwise: int) -> int:
        """Return the node that compares the word with `value`, or what both ways lead to."""
        if then == otherwise:
            return then
        node = (code, then, otherwise, value)
        index = self._index.get(node)
        if index is None:
            index = self._index[node] = len(self._nodes)
            self._nodes.append(node)
        return index

    def loaded(self, node: int, offset: int) -> int:
        """Return where `node` leads when the word at `offset` has just been read."""
        code, then, _, operand = self._nodes[node]
        return then if code == LOAD and operand == offset else node

    def search(self, starts: Sequence[int], targets: Sequence[int], weights: Sequence[int]) -> int:
        """Return the node of a tree that leads a word to its target.

        Range `i` begins at `starts[i]`, ends before the next and leads to `targets[i]`;
        neighbours differ. Ranges of more weight come to lie nearer to the root.
        """
        total = 0
        sums = [0]
        for weight in weights:
            total += weight
            sums.append(total)
        jump = self.jump

        def tree(low: int, high: int) -> int:
            size = high - low
            if size < 2:
                return jump(JGE, starts[high], targets[high], targets[low])
            if size in _SHAPES:
                picks = _singles(starts, targets, low, size)
                if picks:
                    node = targets[low + (1 if picks[0] == 0 else 0)]
                    for pick in picks:
                        node = jump(JEQ, starts[low + pick], targets[low + pick], node)
                    return node
            middle = _middle(sums, low, high)
            right = targets[high] if middle == high else tree(middle, high)
            left = targets[low] if middle == low + 1 else tree(low, middle - 1)
            return jump(JGE, starts[middle], right, left)

        return tree(0, len(starts) - 1)

    def assemble(self, root: int, byteorder: ByteOrder) -> bytes:
        """Return the program that begins at `root`.

        It is written from its end: what a node leads to is already there, and the distance
        known. A jump further than 255 instructions goes over a copy of the return it leads
        to, or over an unconditional jump.
        """
        out: list[Node] = []
        places = self._used(root)
        for index, (code, then, otherwise, operand) in enumerate(self._nodes):
            if not places[index]:
                continue
            size = len(out)
            if otherwise >= 0:
                first, second = size - places[then], size - places[otherwise]
                if first > _FAR or second > _FAR:
                    self._reach(then, otherwise, out, places)
                    size = len(out)
                    first, second = size - places[then], size - places[otherwise]
                out.append((code, first, second, operand))
            else:
                if then >= 0 and places[then] != size:
                    self._relay(then, out, places)
                out.append((code, 0, 0, operand))
            places[index] = len(out)
        return _encode(out, byteorder)

    def _used(self, root: int) -> list[int]:
        """Return a list with 1 at every node that `root` leads to and 0 elsewhere.

        `assemble` replaces each 1 by the length of the program from that node to the end.
        """
        nodes = self._nodes
        used = [0] * len(nodes)
        used[root] = 1
        for index in range(root, -1, -1):
            if used[index]:
                _, then, otherwise, _ = nodes[index]
                if then >= 0:
                    used[then] = 1
                    if otherwise >= 0:
                        used[otherwise] = 1
        return used

    def _reach(self, then: int, otherwise: int, out: list[Node], places: list[int]) -> None:
        """Bring what a jump leads to within its reach."""
        for target in (then, otherwise, then):
            if len(out) - places[target] > _FAR:
                self._relay(target, out, places)

    def _relay(self, target: int, out: list[Node], places: list[int]) -> None:
        """Put a way to `target` at the front of the program."""
        code, _, _, operand = self._nodes[target]
        if code == RETURN:
            out.append((RETURN, 0, 0, operand))
        else:
            out.append((GOTO, 0, 0, len(out) - places[target]))
        places[target] = len(out)


def _singles(starts: Sequence[int], targets: Sequence[int], low: int, size: int) -> tuple[int, ...]:
    """Return the places of the one or two single words among ranges that else lead to one target.

    There are none where the `size` + 1 ranges from `low` are not like that.
    """
    last = len(starts) - 1 - low
    for first, second, third, picks in _SHAPES[size]:
        if targets[low + first] == targets[low + second] == targets[low + third]:
            for pick in picks:
                if pick == last or starts[low + pick + 1] - starts[low + pick] != 1:
                    break
            else:
                return picks
    return ()


def _middle(sums: Sequence[int], low: int, high: int) -> int:
    """Return the first range of the upper half of `low` to `high`, by weight."""
    half = (sums[low] + sums[high + 1]) >> 1
    first, last = low + 1, high
    while first < last:
        index = (first + last) >> 1
        if sums[index] < half:
            first = index + 1
        else:
            last = index
    if first - 1 > low and half - sums[first - 1] < sums[first] - half:
        return first - 1
    return first


def _encode(backwards: list[Node], byteorder: ByteOrder) -> bytes:
    """Return the bytes of the program whose last instruction comes first in `backwards`."""
    backwards.reverse()
    if byteorder == "little":
        return b"".join(
            [
                (code | then << 16 | otherwise << 24 | operand << 32).to_bytes(8, "little")
                for code, then, otherwise, operand in backwards
            ]
        )
    return b"".join(
        [
            (code << 48 | then << 40 | otherwise << 32 | operand).to_bytes(8, "big")
            for code, then, otherwise, operand in backwards
        ]
    )


def simulate(
    program: bytes,
    nr: int,
    arch: int,
    args: tuple[int, ...] = (0,) * 6,
    ip: int = 0,
) -> int:
    """Return the SECCOMP_RET_* value that `program` answers to a call.

    `nr` is the call's number and `arch` its AUDIT_ARCH_* value, which also tells the byte
    order. Raises ValueError for a program that the kernel would not load.
    """
    from .simulator import simulate as answer

    return answer(program, nr, arch, args, ip)


def disassemble(program: bytes, byteorder: ByteOrder = "little") -> list[str]:
    """Return `program` as text, one instruction a line; jumps name the line they lead to."""
    from .simulator import disassemble as lines

    return lines(program, byteorder)
