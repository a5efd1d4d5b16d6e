"""Seccomp policies as data, and the architectures that they are for.

A policy says for every architecture that the kernel can run which action each system call
gets. Its rules are tried in order and the first that matches decides; what none matches gets
the default action. A call of an architecture that the policy does not name kills the process.
"""

from __future__ import annotations

from ..errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Never

    Key = tuple[int, ...] | None
    """The places of the rules that name a call; None for calls newer than all that are named."""
    Segments = tuple[Sequence[int], Sequence[int], Sequence[Key]]
    """Where ranges of call numbers begin, the index of each range's key, and the keys."""
    Resolver = Callable[[str], Segments | None]
    """Gives the segments of an architecture without a look at the names, or None."""

__all__ = [
    "ARCHES",
    "Condition",
    "Policy",
    "Rule",
    "arch_name",
    "errno_action",
    "trace_action",
]

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
NOTIFY = 0x7FC00000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000
_ACTIONS = frozenset((KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW))

EPERM, ENOSYS = 1, 38
MAX_ERRNO = 4095
"""The kernel returns no larger error number, whatever a filter says."""

OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
"""The flags of seccomp(2) that a profile can ask for."""


def errno_action(number: int) -> int:
    """Return the action that fails a call with error `number`."""
    if not 0 <= number <= MAX_ERRNO:
        raise SpecError(f"error number {number} is not within 0 to {MAX_ERRNO}")
    return ERRNO | number


def trace_action(data: int) -> int:
    """Return the action that stops a call for a tracer and hands it `data`, 16 bits."""
    if not 0 <= data <= 0xFFFF:
        raise SpecError(f"trace data {data} is not within 0 to 65535")
    return TRACE | data


class _Frozen:
    """A record whose fields are set once."""

    __slots__: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set")

    def __delattr__(self, name: str) -> Never:
        self.__setattr__(name, None)

    def _fields(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__slots__ if name[0] != "_"])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        names = [name for name in self.__slots__ if name[0] != "_"]
        pairs = zip(names, self._fields(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in pairs)})"

    def __reduce__(self) -> tuple[object, ...]:
        names = [name for name in self.__slots__ if name[0] != "_"]
        return _restore, (type(self), names, self._fields())


_set = object.__setattr__


def _restore(kind: type[_Frozen], names: list[str], fields: tuple[object, ...]) -> _Frozen:
    """Return the record that pickle or copy took apart."""
    record = kind.__new__(kind)
    if isinstance(record, Policy):
        _set(record, "_resolved", None)
    for name, value in zip(names, fields, strict=True):
        _set(record, name, value)
    return record


def _known(action: int) -> int:
    """Return `action` if it is a SECCOMP_RET_* value."""
    if action & 0xFFFF0000 not in _ACTIONS or not 0 <= action < 1 << 32:
        raise SpecError(f"{action:#x} is not a seccomp action")
    return action


class Condition(_Frozen):
    """One comparison of an argument, unsigned and 64 bits wide, with `value`.

    MASKED_EQ compares the bits of the argument that `value` masks with those of `value_two`
    (seccomp_rule_add(3)). On an architecture of 32 bits only the lower halves count.
    """

    __slots__ = ("index", "op", "value", "value_two")
    index: int
    op: str
    value: int
    value_two: int

    def __init__(self, index: int, op: str, value: int, value_two: int = 0) -> None:
        if not (0 <= index < 6 and 0 <= value < 1 << 64 and 0 <= value_two < 1 << 64):
            raise SpecError(
                f"argument {index} compared with {value} and {value_two}",
                hint="arguments are 0 to 5, values have 64 bits",
            )
        if op not in OPERATORS:
            raise SpecError(f"unknown operator {op!r}", hint=f"one of {', '.join(OPERATORS)}")
        _set(self, "index", index)
        _set(self, "op", op)
        _set(self, "value", value)
        _set(self, "value_two", value_two)


class Rule(_Frozen):
    """What the calls called `names` get when all `conditions` hold.

    `action` is a SECCOMP_RET_* value with its data. `arches` limits the rule to some of the
    policy's architectures. A name that an architecture lacks is ignored there.
    """

    __slots__ = ("names", "action", "conditions", "arches")  # noqa: RUF023 - as it is called
    names: tuple[str, ...]
    action: int
    conditions: tuple[Condition, ...]
    arches: tuple[str, ...]

    def __init__(
        self,
        names: tuple[str, ...],
        action: int,
        conditions: tuple[Condition, ...] = (),
        arches: tuple[str, ...] = (),
    ) -> None:
        _set(self, "names", names)
        _set(self, "action", _known(action))
        _set(self, "conditions", conditions)
        _set(self, "arches", arches)


class Policy(_Frozen):
    """A seccomp policy: rules tried in order, and the action `default` for all else.

    `arches` are the architectures whose calls it judges, the host's own among them; empty
    means the host's and those its kernel also runs. `newer` is the action, if another than
    the default, for calls numbered beyond every call that the rules name. `flags` are those of
    seccomp(2). `unknown` are the names of a profile that no architecture knows.
    `listener_path` and `listener_metadata` are for whom notifications go to.
    """

    __slots__ = (  # noqa: RUF023 - as it is called
        "default",
        "rules",
        "arches",
        "newer",
        "flags",
        "unknown",
        "listener_path",
        "listener_metadata",
        "_resolved",
    )
    default: int
    rules: tuple[Rule, ...]
    arches: tuple[str, ...]
    newer: int | None
    flags: int
    unknown: tuple[str, ...]
    listener_path: str
    listener_metadata: str
    _resolved: Resolver | None

    def __init__(
        self,
        default: int,
        rules: tuple[Rule, ...],
        *,
        arches: tuple[str, ...] = (),
        newer: int | None = None,
        flags: int = 0,
        unknown: tuple[str, ...] = (),
        listener_path: str = "",
        listener_metadata: str = "",
        resolved: Resolver | None = None,
    ) -> None:
        _set(self, "default", _known(default))
        _set(self, "rules", rules)
        _set(self, "arches", arches)
        _set(self, "newer", newer if newer is None else _known(newer))
        _set(self, "flags", flags)
        _set(self, "unknown", unknown)
        _set(self, "listener_path", listener_path)
        _set(self, "listener_metadata", listener_metadata)
        _set(self, "_resolved", resolved)

    def segments(self, arch: str) -> Segments:
        """Return the ranges of call numbers of `arch` and the rules that name each.

        The first range begins at 0, or at the bit that marks every number of `arch`.
        """
        ready = self._resolved(arch) if self._resolved is not None else None
        if ready is None:
            from .syscalls import segments

            ready = segments(self.rules, arch)
        return ready


class Arch:
    """An architecture: its AUDIT_ARCH_* value, its word, and what else its kernel runs.

    Numbers from the first up to the second of `private` lie apart from the common sequence.
    """

    __slots__ = ("audit", "big", "bits", "companions", "private")

    def __init__(
        self,
        audit: int,
        bits: int,
        companions: tuple[str, ...] = (),
        private: tuple[int, int] = (1 << 32, 1 << 32),
    ) -> None:
        self.audit = audit
        self.bits = bits
        self.companions = companions
        self.private = private
        self.big = not audit & 0x40000000


X32_BIT = 0x40000000

ARCHES = {
    "x86_64": Arch(0xC000003E, 64, ("x86", "x32")),
    "x86": Arch(0x40000003, 32),
    "x32": Arch(0xC000003E, 32, (), (X32_BIT + 512, X32_BIT + 548)),
    "aarch64": Arch(0xC00000B7, 64, ("arm",)),
    "arm": Arch(0x40000028, 32, (), (0x0F0000, 0x100000)),
    "riscv64": Arch(0xC00000F3, 64),
    "s390x": Arch(0x80000016, 64),
    "ppc64le": Arch(0xC0000015, 64),
}
"""The architectures by the name that libseccomp gives them (linux/audit.h)."""

_ALIASES = {
    "amd64": "x86_64",
    "i386": "x86",
    "i486": "x86",
    "i586": "x86",
    "i686": "x86",
    "386": "x86",
    "arm64": "aarch64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "armhf": "arm",
}


def arch_name(machine: str) -> str:
    """Return our name for what uname(2), an image or a package calls an architecture.

    Raises SpecError for one without tables here.
    """
    name = _ALIASES.get(machine, machine)
    if name not in ARCHES:
        raise SpecError(
            f"no system call table for architecture {machine!r}",
            hint=f"one of {', '.join(ARCHES)}",
        )
    return name
