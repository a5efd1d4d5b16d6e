"""Reads seccomp profiles in JSON: Docker's format and the `linux.seccomp` object of OCI.

The meaning is the one that runc and libseccomp give a profile. Entries whose action is the
default action have no effect; an entry without `args` decides for its calls whatever other
entries say, and of several the first; two `args` for one argument are two entries. Where
conditions with different actions overlap, libseccomp's choice depends on its version; here the
first that holds decides. Calls newer than all that the profile names fail with ENOSYS where the
default would refuse them.

A profile comes from anywhere: every value is checked before it is used.
"""

from __future__ import annotations

import errno

from ..errors import SpecError
from .policy import (
    ALLOW,
    ARCHES,
    ENOSYS,
    ERRNO,
    FLAGS,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    MAX_ERRNO,
    NOTIFY,
    OPERATORS,
    TRACE,
    TRAP,
    Condition,
    Policy,
    Rule,
    arch_name,
)
from .syscalls import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Never

__all__ = ["read", "read_value"]

MAX_SIZE = 4 << 20
MAX_RULES = 1 << 16
"""More pairs of a call and a condition than any program of 4096 instructions holds."""

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
    "SCMP_ACT_ALLOW": ALLOW,
}
_OPERATORS = {f"SCMP_CMP_{name}": name for name in OPERATORS}
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_S390X": "s390x",
    "SCMP_ARCH_PPC64LE": "ppc64le",
}
_OTHERS = (
    "LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 PPC PPC64 "
    "S390 SH SHEB"
)
"""Architectures that have a name, without SCMP_ARCH_, but no table here."""
_DOCKER = {"x86_64": "amd64", "aarch64": "arm64"}
"""What `arches` of a condition calls an architecture, where it is not our name."""

_MULTIPLEXED = ("x86", "s390x", "ppc64le")
_SOCKETCALL = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto "
    "recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
_IPC = {
    "semop": 1,
    "semget": 2,
    "semctl": 3,
    "semtimedop": 4,
    "msgsnd": 11,
    "msgrcv": 12,
    "msgget": 13,
    "msgctl": 14,
    "shmat": 21,
    "shmdt": 22,
    "shmget": 23,
    "shmctl": 24,
}
_PARTS = {name: ("socketcall", place + 1) for place, name in enumerate(_SOCKETCALL.split())}
_PARTS |= {name: ("ipc", number) for name, number in _IPC.items()}
"""The call that reaches another one by number, and the number (linux/net.h, linux/ipc.h)."""


def _refuse(where: str, what: str, hint: str = "") -> Never:
    raise SpecError(f"seccomp profile: {where} {what}", hint=hint)


def _show(value: object) -> str:
    """Return `value` as an error message can hold it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = "null" if value is None else ascii(value)
    return text if len(text) <= 64 else f"{text[:60]}..."


class _Object:
    """A JSON object whose members are read with their types checked."""

    __slots__ = ("_members", "where")

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            _refuse(where or "the document", f"is {_show(value)}, not an object")
        self._members: dict[str, object] = value
        self.where = where

    def path(self, key: str) -> str:
        """Return where the member `key` is, for an error message."""
        return f"{self.where}.{key}" if self.where else key

    def __contains__(self, key: str) -> bool:
        return self._members.get(key) is not None

    def member(self, key: str) -> _Object:
        """Return an object; one that is missing or null is empty."""
        value = self._members.get(key)
        return _Object({} if value is None else value, self.path(key))

    def text(self, key: str) -> str:
        """Return a string; one that is missing or null is empty."""
        value = self._members.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            _refuse(self.path(key), f"is {_show(value)}, not a string")
        return value

    def number(self, key: str, top: int) -> int | None:
        """Return a whole number from 0 to `top`, or None."""
        value = self._members.get(key)
        if value is None:
            return None
        if type(value) is not int or not 0 <= value <= top:
            _refuse(self.path(key), f"is {_show(value)}, not a whole number up to {top}")
        return value

    def array(self, key: str) -> list[object]:
        """Return a list; one that is missing or null is empty."""
        value = self._members.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            _refuse(self.path(key), f"is {_show(value)}, not a list")
        return value

    def objects(self, key: str) -> Iterator[_Object]:
        """Yield the objects of a list."""
        for place, value in enumerate(self.array(key)):
            yield _Object(value, f"{self.path(key)}[{place}]")

    def texts(self, key: str) -> list[str]:
        """Return the strings of a list."""
        found = []
        for place, value in enumerate(self.array(key)):
            if not isinstance(value, str):
                _refuse(f"{self.path(key)}[{place}]", f"is {_show(value)}, not a string")
            found.append(value)
        return found

    def choice(self, key: str, choices: dict[str, int] | dict[str, str]) -> int | str:
        """Return what the string at `key` stands for."""
        name = self.text(key)
        if name not in choices:
            what = f"is {_show(name)}, which is not known" if key in self else "is missing"
            _refuse(self.path(key), what, f"one of {', '.join(choices)}")
        return choices[name]


def read(data: bytes, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> Policy:
    """Return the policy that the profile `data` asks for; see `profile.read_profile`."""
    return read_value(_parse(data), caps, arch, kernel)


def read_value(value: object, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> Policy:
    """Return the policy that a profile asks for which was read from JSON already."""
    host = arch_name(arch)
    document = _Object(value, "")
    default = _action(document, "defaultAction", "defaultErrnoRet", "defaultErrno")
    arches = _arches(document, host)
    held = frozenset(cap if cap[:4] == "CAP_" else f"CAP_{cap}" for cap in caps)
    entries = [
        entry
        for each in document.objects("syscalls")
        for entry in _entries(each, arches)
        if _applies(each, held, _DOCKER.get(host, host), kernel)
    ]
    if sum([len(entry.names) for entry in entries]) > MAX_RULES:
        _refuse("syscalls", f"make more than {MAX_RULES} rules", "merge entries")
    refuses = default & 0xFFFF0000 in (ERRNO, KILL_THREAD, KILL_PROCESS, TRAP)
    return Policy(
        default,
        _rules(entries, default),
        arches=arches,
        newer=ERRNO | ENOSYS if refuses else None,
        flags=_flags(document),
        unknown=_unknown(entries, arches),
        listener_path=document.text("listenerPath"),
        listener_metadata=document.text("listenerMetadata"),
    )


def _parse(data: bytes) -> object:
    """Return the value that `data` holds as JSON."""
    import json

    if len(data) > MAX_SIZE:
        _refuse("the document", f"has {len(data)} bytes", f"at most {MAX_SIZE} are read")
    try:
        return json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_not_a_number)
    except RecursionError:
        _refuse("the document", "is nested too deeply")
    except UnicodeDecodeError:
        _refuse("the document", "is not UTF-8")
    except json.JSONDecodeError as error:
        _refuse("the document", f"is not JSON: {error.msg.lower()} at byte {error.pos}")
    except SpecError:
        raise
    except ValueError:
        _refuse("the document", "holds a number of too many digits")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object's members; parsers differ on which of two equal names counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                _refuse("the document", f"has {_show(name)} twice in one object")
            seen.add(name)
    return members


def _not_a_number(text: str) -> Never:
    _refuse("the document", f"holds {text}, which JSON does not know")


def _action(entry: _Object, key: str, number: str, name: str) -> int:
    """Return the action at `key`, with the error number beside it."""
    action = entry.choice(key, ACTIONS)
    takes = {ERRNO: MAX_ERRNO, TRACE: 0xFFFF}
    if action not in takes:
        for each in (number, name):
            if each in entry and entry.text(key):
                _refuse(entry.path(each), f"is set, but {entry.text(key)} has no error number")
        return int(action)
    value = entry.number(number, takes[int(action)])
    if value is None:
        value = getattr(errno, entry.text(name) or "EPERM", None)
        if not isinstance(value, int) or entry.text(name)[:1] not in ("", "E"):
            _refuse(entry.path(name), f"is {_show(entry.text(name))}, no error's name")
    return int(action) | value


def _arches(document: _Object, host: str) -> tuple[str, ...]:
    """Return the architectures of the profile that a kernel of `host` runs, `host` first."""
    listed = [
        _arch(name, f"{document.path('architectures')}[{place}]")
        for place, name in enumerate(document.texts("architectures"))
    ]
    mapped: list[str] = []
    for entry in document.objects("archMap"):
        name = _arch(entry.text("architecture"), entry.path("architecture"))
        others = [
            _arch(other, f"{entry.path('subArchitectures')}[{place}]")
            for place, other in enumerate(entry.texts("subArchitectures"))
        ]
        if name == host and not mapped:
            mapped = [name, *others]
    if listed and document.array("archMap"):
        _refuse("architectures", "and archMap are both given", "give one of them")
    wanted = listed or mapped
    return (host, *[name for name in ARCHES[host].companions if name in wanted])


def _arch(name: str, where: str) -> str:
    """Return our name for an architecture, or an empty string for one without tables."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if name not in [f"SCMP_ARCH_{other}" for other in _OTHERS.split()]:
        _refuse(
            where, f"is {_show(name)}, which is not known", f"such as {', '.join(ARCHITECTURES)}"
        )
    return ""


def _flags(document: _Object) -> int:
    """Return the flags of seccomp(2) that the profile names."""
    flags = 0
    for place, name in enumerate(document.texts("flags")):
        if name not in FLAGS:
            where = f"{document.path('flags')}[{place}]"
            _refuse(where, f"is {_show(name)}, which is not known", f"one of {', '.join(FLAGS)}")
        flags |= FLAGS[name]
    return flags


def _entries(entry: _Object, arches: Sequence[str]) -> Iterator[Rule]:
    """Yield the rules of an entry, with those for the calls that reach its calls by number."""
    names = entry.texts("names")
    if entry.text("name"):
        if names:
            _refuse(entry.path("name"), "and names are both given", "give one of them")
        names = [entry.text("name")]
    if not names:
        _refuse(entry.where, "names no system call")
    for name in names:
        if not (name.isascii() and name.isidentifier()):
            _refuse(entry.path("names"), f"holds {_show(name)}, which no system call is called")
    action = _action(entry, "action", "errnoRet", "errno")
    for conditions in _alternatives(entry):
        yield Rule(tuple(names), action, conditions)
        multiplexed = tuple([name for name in arches if name in _MULTIPLEXED])
        if multiplexed:
            rest = tuple([each for each in conditions if each.index])
            for part in [_PARTS[name] for name in names if name in _PARTS]:
                chosen = (Condition(0, "EQ", part[1]), *rest)
                yield Rule((part[0],), action, chosen, multiplexed)


def _alternatives(entry: _Object) -> list[tuple[Condition, ...]]:
    """Return the lists of conditions one of which must hold."""
    conditions = [_condition(each) for each in entry.objects("args")]
    indexes = [condition.index for condition in conditions]
    if len(set(indexes)) < len(indexes):
        return [(condition,) for condition in conditions]
    return [tuple(conditions)]


def _condition(entry: _Object) -> Condition:
    """Return the comparison that an entry of `args` asks for."""
    index = entry.number("index", 5)
    value = entry.number("value", (1 << 64) - 1)
    for key, given in (("index", index), ("value", value)):
        if given is None:
            _refuse(entry.path(key), "is missing")
    operator = str(entry.choice("op", _OPERATORS))
    second = entry.number("valueTwo", (1 << 64) - 1)
    return Condition(index or 0, operator, value or 0, second or 0)


def _applies(entry: _Object, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    """Return whether the conditions of an entry include it for this machine and host."""
    found = []
    for key in ("includes", "excludes"):
        given = entry.member(key)
        named, arches = given.texts("caps"), given.texts("arches")
        least = _version(given)
        holds = caps.issuperset if key == "includes" else lambda names: not caps.isdisjoint(names)
        found.append(
            [
                *([holds(named)] if named else []),
                *([arch in arches] if arches else []),
                *([kernel >= least] if least else []),
            ]
        )
    return all(found[0]) and not any(found[1])


def _version(given: _Object) -> tuple[int, int] | None:
    """Return the kernel version that a condition asks for."""
    text = given.text("minKernel")
    if not text:
        return None
    parts = text.split(".")
    if len(parts) != 2 or not all(
        part.isascii() and part.isdigit() and len(part) <= 3 for part in parts
    ):
        _refuse(given.path("minKernel"), f"is {_show(text)}, no version such as '4.8'")
    return int(parts[0]), int(parts[1])


def _rules(entries: Sequence[Rule], default: int) -> tuple[Rule, ...]:
    """Return the rules, tried in order, that decide as libseccomp decides by `entries`."""
    plain: dict[str, int] = {}
    idle: list[Rule] = []
    for entry in entries:
        if entry.action == default:
            idle.append(entry)
        elif not entry.conditions:
            for name in entry.names:
                plain.setdefault(name, entry.action)
    rules = []
    for entry in entries:
        names = tuple([name for name in entry.names if name not in plain])
        if entry.conditions and entry.action != default and names:
            rules.append(Rule(names, entry.action, entry.conditions, entry.arches))
    by_action: dict[int, list[str]] = {}
    for name, action in plain.items():
        by_action.setdefault(action, []).append(name)
    rules += [Rule(tuple(names), action) for action, names in by_action.items()]
    # They only tell which calls the profile knows.
    rules += [Rule(entry.names, default) for entry in idle if not entry.arches]
    return tuple(rules)


def _unknown(entries: Iterable[Rule], arches: Iterable[str]) -> tuple[str, ...]:
    """Return the names that no architecture knows."""
    names = dict.fromkeys([name for entry in entries for name in entry.names])
    for arch in (*arches, *ARCHES):
        if names:
            known = numbers(arch)
            names = dict.fromkeys([name for name in names if name not in known])
    return tuple(names)
