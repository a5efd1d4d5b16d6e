"""Machines that are kept: their life, commands in them, their limits."""

from __future__ import annotations

import gc
import os
import pathlib
import selectors
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

import leftovers
import viscum
from callers import KINDS, Caller, make_caller
from needs import needs
from viscum import native

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("userns")

TIMEOUT = 30
PIPE, STDOUT, DEVNULL = viscum.PIPE, viscum.STDOUT, viscum.DEVNULL


@pytest.fixture
def machine() -> Iterator[viscum.Machine]:
    with viscum.Machine() as running:
        yield running


def ends(done: object, seconds: float = TIMEOUT) -> bool:
    """Whether calling `done` becomes true within some seconds."""
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


# Its life.


def test_machine_runs_while_in_its_block() -> None:
    machine = viscum.Machine()
    assert machine.state == "created"
    with machine:
        assert machine.state == "running"
        assert machine.pid > 1
    assert machine.state == "exited"


def test_machine_can_be_started_and_closed_by_hand() -> None:
    machine = viscum.Machine().start()
    assert machine.run(["true"]).ok
    machine.close()
    machine.close()
    assert machine.state == "exited"


def test_machine_cannot_be_started_twice(machine: viscum.Machine) -> None:
    with pytest.raises(viscum.MachineError):
        machine.start()


def test_machine_cannot_be_started_again_after_its_end() -> None:
    machine = viscum.Machine()
    with machine:
        pass
    with pytest.raises(viscum.MachineError):
        machine.start()


def test_machine_that_never_started_closes() -> None:
    viscum.Machine().close()


@pytest.mark.parametrize("verb", ["fileno", "kill", "pause", "unpause", "usage", "stop", "wait"])
def test_machine_that_does_not_run_says_so(verb: str) -> None:
    machine = viscum.Machine()
    with pytest.raises(viscum.MachineError):
        getattr(machine, verb)()
    machine.close()
    with pytest.raises(viscum.MachineError):
        getattr(machine, verb)()


def test_machine_that_does_not_run_takes_no_commands() -> None:
    with pytest.raises(viscum.MachineError):
        viscum.Machine().run(["true"])


def test_machine_with_a_command_ends_with_it() -> None:
    with viscum.Machine(["sh", "-c", "exit 7"]) as machine:
        assert machine.wait(TIMEOUT) == 7
        assert machine.state == "exited"


def test_machine_gives_the_result_of_its_command() -> None:
    with viscum.Machine(["sh", "-c", "exit 7"]) as machine:
        machine.wait(TIMEOUT)
        result = machine.result(b"", b"")
    assert (result.exit_code, result.verdict) == (7, "failed")


def test_machine_with_streams_passes_them_to_its_command() -> None:
    with viscum.Machine(["cat"], stdin=PIPE, stdout=PIPE) as machine:
        machine.stdin.write(b"through")
        machine.stdin.close()
        assert machine.stdout.read() == b"through"
        machine.stdout.close()


def test_command_of_a_machine_has_only_its_streams() -> None:
    command = ["sh", "-c", "ls /proc/self/fd | wc -l"]
    with viscum.Machine(command, stdout=PIPE) as machine, machine.stdout as stream:
        assert stream.read().strip() == b"4", "0, 1, 2 and the folder that ls reads"


def test_machine_whose_command_is_missing_fails_or_ends() -> None:
    try:
        with viscum.Machine(["no-such-command"]) as machine:
            assert machine.wait(TIMEOUT) == 127
    except viscum.CommandNotFound:
        pass


def test_wait_gives_up_after_its_time(machine: viscum.Machine) -> None:
    with pytest.raises(viscum.TimeoutExpired):
        machine.wait(0.05)
    with pytest.raises(TimeoutError):
        machine.wait(0)
    assert machine.state == "running"


def test_fileno_is_readable_once_the_machine_has_ended() -> None:
    with viscum.Machine(["sleep", "0.1"]) as machine, selectors.DefaultSelector() as selector:
        selector.register(machine, selectors.EVENT_READ)
        assert selector.select(0) == []
        assert selector.select(TIMEOUT)


def test_stop_sends_term_first() -> None:
    command = ["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"]
    with viscum.Machine(command, stdout=PIPE) as machine, machine.stdout as stream:
        assert stream.readline() == b"ready\n"
        assert machine.stop(TIMEOUT) == 9


def test_stop_kills_what_does_not_listen() -> None:
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
    with viscum.Machine(command, stdout=PIPE) as machine, machine.stdout as stream:
        assert stream.readline() == b"ready\n"
        start = time.monotonic()
        assert machine.stop(0.2) == 128 + signal.SIGKILL
        assert time.monotonic() - start < TIMEOUT


def test_kill_ends_everything(machine: viscum.Machine) -> None:
    machine.kill()
    assert machine.wait(TIMEOUT) == 128 + signal.SIGKILL


UNRULY = {
    "double fork": "(sleep 600 &) ; (sh -c 'sleep 600 &' &)",
    "new sessions": "for i in 1 2 3; do setsid sleep 600 & done",
    "ignored signals": "sh -c \"trap '' TERM INT HUP QUIT; while :; do sleep 1; done\" &",
    "a storm of forks": "for i in 1 2 3 4 5 6 7 8; do (sleep 600 & sleep 600 & sleep 600) & done",
    "stopped": "sleep 600 & kill -STOP $!",
}


@pytest.mark.parametrize("script", UNRULY.values(), ids=UNRULY)
def test_end_of_the_block_leaves_no_process(script: str, caller: Caller) -> None:
    """Whatever the workload forked, ignored or caught."""
    mark = f"VISCUM_TEST_{os.getpid()}_{time.monotonic_ns()}"
    source = (
        "import sys, viscum\n"
        f"with viscum.Machine(env={{{mark!r}: '1'}}) as machine:\n"
        "    command = ['sh', '-c', sys.argv[1] + ' >/dev/null 2>&1 </dev/null; sleep 0.1']\n"
        "    machine.exec(command)\n"
        "    machine.run(['sh', '-c', 'sleep 0.2'])\n"
    )
    done = caller.python(source, script, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr.decode()
    assert leftovers.await_none(mark) == {}


@needs("pids")
def test_end_of_the_block_ends_a_fork_bomb() -> None:
    with viscum.Machine(pids=200) as machine:
        machine.exec(["sh", "-c", "f() { f | f & }; f"], stdout=DEVNULL, stderr=DEVNULL)
        time.sleep(0.3)
        start = time.monotonic()
    assert time.monotonic() - start < TIMEOUT


def test_close_does_not_wait_for_output_that_nobody_reads(machine: viscum.Machine) -> None:
    process = machine.exec(["yes"], stdout=PIPE)
    time.sleep(0.05)
    machine.close()
    assert process.wait(TIMEOUT) == 128 + signal.SIGKILL
    process.close()


def test_close_reaps_commands_that_still_run(machine: viscum.Machine) -> None:
    process = machine.exec(["sleep", "600"])
    machine.close()
    assert process.wait(TIMEOUT) == 128 + signal.SIGKILL
    process.close()


def test_machine_that_is_forgotten_is_closed() -> None:
    machine = viscum.Machine().start()
    pid = machine.pid
    del machine
    gc.collect()
    assert ends(lambda: not os.path.exists(f"/proc/{pid}"))


def test_process_that_is_forgotten_is_killed_and_reaped(machine: viscum.Machine) -> None:
    process = machine.exec(["sleep", "600"])
    pid = process.pid
    del process
    gc.collect()
    assert ends(lambda: not os.path.exists(f"/proc/{pid}"))
    assert machine.run(["true"]).ok


def test_process_may_be_collected_while_another_starts(
    machine: viscum.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector runs where it likes, also in the launch itself."""
    cycle: list[object] = [machine.exec(["sleep", "600"])]
    cycle.append(cycle)
    del cycle
    launch = native.launch

    def collect_first(*words: object, **options: object) -> object:
        gc.collect()
        return launch(*words, **options)

    monkeypatch.setattr(native, "launch", collect_first)
    assert machine.run(["true"], timeout=TIMEOUT).ok


def test_exception_in_the_block_closes_the_machine() -> None:
    machine = viscum.Machine()
    with pytest.raises(ZeroDivisionError), machine:
        _ = 1 / 0
    assert machine.state == "exited"


# Commands in it.


def test_exec_joins_the_machine(machine: viscum.Machine) -> None:
    script = "for n in pid net ipc uts mnt user cgroup; do readlink /proc/self/ns/$n; done"
    inside = machine.run(["sh", "-c", script]).text.split()
    first = machine.run(["sh", "-c", script.replace("self", "1")])
    del first  # /proc/1/ns may be closed to the command; /proc of the host is not
    host = [os.readlink(f"/proc/{machine.pid}/ns/{n}") for n in "pid net ipc uts mnt user".split()]
    assert inside[:6] == host


def test_exec_streams_both_ways(machine: viscum.Machine) -> None:
    with machine.exec(["cat"], stdin=PIPE, stdout=PIPE) as process:
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            assert process.stdout.readline() == word
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0


def test_exec_can_merge_the_streams(machine: viscum.Machine) -> None:
    command = ["sh", "-c", "echo out; echo err >&2"]
    with machine.exec(command, stdout=PIPE, stderr=STDOUT) as process:
        assert process.communicate(timeout=TIMEOUT) == (b"out\nerr\n", b"")


def test_exec_takes_files(machine: viscum.Machine, tmp_path: pathlib.Path) -> None:
    with (tmp_path / "out").open("wb") as file, machine.exec(["echo", "x"], stdout=file) as process:
        process.wait(TIMEOUT)
    assert (tmp_path / "out").read_bytes() == b"x\n"


def test_exec_communicates_more_than_pipes_hold(machine: viscum.Machine) -> None:
    data = os.urandom(4 << 20)
    with machine.exec(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        assert process.communicate(data, timeout=TIMEOUT) == (data, b"")


def test_communicate_gives_up_after_its_time(machine: viscum.Machine) -> None:
    with machine.exec(["sleep", "600"], stdout=PIPE) as process:
        with pytest.raises(viscum.TimeoutExpired):
            process.communicate(timeout=0.1)
        assert process.poll() is None


def test_exec_has_exit_codes_and_signals(machine: viscum.Machine) -> None:
    with machine.exec(["sh", "-c", "exit 3"]) as process:
        assert (process.wait(TIMEOUT), process.exit_code, process.returncode) == (3, 3, 3)
    with machine.exec(["sleep", "600"]) as process:
        assert process.poll() is None
        process.terminate()
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
        process.kill()


def test_exec_fileno_is_readable_once_it_ends(machine: viscum.Machine) -> None:
    with machine.exec(["sleep", "0.1"]) as process, selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        assert selector.select(TIMEOUT)
        assert process.poll() == 0


def test_exec_wait_gives_up_after_its_time(machine: viscum.Machine) -> None:
    with machine.exec(["sleep", "600"]) as process, pytest.raises(viscum.TimeoutExpired):
        process.wait(0.05)


def test_exec_of_a_missing_command_is_127(machine: viscum.Machine) -> None:
    with pytest.raises(viscum.CommandNotFound):
        machine.exec(["no-such-command"])
    assert machine.run(["true"]).ok


def test_exec_has_env_and_workdir(machine: viscum.Machine) -> None:
    result = machine.run(["sh", "-c", "echo $A; pwd"], env={"A": "1"}, workdir="/usr")
    assert result.text == "1\n/usr\n"


@pytest.mark.parametrize("kind", KINDS[:2])
def test_exec_has_a_user(kind: str) -> None:
    source = (
        "import viscum\n"
        "with viscum.Machine() as m:\n"
        "    print(m.run(['sh', '-c', 'id -u; id -g'], user='1000:100').text)\n"
    )
    done = make_caller(kind).python(source)
    assert done.stdout.split() == [b"1000", b"100"], done.stderr


def test_exec_keeps_the_environment_of_the_machine() -> None:
    with viscum.Machine(env={"A": "1", "B": "2"}) as machine:
        assert machine.run(["sh", "-c", "echo $A$B"], env={"B": "3"}).text == "13\n"


def test_exec_has_the_guard_of_the_machine(machine: viscum.Machine) -> None:
    script = "grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status"
    inside = machine.run(["sh", "-c", script]).text
    assert inside == viscum.run(["sh", "-c", script]).text


def test_exec_sees_what_others_of_the_machine_wrote(machine: viscum.Machine) -> None:
    machine.run(["sh", "-c", "echo x > /tmp/there; echo y > /etc/there"])
    assert machine.run(["cat", "/tmp/there", "/etc/there"]).text == "x\ny\n"


def test_run_in_a_machine_has_a_timeout(machine: viscum.Machine) -> None:
    result = machine.run(["sh", "-c", "echo before; sleep 600"], timeout=0.3)
    assert (result.verdict, result.stdout) == ("timeout", b"before\n")
    assert machine.run(["true"]).ok


def test_run_in_a_machine_feeds_input(machine: viscum.Machine) -> None:
    assert machine.run(["cat"], input="text").text == "text"


def test_run_in_a_machine_bounds_its_output(machine: viscum.Machine) -> None:
    result = machine.run(["seq", "100000"], output_limit=10)
    assert (len(result.stdout), result.truncated) == (10, True)


def test_machine_survives_its_commands(machine: viscum.Machine) -> None:
    for _ in range(20):
        assert machine.run(["true"]).ok
    assert machine.state == "running"


def test_orphans_of_a_command_are_reaped_by_the_machine(machine: viscum.Machine) -> None:
    machine.run(["sh", "-c", "(sleep 0.05 &); (sleep 0.05 &)"])
    time.sleep(0.3)
    script = "cat /proc/[0-9]*/stat | cut -d' ' -f3 | grep Z"
    assert machine.run(["sh", "-c", script]).stdout == b""


# Limits.


@needs("memory", "pids", "cpu")
def test_resize_changes_limits() -> None:
    with viscum.Machine(memory="64M") as machine:
        machine.resize(memory="128M", pids=50, cpus=0.5)
        script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
        assert machine.run(["sh", "-c", script]).text.strip() == str(128 << 20)
        script = "cat /sys/fs/cgroup/pids/pids.max || cat /sys/fs/cgroup/pids.max"
        assert machine.run(["sh", "-c", script]).text.strip() == "50"


@needs("memory")
def test_resize_holds() -> None:
    with viscum.Machine(memory="64M", memory_swap="64M") as machine:
        machine.resize(memory="512M", memory_swap="512M")
        command = ["/usr/bin/python3", "-c", "x = bytearray(100 << 20)"]
        assert machine.run(command, timeout=TIMEOUT).ok
        machine.resize(memory="64M", memory_swap="64M")
        assert machine.run(command, timeout=TIMEOUT).verdict == "oom"


@needs("memory-swap")
def test_resize_moves_memory_and_swap_both_ways() -> None:
    with viscum.Machine(memory="64M", memory_swap="64M") as machine:
        for size in ("128M", "32M", "256M", "64M"):
            machine.resize(memory=size, memory_swap=size)


@needs("memory", "pids")
def test_refused_resize_changes_nothing() -> None:
    source = "import time; x = bytearray(80 << 20); print('ready', flush=True); time.sleep(60)"
    with viscum.Machine(memory="256M", pids=40) as machine:
        with machine.exec(["/usr/bin/python3", "-c", source], stdout=PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            before = limits_of(machine)
            with pytest.raises(viscum.HostError):
                machine.resize(pids=99, cpu_shares=777, memory="600K")
            assert limits_of(machine) == before


def limits_of(machine: viscum.Machine) -> str:
    script = (
        "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares"
        " memory.max pids.max cpu.weight 2>/dev/null"
    )
    return machine.run(["sh", "-c", script]).text


@pytest.mark.parametrize(
    "limits",
    [{"memory": 0}, {"memory": 1}, {"memory": "-1"}, {"pids": 0}, {"pids": -5}, {"cpus": 0}]
    + [{"memory": "64M", "memory_swap": "32M"}, {"cpu_shares": 0}, {"memory": 10**400}],
    ids=ascii,
)
def test_senseless_resize_is_one_clear_error(
    limits: dict[str, object], machine: viscum.Machine
) -> None:
    with pytest.raises(viscum.SpecError):
        machine.resize(**limits)


def test_unknown_limit_is_a_type_error(machine: viscum.Machine) -> None:
    with pytest.raises(TypeError):
        machine.resize(memroy="1G")


def test_usage_grows(machine: viscum.Machine) -> None:
    before = machine.usage().cpu_seconds
    machine.run(["sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"])
    assert machine.usage().cpu_seconds >= before


@needs("memory")
def test_oom_of_a_command_is_told() -> None:
    with viscum.Machine(memory="64M", memory_swap="64M") as machine:
        command = ["/usr/bin/python3", "-c", "x = [bytearray(1 << 20) for _ in range(300)]"]
        assert machine.run(command, timeout=TIMEOUT).verdict == "oom"
        assert machine.oom_kills() > 0
        assert machine.run(["true"]).verdict == "ok"


@needs("freezer")
def test_pause_stops_everything_and_unpause_goes_on(machine: viscum.Machine) -> None:
    command = ["sh", "-c", "while :; do echo tick; sleep 0.02; done"]
    with machine.exec(command, stdout=PIPE) as process:
        assert process.stdout.readline() == b"tick\n"
        machine.pause()
        assert machine.state == "paused"
        os.set_blocking(process.stdout.fileno(), False)
        drain(process.stdout.fileno())
        time.sleep(0.2)
        assert drain(process.stdout.fileno()) == b""
        machine.unpause()
        assert machine.state == "running"
        assert ends(lambda: drain(process.stdout.fileno()))


def drain(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""


@needs("freezer")
def test_paused_machine_can_be_closed(machine: viscum.Machine) -> None:
    machine.pause()
    machine.close()


@needs("freezer")
def test_paused_machine_can_be_killed(machine: viscum.Machine) -> None:
    machine.pause()
    machine.kill()
    machine.unpause()
    assert machine.wait(TIMEOUT) == 128 + signal.SIGKILL


@needs("freezer")
def test_command_of_a_paused_machine_can_be_closed(machine: viscum.Machine) -> None:
    process = machine.exec(["sleep", "600"])
    machine.pause()
    thread = threading.Thread(target=process.close, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
