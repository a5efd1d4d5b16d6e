"""AppArmor's profiles, on a kernel that holds processes to them, as that of `make test-v2` does."""

from __future__ import annotations

import os
import pathlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import Container, runtime_of_its_own
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = f"viscum-test-{os.getpid()}"
HELD, FREE = f"{NAME} (enforce)\n", "unconfined\n"
PROFILE = f"""profile {NAME} flags=(attach_disconnected) {{
  file,
  capability,
  mount,
  signal,
  deny /secret r,
}}
"""
PEERS = ("/usr/sbin/runc", "/usr/bin/crun")

pytestmark = [pytest.mark.v2, needs("root", "busybox", "apparmor")]


@pytest.fixture(scope="module", autouse=True)
def profile() -> Iterator[None]:
    """Load the profile, and take it out again."""
    words = ["apparmor_parser", "--skip-cache"]
    subprocess.run([*words, "--add"], input=PROFILE, text=True, check=True)
    yield
    subprocess.run([*words, "--remove"], input=PROFILE, text=True, check=True)


@pytest.fixture
def container() -> Iterator[Container]:
    with runtime_of_its_own(script("viscum-oci")) as runtime:
        yield confined(runtime.container())


def confined(container: Container) -> Container:
    container.process["apparmorProfile"] = NAME
    (container.rootfs / "secret").touch()
    return container


def profile_of(pid: int) -> str:
    return pathlib.Path(f"/proc/{pid}/attr/current").read_text()


@pytest.mark.parametrize("path", [script("viscum-oci"), *PEERS])
def test_command_and_exec_are_held_to_the_profile(path: str) -> None:
    """Ours, and what other runtimes make of the same bundle."""
    with runtime_of_its_own(path) as runtime:
        container = confined(runtime.container()).idle()
        assert profile_of(container.pid) == HELD
        assert container.exec("cat", "/proc/self/attr/current").stdout.decode() == HELD
        done = container.exec("cat", "/secret")
        assert b"denied" in done.stderr


@pytest.mark.parametrize("privileged", [False, True])
def test_profile_in_a_user_namespace(container: Container, *, privileged: bool) -> None:
    ids = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    container.linux["uidMappings"] = container.linux["gidMappings"] = ids
    container.namespace("user")
    container.process["noNewPrivileges"] = not privileged
    assert container.output("cat /proc/self/attr/current") == HELD


def test_hooks_of_the_runtime_are_not_held_to_it(container: Container) -> None:
    path = container.folder / "profile"
    text = f"cat /proc/self/attr/current > {path}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", text]}
    container.config["hooks"] = {"createContainer": [hook]}
    container.idle()
    assert path.read_text() == FREE


def test_profile_that_is_not_loaded_is_refused(container: Container) -> None:
    container.idle()
    done = container.exec("true", given=("--apparmor", "nosuch"))
    assert done.returncode == 255
    assert b"nosuch" in done.stderr
    assert container.delete("--force").returncode == 0
    container.process["apparmorProfile"] = "nosuch"
    done = container.create()
    assert done.returncode == 1
    assert b"nosuch" in done.stderr
    assert not (container.runtime.root / container.id).exists()
