"""What our runtime promises of hooks and of `start` beyond what every runtime keeps."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import Container, runtime_of_its_own
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
