"""Machines and threads, forks, event loops; and that nothing grows."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pathlib
import resource
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import leftovers
import viscum
from callers import Caller, make_caller
from needs import needs
from viscum import launching

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("userns")

TIMEOUT = 30
PIPE, STDOUT, DEVNULL = viscum.PIPE, viscum.STDOUT, viscum.DEVNULL


@pytest.fixture
def machine() -> Iterator[viscum.Machine]:
    with viscum.Machine() as running:
        yield running


# Threads, forks, loops.


def test_machine_outlives_the_thread_that_started_it() -> None:
    made: list[viscum.Machine] = []
    thread = threading.Thread(target=lambda: made.append(viscum.Machine().start()))
    thread.start()
    thread.join(TIMEOUT)
    time.sleep(0.1)
    with made[0] as machine:
        assert machine.state == "running"
        assert machine.run(["true"]).ok


def test_command_outlives_the_thread_that_started_it(machine: viscum.Machine) -> None:
    made: list[viscum.Process] = []
    thread = threading.Thread(target=lambda: made.append(machine.exec(["sleep", "600"])))
    thread.start()
    thread.join(TIMEOUT)
    time.sleep(0.2)
    with made[0] as process:
        assert process.poll() is None


def test_threads_share_a_machine(machine: viscum.Machine) -> None:
    def work(number: int) -> str:
        return machine.run(["sh", "-c", f"echo {number}"], timeout=TIMEOUT).text

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(work, range(64)))
    assert texts == [f"{number}\n" for number in range(64)]


def test_many_threads_launch_at_once() -> None:
    """64 threads, several launches each, all started together."""
    barrier = threading.Barrier(64)
    before = leftovers.look()

    def work(number: int) -> list[str]:
        barrier.wait(TIMEOUT)
        return [viscum.run(["echo", str(number)], timeout=60).text for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        results = list(pool.map(work, range(64)))
    assert results == [[f"{number}\n"] * 3 for number in range(64)]
    assert leftovers.settle(before | {"descriptors": leftovers.descriptors()}) == {}


def test_close_in_one_thread_ends_waits_in_others() -> None:
    machine = viscum.Machine().start()
    process = machine.exec(["sleep", "600"])
    ended: list[int] = []
    waits = [
        threading.Thread(target=lambda: ended.append(machine.wait())),
        threading.Thread(target=lambda: ended.append(process.wait())),
    ]
    for thread in waits:
        thread.start()
    time.sleep(0.1)
    machine.close()
    for thread in waits:
        thread.join(TIMEOUT)
    assert ended == [128 + signal.SIGKILL] * 2
    process.close()


def test_command_of_a_machine_that_is_gone_makes_no_group(tmp_path: pathlib.Path) -> None:
    """Its plan may be compiled before the machine is closed, and loaded after."""
    with viscum.Machine() as machine:
        host = launching.this_host()
        gone = (f"{tmp_path}/v1",), f"{tmp_path}/v2"
        compiled = launching.compile_command(machine.spec.replace(command=("true",)), host, *gone)
        with pytest.raises(viscum.LaunchError, match="v1"):
            launching.load(compiled)
    assert list(tmp_path.iterdir()) == []


def test_exec_while_the_machine_closes_is_refused_or_killed() -> None:
    for _ in range(10):
        machine = viscum.Machine().start()
        stop = threading.Event()
        wrong: list[BaseException] = []

        def work(machine: viscum.Machine = machine, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                try:
                    machine.run(["true"], timeout=TIMEOUT)
                except viscum.ViscumError:
                    continue
                except BaseException as error:
                    wrong.append(error)
                    return

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.03)
        machine.close()
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        assert wrong == []


FORKED = """
import os, sys, viscum
viscum.run(["true"])
with viscum.Machine() as machine:
    process = machine.exec(["sleep", "600"])
    pid = os.fork()
    if pid == 0:
        {child}
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert machine.state == "running", "the child ended the machine of its parent"
    assert process.poll() is None, "the child ended a command of its parent"
    assert machine.run(["echo", "alive"]).text == "alive\\n"
    process.close()
print("fine")
"""


@pytest.mark.parametrize(
    "child",
    [
        "pass",
        "del machine, process",
        "assert viscum.run(['echo', 'child']).text == 'child\\n'",
        "import gc; gc.collect(); viscum.Machine().start().close()",
    ],
)
def test_child_after_fork_leaves_the_parents_machine_alone(child: str, caller: Caller) -> None:
    done = caller.python(FORKED.replace("{child}", child))
    assert done.stdout == b"fine\n", done.stderr.decode()


FORK_IN_LAUNCH = """
import os, threading, viscum
machine = viscum.Machine().start()
viscum.run(["true"])  # a fork in the middle of an import is CPython's own affair
machine.exec(["true"]).wait()
stop = threading.Event()
def work():
    while not stop.is_set():
        viscum.run(["true"])
        machine.exec(["true"]).wait()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
bad = 0
for _ in range(30):
    pid = os.fork()
    if pid == 0:
        try:
            ok = viscum.run(["true"], timeout=20).ok and viscum.run(["true"], timeout=20).ok
            ok = ok and os.stat("/proc/self/environ").st_uid == os.geteuid()
        except BaseException as error:
            import traceback; traceback.print_exc()
            ok = False
        os._exit(0 if ok else 1)
    bad += os.waitpid(pid, 0)[1] != 0
stop.set()
for thread in threads: thread.join()
machine.close()
print("bad", bad)
"""


def test_fork_while_other_threads_launch_is_safe(caller: Caller) -> None:
    done = caller.python(FORK_IN_LAUNCH)
    assert done.stdout == b"bad 0\n", done.stderr.decode()[-2000:]


FORK_BESIDE = """
import os, threading, time, viscum
slowest, stop = 0.0, False
def work(machine):
    global slowest
    while not stop:
        start = time.monotonic()
        machine.run(["true"])
        viscum.run(["true"])
        slowest = max(slowest, time.monotonic() - start)
with viscum.Machine() as machine:
    viscum.run(["true"]); machine.run(["true"])
    threads = [threading.Thread(target=work, args=(machine,)) for _ in range(2)]
    for thread in threads: thread.start()
    children = []
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            time.sleep(6)
            os._exit(0)
        children.append(pid)
        time.sleep(0.005)
    stop = True
    for thread in threads: thread.join()
    for pid in children: os.kill(pid, 9)
    for pid in children: os.waitpid(pid, 0)
print("fine" if slowest < 4 else f"a command took {slowest} s to start and end")
"""


def test_command_starts_while_others_fork(caller: Caller) -> None:
    """What a forked child holds open does not keep a launch from ending."""
    done = caller.python(FORK_BESIDE)
    assert done.stdout == b"fine\n", (done.stdout, done.stderr.decode())


def test_run_async_runs_side_by_side() -> None:
    async def main() -> list[viscum.Result]:
        return await asyncio.gather(
            *(viscum.run_async(["sh", "-c", f"sleep 0.3; echo {n}"]) for n in range(8))
        )

    start = time.monotonic()
    results = asyncio.run(main())
    assert [result.text for result in results] == [f"{n}\n" for n in range(8)]
    assert time.monotonic() - start < 8 * 0.3


def test_run_async_gives_the_same_result_as_run() -> None:
    command = ["sh", "-c", "cat; echo err >&2; exit 4"]
    waited = asyncio.run(viscum.run_async(command, input=b"data"))
    ran = viscum.run(command, input=b"data")
    fields = ("stdout", "stderr", "exit_code", "verdict", "truncated")
    assert [getattr(waited, f) for f in fields] == [getattr(ran, f) for f in fields]


def test_run_async_has_a_timeout() -> None:
    result = asyncio.run(viscum.run_async(["sh", "-c", "echo a; sleep 600"], timeout=0.3))
    assert (result.verdict, result.stdout) == ("timeout", b"a\n")


def test_run_async_bounds_its_output() -> None:
    result = asyncio.run(viscum.run_async(["seq", "100000"], output_limit=10))
    assert (len(result.stdout), result.truncated) == (10, True)


def test_run_async_feeds_and_reads_at_once() -> None:
    data = b"x" * (4 << 20)
    assert asyncio.run(viscum.run_async(["cat"], input=data)).stdout == data


def test_run_async_does_not_wait_for_what_the_command_left() -> None:
    result = asyncio.run(viscum.run_async(["sh", "-c", "sleep 600 & echo done"], timeout=20))
    assert (result.stdout, result.verdict) == (b"done\n", "ok")


def test_cancelled_run_async_leaves_no_machine() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(viscum.run_async(["sleep", "600"]))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(viscum.run_async(["sleep", "600"], timeout=0))
    before = leftovers.look()
    asyncio.run(main())
    assert leftovers.settle(before) == {}


def test_run_async_that_is_cancelled_at_once_leaves_no_machine() -> None:
    async def main() -> None:
        for delay in (0, 0.001, 0.003, 0.01, 0.02):
            task = asyncio.ensure_future(viscum.run_async(["sleep", "600"]))
            await asyncio.sleep(delay)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(viscum.run_async(["sleep", "600"], timeout=0))
    before = leftovers.look()
    asyncio.run(main())
    assert leftovers.settle(before) == {}


def test_run_async_raises_what_run_raises() -> None:
    with pytest.raises(viscum.SpecError):
        asyncio.run(viscum.run_async(["true"], memory=0))
    with pytest.raises(TypeError):
        asyncio.run(viscum.run_async(["true"], memroy=0))


# Growth.

GROW = """
import os, resource, sys, viscum
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def launch(count):
    for number in range(count):
        viscum.run(["true"])
launch(200)
before, open_before = rss(), len(os.listdir("/proc/self/fd"))
launch(int(sys.argv[1]))
print(rss() - before, len(os.listdir("/proc/self/fd")) - open_before)
"""


def test_two_thousand_launches_leak_nothing() -> None:
    done = make_caller("root" if not os.geteuid() else "subids").python(GROW, "2000", timeout=100)
    grown, opened = (int(word) for word in done.stdout.split())
    assert opened == 0
    assert grown < 2 << 20


GROW_MACHINES = GROW.replace(
    'viscum.run(["true"])',
    'm = viscum.Machine(env={"N": str(number % 50)}).start(); m.run(["true"]); m.close()',
)


def test_many_machines_leak_nothing(caller: Caller) -> None:
    done = caller.python(GROW_MACHINES, "60", timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    grown, opened = (int(word) for word in done.stdout.split())
    assert opened <= 0
    assert grown < 4 << 20


def test_failed_launches_leak_nothing(caller: Caller) -> None:
    source = GROW.replace(
        'viscum.run(["true"])',
        "\n        try: viscum.run(['no-such-command'])\n        except viscum.CommandNotFound: pass",
    )
    done = caller.python(source, "150", timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    grown, opened = (int(word) for word in done.stdout.split())
    assert opened == 0
    assert grown < 2 << 20


def test_plans_that_are_no_longer_cached_close_their_descriptors() -> None:
    """More different specs than are kept: what falls out is closed."""
    source = (
        "import os, viscum\n"
        "viscum.run(['true'])\n"
        "for n in range(600): viscum.run(['true'], env={'N': str(n)})\n"
        "print(len(os.listdir('/proc/self/fd')))\n"
    )
    done = make_caller("root" if not os.geteuid() else "subids").python(source, timeout=100)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert int(done.stdout) < min(limit, 8192)


def test_usual_limit_of_descriptors_is_enough_for_many_specs() -> None:
    """1,024 is what a shell gives: the cache of plans must not eat it."""
    source = (
        "import resource, viscum\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))\n"
        "for n in range(400): assert viscum.run(['true'], env={'N': str(n)}).ok\n"
        "print('fine')\n"
    )
    done = make_caller("root" if not os.geteuid() else "subids").python(source, timeout=100)
    assert done.stdout == b"fine\n", done.stderr.decode()[-1500:]


def test_importing_opens_nothing() -> None:
    source = (
        "import os; before = os.listdir('/proc/self/fd')\n"
        "import viscum; viscum.run\n"
        "assert os.listdir('/proc/self/fd') == before\n"
        "import threading; assert threading.active_count() == 1\n"
    )
    done = make_caller("root" if not os.geteuid() else "subids").python(source)
    assert done.returncode == 0, done.stderr.decode()


def test_public_names_are_all_there() -> None:
    assert sorted(viscum.__all__) == dir(viscum)
    for name in viscum.__all__:
        assert getattr(viscum, name) is not None
    assert sys.modules["viscum"].__version__
