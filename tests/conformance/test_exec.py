"""One more process in a running container."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import TYPE_CHECKING

import pytest

from needs import needs

from .container import GUARDED, is_unified

if TYPE_CHECKING:
    from .container import ConsoleSocket, Container

pytestmark = needs("root", "busybox")


@pytest.fixture
def running(container: Container) -> Container:
    """A container that idles."""
    container.process["args"] = ["/bin/sleep", "1000"]
    container.process["env"] = ["PATH=/bin", "FROM=config"]
    return container.idle()


def test_exec_shows_output_and_ends_as_the_command_does(running: Container) -> None:
    done = running.exec("/bin/sh", "-c", "echo out; echo err >&2; exit 6")
    assert (done.returncode, done.stdout, done.stderr) == (6, b"out\n", b"err\n")


def test_exec_is_in_the_containers_namespaces_and_groups(running: Container) -> None:
    script = (
        "for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup"
    )
    text = running.exec("/bin/sh", "-c", script).stdout.decode().splitlines()
    for name, shown in zip(("pid", "net", "ipc", "uts", "mnt"), text, strict=False):
        assert shown == os.readlink(f"/proc/{running.pid}/ns/{name}")
    own = pathlib.Path(f"/proc/{running.pid}/cgroup").read_text().split()
    assert text[5:] == own


def test_exec_has_the_containers_environment_and_more(running: Container) -> None:
    done = running.exec("/bin/sh", "-c", "echo $FROM $MORE", given=("--env", "MORE=1"))
    assert done.stdout == b"config 1\n"


def test_exec_as_a_user_in_a_folder(running: Container) -> None:
    done = running.exec(
        "/bin/sh", "-c", "id -u; id -g; pwd", given=("--user", "1000:1001", "--cwd", "/tmp")
    )
    assert done.stdout.split() == [b"1000", b"1001", b"/tmp"]


def test_exec_has_no_more_capabilities_than_the_container(running: Container) -> None:
    done = running.exec("grep", "Cap", "/proc/self/status")
    own = pathlib.Path(f"/proc/{running.pid}/status").read_text().splitlines()
    assert done.stdout.decode().splitlines() == [line for line in own if line.startswith("Cap")]


def test_exec_reads_a_process(running: Container) -> None:
    process = {
        "args": ["/bin/sh", "-c", "echo $A; id -u; umask"],
        "env": ["A=b", "PATH=/bin"],
        "cwd": "/tmp",
        "user": {"uid": 12, "gid": 13, "umask": 0o77},
    }
    path = running.folder / "process.json"
    path.write_text(json.dumps(process))
    done = running.call("exec", "--process", path, running.id)
    assert done.stdout.split() == [b"b", b"12", b"0077"], done.stderr


def test_exec_detached_writes_a_pid_file(running: Container) -> None:
    path = running.folder / "exec.pid"
    done = running.exec("/bin/sleep", "1000", given=("--detach", "--pid-file", path))
    assert done.returncode == 0, done.stderr
    pid = int(path.read_text())
    end = time.monotonic() + 5
    while b"sleep" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)
    pids = json.loads(running.call("ps", "--format", "json", running.id).stdout)
    assert sorted(pids) == sorted([pid, running.pid])


def test_exec_whose_pid_file_cannot_be_written_is_ended(running: Container) -> None:
    path = running.folder / "nosuch/exec.pid"
    done = running.exec("/bin/sleep", "1000", given=("--detach", "--pid-file", path))
    assert done.returncode == 255
    assert b"no such file or directory" in done.stderr.lower()
    end = time.monotonic() + 5
    while json.loads(running.call("ps", "--format", "json", running.id).stdout) != [running.pid]:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_exec_with_a_terminal(running: Container, console: ConsoleSocket) -> None:
    path = running.folder / "exec.pid"
    words = ["--tty", "--console-socket", console.path, "--detach", "--pid-file", str(path)]
    done = running.exec("/bin/sh", "-c", "tty; sleep 1000", given=tuple(words))
    assert done.returncode == 0, done.stderr
    console.receive()
    assert b"/dev/pts/" in console.read_until(b"/dev/pts/")


def test_exec_of_a_missing_command_is_an_error(running: Container) -> None:
    done = running.exec("nosuch")
    assert done.returncode != 0
    assert b"nosuch" in done.stderr
    assert b"not found" in done.stderr


def test_exec_in_a_folder_that_is_not_there_is_an_error(running: Container) -> None:
    done = running.exec("/bin/true", given=("--cwd", "/nosuch"))
    assert done.returncode != 0
    assert b"no such file or directory" in done.stderr.lower()
    assert not (running.rootfs / "nosuch").exists()


@pytest.mark.v2
def test_exec_enters_a_group_of_the_containers(running: Container) -> None:
    group = running.cgroup("pids") / "below"
    group.mkdir()
    name = "pids:below" if not is_unified() else "below"
    done = running.exec("cat", "/proc/self/cgroup", given=("--cgroup", name))
    assert f"/{running.id}/below" in done.stdout.decode(), done.stderr


@pytest.mark.v2
def test_exec_keeps_out_of_groups_that_are_not_there(running: Container) -> None:
    done = running.exec("/bin/true", given=("--cgroup", "nosuch"))
    assert done.returncode != 0
    assert b"nosuch" in done.stderr


@pytest.mark.v2
@pytest.mark.skipif(not is_unified(), reason="groups of version 1 take processes all the time")
def test_exec_follows_the_first_process_into_a_group_below(container: Container) -> None:
    container.namespace("cgroup")
    container.mount("/sys/fs/cgroup", "cgroup2", "cgroup", "rw", *GUARDED)
    container.script(
        "cd /sys/fs/cgroup; mkdir init; echo 1 >init/cgroup.procs;"
        " echo +pids >cgroup.subtree_control; exec sleep 1000"
    )
    container.started()
    group = container.cgroup("pids")
    while not group.joinpath("cgroup.subtree_control").read_text().strip():
        time.sleep(0.01)
        group = container.cgroup("pids").parent
    done = container.exec("cat", "/proc/self/cgroup")
    assert done.stdout == b"0::/init\n", done.stderr


def test_exec_needs_a_running_container(container: Container) -> None:
    container.started()
    container.wait("stopped")
    assert container.exec("/bin/true").returncode != 0


def test_exec_reaches_a_created_container(container: Container) -> None:
    container.create()
    assert container.exec("/bin/echo", "here").stdout == b"here\n"


def test_exec_keeps_out_of_a_paused_container(running: Container) -> None:
    running.call("pause", running.id)
    assert running.exec("/bin/true").returncode != 0
    running.call("resume", running.id)


def test_exec_has_the_containers_filter(container: Container) -> None:
    from .test_linux import seccomp

    seccomp(container, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})
    container.idle()
    done = container.exec("/bin/mkdir", "/tmp/x")
    assert done.returncode != 0
    assert b"not permitted" in done.stderr


def test_exec_leaves_nothing_when_it_ends(running: Container) -> None:
    running.exec("/bin/true")
    assert json.loads(running.call("ps", "--format", "json", running.id).stdout) == [running.pid]


def test_exec_runs_on_the_cpus_that_are_given(container: Container) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    first, last = str(cpus[0]), str(cpus[-1])
    container.process["execCPUAffinity"] = {"initial": first, "final": last}
    container.idle()
    own = pathlib.Path(f"/proc/{container.pid}/status").read_text()
    every = f"Cpus_allowed_list:\t{first}-{last}" if len(cpus) > 1 else first
    assert every in own, "it is for processes of exec alone"
    done = container.exec("grep", "Cpus_allowed_list", "/proc/self/status")
    assert done.stdout.decode().split()[1:] == [last], done.stderr


def test_exec_starts_on_the_cpus_that_are_given(container: Container) -> None:
    first = str(min(os.sched_getaffinity(0)))
    container.process["execCPUAffinity"] = {"initial": first}
    container.idle()
    done = container.exec("grep", "Cpus_allowed_list", "/proc/self/status")
    assert done.stdout.decode().split()[1:] == [first], done.stderr


@pytest.mark.parametrize("value", ["x", "1-", "3-1", "-1", "8191"])
@pytest.mark.parametrize("which", ["initial", "final"])
def test_exec_refuses_cpus_that_are_not_there(container: Container, which: str, value: str) -> None:
    container.process["execCPUAffinity"] = {which: value}
    container.idle()
    done = container.exec("/bin/true")
    assert done.returncode != 0
    assert done.stderr
