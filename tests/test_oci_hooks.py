"""What our runtime promises of hooks and of `start` beyond what every runtime keeps."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import Container, is_alive, runtime_of_its_own
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs("root", "busybox")

STATUSES = {
    "prestart": "created",
    "createRuntime": "creating",
    "createContainer": "creating",
    "poststart": "running",
    "poststop": "stopped",
}


@pytest.fixture
def container() -> Iterator[Container]:
    with runtime_of_its_own(script("viscum-oci")) as runtime:
        yield runtime.container()


def test_hooks_are_told_of_a_status(container: Container) -> None:
    container.config["hooks"] = {
        kind: [{"path": "/bin/busybox", "args": ["sh", "-c", f"cat > {container.folder}/{kind}"]}]
        for kind in STATUSES
    }
    container.started()
    container.wait("stopped")
    assert container.delete().returncode == 0
    told = {kind: json.loads((container.folder / kind).read_text())["status"] for kind in STATUSES}
    assert told == STATUSES


def test_start_returns_once_the_command_runs(container: Container) -> None:
    """Until then it is created, as the specification has it: hooks may take their time."""
    container.config["hooks"] = {
        "startContainer": [{"path": "/bin/sleep", "args": ["sleep", "0.5"]}]
    }
    container.process["args"] = ["/bin/sleep", "1000"]
    container.started()
    words = pathlib.Path(f"/proc/{container.pid}/cmdline").read_bytes().split(b"\0")
    assert words[:2] == [b"/bin/sleep", b"1000"]
    assert container.status() == "running"


def test_hooks_of_the_runtime_have_its_score_for_lack_of_memory(container: Container) -> None:
    """What they start may stay on the host; crun gives it the container's score."""
    path, own = container.folder / "score", pathlib.Path("/proc/self/oom_score_adj")
    text = f"cat {own} > {path}"
    container.config["hooks"] = {
        "createRuntime": [{"path": "/bin/busybox", "args": ["sh", "-c", text]}]
    }
    container.process["oomScoreAdj"] = 500
    assert container.output(f"cat {own}") == "500\n"
    assert path.read_text() == own.read_text()


LEAVES = "sleep 1000 & echo $! $$ > {file}.new; mv {file}.new {file}; "
"""A hook that starts something, and tells of both."""


def hook_that(container: Container, kind: str, text: str, **more: object) -> pathlib.Path:
    """Give the container such a hook; return the file in which it tells of its processes."""
    file = container.folder / "pids"
    words = ["sh", "-c", LEAVES.format(file=file) + text]
    entry = {"path": "/bin/sh", "args": words, "env": ["PATH=/bin:/usr/bin"], **more}
    container.config["hooks"] = {kind: [entry]}
    container.process["args"] = ["/bin/sleep", "1000"]
    return file


def reach(container: Container, kind: str) -> list[object]:
    """Bring the container before the verb that runs such hooks; return the verb's words."""
    container.write()
    if kind == "createRuntime":
        return ["create", "--bundle", container.folder, container.id]
    assert container.create().returncode == 0
    if kind == "poststart":
        return ["start", container.id]
    container.start()
    container.kill("KILL")
    container.wait("stopped")
    return ["delete", container.id]


def await_pids(file: pathlib.Path) -> list[int]:
    end = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return [int(word) for word in file.read_text().split()]


def assert_end(*pids: int) -> None:
    end = time.monotonic() + 5
    while any(map(is_alive, pids)):
        assert time.monotonic() < end, pids
        time.sleep(0.01)


LATE = ("createRuntime", "poststart", "poststop")


@pytest.mark.parametrize("kind", LATE)
def test_hook_whose_time_is_over_ends_with_what_it_started(container: Container, kind: str) -> None:
    file = hook_that(container, kind, "wait", timeout=1)
    done = container.call(*reach(container, kind))
    assert b"not over after 1 seconds" in done.stderr
    assert_end(*await_pids(file))


@pytest.mark.parametrize("kind", LATE)
def test_hook_ends_with_the_runtime(container: Container, kind: str) -> None:
    file = hook_that(container, kind, "exec sleep 1000")
    words = container.runtime.words(*reach(container, kind))
    runtime = subprocess.Popen(words, stdin=-3, stdout=-3, stderr=-3, cwd=container.folder)
    left, hook = await_pids(file)
    runtime.kill()
    runtime.wait()
    assert_end(hook)
    subprocess.run(["kill", "-9", str(left)], check=True)
    container.config["hooks"] = {}
    (container.runtime.root / container.id / "config.json").write_text(json.dumps(container.config))
    assert container.delete("--force").returncode == 0


@pytest.mark.parametrize("kind", LATE)
def test_hook_may_leave_something_running(container: Container, kind: str) -> None:
    file = hook_that(container, kind, ":")
    done = container.call(*reach(container, kind))
    left, _ = await_pids(file)
    assert is_alive(left)
    subprocess.run(["kill", "-9", str(left)], check=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("/bin/sh", "exit 5", b"hook /bin/sh: exit status 5"),
        ("/bin/sh", "kill -9 $$", b"hook /bin/sh: signal 9"),
        ("/nosuch", "", b"hook /nosuch: No such file or directory"),
    ],
)
def test_start_container_hook_that_fails_is_told(
    container: Container, path: str, text: str, told: bytes
) -> None:
    container.config["hooks"] = {"startContainer": [{"path": path, "args": ["sh", "-c", text]}]}
    done = container.run("echo ran")
    assert done.returncode != 0
    assert told in done.stderr
    assert b"ran" not in done.stdout
