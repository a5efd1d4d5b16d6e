"""Machines that run out of memory, and what is told of it, on both cgroup versions."""

from __future__ import annotations

import json
import os
import re
import select
import time

import pytest

import viscum
from commands import call
from needs import needs
from viscum.resources.events import MemoryWatch, PressureTrigger, StateWatch, Watches
from viscum.resources.oom import OomWatch

pytestmark = [pytest.mark.v2, needs("root", "memory", "python")]

MIB = 1 << 20
PYTHON = "/usr/bin/python3"
EAT = "x = [bytearray(1 << 20) for _ in range({0})]; print('ate', flush=True)"


def eat(megabytes: int) -> list[str]:
    return [PYTHON, "-c", EAT.format(megabytes)]


def ready(watch: object, seconds: float) -> bool:
    poll = select.poll()
    poll.register(watch.fileno(), watch.mask)
    return bool(poll.poll(seconds * 1000))


def test_kill_is_told_at_once_with_victim_limit_peak_and_largest() -> None:
    with viscum.Machine(memory="48M", memory_swap="48M") as machine:
        watch = OomWatch(machine.groups)
        process = machine.exec(eat(300))
        report = None
        while report is None:  # version 2 tells of the limit, too, when it is reached
            assert ready(watch, 30)
            report = watch.read()
        process.wait(30)
        watch.close()
    assert report.action == "killed"
    assert report.limit == 48 * MIB
    assert 40 * MIB < report.peak <= 48 * MIB
    victim = report.victims[0]
    assert (victim.name, victim.pid) == ("python3", process.pid)
    assert victim.bytes > 20 * MIB
    assert report.largest[0].name == "python3"
    assert "python3" in report.describe()


def test_machine_with_memory_to_spare_tells_nothing() -> None:
    with viscum.Machine(memory="128M") as machine:
        watch = OomWatch(machine.groups)
        assert machine.run(eat(20)).ok
        assert not ready(watch, 0)
        watch.close()


def test_pause_stops_the_machine_and_kills_nobody() -> None:
    with viscum.Machine(memory="48M", memory_swap="48M", oom_policy="pause") as machine:
        process = machine.exec(eat(100), stdout=viscum.PIPE)
        end = time.monotonic() + 30
        while not machine.out_of_memory and time.monotonic() < end:
            time.sleep(0.02)
        assert machine.out_of_memory[0].action == "paused"
        time.sleep(0.3)
        assert process.poll() is None
        assert machine.oom_kills() == 0
        assert machine.groups.freezing
        more = {"memory": "160M", "memory_swap": "160M"}
        more.update({"memory_high": "150M"} if machine.groups.version("memory") == 2 else {})
        machine.resize(**more)
        machine.unpause()
        assert process.stdout.readline() == b"ate\n"
        assert process.wait(30) == 0
    assert len(machine.out_of_memory) == 1


def test_grow_raises_the_limit_within_its_bound() -> None:
    options = {"memory": "32M", "memory_swap": "32M", "oom_policy": "grow:160M"}
    with viscum.Machine(**options) as machine:
        assert machine.run(eat(80)).stdout == b"ate\n"
        assert {report.action for report in machine.out_of_memory} == {"grown"}
        limit = machine.groups.limits().memory
        assert 80 * MIB < limit <= 160 * MIB
        assert machine.oom_kills() == 0
        assert machine.run(eat(400)).exit_code == 137
        assert machine.groups.limits().memory == 160 * MIB
        assert machine.oom_kills() == 1


@pytest.mark.parametrize(
    "policy",
    ["", "die", "grow", "grow:", "grow:x", "kill:1G", "pause:1", "grow:63M", "grow:999T"],
)
def test_senseless_policy_is_one_clear_error(policy: str) -> None:
    with pytest.raises(viscum.SpecError, match="oom-policy"):
        viscum.Machine(memory="64M", oom_policy=policy)


def test_policy_without_a_limit_is_refused() -> None:
    with pytest.raises(viscum.SpecError, match="needs a limit"):
        viscum.Machine(oom_policy="pause")


def test_run_tells_of_the_victim() -> None:
    done = call(
        "run", "--name", f"oom-{os.getpid()}", "-m", "48M", "--memory-swap", "48M", *eat(300)
    )
    assert done.returncode == 137
    assert b"killed python3" in done.stderr
    assert b"limit 48.0 MiB" in done.stderr


def test_run_without_python_tells_the_same() -> None:
    words = ["run", "-m", "49M", "--memory-swap", "49M", *eat(301)]
    texts = [call(*words).stderr for _ in range(2)]  # the second is launched from what was compiled
    plain = [re.sub(rb"[0-9.]+", b"N", text) for text in texts]
    assert plain[0] == plain[1]
    assert b"killed python3" in texts[1]


# Machines that live on.


def actions(name: str) -> list[str]:
    told = call(
        "events", "--no-stream", "--since", "1h", "--filter", f"machine={name}", "--format", "json"
    )
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    return [row["Attributes"].get("action", "") for row in rows if row["Action"] == "oom"]


def until_told(name: str, action: str) -> None:
    end = time.monotonic() + 15
    while action not in actions(name):
        assert time.monotonic() < end, f"{action} was not told of {name}: {actions(name)}"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("policy", "amount", "told"),
    [("kill", 301, "killed"), ("pause", 301, "paused"), ("grow:160M", 90, "grown")],
)
def test_machine_that_lives_on_keeps_to_its_policy(policy: str, amount: int, told: str) -> None:
    name = f"oom-{told}-{os.getpid()}"
    words = ["-d", "--name", name, "-m", "48M", "--memory-swap", "48M", "--oom-policy", policy]
    done = call("run", *words, "--", PYTHON, "-c", f"bytearray({amount} << 20); print('done')")
    assert done.returncode == 0, done.stderr
    try:
        until_told(name, told)
        if told == "paused":
            assert viscum.Machine.find(name).state == "paused"
        if told == "grown":
            assert call("wait", name).stdout.strip() == b"0"
    finally:
        assert call("rm", "-f", name).returncode == 0
    assert actions(name).count(told) >= 1


# What groups tell by themselves.


def test_memory_watch_counts() -> None:
    with viscum.Machine(memory="48M", memory_swap="48M") as machine:
        with MemoryWatch(machine.groups) as watch:
            before = watch.read()
            assert before.oom_kill == 0
            machine.run(eat(300))
            assert ready(watch, 10)
            assert watch.read().oom_kill == 1
            assert not ready(watch, 0)


@needs("cpu")
def test_pressure_trigger_tells_of_waiting() -> None:
    with viscum.Machine(cpus=0.1) as machine:
        with PressureTrigger(machine.groups, "cpu", stall=0.05, window=1.0) as trigger:
            assert trigger.window in (1.0, 2.0)
            assert trigger.stall == pytest.approx(0.05 * trigger.window)
            process = machine.exec([PYTHON, "-c", "while True: pass"])
            assert ready(trigger, 15)
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    "values", [{"stall": 3.0, "window": 2.0}, {"window": 60.0}, {"kind": "no"}]
)
def test_senseless_trigger_is_one_clear_error(values: dict[str, object]) -> None:
    with viscum.Machine() as machine:
        with pytest.raises(viscum.HostError, match="trigger"):
            PressureTrigger(machine.groups, "cpu", **values)


def test_state_watch_tells_of_frozen_and_empty() -> None:
    with viscum.Machine() as machine:
        with Watches() as watches:
            watch = StateWatch(machine.groups)
            watches.add(watch, "state")
            assert watches.ready() == []
            machine.pause()
            assert ready_in(watches) == [(watch, "state")]
            assert watch.read() == (True, True)
            machine.unpause()
            assert ready_in(watches) == [(watch, "state")]
            while watch.read() != (True, False):
                time.sleep(0.01)
            machine.groups.kill()
            machine.wait(10)
            assert ready_in(watches) == [(watch, "state")]
            assert watch.read() == (False, False)


def ready_in(watches: Watches) -> list[tuple[object, object]]:
    poll = select.poll()
    poll.register(watches.fileno(), select.POLLIN)
    assert poll.poll(10_000)
    return watches.ready()


def test_watch_of_a_machine_that_ended_is_one_clear_error() -> None:
    with viscum.Machine(memory="64M") as machine:
        groups = machine.groups
    for make in (MemoryWatch, StateWatch, OomWatch, lambda of: PressureTrigger(of, "cpu")):
        with pytest.raises(viscum.HostError):
            make(groups)
