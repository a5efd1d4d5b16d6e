"""Containers saved and brought back by a real CRIU.

Debian's 3.17.1 works on Debian's kernel, so these run in the guest of `make test-v2`, and where
`criu check` is content. VISCUM_CRIU names another CRIU.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import termios
import time
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import ConsoleSocket, Container, Runtime
from needs import needs
from terminals import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [needs("root", "busybox", "criu"), pytest.mark.v2, pytest.mark.timeout(240)]

CRIU = os.environ.get("VISCUM_CRIU", "criu")
SECONDS = 60
BACK = f"viscum-back-{os.getpid()}"
"""Groups are named by it, so no other test may have it."""


@pytest.fixture
def container() -> Iterator[Container]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-checkpoint-"))
    folder.chmod(0o755)
    runtime = Runtime(script("viscum-oci"), folder)
    made = runtime.container()
    (folder / "volume").mkdir()
    made.mount("/volume", "bind", str(folder / "volume"), "bind")
    made.without_namespace("network")  # whose links CRIU 3.17.1 cannot list on Linux 6.1
    made.linux["maskedPaths"] = ["/proc/timer_list", "/proc/acpi"]
    made.linux["resources"]["pids"] = {"limit": 50}
    made.script("n=0; while :; do n=$((n+1)); echo $n > /volume/count; sleep 0.1; done")
    yield made
    runtime.call("delete", "--force", BACK)
    runtime.close()
    shutil.rmtree(folder, ignore_errors=True)


def count_of(container: Container, above: int = 0) -> int:
    """Wait until the container has counted further than `above`."""
    path = container.runtime.folder / "volume/count"
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        text = path.read_text().strip() if path.exists() else ""
        if text.isdigit() and int(text) > above:
            return int(text)
        time.sleep(0.05)
    raise AssertionError(f"it does not count beyond {above}")


def save(container: Container, *words: str, images: str = "images") -> None:
    folder = container.runtime.folder / images
    done = container.call(
        "--criu", CRIU, "checkpoint", "--image-path", folder, *words, container.id
    )
    assert done.returncode == 0, (done.stderr, log_of(folder))


def log_of(folder: pathlib.Path) -> list[str]:
    lines = [line for log in folder.glob("*.log") for line in log.read_text().splitlines()]
    return [line for line in lines if "Error" in line][-8:]


def restore(container: Container, *words: str, images: str = "images") -> None:
    folder = container.runtime.folder / images
    done = container.call(
        "--criu",
        CRIU,
        "restore",
        "--detach",
        "--bundle",
        container.folder,
        "--pid-file",
        container.folder / "pid",
        "--image-path",
        folder,
        *words,
        BACK,
    )
    assert done.returncode == 0, (done.stderr, log_of(folder))


def test_container_is_saved_and_goes_on_under_another_id(container: Container) -> None:
    container.started()
    count_of(container, 2)
    save(container)
    assert container.call("state", container.id).returncode != 0
    at = count_of(container)
    restore(container)
    assert count_of(container, at) >= at + 1
    done = container.call("exec", BACK, "/bin/sh", "-c", "cat /proc/timer_list; ls /proc/acpi")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    groups = pathlib.Path(f"/proc/{container.pid}/cgroup").read_text().split()
    assert all(group.rpartition("/")[2] == BACK for group in groups), groups
    assert container.call("delete", BACK).returncode != 0  # it runs
    assert container.call("pause", BACK).returncode == 0
    assert b'"paused"' in container.call("state", BACK).stdout
    assert container.call("delete", "--force", BACK).returncode == 0
    assert not list(pathlib.Path("/sys/fs/cgroup").glob(f"*/{BACK}"))


def test_limits_are_those_of_the_configuration(container: Container) -> None:
    container.started()
    count_of(container, 2)
    save(container)
    container.linux["resources"]["pids"] = {"limit": 33}
    container.write()
    restore(container)
    group = container.cgroup("pids")
    assert (group / "pids.max").read_text() == "33\n"


def test_container_can_go_on_after_it_was_saved(container: Container) -> None:
    container.started()
    count_of(container, 2)
    save(container, "--leave-running")
    at = count_of(container)
    assert container.status() == "running"
    count_of(container, at)


@needs("criu-memory")
def test_memory_is_saved_beforehand(container: Container) -> None:
    container.started()
    count_of(container, 2)
    save(container, "--pre-dump", images="before")
    assert container.status() == "running"
    save(container, "--parent-path", "../before")
    at = count_of(container)
    restore(container)
    count_of(container, at)


def save_with_terminal(container: Container, console: ConsoleSocket) -> None:
    """Save a container that has answered one line on its terminal."""
    assert container.create("--console-socket", console.path).returncode == 0
    console.receive()
    container.start()
    os.write(console.master, b"one\n")
    console.read_until(b"got one")
    save(container)


def test_terminal_is_sent_to_the_engine_again(container: Container, tmp_path: pathlib.Path) -> None:
    container.process["terminal"] = True
    container.script("stty -echo; while read line; do echo got $line; done")
    console, again = ConsoleSocket(container.runtime.folder), ConsoleSocket(tmp_path)
    try:
        save_with_terminal(container, console)
        restore(container, "--console-socket", again.path)
        os.write(again.receive(), b"two\n")
        again.read_until(b"got two", SECONDS)
    finally:
        console.close()
        again.close()


def test_terminal_in_the_foreground_is_joined_to_ours(container: Container) -> None:
    container.process["terminal"] = True
    container.script("stty -echo; while read line; do echo got $line; done; exit 5")
    console = ConsoleSocket(container.runtime.folder)
    try:
        save_with_terminal(container, console)
        words = ["restore", "--bundle", container.folder]
        words += ["--image-path", container.runtime.folder / "images", BACK]
        with Terminal(container.runtime.words("--criu", CRIU, *words)) as ours:
            ours.type("two\n")
            ours.expect("got two")
            ours.type("\x04")
            assert ours.wait() == 5
            assert termios.tcgetattr(ours.slave) == ours.before
    finally:
        console.close()


@pytest.mark.parametrize("damage", ["nothing", "pages", "mounts"])
def test_damaged_images_are_refused_and_leave_nothing(container: Container, damage: str) -> None:
    container.started()
    count_of(container, 2)
    save(container)
    images = container.runtime.folder / "images"
    for path in images.glob({"nothing": "*", "pages": "core-*", "mounts": "viscum.json"}[damage]):
        path.write_text("{")
    done = container.call(
        "--criu", CRIU, "restore", "--bundle", container.folder, "--image-path", images, BACK
    )
    assert done.returncode == 1
    assert done.stderr.count(b"level=error") == 1, done.stderr
    assert not (container.runtime.root / BACK).exists()
    assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith("/" + BACK)]
