"""Our verdicts are those of libseccomp, which other engines compile their filters with."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscum.guard import bpf, policy, profile, seccomp, simulator, syscalls
from viscum.guard.policy import ALLOW, ARCHES, ERRNO, KILL_PROCESS, Condition, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LIBRARY = ctypes.util.find_library("seccomp")
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="needs libseccomp.so.2")

DENY = ERRNO | 1
ABSENT = ERRNO | 38
TOP = 2**64 - 1
CAPS = frozenset({"CAP_SYS_CHROOT", "CAP_CHOWN", "CAP_KILL"})
BAD_ARCH = 2
EEXIST = 17
OPERATORS = {name: place + 1 for place, name in enumerate(policy.OPERATORS)}
Call = tuple[str, int, tuple[Condition, ...]]


class Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Library:
    """As much of libseccomp as a container runtime uses."""

    def __init__(self) -> None:
        load = ctypes.CDLL(LIBRARY or "")
        load.seccomp_init.restype = ctypes.c_void_p
        self.call: Any = load

    def program(self, default: int, calls: Iterable[Call], arches: Sequence[str]) -> bytes:
        """Return the program for `arches`, the first of them in place of the native one."""
        context = ctypes.c_void_p(self.call.seccomp_init(default))
        try:
            assert self.call.seccomp_attr_set(context, BAD_ARCH, KILL_PROCESS) == 0
            if arches[0] != "x86_64":
                assert self.call.seccomp_arch_remove(context, 0) == 0
            for name in arches:
                if name != "x86_64":
                    token = self.call.seccomp_arch_resolve_name(name.encode())
                    assert self.call.seccomp_arch_add(context, ctypes.c_uint32(token)) == 0
            for call in calls:
                self.add(context, *call)
            return self.export(context)
        finally:
            self.call.seccomp_release(context)

    def add(
        self, context: ctypes.c_void_p, name: str, action: int, conditions: Sequence[Condition]
    ) -> None:
        number = self.call.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            return
        array = (Comparison * max(1, len(conditions)))(
            *[
                Comparison(each.index, OPERATORS[each.op], each.value, each.value_two)
                for each in conditions
            ]
        )
        result = self.call.seccomp_rule_add_array(
            context, ctypes.c_uint32(action), number, len(conditions), array
        )
        assert result in (0, -EEXIST), (name, action, conditions, result)

    def export(self, context: ctypes.c_void_p) -> bytes:
        file = os.memfd_create("program")
        try:
            assert self.call.seccomp_export_bpf(context, file) == 0
            return os.pread(file, os.fstat(file).st_size, 0)
        finally:
            os.close(file)

    def knows(self, name: str, arch: str) -> bool:
        token = ctypes.c_uint32(self.call.seccomp_arch_resolve_name(arch.encode()))
        number = self.call.seccomp_syscall_resolve_name_arch(token, name.encode())
        return bool(number >= 0 or -1000 < number < -1)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


def upright(value: int) -> int:
    """Return an action whose bytes may be reversed."""
    plain = value & 0xFFFF == 0 or value & 0xFFFF0000 in (ERRNO, policy.TRACE)
    return value if plain and value & 0xFFFF0000 in simulator.ACTIONS else socket.ntohl(value)


class Machine:
    """A program that is decoded once and asked often."""

    def __init__(self, code: bytes, host: str, *, foreign: bool = False) -> None:
        self.big = ARCHES[host].big
        self.instructions = simulator.decode(code, "big" if self.big else "little")
        if self.big and foreign and sys.byteorder == "little":
            # libseccomp leaves the operand of most returns in the order of the machine it runs on.
            self.instructions = [
                (*each[:3], upright(each[3])) if each[0] == bpf.RETURN else each
                for each in self.instructions
            ]
        simulator.check(self.instructions)

    def __call__(self, number: int, audit: int, args: Sequence[int] = (0,) * 6) -> int:
        words = simulator.record(number, audit, args, 0, big=self.big)
        return simulator.run(self.instructions, words)


def numbers_of(arch: str) -> list[int]:
    base = 0x40000000 if arch == "x32" else 0
    edges = [0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
    found = [*range(base, base + 600), *range(0xF0000, 0xF0010), *edges]
    return [number for number in found if number >= base]


def newest(subject: Policy, arch: str) -> int:
    """Return the highest number that a rule names, apart from those out of sequence."""
    table = syscalls.numbers(arch)
    named = {table[name] for rule in subject.rules for name in rule.names if name in table}
    low, high = ARCHES[arch].private
    return max((number for number in named if not low <= number < high), default=0)


def assert_equal(
    ours: Machine, theirs: Machine, subject: Policy, arches: Sequence[str], skip: Iterable[str]
) -> None:
    """Compare two programs for every number and the arguments that `subject` looks at."""
    skipped = set(skip)
    tries = probes(subject)
    for arch in arches:
        audit = ARCHES[arch].audit
        table = syscalls.numbers(arch)
        names = {number: name for name, number in table.items()}
        last = newest(subject, arch)
        checked = {
            table[name]
            for rule in subject.rules
            if rule.conditions
            for name in (*rule.names, "socketcall", "ipc")
            if name in table
        }
        for number in numbers_of(arch):
            if names.get(number, "") in skipped:
                continue
            for args in tries if number in checked else tries[:2]:
                wanted = theirs(number, audit, args)
                if wanted == subject.default and subject.newer and number > last:
                    # Calls out of sequence, which libseccomp leaves to the default.
                    wanted = ours(number, audit, args)
                    assert wanted in (subject.newer, subject.default)
                assert ours(number, audit, args) == wanted, (arch, number, names.get(number), args)


def probes(subject: Policy) -> list[tuple[int, ...]]:
    """Return arguments around what the conditions of `subject` compare with."""
    found: dict[tuple[int, ...], None] = {(0,) * 6: None, (TOP,) * 6: None}
    for rule in subject.rules:
        exact = [0] * 6
        for each in rule.conditions:
            exact[each.index] = each.value_two if each.op == "MASKED_EQ" else each.value
        for each in rule.conditions:
            for change in (0, 1, -1, 1 << 32, 1 << 63):
                nearby = list(exact)
                nearby[each.index] = (nearby[each.index] + change) & TOP
                found[tuple(nearby)] = None
    return list(found)


def test_tables_are_those_of_libseccomp(library: Library) -> None:
    for arch in ARCHES:
        token = ctypes.c_uint32(library.call.seccomp_arch_resolve_name(arch.encode()))
        for name, number in syscalls.numbers(arch).items():
            theirs = library.call.seccomp_syscall_resolve_name_arch(token, name.encode())
            assert theirs in (number, number - (1 << 32)) or theirs < 0, (arch, name)


ORDERED = ("ioctl", "socket", "socketcall")
"""Calls whose rules in the default profile deny first and allow then, which libseccomp cannot."""


def plain_calls(subject: Policy, arch: str) -> list[Call]:
    return [
        (name, rule.action, rule.conditions)
        for rule in subject.rules
        if rule.action != subject.default and (not rule.arches or arch in rule.arches)
        for name in rule.names
        if name not in ORDERED
    ]


@pytest.mark.parametrize("host", ["x86_64", "aarch64", "riscv64", "s390x", "ppc64le"])
@pytest.mark.parametrize("caps", [CAPS, frozenset(), frozenset({"CAP_SYS_ADMIN", "CAP_BPF"})])
def test_default_profile_decides_as_libseccomp(
    library: Library, host: str, caps: frozenset[str]
) -> None:
    subject = profile.default_rules(caps)
    arches = (host, *ARCHES[host].companions)
    ours = Machine(seccomp.compile_policy(subject, host), host)
    theirs = Machine(library.program(DENY, plain_calls(subject, host), arches), host, foreign=True)
    lacking = [
        name for arch in arches for name in syscalls.numbers(arch) if not library.knows(name, arch)
    ]
    assert_equal(ours, theirs, subject, arches, {*lacking, *ORDERED})


@pytest.mark.parametrize("host", ["x86_64", "aarch64", "s390x"])
@pytest.mark.parametrize("name", ["ioctl", "socket"])
def test_default_profile_denies_arguments_as_libseccomp(
    library: Library, host: str, name: str
) -> None:
    subject = profile.default_rules(CAPS)
    arches = (host, *ARCHES[host].companions)
    denials: list[Call] = []
    for rule in subject.rules:
        if name in rule.names and rule.conditions:
            low, high = rule.conditions[0], rule.conditions[-1]
            single = [(condition,) for condition in rule.conditions]
            if low is not high:
                single = [(Condition(0, "EQ", each),) for each in range(low.value, high.value + 1)]
            denials += [(name, rule.action, each) for each in single]
    ours = Machine(seccomp.compile_policy(subject, host), host)
    theirs = Machine(library.program(ALLOW, denials, arches), host, foreign=True)
    for arch in arches:
        number, audit = syscalls.numbers(arch)[name], ARCHES[arch].audit
        for args in (*probes(subject), *[(family, 0, 0, 0, 0, 0) for family in range(80)]):
            assert ours(number, audit, args) == theirs(number, audit, args), (arch, args)


def runtime_calls(document: dict[str, Any], caps: frozenset[str], arch: str) -> list[Call]:
    """Return what runc makes of a profile in Docker's format on a kernel 6.1."""
    calls: list[Call] = []
    default = action(document, "defaultAction", "defaultErrnoRet")
    for entry in document["syscalls"]:
        includes, excludes = entry.get("includes", {}), entry.get("excludes", {})
        if includes.get("arches") and arch not in includes["arches"]:
            continue
        if not caps.issuperset(includes.get("caps", ())) or includes.get("minKernel") == "9.0":
            continue
        if arch in excludes.get("arches", ()) or not caps.isdisjoint(excludes.get("caps", ())):
            continue
        conditions = [
            Condition(each["index"], each["op"][9:], each["value"], each.get("valueTwo", 0))
            for each in entry.get("args") or ()
        ]
        indexes = [each.index for each in conditions]
        split = [(each,) for each in conditions]
        chosen = action(entry, "action", "errnoRet")
        if chosen != default:
            lists = split if len(set(indexes)) < len(indexes) else [tuple(conditions)]
            names = entry.get("names") or [entry["name"]]
            calls += [(name, chosen, each) for name in names for each in lists]
    return calls


def action(entry: dict[str, Any], key: str, number: str) -> int:
    values = {
        "SCMP_ACT_ALLOW": ALLOW,
        "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
        "SCMP_ACT_KILL": 0,
        "SCMP_ACT_TRAP": policy.TRAP,
        "SCMP_ACT_LOG": policy.LOG,
        "SCMP_ACT_ERRNO": ERRNO | entry.get(number, 1),
        "SCMP_ACT_TRACE": policy.TRACE | entry.get(number, 1),
    }
    return int(values[entry[key]])


def compared(index: int, operator: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "op": f"SCMP_CMP_{operator}", "value": value, "valueTwo": second}


def entry(names: str, chosen: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": names.split(), "action": f"SCMP_ACT_{chosen}", **more}


DOCKER: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ],
    "syscalls": [
        *[
            entry(group.names)
            for group in profile.GROUPS
            if not (group.conditions or group.caps or group.arches)
            and group.action == ALLOW
            and group.names not in ("ioctl", "socket", "socketcall")
        ],
        entry("ioctl", args=[], comment="", includes={}, excludes={}),
        entry("ioctl", "ERRNO", errnoRet=25, args=[compared(1, "MASKED_EQ", 0xFF, 0x12)]),
        *[entry("personality", args=[compared(0, "EQ", each)]) for each in (0, 8, 2**32 - 1)],
        entry("socket", args=[compared(0, "LT", 38)]),
        entry("socket", args=[compared(0, "EQ", 39)]),
        entry("socket", args=[compared(0, "GT", 40)]),
        entry("sendto", args=[compared(5, "NE", 0), compared(3, "LE", 64)]),
        entry("fadvise64", args=[compared(3, "GE", 2), compared(3, "LT", 1)]),
        entry(
            "clone",
            args=[compared(0, "MASKED_EQ", 0x7E020000)],
            excludes={"caps": ["CAP_SYS_ADMIN"]},
        ),
        entry("clone3", "ERRNO", errnoRet=38, excludes={"caps": ["CAP_SYS_ADMIN"]}),
        entry("mount umount2 setns bpf", includes={"caps": ["CAP_SYS_ADMIN"]}),
        entry("chroot", includes={"caps": ["CAP_SYS_CHROOT"]}),
        entry("syslog reboot", includes={"caps": ["CAP_SYS_ADMIN", "CAP_SYS_BOOT"]}),
        entry("arch_prctl", includes={"arches": ["amd64", "x32"]}),
        entry("acct", excludes={"arches": ["arm64"]}),
        entry("userfaultfd", "KILL_PROCESS"),
        entry("kexec_load", "KILL"),
        entry("swapon", "TRAP"),
        entry("swapoff", "TRACE", errnoRet=77),
        entry("add_key", "LOG"),
        entry("add_key"),
        entry("keyctl", "ERRNO", errnoRet=1),
        entry("migrate_pages", includes={"minKernel": "4.8"}),
        entry("move_pages", includes={"minKernel": "9.0"}),
        {"name": "vhangup", "action": "SCMP_ACT_ALLOW"},
        entry("no_such_call_here"),
    ],
}
GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


@pytest.mark.parametrize("host", ["x86_64", "aarch64", "riscv64", "s390x"])
@pytest.mark.parametrize("caps", [CAPS, frozenset({"CAP_SYS_ADMIN"})])
def test_docker_profile_decides_as_runc(library: Library, host: str, caps: frozenset[str]) -> None:
    subject = profile.read_profile(json.dumps(DOCKER).encode(), caps, host, (6, 1))
    arches = (host, *ARCHES[host].companions)
    assert subject.arches == arches
    assert subject.unknown == ("no_such_call_here",)
    calls = runtime_calls(DOCKER, caps, GO_NAMES.get(host, host))
    ours = Machine(seccomp.compile_policy(subject, host), host)
    theirs = Machine(library.program(DENY, calls, arches), host, foreign=True)
    lacking = [
        name for arch in arches for name in syscalls.numbers(arch) if not library.knows(name, arch)
    ]
    assert_equal(ours, theirs, subject, arches, lacking)


words = st.sampled_from([0, 1, 2, 5, 0xFFFFFFFE, 0xFFFFFFFF, 0x80000000, 0x7E020000])
values = st.builds(lambda high, low: high << 32 | low, words, words) | st.integers(0, TOP) | words
comparisons = st.builds(
    compared, st.integers(0, 5), st.sampled_from(policy.OPERATORS), values, values
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a profile of what libseccomp decides as it documents.

    It misjudges alternatives that overlap: with `arg0 != 0` and `arg0 != 1 && arg1 != 0` on a
    call, 2.5 denies (2, 0). So a call has one list of conditions, values of one argument, or
    none. `test_seccomp_compile` compares the others with a model.
    """
    # Without a plain call, libseccomp 2.5 forgets to load the number before it looks for ipc.
    entries = [entry("exit", "TRACE")]
    for name in ("read", "ioctl", "socket", "semop", "statx", "mmap"):
        action = draw(st.sampled_from(["ALLOW", "LOG", "TRAP", "KILL_PROCESS", "ERRNO"]))
        kind = draw(st.sampled_from(["absent", "plain", "conditions", "values"]))
        if kind in ("plain", "values"):
            index = draw(st.integers(0, 5))
            numbers = draw(st.lists(values, max_size=4, unique=True))
            entries += [entry(name, action, args=[compared(index, "EQ", each)]) for each in numbers]
        if kind == "plain":
            entries.append(entry(name, action))
        elif kind == "conditions":
            args = draw(st.lists(comparisons, max_size=3, unique_by=lambda each: each["index"]))
            entries.append(entry(name, action, args=args))
    default = draw(st.sampled_from(["ERRNO", "ALLOW", "KILL", "LOG"]))
    return {
        "defaultAction": f"SCMP_ACT_{default}",
        "archMap": DOCKER["archMap"],
        "syscalls": draw(st.permutations(entries)),
    }


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(document=documents())
def test_any_profile_decides_as_runc(library: Library, document: dict[str, Any]) -> None:
    subject = profile.read_profile(json.dumps(document).encode(), CAPS, "x86_64", (6, 1))
    arches = ("x86_64", "x86", "x32")
    calls = runtime_calls(document, CAPS, "amd64")
    ours = Machine(seccomp.compile_policy(subject, "x86_64"), "x86_64")
    theirs = Machine(library.program(subject.default, calls, arches), "x86_64", foreign=True)
    for arch in arches:
        table, audit = syscalls.numbers(arch), ARCHES[arch].audit
        for name in ("read", "ioctl", "socket", "semop", "statx", "mmap", "socketcall", "ipc"):
            if name not in table or (subject.newer and table[name] > newest(subject, arch)):
                continue
            for args in probes(subject):
                wanted = theirs(table[name], audit, args)
                assert ours(table[name], audit, args) == wanted, (arch, name, args)
