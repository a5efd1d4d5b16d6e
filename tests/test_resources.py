"""Limits and usage of running machines, on whichever cgroup version the host has.

Marked `v2`: `make test-v2` runs them again on a kernel that has nothing but version 2.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import viscum
from commands import call
from needs import needs
from viscum import HostError, IoLimit, SpecError, launching
from viscum.launching import this_host
from viscum.resources import reading, settings
from viscum.resources.devices import find_storage
from viscum.resources.groups import GroupSet
from viscum.resources.limits import lost_limits
from viscum.resources.meter import MANY, Meter

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.v2, needs("root")]

MIB = 1 << 20
PYTHON = "/usr/bin/python3"
HOLD = "import time; x = bytearray({0} << 20); print('ready', flush=True); time.sleep(600)"
FILL = (
    "import os, time; x = os.urandom(1 << 20)\n"
    "with open('/fill/file', 'wb') as f: [f.write(x) for _ in range({0})]\n"
    "print('ready', flush=True); time.sleep(600)"
)


def some_disk() -> str:
    """Return the number of a disk of this host."""
    for name in sorted(os.listdir("/sys/block")):
        path = pathlib.Path("/sys/block", name)
        if not name.startswith(("loop", "zram", "ram")) and (path / "size").read_text() != "0\n":
            return (path / "dev").read_text().strip()
    pytest.fail("this host has no disk")


def text_of(machine: viscum.Machine, controller: str, file: str) -> str:
    return pathlib.Path(machine.groups.folder(controller), file).read_text().strip()


@pytest.fixture(autouse=True)
def warned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once for a process is said once for a test."""
    monkeypatch.setattr(launching, "_warned", set())


# Each limit is where it belongs.

Place = tuple[str, str] | None
LIMITS: dict[str, tuple[dict[str, object], str, Place, Place]] = {
    "memory": ({"memory": "64M"}, "memory", ("memory.limit_in_bytes", str(64 * MIB)), ("memory.max", str(64 * MIB))),
    "memory-swap": (
        {"memory": "64M", "memory_swap": "96M"},
        "memory",
        ("memory.memsw.limit_in_bytes", str(96 * MIB)),
        ("memory.swap.max", str(32 * MIB)),
    ),
    "reservation": ({"memory_reservation": "32M"}, "memory", ("memory.soft_limit_in_bytes", str(32 * MIB)), ("memory.low", str(32 * MIB))),
    "high": ({"memory_high": "48M"}, "memory", None, ("memory.high", str(48 * MIB))),
    "min": ({"memory_min": "8M"}, "memory", None, ("memory.min", str(8 * MIB))),
    "swappiness": ({"memory_swappiness": 7}, "memory", ("memory.swappiness", "7"), None),
    "oom-group": ({"oom_group": True}, "memory", None, ("memory.oom.group", "1")),
    "cpus": ({"cpus": 0.5}, "cpu", ("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
    "quota": ({"cpu_quota": 20000, "cpu_period": 50000}, "cpu", ("cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000")),
    "burst": ({"cpu_quota": 20000, "cpu_burst": 10000}, "cpu", ("cpu.cfs_burst_us", "10000"), ("cpu.max.burst", "10000")),
    "shares": ({"cpu_shares": 512}, "cpu", ("cpu.shares", "512"), ("cpu.weight", "20")),
    "weight": ({"cpu_weight": 200}, "cpu", ("cpu.shares", "5220"), ("cpu.weight", "200")),
    "idle": ({"cpu_idle": True}, "cpu", ("cpu.idle", "1"), ("cpu.idle", "1")),
    "cpuset": ({"cpuset_cpus": "0", "cpuset_mems": "0"}, "cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    "pids": ({"pids": 77}, "pids", ("pids.max", "77"), ("pids.max", "77")),
}  # fmt: skip


@needs("memory", "cpu", "cpuset", "pids")
@pytest.mark.parametrize("name", LIMITS)
def test_limit_stands_in_the_group(name: str) -> None:
    options, controller, *places = LIMITS[name]
    with pytest.warns(viscum.ViscumWarning) if None in places else no_warning() as told:
        with viscum.Machine(**options) as machine:
            place = places[machine.groups.version(controller) - 1]
            if place is not None:
                assert text_of(machine, controller, place[0]) == place[1]
            else:
                assert any("version" in lost for lost in machine.lost), machine.lost
            if None in places and place is not None:
                raise_for_the_version(told)


class no_warning:  # noqa: N801
    def __enter__(self) -> None: ...

    def __exit__(self, *_exception: object) -> None: ...


def raise_for_the_version(told: object) -> None:
    """Give the warning that is expected where the other version has a limit."""
    import warnings

    warnings.warn("not lost here", viscum.ViscumWarning, stacklevel=1)


@needs("io")
@pytest.mark.filterwarnings("ignore:.*buffered")
def test_io_bounds_stand_in_the_group() -> None:
    disk = some_disk()
    bound = IoLimit(disk, rbps=10 * MIB, wbps=5 * MIB, riops=300, wiops=200)
    with viscum.Machine(io=[bound]) as machine:
        assert machine.groups.limits().io == (bound,)
        machine.resize(io=[IoLimit(disk, wbps=6 * MIB)])
        assert machine.groups.limits().io == (IoLimit(disk, 10 * MIB, 6 * MIB, 300, 200),)


@needs("io")
@pytest.mark.filterwarnings("ignore:.*buffered")
def test_io_bound_holds_direct_writes() -> None:
    disk = some_disk()
    folder = "/run/disk" if os.path.ismount("/run/disk") else "/var/tmp"
    path = pathlib.Path(folder, f"viscum-io-{os.getpid()}")
    path.mkdir()
    path.chmod(0o777)
    write = [
        "dd",
        "if=/dev/zero",
        "of=/to/file",
        "bs=256k",
        "count=16",
        "oflag=direct",
        "status=none",
    ]
    mount = viscum.Mount(str(path), "/to")
    try:
        limited = viscum.Machine(mounts=[mount], io=[IoLimit(disk, wbps=2 * MIB)])
        with limited as machine, Meter() as meter:
            meter.add(machine.groups)
            assert [meter.read() for _ in range(3)][-1][machine.id].written_bytes == 0
            begin = time.monotonic()
            assert machine.run(write).ok
            assert time.monotonic() - begin > 1.0  # 4 MiB at 2 MiB a second
            usage, figures = machine.usage(), meter.read()[machine.id]
        assert usage.written_bytes >= 4 * MIB
        assert (figures.written_bytes, figures.writes) == (usage.written_bytes, usage.writes)
        assert [device.device for device in usage.io if device.written_bytes] == [disk]
    finally:
        (path / "file").unlink(missing_ok=True)
        path.rmdir()


# Changed together or not at all.


@needs("memory", "cpu", "pids")
def test_resize_changes_everything_or_nothing() -> None:
    with viscum.Machine(memory="128M", cpus=0.5, pids=50) as machine:
        before = machine.groups.limits()
        with pytest.raises(HostError, match="nothing was changed"):
            nowhere = (IoLimit("0:0", wbps=4096),)
            machine.groups.apply(viscum.Limits(memory=96 * MIB, cpus=1, pids=60, io=nowhere))
        assert machine.groups.limits() == before
        machine.resize(cpus=1, pids=60, memory="96M")
        after = machine.groups.limits()
        assert (after.cpu_quota, after.pids, after.memory) == (100000, 60, 96 * MIB)


@needs("memory", "pids", "python")
def test_update_of_a_machine_that_lives_on_changes_everything_or_nothing() -> None:
    name = f"updated-{os.getpid()}"
    words = ["-d", "--name", name, "--memory", "64M", "--pids-limit", "50"]
    assert call("run", *words, "--", PYTHON, "-c", HOLD.format(30)).returncode == 0
    try:
        groups = GroupSet.of(viscum.Machine.find(name).config.group, this_host().cgroups)
        end = time.monotonic() + 60
        while call("logs", name).stdout != b"ready\n":
            assert time.monotonic() < end
        refused = call("update", "--pids-limit", "41", "--memory", "8M", name)
        assert (refused.returncode, b"nothing was changed" in refused.stderr) == (125, True)
        assert (groups.limits().memory, groups.limits().pids) == (64 * MIB, 50)
        done = call("update", "--pids-limit", "41", "--memory", "96M", name)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (groups.limits().memory, groups.limits().pids) == (96 * MIB, 41)
    finally:
        assert call("rm", "-f", name).returncode == 0


@needs("memory", "cpu")
def test_resize_says_what_the_kernel_made_of_it() -> None:
    with viscum.Machine(memory="64M", cpu_quota=20000) as machine:
        applied = machine.resize(memory=64 * MIB + 5, cpu_period=50000)
        assert len(applied.rounded) == 1
        assert f"{64 * MIB}" in applied.rounded[0]
        assert "became" in applied.rounded[0]
        limits = machine.groups.limits()
        assert (limits.cpu_quota, limits.cpu_period) == (20000, 50000)


@needs("cpu")
def test_resize_moves_quota_and_burst_both_ways() -> None:
    with viscum.Machine(cpu_quota=50000, cpu_burst=40000) as machine:
        machine.resize(cpu_quota=10000, cpu_burst=5000)
        machine.resize(cpu_quota=60000, cpu_burst=60000)
        limits = machine.groups.limits()
        assert (limits.cpu_quota, limits.cpu_burst) == (60000, 60000)
        machine.resize(cpus=0.2)  # the kernel takes no quota below what may be saved up
        limits = machine.groups.limits()
        assert (limits.cpu_quota, limits.cpu_burst) == (20000, 20000)


@needs("pids", "cpu", "memory", "memory-swap")
def test_limits_are_lifted_without_a_word_of_rounding() -> None:
    with viscum.Machine(memory="64M", memory_swap="64M", pids=20, cpus=0.5) as machine:
        applied = machine.resize(memory="64M", memory_swap=-1, pids=-1, cpu_quota=-1)
        assert applied.rounded == ()
        limits = machine.groups.limits()
        assert (limits.memory_swap, limits.pids, limits.cpu_quota) == (None, None, None)


@needs("pids", "cpu")
def test_update_lifts_limits_and_takes_no_policy() -> None:
    name = f"lifted-{os.getpid()}"
    words = ["-d", "--name", name, "--cpus", "0.5", "--pids-limit", "50"]
    assert call("run", *words, "--", "sleep", "60").returncode == 0
    try:
        groups = GroupSet.of(viscum.Machine.find(name).config.group, this_host().cgroups)
        refused = call("update", "--pids-limit", "41", "--oom-policy", "pause", name)
        assert (refused.returncode, groups.limits().pids) == (125, 50)
        for lift in ("0", "-1"):
            assert call("update", "--pids-limit", lift, "--cpu-quota", "-1", name).returncode == 0
            assert (groups.limits().pids, groups.limits().cpu_quota) == (None, None)
            words = ["--pids-limit", "9", "--cpu-quota", "30000", "--cpu-period", "60000"]
            assert call("update", *words, name).returncode == 0
            assert (groups.limits().pids, groups.limits().cpu_quota) == (9, 30000)
            assert call("update", "--cpus", "0.4", name).returncode == 0
            assert groups.limits().cpu_quota == 40000
        assert call("update", "--pids-limit", "-1", name).returncode == 0
        assert call("restart", "-t", "0", name).returncode == 0
        assert groups.limits().pids is None
    finally:
        assert call("rm", "-f", name).returncode == 0


@needs("memory")
@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "soon"])
def test_time_to_reclaim_that_is_none_is_refused(seconds: float) -> None:
    with viscum.Machine(memory="64M") as machine, pytest.raises(SpecError, match="reclaim"):
        machine.resize(memory="32M", reclaim=seconds)


def holding(machine: viscum.Machine, megabytes: int) -> viscum.Process:
    process = machine.exec([PYTHON, "-c", HOLD.format(megabytes)], stdout=viscum.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


@needs("memory", "memory-swap", "python")
def test_memory_is_not_lowered_below_what_is_in_use() -> None:
    with viscum.Machine(memory="128M", memory_swap="128M") as machine:
        with holding(machine, 60) as process:
            with pytest.raises(HostError, match="in use"):
                machine.resize(memory="32M", memory_swap="32M")
            with pytest.raises(HostError, match="taken back"):
                machine.resize(memory="32M", memory_swap="32M", reclaim=0.3)
            assert machine.groups.limits().memory == 128 * MIB
            assert process.poll() is None
            assert machine.oom_kills() == 0
            process.kill()


@needs("memory", "python")
def test_memory_is_reclaimed_when_it_can_be(folder: pathlib.Path) -> None:
    fill = pathlib.Path("/run/disk", folder.name) if os.path.ismount("/run/disk") else folder
    fill.mkdir(exist_ok=True)
    fill.chmod(0o777)
    with viscum.Machine(memory="96M", mounts=[viscum.Mount(str(fill), "/fill")]) as machine:
        process = machine.exec([PYTHON, "-c", FILL.format(60)], stdout=viscum.PIPE)
        with process:
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(HostError, match="in use"):
                machine.resize(memory="40M")
            applied = machine.resize(memory="40M", reclaim=20)
            assert applied.reclaimed > 10 * MIB
            assert machine.groups.limits().memory == 40 * MIB
            assert process.poll() is None
            process.kill()
    if fill != folder:
        (fill / "file").unlink()
        fill.rmdir()


# What goes away underneath.


def test_machine_that_died_is_one_clear_error() -> None:
    with viscum.Machine(memory="64M") as machine:
        groups = machine.groups
    with pytest.raises(HostError, match="gone"):
        groups.apply(viscum.Limits(memory=32 * MIB))
    assert groups.usage() == viscum.Usage()
    groups.kill()
    assert groups.processes() == []


@needs("cpu")
def test_machine_that_is_killed_while_it_is_resized_leaves_an_error_or_nothing() -> None:
    for delay in (0.0, 0.001, 0.003):
        with viscum.Machine(memory="64M", cpus=0.5) as machine:
            groups = machine.groups
            end = time.monotonic() + delay
            while time.monotonic() < end:
                groups.apply(viscum.Limits(cpus=0.7))
            machine.kill()
            try:
                groups.apply(viscum.Limits(cpus=0.9, memory=32 * MIB))
            except HostError as error:
                assert "gone" in str(error)


def test_group_without_a_controller_is_one_clear_error() -> None:
    groups = GroupSet("viscum-none", (), "/sys/fs/cgroup/no-such", ())
    with pytest.raises(HostError, match="no cgroup controller"):
        groups.apply(viscum.Limits(memory=32 * MIB))


@needs("memory")
def test_group_removed_underneath_is_one_clear_error() -> None:
    cgroups = launching.this_host().cgroups
    made = []
    for folder in {dict(cgroups.v1).get("memory", cgroups.v2), cgroups.v2}:
        made.append(f"{folder}/viscum-test-{os.getpid()}")
        os.mkdir(made[-1])
    groups = GroupSet.of(f"viscum-test-{os.getpid()}", cgroups)
    groups.apply(viscum.Limits(memory=32 * MIB))
    meter = Meter()
    meter.add(groups)
    assert groups.id in meter.read()
    for path in made:
        os.rmdir(path)
    with pytest.raises(HostError, match="gone"):
        groups.apply(viscum.Limits(memory=16 * MIB))
    assert meter.read() == {}
    meter.close()


# Usage.


@needs("memory", "cpu", "pids", "python")
def test_usage_counts_what_the_machine_did() -> None:
    with viscum.Machine(memory="128M", cpus=0.2) as machine:
        assert machine.run([PYTHON, "-c", "x = bytearray(40 << 20)\nfor i in range(10**7): i"]).ok
        usage, figures = machine.groups.usage(), {}
        with Meter() as meter:
            meter.add(machine.groups)
            figures = meter.read()[machine.id]
        assert usage.cpu_seconds > 0.1
        assert usage.peak_bytes > 40 * MIB
        assert 0 < usage.working_set_bytes <= usage.memory_bytes
        assert usage.periods >= usage.throttled_periods > 0
        assert usage.throttled_seconds > 0
        assert usage.pids == 1
        assert usage.cpu_pressure.some_seconds > 0
        for name in ("cpu_seconds", "peak_bytes", "periods", "throttled_periods", "pids"):
            assert getattr(figures, name) == pytest.approx(getattr(usage, name), rel=0.05), name
        assert figures.cpu_some_seconds >= usage.cpu_pressure.some_seconds > 0
        assert figures.memory_bytes > 0


@needs("memory", "python")
def test_meter_of_many_machines_notices_a_kill_and_who_waits() -> None:
    """What a group counts of these is read again only once the host has counted any."""
    with contextlib.ExitStack() as stack:
        machines = [stack.enter_context(viscum.Machine(memory="32M")) for _ in range(MANY)]
        meter = stack.enter_context(Meter())
        for machine in machines:
            meter.add(machine.groups)
        before = [meter.read() for _ in range(3)][-1]
        assert sum(figures.oom_kills for figures in before.values()) == 0
        victim = machines[5]
        assert not victim.run([PYTHON, "-c", "bytearray(200 << 20)"]).ok
        for _ in range(4):
            after, usage = meter.read(), victim.groups.usage()
            found = after.pop(victim.id)
            assert found.oom_kills == usage.oom_kills > 0
            assert found.memory_some_seconds == usage.memory_pressure.some_seconds > 0
            assert sum(figures.oom_kills for figures in after.values()) == 0


@needs("memory", "pids", "python")
def test_meter_notices_a_machine_that_wakes() -> None:
    """What slept is not read in full; what has run since is."""
    with viscum.Machine(memory="128M") as machine, Meter() as meter:
        meter.add(machine.groups)
        asleep = [meter.read()[machine.id] for _ in range(3)]
        assert len({figures.pids for figures in asleep}) == 1
        assert asleep[-1].working_set_bytes > 0
        process = holding(machine, 40)
        awake = meter.read()[machine.id]
        assert awake.pids == 2
        assert awake.peak_bytes > asleep[-1].peak_bytes + 30 * MIB
        assert awake.working_set_bytes > 30 * MIB
        process.kill()
        process.wait()


def test_meter_without_descriptors_opens_files_anew() -> None:
    with viscum.Machine(memory="64M") as machine, Meter() as meter:
        meter._most = 0
        before = len(os.listdir("/proc/self/fd"))
        meter.add(machine.groups)
        assert len(os.listdir("/proc/self/fd")) == before
        assert meter.read()[machine.id].cpu_seconds > 0


def test_meter_gives_its_descriptors_back() -> None:
    with viscum.Machine(memory="64M") as machine:
        before = len(os.listdir("/proc/self/fd"))
        meter = Meter()
        for _ in range(3):
            meter.add(machine.groups)
        assert list(meter.read()) == [machine.id]
        assert len(os.listdir("/proc/self/fd")) > before
        meter.remove(machine.id)
        meter.remove("unknown")
        assert meter.read() == {}
        assert len(os.listdir("/proc/self/fd")) == before
        meter.close()


# Senseless values.


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 0},
        {"memory": "-5M"},
        {"memory": "12 parsecs"},
        {"memory_high": "0"},
        {"memory_low": "64M", "memory": "32M"},
        {"memory_min": "64M", "memory_high": "32M"},
        {"memory_reservation": "64M", "memory": "32M"},
        {"memory_swap": "16M", "memory": "32M"},
        {"memory_swappiness": 101},
        {"cpus": 0},
        {"cpus": -1},
        {"cpus": 1e6},
        {"cpus": float("nan")},
        {"cpus": True},
        {"cpus": [1]},
        {"memory": "999T"},
        {"cpus": 1, "cpu_quota": 50000},
        {"cpu_quota": 0},
        {"cpu_quota": 999},
        {"cpu_quota": 10**12},
        {"cpu_period": 5},
        {"cpu_quota": 10000, "cpu_burst": 20000},
        {"cpu_burst": -1},
        {"cpu_shares": 1.5},
        {"cpu_weight": 0},
        {"cpu_weight": 100, "cpu_shares": 100},
        {"cpu_weight": 100, "cpu_idle": True},
        {"cpuset_cpus": "0-"},
        {"cpuset_cpus": "9999"},
        {"cpuset_cpus": 9999},
        {"cpuset_mems": "x"},
        {"pids": 0},
        {"pids": "many"},
        {"io_weight": 0},
        {"io": [IoLimit("/etc/passwd-that-vanished", wbps=1)]},
        {"io": [IoLimit("/dev/null", wbps=1)]},
        {"io": [IoLimit("/proc/self", wbps=1)]},
        {"io": [IoLimit("sda", wbps=1)]},
        {"io": [IoLimit("999999:1", wbps=1)]},
        {"hugetlb": {"2 MB": "4M"}},
        {"hugetlb": {"2MB": "-4M"}},
        {"misc": {"a b": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_senseless_limit_is_one_clear_error(options: dict[str, object]) -> None:
    with pytest.raises(SpecError) as raised:
        viscum.Machine(**options)
    value = str(next(iter(options.values())))
    assert raised.value.hint or any(word in str(raised.value) for word in value.split())


@needs("io")
def test_bound_of_zero_is_refused() -> None:
    for name in ("rbps", "wbps", "riops", "wiops", "latency_us"):
        for value in (0, -1):
            with pytest.raises(SpecError, match=name):
                viscum.Machine(io=[IoLimit(some_disk(), **{name: value})])


@needs("io")
def test_bound_that_is_an_outage_is_refused() -> None:
    for name in ("rbps", "wbps"):
        with pytest.raises(SpecError, match=f"{name} of 1023 bytes a second is out of range"):
            viscum.Machine(io=[IoLimit(some_disk(), **{name: 1023})])


@needs("io")
def test_machine_that_waits_for_its_own_bound_ends_when_it_is_removed() -> None:
    name = f"waits-{os.getpid()}"
    path = pathlib.Path("/run/disk" if os.path.ismount("/run/disk") else "/var/tmp", name)
    path.mkdir()
    path.chmod(0o777)
    write = "exec dd if=/dev/zero of=/w/file bs=1M count=1 oflag=direct"
    words = ["-d", "--name", name, "--io-max", f"{path}:wbps=1024", "-v", f"{path}:/w"]
    try:
        assert call("run", *words, "--", "sh", "-c", write).returncode == 0
        groups = GroupSet.of(viscum.Machine.find(name).config.group, this_host().cgroups)
        end = time.monotonic() + 60
        while not (path / "file").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)  # now it waits for 17 minutes
        assert call("rm", "-f", name).returncode == 0
        assert not groups.processes()
        assert not os.path.exists(groups.folder("io"))
    finally:
        shutil.rmtree(path)


@needs("io")
def test_bound_that_is_no_whole_number_is_refused() -> None:
    for name in ("rbps", "wbps", "riops", "wiops", "latency_us", "weight"):
        for value in (1.5, "1M", True):
            with pytest.raises(SpecError, match="is not a whole number"):
                viscum.Machine(io=[IoLimit(some_disk(), **{name: value})])


def told(call: Callable[[], object]) -> str:
    with pytest.raises(viscum.ViscumError) as raised:
        call()
    return str(raised.value)


def test_unknown_limit_of_resize_is_named() -> None:
    with viscum.Machine() as machine:
        with pytest.raises(TypeError, match="no_such"):
            machine.resize(no_such=1)


# Devices found from paths.


@needs("io", "namespace-tools")
def test_device_is_found_through_an_overlay(folder: pathlib.Path) -> None:
    """An overlay has a number of its own, which stands for no device; its upper layer has one."""
    home = pathlib.Path("/run/disk", folder.name) if os.path.ismount("/run/disk") else folder
    home.mkdir(exist_ok=True)
    for name in ("lower", "upper", "work", "merged"):
        (home / name).mkdir()
    layers = f"lowerdir={home}/lower,upperdir={home}/upper,workdir={home}/work"
    program = (
        "from viscum.resources.devices import find_storage\n"
        f"print(find_storage('{home}/merged').device, find_storage('{home}').device)"
    )
    script = f'mount -t overlay -o {layers} overlay {home}/merged && exec {sys.executable} -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, plain = done.stdout.split()
    assert found == plain
    if home != folder:
        shutil.rmtree(home)


@needs("io", "disks")
def test_partition_stands_for_its_disk(folder: pathlib.Path) -> None:
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(8 * MIB)
    words = ["/usr/sbin/losetup", "--find", "--show", "--partscan", str(image)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    device = done.stdout.strip()
    # Told to the kernel by sectors, since not every kernel reads tables of partitions.
    subprocess.run(["/usr/bin/addpart", device, "1", "2048", "8192"], timeout=30, check=True)
    try:
        end = time.monotonic() + 10
        while not os.path.exists(f"{device}p1") and time.monotonic() < end:
            time.sleep(0.05)
        whole, part = find_storage(device), find_storage(f"{device}p1")
        assert part.device == whole.device
        assert whole.disks == part.disks
    finally:
        subprocess.run(["/usr/sbin/losetup", "--detach", device], timeout=30, check=True)


def test_what_is_on_no_device_is_refused() -> None:
    for path in ("/proc/self/status", "/sys", "/dev/shm"):
        with pytest.raises(SpecError, match="not stored on a block device"):
            find_storage(path)


def test_rounded_memory_is_said() -> None:
    cgroups = this_host().cgroups
    page = os.sysconf("SC_PAGE_SIZE")
    limits = viscum.Limits(memory=(64 << 20) + 5)
    said = [text for text in lost_limits(limits, cgroups) if "exactly" in text]
    assert said == [f"memory of {(64 << 20) + 5} bytes exactly: it becomes {64 << 20}, whole pages"]
    assert not [t for t in lost_limits(viscum.Limits(memory=page * 999), cgroups) if "exactly" in t]


def test_weight_of_io_is_for_a_scheduler_that_knows_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = viscum.Limits(io_weight=200)
    monkeypatch.setattr(reading, "read_bytes", lambda path: b"[mq-deadline] none bfq\n")
    assert settings.unheld(limits, {}) == settings.unheld(limits, {"blkio": ""}) != []
    assert settings.settings_v2(limits) == [("io", "io.weight", "default 200")]
    monkeypatch.setattr(reading, "read_bytes", lambda path: b"mq-deadline none [bfq]\n")
    assert settings.unheld(limits, {}) == []
    assert ("io", "io.bfq.weight", "default 109") in settings.settings_v2(limits)
