"""Device rules as a BPF program for cgroup v2, and as lines for cgroup v1.

The last rule that matches decides, as with the files of version 1; what no rule matches is denied.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DEFAULT_RULES", "device_lines", "device_program"]

_ACCESS = {"m": 1, "r": 2, "w": 4}
_KINDS = {"b": 1, "c": 2}
_ALL = 7
_LOAD, _MOV, _COPY, _AND, _SHIFT, _EXIT = 0x61, 0xB4, 0xBC, 0x54, 0x74, 0x95
_JNE, _JEQ = 0x56, 0x16
"""Instructions on 32 bits (linux/bpf.h)."""


def _rule(kind: str, major: int, minor: int, access: str = "rwm") -> dict[str, Any]:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


DEFAULT_RULES = (
    _rule("c", -1, -1, "m"),
    _rule("b", -1, -1, "m"),
    _rule("c", 1, 3),
    _rule("c", 1, 5),
    _rule("c", 1, 7),
    _rule("c", 1, 8),
    _rule("c", 1, 9),
    _rule("c", 5, 0),
    _rule("c", 5, 1),
    _rule("c", 5, 2),
    _rule("c", 136, -1),
)
"""What every container may use: the nodes that it is given, and terminals."""


def _numbers(rule: dict[str, Any]) -> tuple[int, int]:
    return rule.get("major", -1), rule.get("minor", -1)


def device_lines(rules: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (file, line) of the devices controller of version 1 for each rule, in order."""
    return [("devices.allow" if rule["allow"] else "devices.deny", _line(rule)) for rule in rules]


def _line(rule: dict[str, Any]) -> str:
    kind = rule.get("type") or "a"
    if kind == "a":
        return "a"
    major, minor = ("*" if number < 0 else str(number) for number in _numbers(rule))
    return f"{'c' if kind == 'u' else kind} {major}:{minor} {rule.get('access') or 'rwm'}"


def _instruction(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return (
        bytes((code, dst | src << 4))
        + (off & 0xFFFF).to_bytes(2, "little")
        + (imm & 0xFFFFFFFF).to_bytes(4, "little")
    )


def _compile_rule(rule: dict[str, Any]) -> list[bytes]:
    """Return the instructions of one rule; r2 is the type, r3 the access, r4 and r5 the numbers."""
    kind = rule.get("type") or "a"
    mask = sum(_ACCESS[letter] for letter in set(rule.get("access") or "rwm") if letter in _ACCESS)
    answer = [_instruction(_MOV, 0, 0, 0, int(rule["allow"])), _instruction(_EXIT)]
    if kind == "a":
        return answer
    tests = [(_JNE, 2, _KINDS["c" if kind == "u" else kind])]
    tests += [(_JNE, 4 + at, n) for at, n in enumerate(_numbers(rule)) if n >= 0]
    access: list[bytes] = []
    if mask != _ALL:
        # All that is asked for must be allowed; one thing that is denied is enough.
        kept = ~mask if rule["allow"] else mask
        access = [_instruction(_COPY, 1, 3), _instruction(_AND, 1, 0, 0, kept)]
    last = [(_JNE if rule["allow"] else _JEQ, 1, 0)] if access else []
    size = len(tests) + len(access) + len(last) + len(answer)
    made: list[bytes] = []
    for code, register, value in tests:
        made.append(_instruction(code, register, 0, size - len(made) - 1, value))
    made += access
    for code, register, value in last:
        made.append(_instruction(code, register, 0, size - len(made) - 1, value))
    return made + answer


def device_program(rules: list[dict[str, Any]]) -> bytes:
    """Return the program (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE) that decides by `rules`."""
    parts = [
        _instruction(_LOAD, 2, 1, 0),  # r2 = type, and access above it
        _instruction(_COPY, 3, 2),
        _instruction(_AND, 2, 0, 0, 0xFFFF),
        _instruction(_SHIFT, 3, 0, 0, 16),
        _instruction(_LOAD, 4, 1, 4),
        _instruction(_LOAD, 5, 1, 8),
    ]
    for rule in reversed(rules):
        parts += _compile_rule(rule)
        if (rule.get("type") or "a") == "a":
            break  # it matches everything: no earlier rule is asked
    else:
        parts += [_instruction(_MOV, 0, 0, 0, 0), _instruction(_EXIT)]
    return b"".join(parts)
