"""The default profile: what it decides, why, and what it costs."""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from viscum.errors import SpecError
from viscum.guard import bpf, policy, profile, seccomp, simulator, syscalls
from viscum.guard.policy import ALLOW, ARCHES, ERRNO, KILL_PROCESS, Policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
DENY, ABSENT = ERRNO | 1, ERRNO | 38
HOSTS = ("x86_64", "aarch64", "riscv64", "s390x", "ppc64le", "arm", "x86")
DOCKER = frozenset(
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP "
        "SETGID SETPCAP SETUID SYS_CHROOT"
    ).split()
)
SETS = [
    frozenset[str](),
    DOCKER,
    frozenset({"CAP_SYS_ADMIN"}),
    frozenset({"CAP_SYS_PTRACE", "BPF"}),
]


def verdict(
    name: str,
    *args: int,
    caps: frozenset[str] = DOCKER,
    host: str = "x86_64",
    arch: str = "",
    allow: frozenset[str] = frozenset(),
) -> int:
    arch = arch or host
    program = seccomp.compile_policy(profile.default_rules(caps, allow=allow), host)
    padded = (*args, *[0] * (6 - len(args)))
    return bpf.simulate(program, syscalls.numbers(arch)[name], ARCHES[arch].audit, padded)


@pytest.mark.parametrize("group", profile.GROUPS, ids=lambda group: group.name)
def test_group_says_why(group: profile.Group) -> None:
    assert group.reason.strip() == group.reason
    assert "\n" not in group.reason
    assert not group.reason.endswith(".")
    assert len(group.reason.split()) >= 3


def test_groups_have_names_of_their_own() -> None:
    names = [group.name for group in profile.GROUPS]
    assert len(set(names)) == len(names)


def test_groups_name_every_call_that_linux_has_and_no_other() -> None:
    named = {name for group in profile.GROUPS for name in group.names.split()}
    known = {name for arch in ARCHES for name in syscalls.numbers(arch)}
    assert named == known


def test_groups_name_a_call_once_unless_arguments_or_capabilities_decide() -> None:
    plain = [
        name
        for group in profile.GROUPS
        if not (group.conditions or group.caps or group.arches)
        for name in group.names.split()
    ]
    assert len(set(plain)) == len(plain)


def test_groups_use_capabilities_that_exist() -> None:
    capabilities = pytest.importorskip("viscum.guard.capabilities")
    known = {f"CAP_{name}" for name in capabilities.CAPABILITIES}
    assert {cap for group in profile.GROUPS for cap in group.caps} <= known


@pytest.mark.parametrize("native", ["x86_64", "aarch64"])
def test_ranges_are_what_the_groups_resolve_to(native: str) -> None:
    path = ROOT / "tools" / "gen_syscalls.py"
    spec = importlib.util.spec_from_file_location("gen_syscalls", path)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    written = (ROOT / "src" / "viscum" / "guard" / f"profile_{native}.py").read_text()
    assert tool.range_module(native) == written, "run tools/gen_syscalls.py ranges"


@pytest.mark.parametrize("caps", SETS)
@pytest.mark.parametrize("host", ["x86_64", "aarch64"])
def test_ranges_decide_as_the_names_do(host: str, caps: frozenset[str]) -> None:
    ready = profile.default_rules(caps, allow=frozenset({"keyring", "socket-vsock"}))
    plain = Policy(ready.default, ready.rules, newer=ready.newer)
    assert plain == ready
    programs = [simulator.decode(seccomp.compile_policy(each, host)) for each in (plain, ready)]
    for arch in (host, *ARCHES[host].companions):
        base = min(syscalls.numbers(arch).values())
        for number in [*range(base, base + 700), *range(0xF0000, 0xF0010), 0xFFFFFFFF]:
            for args in ((0,) * 6, (40, 0x5412, 0, 0, 0, 0), (0x7E020000, 0, 0, 0, 0, 0)):
                words = simulator.record(number, ARCHES[arch].audit, args, 0, big=False)
                first, second = [simulator.run(each, words) for each in programs]
                assert first == second, (arch, number, args)


@pytest.mark.parametrize("host", HOSTS)
def test_default_allows_what_programs_live_on(host: str) -> None:
    program = seccomp.compile_policy(profile.default_rules(frozenset()), host)
    for name in (
        "read write close mmap munmap mprotect brk execve exit_group futex openat fcntl ioctl "
        "clone wait4 getpid rt_sigaction rt_sigreturn prctl connect bind setsockopt getrandom "
        "epoll_pwait statx set_robust_list rseq seccomp landlock_restrict_self fchmodat2 mseal"
    ).split():
        table = syscalls.numbers(host)
        number = table[name] if name in table else table["mmap2"]
        assert bpf.simulate(program, number, ARCHES[host].audit) == ALLOW, name


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("caps", SETS)
def test_default_denies_what_no_capability_opens(host: str, caps: frozenset[str]) -> None:
    program = seccomp.compile_policy(profile.default_rules(caps), host)
    table = syscalls.numbers(host)
    for name in (
        "io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl userfaultfd "
        "kexec_load kexec_file_load swapon swapoff move_pages migrate_pages"
    ).split():
        if name in table:
            assert bpf.simulate(program, table[name], ARCHES[host].audit) == DENY, name


GATES = {
    "CAP_SYS_ADMIN": "mount umount2 setns unshare pivot_root fsopen open_tree bpf perf_event_open "
    "sethostname syslog fanotify_init listns",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_TIME": "settimeofday clock_settime",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYSLOG": "syslog",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_NICE": "mbind set_mempolicy get_mempolicy set_mempolicy_home_node",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}


@pytest.mark.parametrize("cap", GATES)
def test_default_opens_calls_with_their_capability(cap: str) -> None:
    for name in GATES[cap].split():
        assert verdict(name, caps=frozenset()) == DENY
        assert verdict(name, caps=frozenset({cap})) == ALLOW
        assert verdict(name, caps=frozenset({cap.removeprefix("CAP_")})) == ALLOW


def test_gates_are_all_tested() -> None:
    assert {cap for group in profile.GROUPS for cap in group.caps} == set(GATES)


@pytest.mark.parametrize(("host", "place"), [("x86_64", 0), ("aarch64", 0), ("s390x", 1)])
def test_default_starts_processes_but_makes_no_namespaces(host: str, place: int) -> None:
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        args = [0] * 6
        args[place] = bit | 0x11
        assert verdict("clone", *args, host=host) == DENY
        assert verdict("clone", *args, host=host, caps=frozenset({"CAP_SYS_ADMIN"})) == ALLOW
    threads = [0] * 6
    threads[place] = 0x3D0F00
    assert verdict("clone", *threads, host=host) == ALLOW


def test_default_leaves_clone3_to_administrators() -> None:
    assert verdict("clone3") == ABSENT
    assert verdict("clone3", caps=frozenset({"SYS_ADMIN"})) == ALLOW


@pytest.mark.parametrize("arch", ["x86_64", "x86", "x32"])
def test_default_denies_typing_into_terminals(arch: str) -> None:
    assert verdict("ioctl", 0, 0x5401, arch=arch) == ALLOW
    for request in (0x5412, 0x541C):
        for high in (0, 1, 0xFFFFFFFF):
            assert verdict("ioctl", 0, high << 32 | request, arch=arch) == DENY


@pytest.mark.parametrize("arch", ["x86_64", "x86", "x32"])
def test_default_opens_sockets_of_families_with_a_namespace(arch: str) -> None:
    for family in (0, 1, 2, 10, 16, 17, 29, 30, 31, 44):
        assert verdict("socket", family, arch=arch) == ALLOW
    for family in (12, 19, 20, 23, 34, 37, 38, 40, 46, 99):
        assert verdict("socket", family, arch=arch) == DENY
        assert verdict("socket", family | 1 << 32, arch=arch) == DENY


def test_default_denies_sockets_that_a_filter_cannot_see_into() -> None:
    assert verdict("socketcall", 1, arch="x86") == ABSENT
    assert verdict("socketcall", 3, arch="x86") == ALLOW
    assert verdict("socketcall", 1, host="s390x") == ALLOW
    loose = frozenset({"socketcall"})
    assert verdict("socketcall", 1, arch="x86", allow=loose) == ALLOW


def test_default_sets_only_harmless_personalities() -> None:
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict("personality", value) == ALLOW
    for value in (0x40000, 0x100000, 0x400000, 9, 0x20001, 0xFFFFFFFE, 1 << 32):
        assert verdict("personality", value) == DENY


@pytest.mark.parametrize("host", HOSTS)
def test_default_knows_no_calls_from_the_future(host: str) -> None:
    program = seccomp.compile_policy(profile.default_rules(DOCKER), host)
    newest = syscalls.numbers(host)["rseq_slice_yield"]
    assert bpf.simulate(program, newest, ARCHES[host].audit) == ALLOW
    for number in (newest + 1, newest + 30, 1000, 0x3FFFFFFF):
        assert bpf.simulate(program, number, ARCHES[host].audit) == ABSENT


def test_default_kills_unknown_architectures() -> None:
    program = seccomp.compile_policy(profile.default_rules(DOCKER), "x86_64")
    assert bpf.simulate(program, 0, 0xC00000B7) == KILL_PROCESS


def test_default_opens_a_denied_group_by_name() -> None:
    assert verdict("keyctl", allow=frozenset({"keyring"})) == ALLOW
    assert verdict("add_key", allow=frozenset({"keyring"})) == ALLOW
    assert verdict("userfaultfd", allow=frozenset({"keyring"})) == DENY
    assert verdict("mount", allow=frozenset({"mount"})) == ALLOW
    assert verdict("socket", 40, allow=frozenset({"socket-vsock"})) == ALLOW
    assert verdict("socket", 38, allow=frozenset({"socket-vsock"})) == DENY
    with pytest.raises(SpecError, match="'keyrings'"):
        profile.default_rules(DOCKER, allow=frozenset({"keyring", "keyrings"}))


def test_default_takes_few_steps_for_each_call() -> None:
    """The kernel runs the program once for every number when it is loaded."""
    program = seccomp.compile_policy(profile.default_rules(DOCKER), "x86_64")
    assert len(program) // bpf.INSTRUCTION_SIZE <= 300
    instructions = simulator.decode(program)
    for arch in ("x86_64", "x86"):
        counts = [steps(instructions, number, ARCHES[arch].audit) for number in range(472)]
        assert sum(counts) / len(counts) < 12
        assert max(counts) <= 16


def steps(instructions: list[tuple[int, int, int, int]], number: int, audit: int) -> int:
    """Return how many instructions run until the program ends or reads an argument."""
    place = count = word = 0
    while True:
        code, then, otherwise, operand = instructions[place]
        place, count = place + 1, count + 1
        if code == bpf.RETURN or (code == bpf.LOAD and operand > bpf.ARCH):
            return count
        if code == bpf.LOAD:
            word = audit if operand == bpf.ARCH else number
        elif code == bpf.GOTO:
            place += operand
        else:
            place += (
                then if {bpf.JEQ: word == operand, bpf.JGE: word >= operand}[code] else otherwise
            )


def test_launch_imports_next_to_nothing() -> None:
    """Neither slow modules nor tables of names may be on the way to the default filter."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "from viscum.guard import profile, seccomp\n"
        "seccomp.compile_policy(profile.default_rules(frozenset()), 'x86_64')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(ROOT / "src")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    guard = ("bpf", "policy", "profile", "profile_x86_64", "seccomp")
    assert set(done.stdout.split()) - {"__future__", "viscum", "viscum.errors"} <= {
        "viscum.guard",
        *[f"viscum.guard.{name}" for name in guard],
    }


def test_policy_flags_are_those_of_the_kernel_headers() -> None:
    header = pathlib.Path("/usr/include/linux/seccomp.h")
    if not header.exists():
        pytest.skip("needs linux/seccomp.h")
    text = header.read_text()
    for name, bit in policy.FLAGS.items():
        shift = bit.bit_length() - 1
        assert f"{name}\t\t(1UL << {shift})".replace("\t", "") in text.replace("\t", "")
