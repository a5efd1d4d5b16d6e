"""Create, start, state, kill, delete: what each may do when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from needs import needs

from .container import is_alive, is_unified

if TYPE_CHECKING:
    from .container import Container, Runtime

pytestmark = needs("root", "busybox")


def test_create_leaves_the_command_waiting(container: Container) -> None:
    container.script("echo ran > /tmp/ran; sleep 1000")
    assert container.create().returncode == 0
    state = container.state()
    assert state["status"] == "created"
    assert state["pid"] == container.pid
    time.sleep(0.05)
    assert not (container.rootfs / "tmp/ran").exists()


def test_state_tells_what_the_specification_asks_for(container: Container) -> None:
    container.config["annotations"] = {"org.example.key": 'a "value"'}
    container.create()
    state = container.state()
    assert state["id"] == container.id
    assert state["bundle"] == str(container.folder)
    assert state["ociVersion"].startswith("1.")
    assert state["annotations"] == {"org.example.key": 'a "value"'}


def test_start_runs_the_command(container: Container) -> None:
    container.script("echo ran > /tmp/ran; sleep 1000")
    container.started()
    assert container.status() == "running"
    end = time.monotonic() + 5
    while not (container.rootfs / "tmp/ran").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_end_of_the_command_stops_the_container(container: Container) -> None:
    container.started()
    container.wait("stopped")
    assert container.state().get("pid", 0) == 0


def test_create_refuses_an_id_that_is_taken(container: Container) -> None:
    container.create()
    assert container.create().returncode != 0
    assert container.status() == "created"


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", "."])
def test_create_refuses_an_id_that_is_no_name(container: Container, name: str) -> None:
    container.id = name
    done = container.create()
    assert done.returncode != 0
    assert done.stderr.strip()


def test_start_refuses_a_running_container(container: Container) -> None:
    container.idle()
    assert container.start().returncode != 0
    assert container.status() == "running"


def test_start_refuses_a_stopped_container(container: Container) -> None:
    container.started()
    container.wait("stopped")
    assert container.start().returncode != 0


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "pause", "resume", "ps"])
def test_verbs_refuse_a_container_that_is_not_there(runtime: Runtime, verb: str) -> None:
    done = runtime.call(verb, "nobody")
    assert done.returncode != 0
    assert (
        b"does not exist" in done.stderr or b"not found" in done.stderr or b"No such" in done.stderr
    )


@pytest.mark.parametrize("word", ["KILL", "SIGKILL", "9"])
def test_kill_takes_names_and_numbers(container: Container, word: str) -> None:
    container.idle()
    assert container.kill(word).returncode == 0
    container.wait("stopped")


def test_kill_sends_the_signal_that_was_asked_for(container: Container) -> None:
    container.script(
        "trap 'echo got > /tmp/got; exit' USR1; echo ready > /tmp/ready; while :; do sleep 0.05; done"
    )
    container.started()
    end = time.monotonic() + 5
    while not (container.rootfs / "tmp/ready").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert container.kill("USR1").returncode == 0
    container.wait("stopped")
    assert (container.rootfs / "tmp/got").exists()


def test_kill_sends_term_by_default(container: Container) -> None:
    container.script("trap 'exit' TERM; echo ready > /tmp/ready; while :; do sleep 0.05; done")
    container.started()
    while not (container.rootfs / "tmp/ready").exists():
        time.sleep(0.01)
    assert container.call("kill", container.id).returncode == 0
    container.wait("stopped")


def test_kill_reaches_a_created_container(container: Container) -> None:
    container.create()
    assert container.kill("KILL").returncode == 0
    container.wait("stopped")


def test_kill_refuses_a_stopped_container(container: Container) -> None:
    container.started()
    container.wait("stopped")
    done = container.kill("KILL")
    assert done.returncode != 0
    assert container.status() == "stopped"


def test_kill_refuses_a_signal_that_there_is_not(container: Container) -> None:
    container.idle()
    assert container.kill("NOSUCH").returncode != 0
    assert container.status() == "running"


def test_delete_refuses_a_running_container(container: Container) -> None:
    container.idle()
    assert container.delete().returncode != 0
    assert container.status() == "running"


@pytest.mark.v2
def test_delete_takes_a_stopped_container_away(container: Container) -> None:
    container.idle()
    group = container.cgroup("memory")
    assert group.is_dir()
    container.kill("KILL")
    container.wait("stopped")
    assert container.delete().returncode == 0
    assert container.call("state", container.id).returncode != 0
    assert not group.exists()


@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped"])
def test_delete_by_force_takes_any_container_away(container: Container, status: str) -> None:
    container.process["args"] = ["/bin/sleep", "1000"]
    assert container.create().returncode == 0
    pid, group = container.pid, container.cgroup("memory")
    if status != "created":
        container.start()
    if status == "paused":
        assert container.call("pause", container.id).returncode == 0
    if status == "stopped":
        container.kill("KILL")
        container.wait("stopped")
    assert container.delete("--force").returncode == 0
    assert not is_alive(pid)
    assert not group.exists()
    assert container.call("state", container.id).returncode != 0


def test_delete_by_force_accepts_that_there_is_none(runtime: Runtime) -> None:
    assert runtime.call("delete", "--force", "nobody").returncode == 0


def test_an_id_can_be_used_again(container: Container) -> None:
    for _ in range(2):
        container.started()
        container.wait("stopped")
        assert container.delete().returncode == 0


@pytest.mark.parametrize(
    ("text", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$; exit 3", 3)]
)
def test_run_ends_as_the_command_does(container: Container, text: str, code: int) -> None:
    assert container.run(text).returncode == code
    assert container.call("state", container.id).returncode != 0


def test_run_detached_leaves_it_running(container: Container) -> None:
    container.process["args"] = ["/bin/sleep", "1000"]
    container.write()
    done = container.call("run", "--detach", "--bundle", container.folder, container.id)
    assert done.returncode == 0, done.stderr
    assert container.status() == "running"


def test_run_forwards_signals(container: Container, runtime: Runtime) -> None:
    import subprocess

    container.script("trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    container.write()
    words = runtime.words("run", "--bundle", container.folder, container.id)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9


def test_list_tells_of_every_container(container: Container) -> None:
    container.idle()
    rows = json.loads(container.call("list", "--format", "json").stdout)
    assert [(row["id"], row["status"], row["pid"]) for row in rows] == [
        (container.id, "running", container.pid)
    ]
    assert container.call("list", "--quiet").stdout.decode().split() == [container.id]


def test_ps_lists_host_process_ids(container: Container) -> None:
    container.idle()
    done = container.call("ps", "--format", "json", container.id)
    assert json.loads(done.stdout) == [container.pid]


@pytest.mark.v2
def test_pause_and_resume(container: Container) -> None:
    container.idle()
    assert container.call("pause", container.id).returncode == 0
    assert container.status() == "paused"
    assert container.call("resume", container.id).returncode == 0
    assert container.status() == "running"


@pytest.mark.v2
def test_pause_before_the_start(container: Container) -> None:
    container.process["args"] = ["/bin/sleep", "1000"]
    container.create()
    assert container.call("pause", container.id).returncode == 0
    assert container.status() == "paused"
    assert container.start().returncode != 0
    assert container.call("resume", container.id).returncode == 0
    assert container.status() == "created"
    assert container.start().returncode == 0
    assert container.status() == "running"


def test_kill_ends_a_paused_container(container: Container) -> None:
    container.idle()
    container.call("pause", container.id)
    assert container.kill("KILL").returncode == 0
    container.call("resume", container.id)
    container.wait("stopped")


@pytest.mark.v2
def test_events_print_usage(container: Container) -> None:
    container.idle()
    done = container.call("events", "--stats", container.id)
    event = json.loads(done.stdout)
    assert event["type"] == "stats"
    assert event["id"] == container.id
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert event["data"]["memory"]["usage"]["usage"] > 0
    assert event["data"]["pids"]["current"] == 1


@pytest.mark.v2
def test_events_print_what_limits_there_are_and_blocks(container: Container) -> None:
    limits = {"memory": {"limit": 64 << 20, "swap": 96 << 20}, "pids": {"limit": 50}}
    container.linux["resources"] |= limits
    container.script("dd if=/bin/busybox of=/x bs=64k conv=fsync 2>/dev/null; exec sleep 1000")
    container.started()
    kind = "io.stat" if is_unified() else "blkio.bfq.io_service_bytes_recursive"
    file = container.cgroup("blkio") / kind
    data = json.loads(container.call("events", "--stats", container.id).stdout)["data"]
    assert data["memory"]["usage"]["limit"] == 64 << 20
    assert data["memory"]["swap"]["limit"] == 96 << 20
    assert data["memory"]["swap"]["usage"] >= data["memory"]["usage"]["usage"] > 0
    assert data["pids"]["limit"] == 50
    if file.exists() and file.read_text().strip() not in ("", "Total 0"):
        assert {"major", "minor", "op", "value"} <= set(data["blkio"]["ioServiceBytesRecursive"][0])
    if not is_unified():
        assert data["cpuset"]["cpus"] == sorted(os.sched_getaffinity(0))
        assert len(data["cpu"]["usage"]["percpu_user"]) == os.cpu_count()


@pytest.mark.v2
def test_events_of_each_interval(container: Container) -> None:
    container.idle()
    words = container.runtime.words("events", "--interval", "100ms", container.id)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as events:
        assert events.stdout
        lines = [json.loads(events.stdout.readline()) for _ in range(2)]
        container.delete("--force")
        assert events.wait(10) == 0
    assert [line["type"] for line in lines] == ["stats", "stats"]


def test_spec_writes_a_configuration(runtime: Runtime) -> None:
    done = runtime.call("spec", "--bundle", runtime.folder)
    assert done.returncode == 0, done.stderr
    config = json.loads((runtime.folder / "config.json").read_text())
    assert config["process"]["args"] == ["sh"]
    assert runtime.call("spec", "--bundle", runtime.folder).returncode != 0


def test_features_are_told(runtime: Runtime) -> None:
    done = runtime.call("features")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert "createContainer" in found["hooks"]
    for name in ("apparmor", "selinux"):  # whatever this host has
        assert found["linux"][name] == {"enabled": True}


def test_errors_go_to_the_log_in_json(container: Container, runtime: Runtime) -> None:
    log = runtime.folder / "log.json"
    container.process["args"] = ["/no/such/program"]
    container.write()
    done = runtime.call(
        "--log", log, "--log-format", "json", "create", "--bundle", container.folder, container.id
    )
    assert done.returncode != 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["level"] == "error" and "/no/such/program" in line["msg"] for line in lines)


@pytest.mark.parametrize("verb", ["state", "exec"])
def test_errors_beside_a_log_are_told_as_text(runtime: Runtime, verb: str) -> None:
    words = ["--log", runtime.folder / "log.json", "--log-format", "json"]
    done = runtime.call(*words, verb, "nosuch", *(["/bin/true"] if verb == "exec" else []))
    assert done.returncode != 0
    assert done.stderr.strip()
    assert b"{" not in done.stderr
    assert b"level=" not in done.stderr


@pytest.mark.v2
def test_update_changes_limits(container: Container) -> None:
    container.linux["resources"]["memory"] = {"limit": 64 << 20}
    container.idle()
    done = container.call("update", "--memory", str(32 << 20), "--pids-limit", "77", container.id)
    assert done.returncode == 0, done.stderr
    file = "memory.max" if is_unified() else "memory.limit_in_bytes"
    assert int((container.cgroup("memory") / file).read_text()) == 32 << 20
    assert (container.cgroup("pids") / "pids.max").read_text().strip() == "77"


@pytest.mark.v2
def test_update_reads_resources_from_stdin(container: Container) -> None:
    container.idle()
    text = json.dumps({"cpu": {"shares": 512}})
    source = container.folder / "resources.json"
    source.write_text(text)
    done = container.call("update", "--resources", source, container.id)
    assert done.returncode == 0, done.stderr
    file, value = ("cpu.weight", "20") if is_unified() else ("cpu.shares", "512")
    assert (container.cgroup("cpu") / file).read_text().strip() == value
