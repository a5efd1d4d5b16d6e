"""Classic BPF as seccomp(2) uses it: programs built from a graph, printed, and simulated.

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
    Instruction = tuple[int, int, int, int]
    """The code, the distances when true and when false, and the operand."""

__all__ = ["Graph", "check", "decode", "disassemble", "run", "simulate"]

LOAD, MASK, RETURN, GOTO = 0x20, 0x54, 0x06, 0x05
JEQ, JGT, JGE, JSET = 0x15, 0x25, 0x35, 0x45
NR, ARCH, POINTER, ARGUMENTS, RECORD = 0, 4, 8, 16, 64

INSTRUCTION_SIZE = 8
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS: the kernel refuses longer programs."""
_FAR = 255
_NONE = -1

ACTIONS = {
    0x00000000: "kill_thread",
    0x00030000: "trap",
    0x00050000: "errno",
    0x7FC00000: "notify",
    0x7FF00000: "trace",
    0x7FFC0000: "log",
    0x7FFF0000: "allow",
    0x80000000: "kill_process",
}
"""The upper half of a SECCOMP_RET_* value and what it is called."""


class Graph:
    """Instructions that name their successors; equal ones are one node.

    A node is an index. Successors exist before what leads to them, so that there are no cycles.
    """

    __slots__ = ("_index", "_nodes")

    def __init__(self) -> None:
        self._nodes: list[Instruction] = []
        self._index: dict[Instruction, int] = {}

    def _add(self, node: Instruction) -> int:
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
        return then if then == otherwise else self._add((code, then, otherwise, value))

    def loaded(self, node: int, offset: int) -> int:
        """Return where `node` leads when the word at `offset` has just been read."""
        code, then, _, operand = self._nodes[node]
        return then if code == LOAD and operand == offset else node

    def search(self, starts: Sequence[int], targets: Sequence[int], weights: Sequence[int]) -> int:
        """Return the node of a tree that leads a word to its target.

        Range `i` begins at `starts[i]`, ends before the next and leads to `targets[i]`;
        neighbours differ. Ranges of more weight come to lie nearer to the root.
        """
        sums = [0]
        for weight in weights:
            sums.append(sums[-1] + weight)

        def tree(low: int, high: int) -> int:
            if low == high:
                return targets[low]
            singles = _singles(starts, targets, low, high) if high - low < _CHAIN else None
            if singles is not None:
                node, picks = singles
                for pick in picks:
                    node = self.jump(JEQ, starts[pick], targets[pick], node)
                return node
            middle = _middle(sums, low, high)
            right = tree(middle, high)
            return self.jump(JGE, starts[middle], right, tree(low, middle - 1))

        return tree(0, len(starts) - 1)

    def assemble(self, root: int, byteorder: ByteOrder) -> bytes:
        """Return the program that begins at `root`.

        It is written from its end: what a node leads to is already there, and the distance
        known. A jump further than 255 instructions goes over a copy of the return it leads
        to, or over an unconditional jump.
        """
        nodes = self._nodes
        out: list[Instruction] = []
        places: dict[int, int] = {}
        stack = [root]
        while stack:
            node = stack[-1]
            code, then, otherwise, operand = nodes[node]
            if node in places:
                stack.pop()
            elif then >= 0 and then not in places:
                stack.append(then)
            elif otherwise >= 0 and otherwise not in places:
                stack.append(otherwise)
            else:
                stack.pop()
                if otherwise >= 0:
                    self._reach(then, otherwise, out, places)
                    size = len(out) - 1
                    out.append((code, size - places[then], size - places[otherwise], operand))
                else:
                    if then >= 0 and places[then] != len(out) - 1:
                        self._relay(then, out, places)
                    out.append((code, 0, 0, operand))
                places[node] = len(out) - 1
        return _encode(out, byteorder)

    def _reach(self, then: int, otherwise: int, out: list[Instruction], places: dict[int, int]) -> None:
        """Bring what a jump leads to within its reach."""
        for target in (then, otherwise, then):
            if len(out) - 1 - places[target] > _FAR:
                self._relay(target, out, places)

    def _relay(self, target: int, out: list[Instruction], places: dict[int, int]) -> None:
        """Put a way to `target` at the front of the program."""
        code, _, _, operand = self._nodes[target]
        if code == RETURN:
            out.append((RETURN, 0, 0, operand))
        else:
            out.append((GOTO, 0, 0, len(out) - 1 - places[target]))
        places[target] = len(out) - 1


_CHAIN = 5
_PICKS = 2


def _singles(
    starts: Sequence[int], targets: Sequence[int], low: int, high: int
) -> tuple[int, list[int]] | None:
    """Return the target of the ranges `low` to `high` and the few single words that differ."""
    base = _NONE
    picks = []
    last = len(starts) - 1
    for index in range(low, high + 1):
        if index < last and starts[index + 1] - starts[index] == 1:
            picks.append(index)
        elif base == _NONE:
            base = targets[index]
        elif base != targets[index]:
            return None
    if base == _NONE:
        base = targets[picks.pop()]
    return (base, picks) if len(picks) <= _PICKS else None


def _middle(sums: Sequence[int], low: int, high: int) -> int:
    """Return the first range of the upper half of `low` to `high`, by weight."""
    half = (sums[low] + sums[high + 1]) / 2
    first, last = low + 1, high
    while first < last:
        index = (first + last) // 2
        if sums[index] < half:
            first = index + 1
        else:
            last = index
    if first - 1 > low and half - sums[first - 1] < sums[first] - half:
        return first - 1
    return first


def _encode(backwards: list[Instruction], byteorder: ByteOrder) -> bytes:
    """Return the bytes of the program whose last instruction comes first in `backwards`."""
    backwards.reverse()
    if byteorder == "little":
        return b"".join([
            (code | then << 16 | otherwise << 24 | operand << 32).to_bytes(8, "little")
            for code, then, otherwise, operand in backwards
        ])
    return b"".join([
        (code << 48 | then << 40 | otherwise << 32 | operand).to_bytes(8, "big")
        for code, then, otherwise, operand in backwards
    ])


def decode(program: bytes, byteorder: ByteOrder = "little") -> list[Instruction]:
    """Return the instructions of `program`.

    Raises ValueError if its length is not that of a program.
    """
    if not program or len(program) % INSTRUCTION_SIZE:
        raise ValueError(f"a program of {len(program)} bytes is not made of whole instructions")
    found = []
    for place in range(0, len(program), INSTRUCTION_SIZE):
        raw = program[place : place + INSTRUCTION_SIZE]
        code = int.from_bytes(raw[:2], byteorder)
        found.append((code, raw[2], raw[3], int.from_bytes(raw[4:], byteorder)))
    return found


# What seccomp_check_filter() of kernel/seccomp.c lets through besides the jumps.
_LOAD_LENGTH, _LOADX_LENGTH = 0x80, 0x81
_LOAD_IMMEDIATE, _LOADX_IMMEDIATE = 0x00, 0x01
_LOAD_MEMORY, _LOADX_MEMORY, _STORE, _STOREX = 0x60, 0x61, 0x02, 0x03
_TAX, _TXA, _RETURN_A, _NEGATE = 0x07, 0x87, 0x16, 0x84
_ALU = {0x00: "add", 0x10: "sub", 0x20: "mul", 0x30: "div", 0x40: "or", 0x50: "and",
        0x60: "lsh", 0x70: "rsh", 0xA0: "xor"}
_JUMPS = {0x10: "jeq", 0x20: "jgt", 0x30: "jge", 0x40: "jset"}
_MEMORY = 16
_WORD = 0xFFFFFFFF
_PLAIN = {
    _LOAD_LENGTH: "ld len",
    _LOADX_LENGTH: "ldx len",
    _LOAD_IMMEDIATE: "ld #{:#x}",
    _LOADX_IMMEDIATE: "ldx #{:#x}",
    _LOAD_MEMORY: "ld M[{}]",
    _LOADX_MEMORY: "ldx M[{}]",
    _STORE: "st M[{}]",
    _STOREX: "stx M[{}]",
    _TAX: "tax",
    _TXA: "txa",
    _RETURN_A: "ret a",
    _NEGATE: "neg",
}


def _kind(code: int) -> str:
    """Return "alu", "jump", "" for another instruction that is allowed; else raise."""
    if code & 0x07 == 0x04 and code & 0xF0 in _ALU and code <= _WORD >> 24:
        return "alu"
    if code & 0x07 == 0x05 and code & 0xF0 in _JUMPS and code <= _WORD >> 24:
        return "jump"
    if code in _PLAIN or code in (LOAD, RETURN, GOTO):
        return ""
    raise ValueError(f"instruction {code:#x} is not one that seccomp takes")


def check(instructions: Sequence[Instruction]) -> None:
    """Refuse with ValueError what the kernel would refuse to load."""
    size = len(instructions)
    if not 0 < size <= MAX_INSTRUCTIONS:
        raise ValueError(f"a program of {size} instructions; there may be 1 to {MAX_INSTRUCTIONS}")
    for place, (code, then, otherwise, operand) in enumerate(instructions):
        kind = _kind(code)
        if kind == "jump":
            reach = place + 1 + max(then, otherwise)
        else:
            reach = place + 1 + (operand if code == GOTO else 0)
            reach -= code in (RETURN, _RETURN_A)
        fine = reach < size
        if code == LOAD:
            fine = fine and operand < RECORD and operand % 4 == 0
        elif code in (_LOAD_MEMORY, _LOADX_MEMORY, _STORE, _STOREX):
            fine = fine and operand < _MEMORY
        elif kind == "alu" and not code & 0x08:
            fine = fine and (operand != 0 if code & 0xF0 == 0x30 else True)
            fine = fine and (operand < 32 if code & 0xF0 in (0x60, 0x70) else True)
        if not fine:
            raise ValueError(f"instruction {place} of {size} ({code:#x}) reaches outside: {operand:#x}")


def _record(nr: int, arch: int, args: Sequence[int], ip: int, *, big: bool) -> list[int]:
    """Return the words of the record that a filter reads."""
    words = [nr & _WORD, arch & _WORD]
    for value in (ip, *args):
        pair = (value & _WORD, value >> 32 & _WORD)
        words += reversed(pair) if big else pair
    return words + [0] * (RECORD // 4 - len(words))


def _compute(operation: int, left: int, right: int) -> int | None:
    """Return what an arithmetic instruction makes of two words; None divides by zero."""
    if operation == 0x30:
        return left // right if right else None
    if operation in (0x60, 0x70):
        right &= 31
    return {
        0x00: left + right,
        0x10: left - right,
        0x20: left * right,
        0x40: left | right,
        0x50: left & right,
        0x60: left << right,
        0x70: left >> right,
        0xA0: left ^ right,
    }[operation] & _WORD


def _compare(operation: int, left: int, right: int) -> bool:
    """Return whether a jump is taken."""
    if operation == 0x10:
        return left == right
    if operation == 0x20:
        return left > right
    return left >= right if operation == 0x30 else bool(left & right)


def run(instructions: Sequence[Instruction], words: Sequence[int]) -> int:
    """Return what a checked program answers to the record `words`."""
    a = x = place = 0
    memory = [0] * _MEMORY
    while True:
        code, then, otherwise, operand = instructions[place]
        place += 1
        if code == LOAD:
            a = words[operand >> 2]
        elif code & 0x07 == 0x05 and code != GOTO:
            place += then if _compare(code & 0xF0, a, x if code & 0x08 else operand) else otherwise
        elif code == GOTO:
            place += operand
        elif code == RETURN:
            return operand
        elif code == _RETURN_A:
            return a
        elif code & 0x07 == 0x04 and code != _NEGATE:
            result = _compute(code & 0xF0, a, x if code & 0x08 else operand)
            if result is None:
                return 0
            a = result
        else:
            a, x = _move(code, operand, a, x, memory)


def _move(code: int, operand: int, a: int, x: int, memory: list[int]) -> tuple[int, int]:
    """Run an instruction that only moves words; return both registers."""
    if code in (_STORE, _STOREX):
        memory[operand] = a if code == _STORE else x
        return a, x
    if code in (_LOADX_IMMEDIATE, _LOADX_LENGTH, _LOADX_MEMORY, _TAX):
        sources = {_LOADX_IMMEDIATE: operand, _LOADX_LENGTH: RECORD, _TAX: a}
        return a, sources[code] if code in sources else memory[operand]
    sources = {_LOAD_IMMEDIATE: operand, _LOAD_LENGTH: RECORD, _TXA: x, _NEGATE: -a & _WORD}
    return sources[code] if code in sources else memory[operand], x


_latest: tuple[bytes, str, list[Instruction]] | None = None


def simulate(
    program: bytes,
    nr: int,
    arch: int,
    args: tuple[int, ...] = (0,) * 6,
    ip: int = 0,
    *,
    byteorder: ByteOrder | None = None,
) -> int:
    """Return the SECCOMP_RET_* value that `program` answers to a call.

    `nr` is the call's number, `arch` its AUDIT_ARCH_* value; `byteorder` is that of the machine
    the program is for, by default the one that `arch` has. Raises ValueError for a program that
    the kernel would not load.
    """
    global _latest  # noqa: PLW0603 - the same program is asked again and again
    order: ByteOrder = byteorder or ("little" if arch & 0x40000000 else "big")
    latest = _latest
    if latest is None or latest[0] is not program or latest[1] != order:
        instructions = decode(program, order)
        check(instructions)
        latest = _latest = program, order, instructions
    return run(latest[2], _record(nr, arch, args, ip, big=order == "big"))


def action_name(value: int) -> str:
    """Return a SECCOMP_RET_* value as a person writes it, such as `errno 1`."""
    name = ACTIONS.get(value & 0xFFFF0000, f"{value & 0xFFFF0000:#010x}")
    data = value & 0xFFFF
    return f"{name} {data}" if data or name in ("errno", "trace") else name


def _word_name(offset: int, byteorder: ByteOrder) -> str:
    """Return what lies at `offset` of the record."""
    if offset < ARGUMENTS:
        names = {NR: "nr", ARCH: "arch", POINTER: "ip", POINTER + 4: "ip+4"}
        return names.get(offset, f"+{offset}")
    index, rest = divmod(offset - ARGUMENTS, 8)
    low = rest == (0 if byteorder == "little" else 4)
    return f"arg{index}.{'low' if low else 'high'}"


def disassemble(program: bytes, byteorder: ByteOrder = "little") -> list[str]:
    """Return `program` as text, one instruction a line; jumps name the line they lead to."""
    lines = []
    for place, (code, then, otherwise, operand) in enumerate(decode(program, byteorder)):
        kind = _kind(code)
        source = "x" if code & 0x08 else f"{operand:#x}"
        if kind == "jump":
            name = _JUMPS[code & 0xF0]
            text = f"{name} {source} ? {place + 1 + then} : {place + 1 + otherwise}"
        elif kind == "alu":
            text = f"{_ALU[code & 0xF0]} {source}"
        elif code == LOAD:
            text = f"ld {_word_name(operand, byteorder)}"
        elif code == RETURN:
            text = f"ret {action_name(operand)}"
        elif code == GOTO:
            text = f"jmp {place + 1 + operand}"
        else:
            text = _PLAIN[code].format(operand)
        lines.append(f"{place:4}: {text}")
    return lines
