"""Faults: a launch that fails at any operation, a caller killed at any moment."""

from __future__ import annotations

import os
import pathlib
import pickle
import random
import shutil
import signal
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

import callers
import leftovers
import viscum
import viscum.launching
from callers import KINDS, ROOTLESS, make_caller
from needs import needs
from viscum.image.manifest import Config
from viscum.images import Root

if TYPE_CHECKING:
    from callers import Caller

pytestmark = needs("userns")

TIMEOUT = 60


# Every operation in turn. In a process of its own: what is left is easy to tell there.

FAIL_EVERYWHERE = """
import os, pickle, sys
sys.path.insert(0, sys.argv[1])
import leftovers, viscum
from viscum import launching, native
from viscum.request import make_spec

kind, command, options = pickle.load(sys.stdin.buffer)
fixed = {"tty": True} if kind == "tty" else {"lives": True, "idle": True} if kind == "kept" else {}
spec = make_spec(command, options, **fixed)
host = launching.this_host()
viscum.run(["true"])
ready = launching.load_quietly(launching.compile_machine(spec, host))
plan = ready.compiled.plan
null = os.open("/dev/null", os.O_RDWR)

def launch(index):
    if kind == "run":
        native.run(plan, ready.loaded, launching.new_id(), data=b"x", captures=True, limit=9,
            timeout_ns=-1, kill_slot=ready.compiled.kill_slot, files=ready.compiled.files,
            owner=ready.compiled.owner, fail_at=index)
    else:
        native.launch(plan, ready.loaded, launching.new_id(), (null, null, null),
            fail_at=index).release(ready.compiled.kill_slot)

launch(-1)
before = leftovers.look()
problems, tried = [], 0
for index, operation in enumerate(plan.operations):
    if operation.section in ("load", "release"):
        continue
    tried += 1
    try:
        launch(index)
        problems.append(f"{operation.describe()}: the failure was not reported")
    except viscum.LaunchError as error:
        if (error.index, error.errno) != (index, 5):
            problems.append(f"{operation.describe()}: reported as {error}")
        if not isinstance(error, viscum.LaunchError) or "5" not in str(error.errno):
            problems.append(str(error))
    left = leftovers.settle(before)
    if left:
        problems.append(f"{operation.describe()}: left {left}")
        before = leftovers.look()
launch(-1)
print(tried)
print("\\n".join(problems), file=sys.stderr)
sys.exit(bool(problems))
"""


def fail_everywhere(caller: Caller, kind: str, options: dict[str, object]) -> int:
    """Fail a launch at every operation; return at how many."""
    work = pickle.dumps((kind, ["true"] if kind != "kept" else [], options))
    here = str(pathlib.Path(__file__).parent)
    done = caller.python(FAIL_EVERYWHERE, here, input=work, timeout=110)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return int(done.stdout)


RICH: dict[str, object] = {
    "hostname": "rich",
    "env": {"A": "1"},
    "workdir": "/usr",
    "mounts": [
        viscum.Mount("/usr", "/opt/deep/usr", read_only=True),
        viscum.Mount("/etc/passwd", "/opt/file"),
        viscum.Mount("", "/scratch", kind="tmpfs", size=1 << 20),
    ],
    "devices": ["/dev/null:/opt/void"],
    "rlimits": [viscum.Rlimit("nofile", 64, 128)],
    "sysctls": {"net.ipv4.ip_default_ttl": "99"},
    "hosts": {"db": "10.0.0.1"},
    "dns": ["9.9.9.9"],
    "read_only": True,
    "init": True,
}
LIMITED = {**RICH, "memory": "64M", "cpus": 1.5, "pids": 32, "cpu_shares": 512, "cpuset_cpus": "0"}


@needs("root", "memory", "pids", "cpu", "cpuset")
@pytest.mark.parametrize("kind", ["run", "launch", "tty", "kept"])
def test_launch_that_fails_at_any_operation_leaves_nothing(kind: str) -> None:
    assert fail_everywhere(make_caller("root"), kind, LIMITED) > 60


@pytest.mark.parametrize("who", ROOTLESS)
def test_rootless_launch_that_fails_at_any_operation_leaves_nothing(who: str) -> None:
    assert fail_everywhere(make_caller(who), "run", RICH) > 60


@needs("root")
def test_launch_of_a_rootfs_that_fails_at_any_operation_leaves_nothing(
    folder: pathlib.Path,
) -> None:
    program = folder / "bin" / "true"
    program.parent.mkdir()
    for name in ("lib", "lib64"):
        (folder / name).symlink_to("opt/deep/usr/" + name)
    program.symlink_to("/opt/deep/usr/bin/true")
    options = {"rootfs": str(folder), "mounts": RICH["mounts"], "user": "1000", "env": {}}
    assert fail_everywhere(make_caller("root"), "run", options) > 30


@needs("root", "image-tools")
def test_launch_of_an_image_that_fails_at_any_operation_leaves_nothing(
    folder: pathlib.Path,
) -> None:
    layers = [folder / "layers" / name for name in ("top", "base")]
    for layer in layers:
        (layer / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", layers[1] / "bin/true")
    config = Config("amd64", "linux", (), workdir="/made/here")
    root = Root(tuple(str(layer) for layer in layers), config, "image", "sha256:" + "0" * 64)
    options = {"image": root, "mounts": RICH["mounts"], "user": "1000", "env": {}}
    assert fail_everywhere(make_caller("root"), "run", options) > 30


@needs("root", "pasta")
def test_launch_with_a_way_out_that_fails_at_any_operation_leaves_nothing() -> None:
    assert fail_everywhere(make_caller("root"), "run", {"network": "private"}) > 40


FAIL_EXEC = """
import os, sys
sys.path.insert(0, sys.argv[1])
import leftovers, viscum
from viscum import launching, native
from viscum.request import make_spec

with viscum.Machine() as machine:
    spec = make_spec(["true"], {"workdir": "/usr"})
    folders, into = machine._folders()
    ready = launching.load_quietly(
        launching.compile_command(spec, launching.this_host(), folders, into))
    plan = ready.compiled.plan
    machine.run(["true"])
    null = os.open("/dev/null", os.O_RDWR)
    before, tried = leftovers.look(), 0
    for index, operation in enumerate(plan.operations):
        if operation.section in ("load", "release"):
            continue
        tried += 1
        try:
            native.launch(plan, ready.loaded, machine.id, (null,) * 3, target=machine.fileno(),
                fail_at=index)
            sys.exit(f"{operation.describe()}: the failure was not reported")
        except viscum.LaunchError as error:
            assert error.index == index, (operation, error)
        left = leftovers.settle(before)
        assert not left, (operation, left)
    assert machine.run(["true"]).ok
print(tried)
"""


def test_command_that_fails_to_enter_leaves_nothing(caller: Caller) -> None:
    done = caller.python(FAIL_EXEC, str(pathlib.Path(__file__).parent))
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert int(done.stdout) > 10


def test_failed_load_leaves_nothing() -> None:
    source = """
import os, sys, viscum
from viscum import launching, native
from viscum.plan import Plan, op
from viscum.request import make_spec
spec = make_spec(["true"], {"rootfs": "/usr", "memory": "64M"})
plan = launching.compile_machine(spec, launching.this_host()).plan
loads = [o for o in plan.operations if o.section == "load"]
before = sorted(os.listdir("/proc/self/fd"))
for count in range(len(loads) + 1):
    bad = op("open", 9, "/no/such/file", 0)
    rest = [o for o in plan.operations if o.section != "load"]
    try:
        native.load(Plan([*loads[:count], bad, *rest]))
        sys.exit("loaded")
    except viscum.LaunchError as error:
        assert error.index == count, error
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert open("/proc/self/task/%d/children" % os.getpid()).read() == ""
print("fine")
"""
    done = make_caller("subids" if os.geteuid() else "root").python(source)
    assert done.stdout == b"fine\n", done.stderr.decode()[-2000:]


# What it starts, killed at any moment.

KILLED = """
import os, random, sys, threading, time
sys.path.insert(0, sys.argv[1])
import leftovers, viscum
machine = viscum.Machine().start()
keep = leftovers.children()
machine.run(["true"]); viscum.run(["true"])
before, stop, ends = leftovers.look(), threading.Event(), set()
def kill():
    rng = random.Random()
    while not stop.is_set():
        for pid in leftovers.children() - keep:
            try:
                os.kill(pid, 9)
            except OSError:
                pass
        time.sleep(rng.random() * 0.004)
killer = threading.Thread(target=kill)
killer.start()
end = time.monotonic() + 3
while time.monotonic() < end:
    for start in (viscum.run, machine.run):
        try:
            ends.add(start(["true"], timeout=20).verdict)
        except viscum.LaunchError as error:
            ends.add("refused")
stop.set()
killer.join()
assert ends <= {"ok", "signaled", "refused"}, ends
assert "ok" in ends and len(ends) > 1, ends
left = leftovers.settle(before)
assert not left, left
assert viscum.run(["true"]).ok and machine.run(["true"]).ok
machine.close()
print("fine")
"""


def test_killed_children_and_helpers_are_survived(caller: Caller) -> None:
    """Each launch ends, as one that was killed or that was refused, and leaves nothing."""
    done = caller.python(KILLED, str(pathlib.Path(__file__).parent))
    assert done.stdout == b"fine\n", done.stderr.decode()[-2000:]


# The caller, killed at any moment.

RUNS = """
import sys, viscum
while True:
    viscum.run(["sh", "-c", "(setsid sleep 600 >/dev/null 2>&1 &); sleep 0.01"],
        env={sys.argv[1]: "1"}, **eval(sys.argv[2]))
"""
KEEPS = """
import sys, time, viscum
while True:
    with viscum.Machine(env={sys.argv[1]: "1"}, **eval(sys.argv[2])) as machine:
        process = machine.exec(["sh", "-c", "(setsid sleep 600 &); sleep 600"])
        machine.run(["true"])
        if len(sys.argv) > 3:
            machine.pause()
            time.sleep(0.05)
        process.close()
"""
LOADS = """
import sys, viscum
from viscum import launching
from viscum.request import make_spec
spec = make_spec(["/x"], {"rootfs": "/usr"})
host = launching.this_host()
while True:
    launching.load_quietly(launching.compile_machine(spec, host))
"""


def kill_at_random(caller: Caller, source: str, options: dict[str, object], rounds: int) -> None:
    """Kill callers at random moments; after the next command nothing of them may be left."""
    rng = random.Random()
    mark = f"VISCUM_TEST_{uuid.uuid4().hex}"
    command = caller.python_command(source, mark, repr(options))
    environment = {**caller.environment(), mark: "1"}
    owners = []
    for _ in range(rounds):
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        time.sleep(0.06 + rng.random() * 0.12)
        assert process.poll() is None, process.stderr.read().decode()
        process.kill()
        process.wait(TIMEOUT)
        process.stderr.close()
        owners.append(process.pid)
    done = caller.viscum("run", "--", "true")
    assert done.returncode == 0, done.stderr.decode()
    left = leftovers.await_none(mark)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == {}
    assert [group for owner in owners for group in leftovers.groups(owner)] == []


LIMITS = {"memory": "64M", "pids": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_caller_of_run_leaves_nothing(kind: str) -> None:
    caller = make_caller(kind)
    kill_at_random(caller, RUNS, LIMITS if kind == "root" else {}, 12)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_caller_with_machines_leaves_nothing(kind: str) -> None:
    caller = make_caller(kind)
    kill_at_random(caller, KEEPS, LIMITS if kind == "root" else {}, 10)


FORKS = """
import os, sys, time, viscum
with viscum.Machine(env={sys.argv[1]: "1"}, **eval(sys.argv[2])) as machine:
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "3"])
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    machine.exec(["sleep", "600"])
    time.sleep(600)
"""


def test_killed_caller_whose_children_live_leaves_nothing(caller: Caller) -> None:
    """A child that the caller forked does not keep its machines alive."""
    mark = f"VISCUM_TEST_{uuid.uuid4().hex}"
    command = caller.python_command(FORKS, mark, "{}")
    with subprocess.Popen(command, env=caller.environment(), cwd="/") as process:
        end = time.monotonic() + TIMEOUT
        while not leftovers.processes(mark) and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.3)
        process.kill()
    left = leftovers.await_none(mark, 2)
    assert left == {}, "it lives as long as a child that only forked"


def test_killed_caller_that_nobody_waited_for_leaves_nothing(caller: Caller) -> None:
    """A zombie owns nothing any more."""
    source = KEEPS.replace("process.close()", "print('up', flush=True); process.wait()")
    mark = f"VISCUM_TEST_{uuid.uuid4().hex}"
    command = caller.python_command(source, mark, "{}")
    with subprocess.Popen(
        command, env=caller.environment(), cwd="/", stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"up\n"
        process.kill()
        time.sleep(0.2)
        assert caller.viscum("run", "--", "true").returncode == 0
        left = leftovers.await_none(mark), leftovers.groups(process.pid)
    assert left == ({}, set())


@needs("root", "freezer")
def test_killed_caller_with_paused_machines_leaves_nothing() -> None:
    kill_at_random(make_caller("root"), KEEPS.replace("len(sys.argv) > 3", "True"), {}, 8)


@needs("root")
def test_killed_caller_that_prepares_leaves_nothing() -> None:
    """The helper that makes a user namespace for id-mapped mounts goes with its caller."""
    kill_at_random(make_caller("root"), LOADS, {}, 12)


@needs("root", "pasta")
def test_killed_caller_with_a_way_out_leaves_nothing() -> None:
    """pasta has no environment of the caller's: look for it by the namespace it served."""
    before = processes_named("pasta")
    kill_at_random(make_caller("root"), RUNS, {"network": "private"}, 8)
    end = time.monotonic() + leftovers.PATIENCE_SECONDS
    while (left := processes_named("pasta") - before) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == set()


def processes_named(name: str) -> set[int]:
    """Return the living processes of that name whose parent is init: nobody's any more."""
    found = set()
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            comm = (path / "comm").read_text().strip()
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if comm.startswith(name) and fields[0] != "Z" and fields[1] == "1":
            found.add(int(path.name))
    return found


@needs("root", "cgroup-v1", "namespace-tools")
@pytest.mark.parametrize("script", [callers.V1_ONLY, callers.NO_GROUPS], ids=["v1", "none"])
@pytest.mark.parametrize("source", [RUNS, KEEPS], ids=["run", "machine"])
def test_killed_caller_leaves_nothing_on_other_layouts(script: str, source: str) -> None:
    """Without cgroup v2 there is no `cgroup.kill` and no start inside of a group."""
    root = make_caller("root")
    caller = callers.Caller("root", callers.in_mounts(script, []), 0, root.home)
    kill_at_random(caller, source, {}, 8)


@needs("root", "cgroup-v1", "freezer", "namespace-tools")
def test_killed_caller_with_machines_frozen_by_v1_leaves_nothing() -> None:
    """What cgroup v1 has frozen does not die before it is thawed."""
    root = make_caller("root")
    caller = callers.Caller("root", callers.in_mounts(callers.V1_ONLY, []), 0, root.home)
    kill_at_random(caller, KEEPS.replace("len(sys.argv) > 3", "True"), {}, 5)


@needs("root", "cgroup-v1", "namespace-tools")
def test_machines_work_on_other_layouts() -> None:
    source = """
import viscum
import viscum.launching
with viscum.Machine(memory="64M", pids=20) as machine:
    assert machine.run(["echo", "x"]).text == "x\\n"
    machine.resize(memory="128M")
    machine.pause(); assert machine.state == "paused"; machine.unpause()
    process = machine.exec(["sleep", "600"])
    machine.pause()
    process.close()
assert viscum.run(["sh", "-c", "(setsid sleep 600 &); exit 3"], pids=20).exit_code == 3
print("fine")
"""
    root = make_caller("root")
    words = callers.in_mounts(callers.V1_ONLY, root.python_command(source))
    done = subprocess.run(words, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stdout == b"fine\n", done.stderr.decode()[-2000:]


@needs("root", "cgroup-v1", "namespace-tools")
def test_lost_limits_warn_once_and_strict_refuses() -> None:
    source = """
import warnings, viscum
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        result = viscum.run(["true"], memory="64M")
assert result.ok and result.lost, result
assert [w.category for w in caught] == [viscum.ViscumWarning], caught
try:
    viscum.run(["true"], memory="64M", strict=True)
except viscum.HostError as error:
    print("refused")
"""
    words = callers.in_mounts(callers.NO_GROUPS, make_caller("root").python_command(source))
    done = subprocess.run(words, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.stdout == b"refused\n", done.stderr.decode()[-2000:]


def test_sweep_leaves_machines_of_living_owners_alone() -> None:
    """Another command that comes by does not touch a machine whose owner lives."""
    with viscum.Machine() as machine:
        caller = make_caller("subids" if os.geteuid() else "root")
        assert caller.viscum("run", "--", "true").returncode == 0
        assert machine.run(["echo", "x"]).text == "x\n"


@needs("root")
def test_sweep_leaves_foreign_groups_alone() -> None:
    """Groups whose names only look like ours, or of another pid namespace."""
    base = viscum.launching.this_host().cgroups
    parents = [base.v2] if base.v2 else [folder for _, folder in base.v1[:1]]
    names = ["viscum-something", "viscum-1-2-3-4", "viscum-zz-zz-zz-zz", "viscum-"]
    made = [pathlib.Path(parent, name) for parent in parents for name in names]
    try:
        for path in made:
            path.mkdir()
        assert make_caller("root").viscum("run", "--", "true").returncode == 0
        assert all(path.exists() for path in made)
    finally:
        for path in made:
            path.rmdir()
