"""Classes of service of Intel's Resource Director Technology, without the hardware.

No machine that these tests run on has it, so nothing here was seen on a real `resctrl`. What is read
and written there is looked at in a plain folder, with the files of one. Who enters a class and what
is left of it is looked at in a hierarchy of control groups of version 1: the kernel fills a new
folder there with a `tasks` that moves the writer, and removes it with its files, as `resctrl` does.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import types
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import Container, runtime_of_its_own
from needs import needs
from resctrl import SCHEMATA, fill
from viscum import host
from viscum.bundle import Bundle
from viscum.drivers.container_restore import compile_restorer
from viscum.errors import HostError, SpecError
from viscum.oci import intel_rdt
from viscum.oci.intel_rdt import ClassOfService, find

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
L3, MB = "L3:0=7f0;1=1f", "MB:0=20;1=70"


@pytest.fixture
def point(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with the files of `resctrl`, in which new folders are filled as the kernel does."""
    fill(tmp_path)
    (tmp_path / "info").mkdir()

    def make_and_fill(path: str, mode: int, *, dir_fd: int) -> None:
        os.mkdir(path, mode, dir_fd=dir_fd)
        fill(tmp_path / path)

    kernel = types.SimpleNamespace(**{**vars(os), "mkdir": make_and_fill})
    monkeypatch.setattr(intel_rdt, "os", kernel)
    return tmp_path


def made(point: pathlib.Path, **given: Any) -> ClassOfService:
    service = ClassOfService(str(point), given, "first")
    service.make()
    return service


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"l3CacheSchema": L3}, f"{L3}\n"),
        ({"memBwSchema": MB}, f"{MB}\n"),
        ({"l3CacheSchema": L3, "memBwSchema": MB}, f"{L3}\n{MB}\n"),
        ({"l3CacheSchema": f"MB:0=1\n{L3}\n", "memBwSchema": MB}, f"{L3}\n{MB}\n"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"closID": "gold"}])
def test_new_class_gets_the_schemata(
    point: pathlib.Path, given: dict, written: str, more: dict
) -> None:
    service = made(point, **given, **more)
    folder = point / more.get("closID", "first")
    assert service.folders == service.ours == (str(folder),)
    # A file of resctrl takes lines one by one; in this one they stand over what was there.
    assert (folder / "schemata").read_text().startswith(written)
    assert (point / "schemata").read_text() == SCHEMATA


def test_class_of_the_container_alone_needs_no_schema(point: pathlib.Path) -> None:
    made(point)
    assert (point / "first" / "schemata").read_text() == SCHEMATA
    with pytest.raises(HostError, match="'first' is there already"):
        made(point)


def test_class_that_is_there_is_shared_and_stays(point: pathlib.Path) -> None:
    with pytest.raises(HostError, match="'gold' is not there"):
        made(point, closID="gold")
    (point / "gold").mkdir()
    fill(point / "gold")
    for given in ({}, {"memBwSchema": "MB:1=0100"}, {"l3CacheSchema": "L3:0=7FF;1=07ff"}):
        service = made(point, closID="gold", **given)
        assert service.folders == (str(point / "gold"),)
        assert not service.ours
        assert not service.made
        assert (point / "gold" / "schemata").read_text() == SCHEMATA


@pytest.mark.parametrize("given", [{"memBwSchema": MB}, {"l3CacheSchema": "L2:0=ff"}])
def test_class_that_is_there_with_other_schemata_is_refused(
    point: pathlib.Path, given: dict
) -> None:
    (point / "gold").mkdir()
    fill(point / "gold")
    with pytest.raises(HostError, match="'gold' is there with other schemata"):
        made(point, closID="gold", **given)


@pytest.mark.parametrize("kind", ["enableCMT", "enableMBM"])
def test_monitoring_group_is_the_containers_own(point: pathlib.Path, kind: str) -> None:
    (point / "gold").mkdir()
    fill(point / "gold")
    service = made(point, closID="gold", **{kind: True})
    group = str(point / "gold" / "mon_groups" / "first")
    assert service.folders == (str(point / "gold"), group)
    assert service.ours == tuple(service.made) == (group,)
    assert made(point, **{kind: True}).made == [
        str(point / "first" / "mon_groups" / "first"),
        str(point / "first"),
    ]


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "/", "a\nb", "info", "mon_groups"])
def test_name_that_is_no_class_is_refused(point: pathlib.Path, name: str) -> None:
    with pytest.raises(SpecError, match="can be no class of service"):
        made(point, closID=name, memBwSchema=MB)
    with pytest.raises(HostError, match="not a directory"):
        made(point, closID="tasks", memBwSchema=MB)


@pytest.mark.parametrize("text", ["0=20", "L3:0=1", f"{MB}\n{MB}"])
def test_bandwidth_is_one_line_of_its_kind(point: pathlib.Path, text: str) -> None:
    with pytest.raises(SpecError, match="memBwSchema"):
        made(point, memBwSchema=text)


def test_what_the_kernel_says_is_told_and_nothing_is_left(
    point: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point / "info" / "last_cmd_status").write_text("Mask out of range\n")
    service = ClassOfService(str(point), {"l3CacheSchema": L3}, "first")

    def refuse(path: str, text: str) -> None:
        raise OSError(22, f"{path} {text}")

    monkeypatch.setattr(service, "_write", refuse)
    with pytest.raises(HostError, match="'first': Mask out of range"):
        service.make()
    for file in ("schemata", "tasks"):
        (point / "first" / file).unlink()
    (point / "first" / "mon_groups").rmdir()
    service.unmake()
    assert not (point / "first").exists()


@pytest.mark.skipif("resctrl" in pathlib.Path("/proc/mounts").read_text(), reason="there is one")
def test_without_the_file_system_it_is_refused() -> None:
    with pytest.raises(HostError, match="needs a resctrl file system, mounted"):
        find()


# Whole containers.

whole = needs("root", "busybox", "cgroup-v1", "pids")


@pytest.fixture
def group() -> Iterator[pathlib.Path]:
    """A folder in which the kernel lets tasks be moved."""
    parent = dict(host.probe().cgroups.v1)["pids"]
    path = pathlib.Path(f"{parent}/viscum-resctrl-{os.getpid()}")
    path.mkdir()
    yield path
    path.rmdir()


@contextlib.contextmanager
def container_at(folder: pathlib.Path) -> Iterator[Container]:
    """A container of a runtime that takes a folder for `resctrl`."""
    with runtime_of_its_own(script("viscum-oci")) as runtime:
        words = runtime.words
        stand_in = [sys.executable, str(HERE / "resctrl.py"), str(folder)]
        known = {"create", "exec", "update"}
        runtime.words = lambda *given: (
            [*stand_in, *words(*given)[1:]] if known & {*given} else words(*given)
        )
        yield runtime.container()


@pytest.fixture
def container(group: pathlib.Path) -> Iterator[Container]:
    with container_at(group) as made:
        yield made


@whole
def test_container_is_in_its_class_which_goes_with_it(
    container: Container, group: pathlib.Path
) -> None:
    container.linux["intelRdt"] = {}
    container.idle()
    folder = group / container.id
    assert (folder / "tasks").read_text().split() == [str(container.pid)]
    done = container.exec("cat", "/proc/self/cgroup")
    assert f"/{group.name}/{container.id}\n" in done.stdout.decode(), done.stderr
    assert container.delete("--force").returncode == 0
    assert not folder.exists()


@whole
def test_class_of_others_stays(container: Container, group: pathlib.Path) -> None:
    folder = group / "gold"
    folder.mkdir()
    try:
        container.linux["intelRdt"] = {"closID": "gold"}
        done = container.create()
        assert done.returncode == 1
        assert b"'gold' is not there" in done.stderr  # a control group has no schemata
        assert folder.exists()
    finally:
        folder.rmdir()


@whole
def test_launch_that_fails_leaves_no_class(container: Container, group: pathlib.Path) -> None:
    container.linux["intelRdt"] = {}
    container.process["args"] = ["/nosuch"]
    assert container.create().returncode == 1
    container.process["args"] = ["/bin/true"]
    container.mount("/x", "nosuchfs", "x")
    assert container.create().returncode == 1
    assert not [path for path in group.iterdir() if path.is_dir()]
    assert not (container.runtime.root / container.id).exists()


@whole
def test_update_writes_the_schemata_or_changes_nothing(tmp_path: pathlib.Path) -> None:
    schemata = tmp_path / "gold" / "schemata"
    schemata.parent.mkdir()
    fill(schemata.parent)
    with container_at(tmp_path) as container:
        container.linux["intelRdt"] = {"closID": "gold"}
        container.idle()
        update = ("update", container.id, "--l3-cache-schema", L3, "--mem-bw-schema", MB)
        done = container.call(*update)
        assert done.returncode == 0, done.stderr
        assert schemata.read_text() == f"{L3}\n{MB}\n"
        other = ("update", container.id, "--l3-cache-schema", "L3:0=1", "--memory", "4096")
        done = container.call(*other)
        assert done.returncode == 1, done.stdout
        assert schemata.read_text().strip() == f"{L3}\n{MB}"


@whole
def test_update_of_schemata_needs_a_class(container: Container) -> None:
    container.idle()
    done = container.call("update", container.id, "--mem-bw-schema", MB)
    assert done.returncode == 1
    assert b"is in no class of service" in done.stderr


@whole
def test_what_criu_restores_is_in_the_class_from_its_first_instruction(
    container: Container, point: pathlib.Path
) -> None:
    bundle = Bundle(
        id=container.id,
        folder=str(container.folder),
        rootfs=str(container.folder / "rootfs"),
        config=container.config,
        process=container.process,
        init="",
        classes=(str(point),),
    )
    plan = compile_restorer(bundle, "/sbin/criu", 3, "/root", [], full_identity=True).describe()
    assert plan.index(str(point)) < plan.index("cgroup-join"), plan
