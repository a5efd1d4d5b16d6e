"""Volumes with disks of their own, and limits that hold all that is written to them."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time
from typing import TYPE_CHECKING

import pytest

import viscum
from commands import call
from needs import needs
from viscum import HostError, IoLimit, ViscumError, disks, launching, volumes
from viscum.resources.devices import find_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.v2, needs("root", "io", "disks", "python")]

MIB = 1 << 20
BUFFERED = """
import os, time
data, begin = os.urandom(1 << 20), time.monotonic()
with open("/to/file", "wb", buffering=0) as file:
    for _ in range({0}):
        file.write(data)
print(time.monotonic() - begin)
"""


@pytest.fixture(autouse=True)
def warned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once for a process is said once for a test."""
    monkeypatch.setattr(launching, "_warned", set())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> Iterator[str]:
    """The folder of a volume with a disk of its own."""
    place = "/run/disk" if os.path.ismount("/run/disk") else str(folder)
    monkeypatch.setenv("VISCUM_DATA", f"{place}/data-{os.getpid()}")
    volumes.create("disk", size=64 * MIB)
    os.close(volumes.hold("disk"))
    path = volumes.path_of("disk")
    os.chmod(path, 0o777)
    yield path
    number = find_storage(path).device
    volumes.remove("disk", lambda _name: [])
    assert not os.path.exists(path)
    shutil.rmtree(f"{place}/data-{os.getpid()}")
    root = dict(launching.this_host().cgroups.v1).get("blkio")
    if root:
        bounds = pathlib.Path(root, "blkio.throttle.write_bps_device").read_text()
        assert f"{number} " not in bounds


def test_disk_is_a_device_of_its_own(disk: str) -> None:
    storage = find_storage(disk)
    assert storage.device.startswith("7:")
    assert storage.disks
    assert all(not number.startswith("7:") for number in storage.disks)
    loop = pathlib.Path("/sys/dev/block", storage.device, "loop")
    assert (loop / "dio").read_text() == "1\n"
    assert (loop / "autoclear").read_text() == "1\n"


def test_disk_has_its_size(disk: str) -> None:
    with viscum.Machine(mounts=[viscum.Mount(disk, "/to")]) as machine:
        done = machine.run(["dd", "if=/dev/zero", "of=/to/file", "bs=1M", "count=100"])
        assert done.exit_code == 1
        assert b"No space left" in done.stderr


def test_limit_holds_buffered_writes(disk: str) -> None:
    bound = IoLimit(disk, wbps=8 * MIB)
    mounts = [viscum.Mount(disk, "/to")]
    with viscum.Machine(mounts=mounts, io=[bound], memory="256M") as machine:
        assert machine.lost == ()
        done = machine.run(["/usr/bin/python3", "-c", BUFFERED.format(32)])
        begin = time.monotonic()
        os.sync()
        spent = float(done.text) + time.monotonic() - begin
        assert spent > 2.0  # 32 MiB at 8 MiB a second, less what may wait
    with viscum.Machine(mounts=mounts, memory="256M") as machine:
        assert machine.run(["/usr/bin/python3", "-c", BUFFERED.format(32)]).ok
        assert "7:" not in str(machine.groups.limits().io)


@needs("cgroup-v1")
def test_limit_that_holds_no_buffered_writes_says_so(folder: pathlib.Path) -> None:
    with pytest.warns(viscum.ViscumWarning, match="buffered writes"):
        with viscum.Machine(io=[IoLimit(str(folder), wbps=MIB)]) as machine:
            assert "buffered writes" in machine.lost[0]


@needs("cgroup-v1")
def test_inspect_says_what_a_limit_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    monkeypatch.setenv("VISCUM_RUN", str(folder / "run"))
    name = f"lost-{os.getpid()}"
    assert (
        call("create", "--name", name, "--io-max", f"{folder}:wbps=1m", "--", "true").returncode
        == 0
    )
    (found,) = json.loads(call("inspect", name).stdout)
    assert call("rm", name).returncode == 0
    assert any("buffered writes" in text for text in found["Lost"])


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_disk_that_is_too_small_is_refused(
    size: int, monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    with pytest.raises(ViscumError, match="too small"):
        volumes.create("small", size=size)
    assert volumes.names() == []
    assert os.listdir(folder / "data" / "volumes") == []


def test_disk_beyond_the_space_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    monkeypatch.setenv("VISCUM_DATA", str(folder / "data"))
    with pytest.raises(ViscumError, match="disk of"):
        volumes.create("large", size=1 << 60)
    assert os.listdir(folder / "data" / "volumes") == []


def test_disk_of_an_ordinary_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="root"):
        disks.make("/nowhere", 64 * MIB)
