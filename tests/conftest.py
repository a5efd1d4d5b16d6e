"""Fixtures: who calls, folders that everybody can reach, the probe, and a look afterwards."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import hypothesis
import pytest

import callers
import leftovers
import needs
import places

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = pathlib.Path(__file__).parent
COMPILE_SECONDS = 60


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*names): what a test needs of its host")
    config.addinivalue_line("markers", "v2: run by `make test-v2` as well")
    config.addinivalue_line("markers", "selinux: run by `make test-v2` on a kernel with SELinux")
    # No record in the source tree, and no deadline: the machine beside may be busy.
    hypothesis.settings.register_profile("viscum", database=None, deadline=None)
    hypothesis.settings.load_profile("viscum")


def pytest_runtest_setup(item: pytest.Item) -> None:
    needs.enforce(item)


def pytest_unconfigure() -> None:
    callers.remove_folders()


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves no process and no control group of this process behind."""
    if HERE / "guard" in request.path.parents:
        yield
        return
    before = {"groups": leftovers.groups(), "children": leftovers.children()}
    yield
    left = leftovers.settle({**leftovers.look(), **before})
    assert not left, f"left behind: {left}"


@pytest.fixture
def place(caller: callers.Caller, folder: pathlib.Path) -> Iterator[places.Place]:
    """Each kind of user in turn, with machines of their own."""
    made = places.Place(caller, folder)
    yield made
    made.clear()


@pytest.fixture
def root_place(folder: pathlib.Path) -> Iterator[places.Place]:
    """This process's user, with machines of its own."""
    made = places.Place(callers.make_caller("root"), folder)
    yield made
    made.clear()


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder that every user may look into."""
    path = pathlib.Path(callers.shared_folder())
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=callers.KINDS, scope="session")
def caller(request: pytest.FixtureRequest) -> callers.Caller:
    """Each kind of user in turn."""
    return callers.make_caller(request.param)


@pytest.fixture(params=callers.ROOTLESS, scope="session")
def user(request: pytest.FixtureRequest) -> callers.Caller:
    """Each kind of ordinary user in turn."""
    return callers.make_caller(request.param)


@pytest.fixture(scope="session")
def probe() -> pathlib.Path:
    """The folder with the compiled probe of tests/probe.c, named `probe`."""
    path = pathlib.Path(callers.shared_folder())
    compiler = shutil.which("musl-gcc") or "gcc"
    flags = ["-std=gnu11", "-O1", "-static", "-w"]
    if compiler != "gcc":
        flags += ["-idirafter", "/usr/include"]
        flags += ["-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu"]
    subprocess.run(
        [compiler, *flags, "-o", str(path / "probe"), str(HERE / "probe.c")],
        check=True,
        timeout=COMPILE_SECONDS,
    )
    (path / "probe").chmod(0o755)
    return path
