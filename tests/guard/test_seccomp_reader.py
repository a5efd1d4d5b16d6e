"""Profiles in JSON: what they mean, and that nothing in them does harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viscum.errors import SpecError
from viscum.guard import bpf, policy, seccomp, syscalls
from viscum.guard.policy import ALLOW, ARCHES, ERRNO, KILL_PROCESS, KILL_THREAD, Policy
from viscum.guard.profile import read_profile
from viscum.guard.profile_reader import MAX_RULES, MAX_SIZE

DENY, ABSENT = ERRNO | 1, ERRNO | 38
NONE: frozenset[str] = frozenset()


def read(
    document: object,
    caps: frozenset[str] = NONE,
    arch: str = "x86_64",
    kernel: tuple[int, int] = (6, 1),
) -> Policy:
    return read_profile(json.dumps(document).encode(), caps, arch, kernel)


def profile(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(entries), **more}


def entry(*names: str, action: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def arg(op: str = "EQ", value: object = 1, index: object = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "value": value, "op": f"SCMP_CMP_{op}", **more}


def verdict(subject: Policy, name: str, *args: int, arch: str = "x86_64") -> int:
    program = seccomp.compile_policy(subject, "x86_64")
    padded = (*args, *[0] * (6 - len(args)))
    return bpf.simulate(program, syscalls.numbers(arch)[name], ARCHES[arch].audit, padded)


@pytest.mark.parametrize(
    ("action", "more", "wanted"),
    [
        ("KILL", {}, KILL_THREAD),
        ("KILL_THREAD", {}, KILL_THREAD),
        ("KILL_PROCESS", {}, KILL_PROCESS),
        ("TRAP", {}, policy.TRAP),
        ("ERRNO", {"errnoRet": 13}, ERRNO | 13),
        ("ERRNO", {"errnoRet": 0}, ERRNO),
        ("ERRNO", {"errnoRet": 4095}, ERRNO | 4095),
        ("ERRNO", {"errno": "EACCES"}, ERRNO | 13),
        ("TRACE", {}, policy.TRACE | 1),
        ("TRACE", {"errnoRet": 65535}, policy.TRACE | 65535),
        ("LOG", {}, policy.LOG),
        ("NOTIFY", {}, policy.NOTIFY),
        ("ALLOW", {}, ALLOW),
    ],
)
def test_actions_are_those_of_the_specification(
    action: str, more: dict[str, Any], wanted: int
) -> None:
    assert verdict(read(profile(entry("read", action=action, **more))), "read") == wanted
    named = {"errnoRet": "defaultErrnoRet", "errno": "defaultErrno"}
    default = {named[key]: value for key, value in more.items()}
    subject = read({"defaultAction": f"SCMP_ACT_{action}", **default})
    assert verdict(subject, "read") == wanted


def test_operators_compare_64_bits() -> None:
    big = 1 << 40 | 5
    cases = {
        "NE": [(big, DENY), (big + 1, ALLOW), (5, ALLOW)],
        "LT": [(big, DENY), (big - 1, ALLOW), (5, ALLOW)],
        "LE": [(big, ALLOW), (big + 1, DENY)],
        "EQ": [(big, ALLOW), (5, DENY)],
        "GE": [(big, ALLOW), (big - 1, DENY), (1 << 41, ALLOW)],
        "GT": [(big, DENY), (big + 1, ALLOW), (1 << 63, ALLOW)],
    }
    for operator, answers in cases.items():
        subject = read(profile(entry("ioctl", args=[arg(operator, big, 5)]), entry("statx")))
        for value, wanted in answers:
            assert verdict(subject, "ioctl", 0, 0, 0, 0, 0, value) == wanted, (operator, value)
    masked = read(profile(entry("clone", args=[arg("MASKED_EQ", 0xF0, valueTwo=0x1F)])))
    assert verdict(masked, "clone", 0xABC1D) == ALLOW
    assert verdict(masked, "clone", 0xABC2D) == DENY


def test_conditions_of_an_entry_must_all_hold_and_entries_are_alternatives() -> None:
    both = entry("socket", args=[arg("EQ", 1, 0), arg("EQ", 2, 1)])
    other = entry("socket", args=[arg("EQ", 9, 0)])
    subject = read(profile(both, other))
    assert verdict(subject, "socket", 1, 2) == ALLOW
    assert verdict(subject, "socket", 1, 3) == DENY
    assert verdict(subject, "socket", 9, 3) == ALLOW


def test_conditions_on_one_argument_are_alternatives_as_in_runc() -> None:
    subject = read(profile(entry("socket", args=[arg("EQ", 1), arg("EQ", 2), arg("EQ", 5, 1)])))
    assert [verdict(subject, "socket", *each) for each in ((1, 0), (2, 0), (3, 5), (3, 0))] == [
        ALLOW,
        ALLOW,
        ALLOW,
        DENY,
    ]


def test_first_matching_entry_decides_and_an_unconditional_one_always() -> None:
    first = entry("ioctl", action="LOG", args=[arg("LT", 9)])
    second = entry("ioctl", action="TRAP", args=[arg("LT", 20)])
    subject = read(profile(first, second, entry("statx")))
    assert [verdict(subject, "ioctl", each) for each in (8, 9, 20)] == [
        policy.LOG,
        policy.TRAP,
        DENY,
    ]
    last = read(profile(first, second, entry("ioctl"), entry("ioctl", action="KILL")))
    assert verdict(last, "ioctl", 8) == ALLOW


def test_entries_with_the_default_action_have_no_effect() -> None:
    denied = entry("ioctl", action="ERRNO", errnoRet=1, args=[arg("EQ", 7)])
    subject = read(profile(denied, entry("ioctl")))
    assert verdict(subject, "ioctl", 7) == ALLOW


@pytest.mark.parametrize(
    ("given", "included"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {"minKernel": "4.19"}}, True),
        ({"includes": {"minKernel": ""}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"excludes": {"minKernel": "6.2"}}, True),
        ({"includes": {}, "excludes": {}}, True),
        ({"includes": None, "excludes": None, "args": None, "comment": None}, True),
    ],
)
def test_includes_and_excludes_decide_by_machine_and_host(
    given: dict[str, Any], *, included: bool
) -> None:
    for caps in (frozenset({"CAP_SYS_ADMIN"}), frozenset({"SYS_ADMIN"})):
        subject = read(profile(entry("read", **given), entry("statx")), caps)
        assert verdict(subject, "read") == (ALLOW if included else DENY)


def test_arch_map_adds_the_companions_of_the_host() -> None:
    mapped = {
        "archMap": [
            {"architecture": "SCMP_ARCH_MIPS64", "subArchitectures": ["SCMP_ARCH_MIPS"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": None},
        ]
    }
    assert read(profile(**mapped)).arches == ("x86_64", "x86")
    assert read(profile(**mapped), arch="s390x").arches == ("s390x",)
    assert read(profile(**mapped), arch="aarch64").arches == ("aarch64",)
    assert read(profile()).arches == ("x86_64",)


def test_architectures_always_hold_the_host() -> None:
    listed = profile(architectures=["SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_PPC64LE"])
    assert read(listed).arches == ("x86_64", "x32")
    assert read(listed, arch="arm64").arches == ("aarch64", "arm")
    assert verdict(read(listed), "read", arch="x86") == KILL_PROCESS


def test_multiplexed_calls_follow_the_calls_they_reach() -> None:
    subject = read(
        profile(
            entry("socket", args=[arg("LT", 38), arg("EQ", 3, 2)]),
            entry("semop"),
            architectures=["SCMP_ARCH_X86"],
        )
    )
    assert verdict(subject, "socketcall", 1, 0, 3, arch="x86") == ALLOW
    assert verdict(subject, "socketcall", 1, 0, 4, arch="x86") == DENY
    assert verdict(subject, "socketcall", 2, 0, 3, arch="x86") == DENY
    assert verdict(subject, "ipc", 1, arch="x86") == ALLOW


def test_names_that_nothing_knows_are_told_and_ignored() -> None:
    subject = read(profile(entry("read", "no_such_call", "riscv_hwprobe"), entry("_nor_this")))
    assert subject.unknown == ("no_such_call", "_nor_this")
    assert verdict(subject, "read") == ALLOW


def test_calls_newer_than_the_profile_are_absent_where_it_refuses() -> None:
    named = entry("statx", action="ERRNO", errnoRet=1)
    for action in ("ERRNO", "KILL", "KILL_PROCESS", "TRAP"):
        subject = read({"defaultAction": f"SCMP_ACT_{action}", "syscalls": [named]})
        assert verdict(subject, "openat2") == ABSENT
        assert verdict(subject, "openat") == subject.default
    for action in ("ALLOW", "LOG", "TRACE", "NOTIFY"):
        subject = read({"defaultAction": f"SCMP_ACT_{action}", "syscalls": [named]})
        assert verdict(subject, "openat2") == subject.default


def test_flags_and_listener_are_returned() -> None:
    flags = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    subject = read(profile(flags=flags, listenerPath="/run/agent", listenerMetadata="x"))
    assert subject.flags == 6
    assert (subject.listener_path, subject.listener_metadata) == ("/run/agent", "x")


BAD: list[tuple[object, str]] = [
    ([], "the document is a list, not an object"),
    ("text", "the document is 'text', not an object"),
    ({}, "defaultAction is missing"),
    ({"defaultAction": ""}, "defaultAction is missing|defaultAction is ''"),
    ({"defaultAction": "SCMP_ACT_NAP"}, "defaultAction is 'SCMP_ACT_NAP', which is not known"),
    ({"defaultAction": 1}, "defaultAction is 1, not a string"),
    (profile(defaultErrnoRet=-1), "defaultErrnoRet is -1"),
    (profile(defaultErrnoRet=4096), "defaultErrnoRet is 4096"),
    (profile(defaultErrnoRet=True), "defaultErrnoRet is True"),
    (profile(defaultErrnoRet=1.0), "defaultErrnoRet is 1.0"),
    (profile(defaultErrno="EWHAT"), "defaultErrno is 'EWHAT'"),
    (profile(defaultErrno="errorcode"), "defaultErrno is 'errorcode'"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "has no error number"),
    (profile(syscalls={}), "syscalls is an object, not a list"),
    (profile(syscalls=[1]), r"syscalls\[0\] is 1, not an object"),
    (profile({"action": "SCMP_ACT_ALLOW"}), r"syscalls\[0\] names no system call"),
    (profile({"names": ["read"]}), r"syscalls\[0\].action is missing"),
    (profile(entry("read", action="FLY")), r"syscalls\[0\].action is 'SCMP_ACT_FLY'"),
    (profile(entry("read", name="write")), r"syscalls\[0\].name and names are both given"),
    (profile(entry("read; rm")), r"syscalls\[0\].names holds 'read; rm'"),
    (profile(entry("r\u00e9ad")), r"syscalls\[0\].names holds 'r\\xe9ad'"),
    (profile({"names": [5], "action": "SCMP_ACT_ALLOW"}), r"names\[0\] is 5, not a string"),
    (profile({"names": "read", "action": "SCMP_ACT_ALLOW"}), "names is 'read', not a list"),
    (profile(entry("read", errnoRet=5)), r"syscalls\[0\].errnoRet is set, but SCMP_ACT_ALLOW"),
    (profile(entry("read", args=[arg("IN")])), r"args\[0\].op is 'SCMP_CMP_IN'"),
    (profile(entry("read", args=[arg(index=6)])), r"args\[0\].index is 6"),
    (profile(entry("read", args=[arg(index=None)])), r"args\[0\].index is missing"),
    (profile(entry("read", args=[arg(value=1 << 64)])), r"args\[0\].value is 18446744073709551616"),
    (profile(entry("read", args=[arg(value=-1)])), r"args\[0\].value is -1"),
    (profile(entry("read", args=[arg(value="1")])), r"args\[0\].value is '1'"),
    (profile(entry("read", args=[arg(value=None)])), r"args\[0\].value is missing"),
    (profile(entry("read", args=[{"index": 0, "value": 0}])), r"args\[0\].op is missing"),
    (profile(entry("read", args=[arg(valueTwo=2.5)])), r"args\[0\].valueTwo is 2.5"),
    (profile(entry("read", includes=[])), r"includes is a list, not an object"),
    (profile(entry("read", includes={"caps": "x"})), r"includes.caps is 'x', not a list"),
    (profile(entry("read", includes={"minKernel": "4"})), r"includes.minKernel is '4'"),
    (profile(entry("read", excludes={"minKernel": "4.8.1"})), r"excludes.minKernel is '4.8.1'"),
    (profile(entry("read", excludes={"minKernel": "\u0664.1"})), "excludes.minKernel is"),
    (profile(architectures=["SCMP_ARCH_Z80"]), r"architectures\[0\] is 'SCMP_ARCH_Z80'"),
    (profile(archMap=[{"architecture": "x86_64"}]), r"archMap\[0\].architecture is 'x86_64'"),
    (
        profile(archMap=[{"architecture": "SCMP_ARCH_X86", "subArchitectures": ["6502"]}]),
        r"archMap\[0\].subArchitectures\[0\] is '6502'",
    ),
    (
        profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86_64"}]),
        "architectures and archMap are both given",
    ),
    (profile(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]), r"flags\[0\] is 'SECCOMP_FILTER_FLAG_N"),
    (profile(listenerPath=["/run"]), "listenerPath is a list, not a string"),
]


@pytest.mark.parametrize(("document", "words"), BAD, ids=[words for _, words in BAD])
def test_reader_names_the_value_that_is_wrong(document: object, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        read(document)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"[" * 200_000, "is nested too deeply"),
        (b'{"a":' * 200_000, "is nested too deeply"),
        (b'{"defaultAction": NaN}', "holds NaN"),
        (b"9" * 10_000, "a number of too many digits"),
        (b'{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_KILL"}', "twice"),
        (b" " * (MAX_SIZE + 1), f"has {MAX_SIZE + 1} bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reader_refuses_what_is_not_such_a_document(data: bytes, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        read_profile(data, NONE, "x86_64", (6, 1))


def test_reader_bounds_the_work_that_a_profile_makes() -> None:
    names = [f"call{number}" for number in range(300)]
    entries = [entry(*names) for _ in range(MAX_RULES // 300 + 1)]
    with pytest.raises(SpecError, match="more than"):
        read(profile(*entries))


def test_reader_shows_no_more_of_a_value_than_fits_a_line() -> None:
    with pytest.raises(SpecError) as caught:
        read({"defaultAction": "\x1b[2J" + "x" * 100_000})
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


def test_reader_refuses_a_host_without_tables() -> None:
    with pytest.raises(SpecError, match="'mips'"):
        read(profile(), arch="mips")


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_CMP_EQ", "read", "SCMP_ARCH_X86"])
)
keys = st.text(max_size=4) | st.sampled_from(
    "defaultAction defaultErrnoRet syscalls names name action args index value op includes".split()
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)
FULL = profile(
    entry("read", "write", includes={"caps": ["CAP_BPF"], "minKernel": "4.8"}),
    entry("ioctl", action="ERRNO", errnoRet=5, args=[arg("MASKED_EQ", 7, 1, valueTwo=3), arg()]),
    entry("socket", args=[arg("NE", 40)], excludes={"arches": ["arm64"]}),
    defaultErrnoRet=1,
    archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    flags=["SECCOMP_FILTER_FLAG_LOG"],
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """Draw a valid profile with some of its values replaced."""
    document = json.loads(json.dumps(FULL))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(document)))
        if not path:
            return draw(anything)
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = draw(anything)
    return document


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(anything | mutants(), st.sampled_from(["x86_64", "s390x", "aarch64"]))
def test_any_json_is_a_policy_or_an_error_that_says_why(document: Any, arch: str) -> None:
    try:
        subject = read(document, arch=arch)
    except SpecError as error:
        assert str(error).startswith("seccomp profile: ")
        assert "\n" not in str(error)
    else:
        assert seccomp.compile_policy(subject, arch)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_an_error_that_says_why(data: bytes) -> None:
    with pytest.raises(SpecError, match="seccomp profile: "):
        read_profile(data, NONE, "x86_64", (6, 1))
