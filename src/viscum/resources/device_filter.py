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
_JNE, _JEQ, _JA = 0x55, 0x15, 0x05


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
    lines = []
    for rule in rules:
        file = "devices.allow" if rule["allow"] else "devices.deny"
        kind = rule.get("type") or "a"
        if kind == "a":
            lines.append((file, "a"))
            continue
        major, minor = ("*" if number < 0 else str(number) for number in _numbers(rule))
        access = rule.get("access") or "rwm"
        for each in ("c", "b") if kind == "u" else (kind,):
            lines.append((file, f"{each} {major}:{minor} {access}".replace("u ", "c ")))
    return lines


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
    tests: list[tuple[int, int, int]] = []
    if kind != "a":
        tests.append((_JNE, 2, _KINDS["c" if kind == "u" else kind]))
        tests += [(_JNE, 4 + at, n) for at, n in enumerate(_numbers(rule)) if n >= 0]
    body = []
    if mask != 7 and kind != "a":
        body.append(_instruction(0xBC, 1, 3))  # w1 = w3
        if rule["allow"]:  # every access that is asked for must be allowed
            body.append(_instruction(0x54, 1, 0, 0, ~mask))
            tests_after = _JNE
        else:  # one that is denied is enough
            body.append(_instruction(0x54, 1, 0, 0, mask))
            tests_after = _JEQ
        body.append((tests_after, 1, 0))  # type: ignore[arg-type]
    parts: list[Any] = [*tests, *body]
    answer = [_instruction(0xB4, 0, 0, 0, int(rule["allow"])), _instruction(0x95)]
    total = len(parts) + len(answer)
    made = []
    for at, part in enumerate(parts):
        if isinstance(part, tuple):
            code, register, value = part
            part = _instruction(code + 1, register, 0, total - at - 1, value)  # 32 bits wide
        made.append(part)
    return made + answer


def device_program(rules: list[dict[str, Any]]) -> bytes:
    """Return the program (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE) that decides by `rules`."""
    head = [
        _instruction(0x61, 2, 1, 0),  # r2 = type and access
        _instruction(0xBC, 3, 2),
        _instruction(0x54, 2, 0, 0, 0xFFFF),
        _instruction(0x74, 3, 0, 0, 16),
        _instruction(0x61, 4, 1, 4),
        _instruction(0x61, 5, 1, 8),
    ]
    parts = list(head)
    for rule in reversed(rules):
        parts += _compile_rule(rule)
        if (rule.get("type") or "a") == "a":
            break  # it matches everything: no earlier rule is asked
    else:
        parts += [_instruction(0xB4, 0, 0, 0, 0), _instruction(0x95)]
    return b"".join(parts)
