"""Compiled policies decide as their rules say, for every architecture."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscum.errors import SpecError
from viscum.guard import bpf, policy, seccomp, simulator, syscalls
from viscum.guard.policy import ALLOW, ARCHES, ERRNO, KILL_PROCESS, Condition, Policy, Rule

X86_64, X86 = ARCHES["x86_64"].audit, ARCHES["x86"].audit
TOP = 2**64 - 1
DENY = ERRNO | 1
ABSENT = ERRNO | 38
HOSTS = ("x86_64", "aarch64", "riscv64", "s390x", "ppc64le", "arm", "x86")
CALLS = ("read", "ioctl", "socket", "clone", "futex", "statx")


def holds(condition: Condition, value: int, top: int) -> bool:
    value &= top
    wanted = condition.value & top
    if condition.op == "MASKED_EQ":
        return value & wanted == condition.value_two & wanted
    return {
        "EQ": value == wanted,
        "NE": value != wanted,
        "LT": value < wanted,
        "LE": value <= wanted,
        "GE": value >= wanted,
        "GT": value > wanted,
    }[condition.op]


def expected(rules: Policy, arch: str, number: int, args: tuple[int, ...]) -> int:
    """Decide as the documentation of a policy says, one rule after the other."""
    table = syscalls.numbers(arch)
    top = 2 ** ARCHES[arch].bits - 1
    for rule in rules.rules:
        named = any(table.get(name) == number for name in rule.names)
        if rule.arches and arch not in rule.arches:
            continue
        if named and all(holds(each, args[each.index], top) for each in rule.conditions):
            return rule.action
    return rules.default


def answer(program: bytes, arch: str, number: int, args: tuple[int, ...] = (0,) * 6) -> int:
    return bpf.simulate(program, number, ARCHES[arch].audit, args)


words = st.sampled_from([0, 1, 2, 7, 0xFFFFFFFE, 0xFFFFFFFF, 0x80000000, 0x7E020000])
values = st.builds(lambda high, low: high << 32 | low, words, words) | st.integers(0, TOP) | words
conditions = st.builds(
    Condition, st.integers(0, 5), st.sampled_from(policy.OPERATORS), values, values
)
actions = st.sampled_from(
    [ALLOW, DENY, KILL_PROCESS, 0, policy.TRAP, policy.LOG, policy.TRACE | 7, policy.NOTIFY]
)
rules = st.builds(
    Rule,
    st.lists(st.sampled_from(CALLS), min_size=1, max_size=3).map(tuple),
    actions,
    st.lists(conditions, max_size=3).map(tuple),
)
policies = st.builds(Policy, actions, st.lists(rules, max_size=8).map(tuple))


def probes(subject: Policy) -> list[tuple[int, ...]]:
    """Return arguments around everything that the conditions of `subject` compare with."""
    found: set[tuple[int, ...]] = {(0,) * 6, (TOP,) * 6}
    for rule in subject.rules:
        exact = [0] * 6
        for each in rule.conditions:
            exact[each.index] = each.value_two if each.op == "MASKED_EQ" else each.value
        for each in rule.conditions:
            for change in (0, 1, -1, 1 << 32, 1 << 33, 1 << 63):
                nearby = list(exact)
                nearby[each.index] = (nearby[each.index] + change) & TOP
                found.add(tuple(nearby))
        found.add(tuple(exact))
    return sorted(found)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(policies, st.sampled_from(HOSTS))
def test_compile_decides_as_the_rules_say(subject: Policy, host: str) -> None:
    program = seccomp.compile_policy(subject, host)
    for arch in (host, *ARCHES[host].companions):
        table = syscalls.numbers(arch)
        for name in CALLS:
            if name in table:
                for args in probes(subject):
                    wanted = expected(subject, arch, table[name], args)
                    assert answer(program, arch, table[name], args) == wanted, (arch, name, args)


@pytest.mark.parametrize("host", HOSTS)
def test_compile_names_every_call_and_no_other(host: str) -> None:
    names = tuple(list(syscalls.numbers(host))[::3])
    program = seccomp.compile_policy(Policy(DENY, (Rule(names, ALLOW),)), host)
    for arch in (host, *ARCHES[host].companions):
        table = syscalls.numbers(arch)
        allowed = {table[name] for name in names if name in table}
        base = min(table.values())
        for number in [*range(base, base + 700), *range(0xF0000, 0xF0010)]:
            wanted = ALLOW if number in allowed else DENY
            assert answer(program, arch, number) == wanted, (arch, number)


@pytest.mark.parametrize("host", HOSTS)
def test_compile_kills_calls_of_other_architectures(host: str) -> None:
    program = seccomp.compile_policy(Policy(ALLOW, ()), host)
    own = {ARCHES[name].audit for name in (host, *ARCHES[host].companions)}
    big = ARCHES[host].big
    code = simulator.decode(program, "big" if big else "little")
    for audit in {arch.audit for arch in ARCHES.values()} | {0, 1, 0xFFFFFFFF, 0x4000003E}:
        words = simulator.record(1, audit, (0,) * 6, 0, big=big)
        wanted = ALLOW if audit in own else KILL_PROCESS
        assert simulator.run(code, words) == wanted


def test_compile_kills_calls_of_x32_where_the_policy_lacks_it() -> None:
    program = seccomp.compile_policy(Policy(ALLOW, (), arches=("x86_64", "x86")), "x86_64")
    assert answer(program, "x86_64", 0x3FFFFFFF) == ALLOW
    assert answer(program, "x86_64", 0x40000000) == KILL_PROCESS
    assert answer(program, "x86_64", 0xFFFFFFFE) == KILL_PROCESS
    assert answer(program, "x86_64", 0xFFFFFFFF) == ALLOW


def test_compile_kills_64_bit_calls_where_the_policy_is_only_for_x32() -> None:
    program = seccomp.compile_policy(Policy(ALLOW, (), arches=("x32",)), "x86_64")
    assert answer(program, "x86_64", 0) == KILL_PROCESS
    assert answer(program, "x86_64", 0x40000000) == ALLOW


@pytest.mark.parametrize(("host", "private"), [("x86_64", None), ("arm", 0xF0000), ("x32", None)])
def test_compile_gives_newer_calls_their_own_action(host: str, private: int | None) -> None:
    table = syscalls.numbers(host)
    known = {name: number for name, number in table.items() if number != table["read"]}
    common = [number for number in known.values() if number < (private or 1 << 32)]
    subject = Policy(DENY, (Rule(tuple(known), ALLOW),), arches=(host,), newer=ABSENT)
    program = seccomp.compile_policy(subject, "x86_64" if host == "x32" else host)
    assert answer(program, host, table["read"]) == DENY
    assert answer(program, host, max(common)) == ALLOW
    assert answer(program, host, max(common) + 1) == ABSENT
    assert answer(program, host, max(known.values()) + 1) == ABSENT
    assert answer(program, host, 0xFFFFFFFF) == ABSENT


def test_compile_counts_x32_specials_apart_from_newer_calls() -> None:
    table = syscalls.numbers("x32")
    subject = Policy(DENY, (Rule(("read", "ioctl", "statx"), ALLOW),), newer=ABSENT)
    program = seccomp.compile_policy(subject, "x86_64")
    assert table["ioctl"] == 0x40000000 + 514
    assert answer(program, "x32", table["ioctl"]) == ALLOW
    assert answer(program, "x32", table["statx"] + 1) == ABSENT
    assert answer(program, "x32", table["statx"] - 1) == DENY


def test_compile_keeps_a_rule_to_its_architectures() -> None:
    subject = Policy(DENY, (Rule(("read",), ALLOW, (), ("x86",)),))
    program = seccomp.compile_policy(subject, "x86_64")
    assert answer(program, "x86", 3) == ALLOW
    assert answer(program, "x86_64", 0) == DENY
    assert answer(program, "x32", 0x40000000) == DENY


def test_compile_reaches_over_long_programs() -> None:
    """Hundreds of argument checks that cannot be shared, most of them out of a jump's reach."""
    names = list(syscalls.numbers("x86_64"))
    checks = [
        Rule((name,), ALLOW, (Condition(0, "EQ", place), Condition(1, "EQ", place << 32)))
        for place, name in enumerate(names)
    ]
    program = seccomp.compile_policy(Policy(DENY, tuple(checks), arches=("x86_64",)), "x86_64")
    assert len(program) // 8 > 1500
    for place, name in enumerate(names):
        number = syscalls.numbers("x86_64")[name]
        assert answer(program, "x86_64", number, (place, place << 32, 0, 0, 0, 0)) == ALLOW
        assert answer(program, "x86_64", number, (place + 1, place << 32, 0, 0, 0, 0)) == DENY


def test_compile_refuses_what_the_kernel_cannot_load() -> None:
    checks = [
        Rule(("read",), ALLOW, (Condition(place % 6, "EQ", place << 32),)) for place in range(3000)
    ]
    with pytest.raises(SpecError, match="instructions"):
        seccomp.compile_policy(Policy(DENY, tuple(checks)), "x86_64")


def test_compile_shares_equal_checks() -> None:
    check = (Condition(1, "MASKED_EQ", 0xF0, 0x10), Condition(2, "GT", 7))
    one = seccomp.compile_policy(Policy(DENY, (Rule(("read",), ALLOW, check),)), "riscv64")
    both = Rule(("read", "write", "ioctl", "statx"), ALLOW, check)
    many = seccomp.compile_policy(Policy(DENY, (both,)), "riscv64")
    assert len(many) - len(one) <= 5 * 8


def test_compile_makes_one_search_of_many_values() -> None:
    values = [Rule(("socket",), ALLOW, (Condition(0, "EQ", family),)) for family in range(0, 64, 2)]
    program = seccomp.compile_policy(Policy(DENY, tuple(values), arches=("x86_64",)), "x86_64")
    lines = bpf.disassemble(program)
    assert sum("ld arg0" in line for line in lines) == 2
    assert len(lines) <= 64


@pytest.mark.parametrize(("host", "arches"), [("x86_64", ("s390x",)), ("s390x", ("x86_64",))])
def test_compile_refuses_architectures_of_another_byte_order(
    host: str, arches: tuple[str, ...]
) -> None:
    with pytest.raises(SpecError, match=f"no kernel runs both {host} and {arches[0]}"):
        seccomp.compile_policy(Policy(ALLOW, (), arches=arches), host)


def test_compile_knows_what_uname_calls_an_architecture() -> None:
    subject = Policy(ALLOW, ())
    assert seccomp.compile_policy(subject, "amd64") == seccomp.compile_policy(subject, "x86_64")
    assert seccomp.compile_policy(subject, "arm64") == seccomp.compile_policy(subject, "aarch64")
    named = Policy(ALLOW, (), arches=("x86_64", "amd64", "i686", "x86", "x32"))
    assert seccomp.compile_policy(named, "x86_64") == seccomp.compile_policy(subject, "x86_64")
    with pytest.raises(SpecError, match="'vax'"):
        seccomp.compile_policy(subject, "vax")


def test_policy_is_frozen_hashable_and_copyable() -> None:
    subject = Policy(DENY, (Rule(("read",), ALLOW, (Condition(0, "EQ", 1),)),), newer=ABSENT)
    for twin in (copy.deepcopy(subject), pickle.loads(pickle.dumps(subject)), eval(repr(subject))):
        assert twin == subject
        assert hash(twin) == hash(subject)
        assert seccomp.compile_policy(twin, "x86_64") == seccomp.compile_policy(subject, "x86_64")
    with pytest.raises(AttributeError, match="default"):
        subject.default = ALLOW
    with pytest.raises(AttributeError, match="default"):
        del subject.default
    assert subject != Policy(DENY, ())
    assert subject.rules[0] != subject.rules[0].conditions[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Condition(6, "EQ", 0), "argument 6"),
        (lambda: Condition(-1, "EQ", 0), "argument -1"),
        (lambda: Condition(0, "EQ", 1 << 64), str(1 << 64)),
        (lambda: Condition(0, "XX", 0), "'XX'"),
        (lambda: Rule(("read",), 0x12340000), "0x12340000"),
        (lambda: Policy(-1, ()), "-0x1"),
        (lambda: policy.errno_action(4096), "4096"),
        (lambda: policy.trace_action(65536), "65536"),
    ],
)
def test_policy_refuses_what_makes_no_sense(make: object, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        make()  # type: ignore[operator]
