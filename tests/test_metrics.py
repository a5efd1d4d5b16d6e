"""`viscum metrics`, read as Prometheus reads it."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

import viscum
from commands import assert_refused, call, start
from needs import needs

if TYPE_CHECKING:
    import pathlib

pytestmark = needs("root")


def samples(text: str) -> dict[tuple[str, str, str], float]:
    """Return the value of each sample by its name, its machine's id and its resource."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, sample.labels.get("id", ""), sample.labels.get("resource", ""))
            assert key not in found
            found[key] = sample.value
    return found


@needs("memory", "cpu", "cgroup-v2")
def test_metrics_tell_what_machines_use() -> None:
    with viscum.Machine(memory="64M", cpus=0.5) as machine:
        machine.run(["/usr/bin/python3", "-c", "for i in range(10**6): i"])
        done = call("metrics")
        assert done.returncode == 0, done.stderr
        found = samples(done.stdout.decode())
    assert found["viscum_machine_cpu_seconds_total", machine.id, ""] > 0.01
    assert found["viscum_machine_memory_limit_bytes", machine.id, ""] == 64 << 20
    assert found["viscum_machine_cpu_limit_cores", machine.id, ""] == 0.5
    assert found["viscum_machine_memory_peak_bytes", machine.id, ""] > 1 << 20
    assert found["viscum_machine_tasks", machine.id, ""] == 1
    for resource in ("cpu", "memory", "io"):
        assert ("viscum_machine_pressure_waiting_seconds_total", machine.id, resource) in found
    assert found["viscum_machines", "", ""] >= 1


def test_metrics_have_the_name_of_the_machine() -> None:
    name = f"metrics-{os.getpid()}"
    with start("run", "--name", name, "--", "sh", "-c", "echo ready; sleep 60") as process:
        assert process.stdout.readline() == b"ready\n"
        text = call("metrics").stdout.decode()
        process.terminate()
        process.wait(20)
    assert f'machine="{name}"' in text


def test_metrics_are_written_to_a_file(folder: pathlib.Path) -> None:
    done = call("metrics", "--textfile", str(folder / "viscum.prom"))
    assert done.returncode == 0, done.stderr
    assert "viscum_machines" in (folder / "viscum.prom").read_text()
    assert [path.name for path in folder.iterdir()] == ["viscum.prom"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_metrics_are_served() -> None:
    port = free_port()
    with start("metrics", "--listen", str(port), stderr=-1) as process:
        assert b"serving" in process.stderr.readline()
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                assert "viscum_machines" in answer.read().decode()
        assert_refused(call("metrics", "--listen", str(port)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


@pytest.mark.parametrize(
    "words",
    [
        ["--listen", "nowhere"],
        ["--listen", "127.0.0.1:0"],
        ["--listen", "70000"],
        ["--listen", "203.0.113.1:9470"],
        ["--textfile", "/no/such/folder/file"],
        ["--textfile", "x", "--listen", "9470"],
    ],
    ids=str,
)
def test_senseless_use_of_metrics_is_one_clear_error(words: list[str]) -> None:
    assert_refused(call("metrics", *words))
