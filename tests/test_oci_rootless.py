"""Containers of an ordinary user, by the OCI runtime itself."""

from __future__ import annotations

import os
import pathlib
import time
from typing import TYPE_CHECKING

import pytest

import callers
from conformance.container import Container, runtime_of_its_own
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("root", "busybox", "one-id", "userns", "namespace-tools")

OFFSET = 1000000


@pytest.fixture
def container() -> Iterator[Container]:
    path = callers.installation(pathlib.Path(callers.shared_folder()))
    with runtime_of_its_own(path) as runtime:
        user = callers.make_caller("one-id")
        plain = runtime.words
        runtime.words = lambda *words: user.command(*plain(*words))
        yield runtime.container().belonging_to(user.uid)


def has_offset(shown: bytes | str) -> bool:
    """Return whether that is what /proc/uptime shows with the offset, and not the host's."""
    return float(shown.split()[0]) > OFFSET + time.clock_gettime(time.CLOCK_BOOTTIME) - 100


@pytest.fixture
def offset(container: Container) -> Container:
    container.namespace("time")
    container.linux["timeOffsets"] = {"boottime": {"secs": OFFSET, "nanosecs": 0}}
    return container


@needs("time-on-exec")
def test_first_process_is_in_its_time_namespace(offset: Container) -> None:
    assert has_offset(offset.output("cat /proc/uptime"))


def spaces_of_exec(container: Container) -> set[str]:
    """Return the time namespaces that a later process and its children are in."""
    text = "for name in time time_for_children; do readlink /proc/self/ns/$name; done"
    done = container.exec("/bin/sh", "-c", text)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.decode().split())


@needs("time-on-exec")
def test_exec_enters_the_time_namespace(offset: Container) -> None:
    offset.idle()
    done = offset.exec("/bin/cat", "/proc/uptime")
    assert done.returncode == 0, done.stderr
    assert has_offset(done.stdout)
    assert spaces_of_exec(offset) == {os.readlink(f"/proc/{offset.pid}/ns/time")}
    assert offset.exec("/bin/sh", "-c", "exit 7").returncode == 7


def test_exec_enters_a_time_namespace_beside_the_hosts_processes(container: Container) -> None:
    container.namespace("time")
    container.without_namespace("pid")
    container.config["mounts"][0] |= {"type": "bind", "source": "/proc", "options": ["rbind"]}
    container.idle()
    assert os.readlink(f"/proc/{container.pid}/ns/time") != os.readlink("/proc/self/ns/time")
    assert spaces_of_exec(container) == {os.readlink(f"/proc/{container.pid}/ns/time")}


@needs("time-on-exec")
def test_exec_that_fails_in_a_time_namespace_is_told(offset: Container) -> None:
    offset.idle()
    done = offset.exec("/nosuch")
    assert done.returncode == 255
    assert b"/nosuch" in done.stderr, done.stderr
    (offset.rootfs / "bin/text").write_text("no program")
    (offset.rootfs / "bin/text").chmod(0o755)
    assert offset.exec("/bin/text").returncode == 126
