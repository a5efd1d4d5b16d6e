"""`viscum.run`: what comes back, and what the caller notices of it."""

from __future__ import annotations

import os
import pathlib
import signal
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

import callers
import viscum
from callers import TIMEOUT, output, sh
from needs import needs

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")


# What comes back.


def test_run_returns_both_streams(caller: Caller) -> None:
    result = caller.run(["sh", "-c", "echo out; echo err >&2"], timeout=TIMEOUT)
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_run_says_ok(caller: Caller) -> None:
    result = caller.run(["true"], timeout=TIMEOUT)
    assert (result.exit_code, result.verdict, result.ok) == (0, "ok", True)


@pytest.mark.parametrize("code", [1, 2, 125, 126, 127, 128, 255])
def test_run_gives_the_exit_code_of_the_command(code: int) -> None:
    result = sh(f"exit {code}")
    assert (result.exit_code, result.verdict, result.ok) == (code, "failed", False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_run_gives_128_and_the_signal(number: int, probe: pathlib.Path) -> None:
    """The first process of a pid namespace is spared from its own signals, but not from faults."""
    source = "import os; pid = os.fork(); pid or os.abort(); print(os.waitpid(pid, 0)[1] & 127)"
    assert viscum.run(["/usr/bin/python3", "-c", source]).text.strip() == str(int(signal.SIGABRT))
    result = sh(f"kill -{int(number)} $$; exit 7", pid="private", init=True)
    assert result.exit_code == 128 + number


def test_run_calls_a_fault_signaled(probe: pathlib.Path) -> None:
    source = "import ctypes; ctypes.string_at(0)"
    result = viscum.run(["/usr/bin/python3", "-c", source], timeout=TIMEOUT)
    assert (result.exit_code, result.verdict) == (128 + signal.SIGSEGV, "signaled")


def test_run_ends_at_the_timeout(caller: Caller) -> None:
    start = time.monotonic()
    result = caller.run(["sleep", "600"], timeout=0.3)
    assert result.verdict == "timeout"
    assert result.exit_code == 128 + signal.SIGKILL
    assert time.monotonic() - start < TIMEOUT


def test_run_keeps_the_output_from_before_the_timeout() -> None:
    result = sh("echo before; sleep 600", timeout=0.5)
    assert (result.verdict, result.stdout) == ("timeout", b"before\n")


def test_run_ends_at_the_timeout_whatever_is_ignored() -> None:
    result = sh("trap '' TERM INT HUP; (setsid sleep 600 &); sleep 600", timeout=0.3)
    assert result.verdict == "timeout"


def test_run_with_no_time_at_all_is_a_timeout() -> None:
    assert viscum.run(["sleep", "600"], timeout=0).verdict == "timeout"


def test_run_feeds_the_input(caller: Caller) -> None:
    assert caller.run(["cat"], input=b"\0\xff words", timeout=TIMEOUT).stdout == b"\0\xff words"


def test_run_takes_text_as_input() -> None:
    assert viscum.run(["cat"], input="größer", timeout=TIMEOUT).text == "größer"


def test_run_without_input_reads_an_end() -> None:
    assert output("wc -c") == "0"


def test_run_feeds_more_than_a_pipe_holds() -> None:
    data = os.urandom(8 << 20)
    assert viscum.run(["cat"], input=data, timeout=TIMEOUT).stdout == data


def test_run_survives_a_command_that_does_not_read() -> None:
    result = viscum.run(["true"], input=b"x" * (4 << 20), timeout=TIMEOUT)
    assert result.ok


def test_run_keeps_a_hundred_megabytes() -> None:
    size = 100 << 20
    result = sh(f"head -c {size} /dev/zero", output_limit=size, timeout=60)
    assert (len(result.stdout), result.truncated) == (size, False)


def test_run_cuts_the_output_at_the_limit() -> None:
    result = sh("seq 100000; seq 100000 >&2", output_limit=1000)
    assert (len(result.stdout), len(result.stderr), result.truncated) == (1000, 1000, True)
    assert result.stdout.startswith(b"1\n2\n3\n")


def test_run_is_not_truncated_by_output_of_exactly_the_limit() -> None:
    result = sh("head -c 1000 /dev/zero", output_limit=1000)
    assert (len(result.stdout), result.truncated) == (1000, False)


def test_run_keeps_nothing_with_a_limit_of_zero() -> None:
    result = sh("echo word", output_limit=0)
    assert (result.stdout, result.truncated, result.ok) == (b"", True, True)


def test_run_reads_both_streams_flooded_at_once() -> None:
    script = "head -c 20000000 /dev/zero & head -c 20000000 /dev/zero >&2 & wait"
    result = sh(script, timeout=60)
    assert (len(result.stdout), len(result.stderr)) == (20000000, 20000000)


def test_run_feeds_and_reads_at_once() -> None:
    data = b"line\n" * 2000000
    result = viscum.run(["sh", "-c", "tee /dev/stderr"], input=data, timeout=60)
    assert (result.stdout, result.stderr) == (data, data)


def test_run_without_capture_writes_to_the_caller(caller: Caller) -> None:
    source = "import viscum; viscum.run(['sh', '-c', 'echo out; echo err >&2'], capture=False)"
    done = caller.python(source)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_run_ends_with_the_command_while_others_hold_its_output() -> None:
    """What the command left running goes with the machine."""
    start = time.monotonic()
    result = sh("sleep 600 & echo done")
    assert (result.stdout, result.verdict) == (b"done\n", "ok")
    assert time.monotonic() - start < TIMEOUT


def test_run_counts_cpu_time() -> None:
    usage = sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").usage
    assert 0.01 < usage.cpu_seconds < TIMEOUT
    assert usage.cpu_seconds == pytest.approx(usage.user_seconds + usage.system_seconds, rel=0.5)


@needs("memory")
def test_run_counts_the_peak_of_memory() -> None:
    source = "x = bytearray(64 << 20)"
    usage = viscum.run(["/usr/bin/python3", "-c", source], memory="256M", timeout=TIMEOUT).usage
    assert 64 << 20 < usage.peak_bytes < 256 << 20


def test_result_knows_its_text() -> None:
    assert sh("printf '\\377a'").text == "\ufffda"


# Commands.


def test_missing_command_is_127(caller: Caller) -> None:
    with pytest.raises(viscum.CommandNotFound) as caught:
        caller.run(["no-such-command"])
    assert caught.value.exit_code == 127
    assert "no-such-command" in str(caught.value)
    assert caught.value.hint


def test_missing_command_by_its_path_is_127() -> None:
    with pytest.raises(viscum.CommandNotFound):
        viscum.run(["/no/such/command"])


def test_folder_as_command_is_126(caller: Caller) -> None:
    with pytest.raises(viscum.CommandNotExecutable) as caught:
        caller.run(["/usr"])
    assert caught.value.exit_code == 126


def test_file_that_is_not_executable_is_126() -> None:
    with pytest.raises(viscum.CommandNotExecutable):
        viscum.run(["/etc/passwd"])


def test_binary_of_another_architecture_is_126(folder: pathlib.Path) -> None:
    machine = 8  # EM_MIPS
    header = (
        b"\x7fELF\2\1\1"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, *[0] * 2, 64, 56, 0, 0, 0, 0)
    )
    program = folder / "foreign"
    program.write_bytes(header)
    program.chmod(0o755)
    with pytest.raises(viscum.CommandNotExecutable) as caught:
        viscum.run(["/opt/foreign"], mounts=[viscum.Mount(str(folder), "/opt")])
    assert "architecture" in caught.value.hint


def test_script_whose_interpreter_is_missing_is_127(folder: pathlib.Path) -> None:
    program = folder / "script"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(viscum.CommandNotFound):
        viscum.run(["/opt/script"], mounts=[viscum.Mount(str(folder), "/opt")])


def test_command_is_looked_up_in_the_machines_path() -> None:
    result = viscum.run(["env"], env={"PATH": "/usr/bin"}, timeout=TIMEOUT)
    assert "PATH=/usr/bin\n" in result.text
    with pytest.raises(viscum.CommandNotFound):
        viscum.run(["env"], env={"PATH": "/nowhere"})


def test_arguments_arrive_as_they_are() -> None:
    words = ["", " ", "a b", "ü", "\udcff", "-x", "--", "$HOME", "\n", "'\"\\"]
    result = viscum.run(["printf", "%s\\0", *words], timeout=TIMEOUT)
    assert result.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)


def test_many_long_arguments_arrive() -> None:
    words = ["x" * 1000] * 1000
    result = viscum.run(
        ["sh", "-c", 'echo $#; shift 999; echo "$1"', "sh", *words], timeout=TIMEOUT
    )
    assert result.text.split() == ["1000", "x" * 1000]


def test_too_many_arguments_are_one_clear_error() -> None:
    with pytest.raises(viscum.ViscumError) as caught:
        viscum.run(["true", *["x"] * 10000])
    assert caught.value.exit_code in (125, 126)


# The caller.


def test_signal_handler_of_the_caller_runs_meanwhile() -> None:
    seen: list[float] = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        start = time.monotonic()
        viscum.run(["sleep", "1"], timeout=TIMEOUT)
        assert seen
        assert seen[0] - start < 0.9
    finally:
        signal.signal(signal.SIGALRM, old)


def test_exception_of_a_signal_handler_ends_the_machine() -> None:
    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            viscum.run(["sleep", "600"], timeout=TIMEOUT)
    finally:
        signal.signal(signal.SIGALRM, old)


def test_ignored_child_signal_does_not_lose_the_exit_code(caller: Caller) -> None:
    """As in a daemon that has SIGCHLD ignored: the status is right, or an error says why not."""
    source = (
        "import signal, viscum\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "try:\n"
        "    print(viscum.run(['sh', '-c', 'exit 3']).exit_code)\n"
        "except viscum.ViscumError:\n"
        "    print('refused')\n"
    )
    assert caller.python(source).stdout.decode().strip() in ("3", "refused")


def test_ignored_signals_of_the_caller_are_not_inherited() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        text = output("grep SigIgn /proc/self/status; grep SigBlk /proc/self/status")
    finally:
        signal.signal(signal.SIGINT, old)
    assert {int(line.split()[1], 16) for line in text.splitlines()} == {0}


def test_blocked_signals_of_the_caller_are_not_inherited() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGRTMIN})
    try:
        text = output("grep SigBlk /proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGRTMIN})
    assert int(text.split()[1], 16) == 0


def test_ignored_real_time_signals_are_not_inherited(caller: Caller) -> None:
    source = (
        "import signal, viscum\n"
        "signal.signal(signal.SIGRTMIN + 5, signal.SIG_IGN)\n"
        "print(viscum.run(['grep', 'SigIgn', '/proc/self/status']).text)\n"
    )
    assert int(caller.python(source).stdout.split()[1], 16) == 0


def test_umask_and_nice_of_the_machine_are_its_own() -> None:
    old = os.umask(0o77)
    try:
        assert output("umask") == "0022"
        assert output("stat -c %a /etc /usr") == "755\n755"
    finally:
        os.umask(old)


def test_caller_stays_dumpable() -> None:
    """Its own files in /proc stay its own after a launch."""
    viscum.run(["true"])
    assert pathlib.Path("/proc/self/environ").stat().st_uid == os.geteuid()
    pathlib.Path("/proc/self/mem").open("rb").close()


def test_machine_dies_with_the_thread_that_runs_it_not_before() -> None:
    results: list[viscum.Result] = []
    thread = threading.Thread(target=lambda: results.append(sh("sleep 0.3; echo alive")))
    thread.start()
    thread.join(TIMEOUT)
    assert results[0].stdout == b"alive\n"


def test_ordinary_user_in_a_user_namespace_can_run(user: Caller) -> None:
    """As inside of a container: root of a namespace that has few ids."""
    source = "import viscum; print(viscum.run(['echo', 'inside']).text)"
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        *user.python_command(source)[len(user.prefix) :],
    ]
    done = user._call([*user.prefix, *words], {})
    assert done.stdout.strip() == b"inside", done.stderr.decode()


def test_machine_runs_in_a_machine(caller: Caller) -> None:
    """With the loosening that the error's hint names."""
    source = "import viscum; print(viscum.run(['echo', 'nested']).text)"
    package = callers.package_folder()
    mounts = [viscum.Mount(package, "/opt/package", read_only=True)]
    result = caller.run(
        ["/usr/bin/python3", "-c", source],
        mounts=mounts,
        env={"PYTHONPATH": "/opt/package"},
        cap_add=["SYS_ADMIN"],
        unmask=True,
        timeout=TIMEOUT,
    )
    assert result.text.strip() == "nested", result.stderr.decode()[-500:]
