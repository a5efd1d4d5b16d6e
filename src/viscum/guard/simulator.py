"""What reads filter programs: a decoder, a simulator of the kernel's machine, a disassembler."""

from __future__ import annotations

from .bpf import (
    ARCH,
    ARGUMENTS,
    GOTO,
    INSTRUCTION_SIZE,
    LOAD,
    MAX_INSTRUCTIONS,
    NR,
    POINTER,
    RECORD,
    RETURN,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .bpf import ByteOrder

    Instruction = tuple[int, int, int, int]
    """The code, the distances when true and when false, and the operand."""

__all__ = ["action_name", "check", "decode", "disassemble", "record", "run", "simulate"]

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
_ADD, _SUB, _MUL, _DIV, _OR, _AND, _LSH, _RSH, _XOR = (
    0x00,
    0x10,
    0x20,
    0x30,
    0x40,
    0x50,
    0x60,
    0x70,
    0xA0,
)
_ALU = {
    _ADD: "add",
    _SUB: "sub",
    _MUL: "mul",
    _DIV: "div",
    _OR: "or",
    _AND: "and",
    _LSH: "lsh",
    _RSH: "rsh",
    _XOR: "xor",
}
_JUMPS = {0x10: "jeq", 0x20: "jgt", 0x30: "jge", 0x40: "jset"}
_CLASS, _OPERATION, _FROM_X = 0x07, 0xF0, 0x08
_ALU_CLASS, _JUMP_CLASS = 0x04, 0x05
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
    """Return "alu", "jump", or "" for another instruction that is allowed; else raise."""
    if code <= 0xFF and code & _CLASS == _ALU_CLASS and code & _OPERATION in _ALU:
        return "alu"
    if code <= 0xFF and code & _CLASS == _JUMP_CLASS and code & _OPERATION in _JUMPS:
        return "jump"
    if code in _PLAIN or code in (LOAD, RETURN, GOTO):
        return ""
    raise ValueError(f"instruction {code:#x} is not one that seccomp takes")


def _operand_fits(code: int, operand: int) -> bool:
    """Return whether the kernel takes the operand of an instruction."""
    if code == LOAD:
        return operand < RECORD and operand % 4 == 0
    if code in (_LOAD_MEMORY, _LOADX_MEMORY, _STORE, _STOREX):
        return operand < _MEMORY
    if code == _ALU_CLASS | _DIV:
        return operand != 0
    return code not in (_ALU_CLASS | _LSH, _ALU_CLASS | _RSH) or operand < 32


def check(instructions: Sequence[Instruction]) -> None:
    """Refuse with ValueError what the kernel would refuse to load."""
    size = len(instructions)
    if not 0 < size <= MAX_INSTRUCTIONS:
        raise ValueError(f"{size} instructions; a program has 1 to {MAX_INSTRUCTIONS}")
    for place, (code, then, otherwise, operand) in enumerate(instructions):
        if _kind(code) == "jump":
            furthest = place + 1 + max(then, otherwise)
        elif code in (RETURN, _RETURN_A):
            furthest = place
        else:
            furthest = place + 1 + (operand if code == GOTO else 0)
        if furthest >= size or not _operand_fits(code, operand):
            raise ValueError(f"instruction {place} ({code:#x}) of {size} reaches too far")


def record(nr: int, arch: int, args: Sequence[int], ip: int, *, big: bool) -> list[int]:
    """Return the words of the record that a filter reads."""
    words = [nr & _WORD, arch & _WORD]
    for value in (ip, *args):
        pair = (value & _WORD, value >> 32 & _WORD)
        words += reversed(pair) if big else pair
    return words + [0] * (RECORD // 4 - len(words))


def _compute(operation: int, left: int, right: int) -> int | None:
    """Return what an arithmetic instruction makes of two words; None divides by zero."""
    if operation == _DIV:
        return left // right if right else None
    return {
        _ADD: left + right,
        _SUB: left - right,
        _MUL: left * right,
        _OR: left | right,
        _AND: left & right,
        _LSH: left << (right & 31),
        _RSH: left >> (right & 31),
        _XOR: left ^ right,
    }[operation] & _WORD


def _compare(name: str, left: int, right: int) -> bool:
    """Return whether a jump is taken."""
    if name == "jeq":
        return left == right
    if name == "jgt":
        return left > right
    return left >= right if name == "jge" else bool(left & right)


def run(instructions: Sequence[Instruction], words: Sequence[int]) -> int:
    """Return what a checked program answers to the record `words`."""
    a = x = place = 0
    memory = [0] * _MEMORY
    while True:
        code, then, otherwise, operand = instructions[place]
        place += 1
        if code == LOAD:
            a = words[operand >> 2]
        elif code & _CLASS == _JUMP_CLASS and code != GOTO:
            right = x if code & _FROM_X else operand
            place += then if _compare(_JUMPS[code & _OPERATION], a, right) else otherwise
        elif code == GOTO:
            place += operand
        elif code == RETURN:
            return operand
        elif code == _RETURN_A:
            return a
        elif code & _CLASS == _ALU_CLASS and code != _NEGATE:
            result = _compute(code & _OPERATION, a, x if code & _FROM_X else operand)
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


def simulate(program: bytes, nr: int, arch: int, args: tuple[int, ...], ip: int) -> int:
    """Return what `program` answers to a call; see `viscum.guard.bpf.simulate`."""
    global _latest  # noqa: PLW0603 - the same program is asked again and again
    order: ByteOrder = "little" if arch & 0x40000000 else "big"
    latest = _latest
    if latest is None or latest[0] is not program or latest[1] != order:
        instructions = decode(program, order)
        check(instructions)
        latest = _latest = program, order, instructions
    return run(latest[2], record(nr, arch, args, ip, big=order == "big"))


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


def disassemble(program: bytes, byteorder: ByteOrder) -> list[str]:
    """Return `program` as text; see `viscum.guard.bpf.disassemble`."""
    lines = []
    for place, (code, then, otherwise, operand) in enumerate(decode(program, byteorder)):
        kind = _kind(code)
        source = "x" if code & _FROM_X else f"{operand:#x}"
        if kind == "jump":
            name = _JUMPS[code & _OPERATION]
            text = f"{name} {source} ? {place + 1 + then} : {place + 1 + otherwise}"
        elif kind == "alu":
            text = f"{_ALU[code & _OPERATION]} {source}"
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
