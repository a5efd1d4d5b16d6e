"""The running kernel takes our programs and decides as the simulator says."""

from __future__ import annotations

import json
import pathlib
import platform
import signal
import subprocess
import sys
from typing import Any

import pytest

from viscum.guard import bpf, policy, profile, seccomp, syscalls
from viscum.guard.policy import ALLOW, ARCHES, ERRNO, Condition, Policy, Rule

STATUS = pathlib.Path("/proc/self/status")
pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86_64 host"),
    pytest.mark.skipif(
        not STATUS.exists() or "Seccomp:" not in STATUS.read_text(), reason="needs seccomp"
    ),
]
DENY, ABSENT = ERRNO | 1, ERRNO | 38
X86_64 = ARCHES["x86_64"].audit

# Loads the program given in hexadecimal, makes the calls given in JSON, prints their errors.
SCRIPT = """
import ctypes, json, sys
program = bytes.fromhex(sys.argv[1])
calls = json.loads(sys.argv[2])
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
library = ctypes.CDLL(None, use_errno=True)
call = library.syscall
call.restype = ctypes.c_long
assert library.prctl(38, 1, 0, 0, 0) == 0
filter = Filter(len(program) // 8, program)
results = []
if call(317, 1, int(sys.argv[3]), ctypes.byref(filter)) != 0:
    sys.exit(f"not loaded: errno {ctypes.get_errno()}")
for number, *args in calls:
    ctypes.set_errno(0)
    call(ctypes.c_long(number), *[ctypes.c_ulong(each) for each in args])
    results.append(ctypes.get_errno())
print(json.dumps(results))
"""

# The same by int 0x80, which makes a call of x86 from a 64-bit process.
SCRIPT_X86 = """
import ctypes, json, mmap, sys
program = bytes.fromhex(sys.argv[1])
calls = json.loads(sys.argv[2])
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
library = ctypes.CDLL(None, use_errno=True)
assert library.prctl(38, 1, 0, 0, 0) == 0
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; int 0x80; pop rbx; ret
page.write(bytes.fromhex("53 89f8 89f3 89d1 cd80 5b c3"))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
enter = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)(address)
filter = Filter(len(program) // 8, program)
assert library.syscall(317, 1, int(sys.argv[3]), ctypes.byref(filter)) == 0
print(json.dumps([-enter(*each) for each in calls]))
"""


def run(
    program: bytes, calls: list[tuple[int, ...]], script: str = SCRIPT, flags: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", script, program.hex(), json.dumps(calls)]
    return subprocess.run(
        [*command, str(flags)], capture_output=True, text=True, timeout=60, check=False
    )


def errors(program: bytes, calls: list[tuple[int, ...]], **more: Any) -> list[int]:
    done = run(program, calls, **more)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def number(name: str, arch: str = "x86_64") -> int:
    return syscalls.numbers(arch)[name]


def test_kernel_enforces_the_default_profile() -> None:
    program = seccomp.compile_policy(profile.default_rules(frozenset()), "x86_64")
    expected = [
        ((number("getpid"),), 0),
        ((number("socket"), 1, 1, 0), 0),
        ((number("socket"), 40, 1, 0), 1),
        ((number("socket"), 38, 5, 0), 1),
        ((number("socket"), 1 << 32 | 38, 5, 0), 1),
        ((number("keyctl"), 0, 0), 1),
        ((number("unshare"), 0x10000000), 1),
        ((number("clone3"), 0, 0), 38),
        ((number("io_uring_setup"), 1, 0), 1),
        ((number("ioctl"), 0, 0x5412, 0), 1),
        ((number("ioctl"), 0, 1 << 32 | 0x5412, 0), 1),
        ((number("personality"), 0xFFFFFFFF), 0),
        ((number("personality"), 0x40000), 1),
        ((number("chroot"), 0), 1),
        ((number("rseq_slice_yield") + 1,), 38),
        ((2000,), 38),
        ((0x40000000 + 1000,), 38),
    ]
    found = errors(program, [call for call, _ in expected])
    assert found == [error for _, error in expected]


def test_kernel_enforces_the_default_profile_on_32_bit_calls() -> None:
    program = seccomp.compile_policy(profile.default_rules(frozenset()), "x86_64")
    calls = {
        (number("getpid", "x86"), 0, 0): None,
        (number("keyctl", "x86"), 0, 0): 1,
        (number("socketcall", "x86"), 1, 0): 38,
        (number("socket", "x86"), 38, 5): 1,
        (number("clone3", "x86"), 0, 0): 38,
        (number("personality", "x86"), 0x40000, 0): 1,
        (number("rseq_slice_yield", "x86") + 1, 0, 0): 38,
    }
    done = run(program, list(calls), SCRIPT_X86)
    if done.returncode == -signal.SIGSEGV:
        pytest.skip("needs a kernel that runs 32-bit calls")
    found = json.loads(done.stdout)
    assert found[0] < 0
    assert found[1:] == list(calls.values())[1:]


def test_kernel_decides_arguments_as_the_simulator() -> None:
    """Every way to compare, tried on a call that no kernel implements."""
    victim, top = number("afs_syscall"), (1 << 64) - 1
    values = (0, 1, 7, 0xFFFFFFFF, 1 << 32, (1 << 32) + 7, 1 << 63, top - 1, top)
    rules = [
        Rule(
            ("afs_syscall",),
            policy.errno_action(100 + place),
            (Condition(0, "EQ", place), Condition(5, operator, value, 7)),
        )
        for place, (operator, value) in enumerate(
            (operator, value) for operator in policy.OPERATORS for value in values
        )
    ]
    program = seccomp.compile_policy(Policy(ALLOW, tuple(rules)), "x86_64")
    calls: list[tuple[int, ...]] = [
        (victim, place, 0, 0, 0, 0, last) for place in range(len(rules)) for last in values
    ]
    simulated = [bpf.simulate(program, victim, X86_64, call[1:]) for call in calls]
    wanted = [38 if each == ALLOW else each & 0xFFFF for each in simulated]
    assert errors(program, calls) == wanted
    assert len(set(wanted)) > len(rules) // 2


def test_kernel_takes_long_programs() -> None:
    names = [name for name in syscalls.numbers("x86_64") if name not in ("write", "exit_group")]
    rules = [
        Rule((name,), ERRNO | 7, (Condition(0, "EQ", place << 32), Condition(4, "GT", 1 << 63)))
        for place, name in enumerate(names, start=77)
    ]
    program = seccomp.compile_policy(Policy(ALLOW, tuple(rules)), "x86_64")
    assert len(program) // 8 > 1500
    call = (number("statx"), (77 + names.index("statx")) << 32, 0, 0, 0, (1 << 64) - 1)
    assert errors(program, [call, (number("getpid"),)]) == [7, 0]


@pytest.mark.parametrize("host", ["aarch64", "riscv64", "ppc64le"])
def test_kernel_takes_programs_for_others_and_they_kill_it(host: str) -> None:
    program = seccomp.compile_policy(profile.default_rules(frozenset()), host)
    done = run(program, [(number("getpid"),)])
    assert done.returncode == -signal.SIGSYS, done.stderr


def test_kernel_takes_the_flags_of_profiles() -> None:
    program = seccomp.compile_policy(Policy(ALLOW, ()), "x86_64")
    for name in ("TSYNC", "LOG", "SPEC_ALLOW"):
        flag = policy.FLAGS[f"SECCOMP_FILTER_FLAG_{name}"]
        assert errors(program, [(number("getpid"),)], flags=flag) == [0]
