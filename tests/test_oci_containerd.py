"""containerd on top of viscum-oci, by `ctr` and by its CRI socket, as Kubernetes uses it."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from callers import script
from conformance.container import make_rootfs
from images import write_image
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cri import Cri

pytestmark = [needs("root", "busybox", "containerd"), pytest.mark.timeout(240)]

RUNTIME = script("viscum-oci")
IMAGE = "localhost/viscum/small:1"
TIMEOUT = 60
RUNNING, EXITED = 1, 2

CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper",
]
[grpc]
  address = "{folder}/c.sock"
[ttrpc]
  address = "{folder}/c.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "viscum"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.viscum]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.viscum.options]
        BinaryName = "{runtime}"
        Root = "{folder}/oci"
"""


class Containerd:
    """A containerd of our own, with folders and a mount namespace of its own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.socket = folder / "c.sock"
        self.rootfs = folder / "rootfs"
        make_rootfs(self.rootfs)
        text = CONFIG.format(folder=folder, runtime=RUNTIME, image=IMAGE)
        (folder / "config.toml").write_text(text)
        words = ["unshare", "--mount", "--propagation", "slave", "sleep", "infinity"]
        self.space = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        words = [
            "nsenter",
            f"--mount=/proc/{self.space.pid}/ns/mnt",
            "containerd",
            "-c",
            str(self.folder / "config.toml"),
            "-l",
            "warn",
        ]
        self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        end = time.monotonic() + 30
        while self.ctr("version").returncode:
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(30)

    def close(self) -> None:
        """End it with what is left of its containers."""
        self.stop()
        for path in self.folder.glob("state/*/*/*/shim.pid"):
            os.kill(int(path.read_text()), signal.SIGKILL)
        self.space.kill()
        self.space.wait()

    def ctr(self, *words: str) -> subprocess.CompletedProcess:
        command = ["ctr", "-a", str(self.socket), *words]
        return subprocess.run(
            command, capture_output=True, timeout=TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )

    def run(self, name: str, *command: str, detach: bool = False) -> subprocess.CompletedProcess:
        words = ["run", "-d" if detach else "--rm", "--runc-binary", RUNTIME, "--runc-root"]
        words += [str(self.folder / "oci"), "--rootfs", str(self.rootfs), name, *command]
        return self.ctr(*words)

    def tasks(self) -> dict[str, str]:
        rows = self.ctr("task", "ls").stdout.decode().splitlines()[1:]
        return {row.split()[0]: row.split()[2] for row in rows}

    def remove(self, name: str) -> None:
        self.ctr("task", "kill", "-s", "KILL", name)
        end = time.monotonic() + 10
        while self.tasks().get(name) == "RUNNING" and time.monotonic() < end:
            time.sleep(0.05)
        self.ctr("task", "rm", name)
        self.ctr("container", "rm", name)


@pytest.fixture(autouse=True)
def leaves_nothing() -> None:
    """containerd goes on from test to test; what it leaves is looked at when it ends."""


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    """A running containerd; its processes are ended by their ids."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-containerd-"))
    made = Containerd(folder)
    made.start()
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)
    for controller in pathlib.Path("/sys/fs/cgroup").iterdir():
        parent = controller / f"viscum-cri-{os.getpid()}"
        if parent.is_dir():
            parent.rmdir()


def test_ctr_runs_to_the_end(containerd: Containerd) -> None:
    done = containerd.run("once", "/bin/sh", "-c", "id -u; exit 4")
    assert done.stdout == b"0\n", done.stderr
    assert done.returncode == 4


def test_ctr_execs_pauses_and_kills(containerd: Containerd) -> None:
    assert containerd.run("stays", "/bin/sleep", "1000", detach=True).returncode == 0
    assert containerd.tasks()["stays"] == "RUNNING"
    done = containerd.ctr(
        "task", "exec", "--exec-id", "e", "stays", "/bin/sh", "-c", "echo in; exit 5"
    )
    assert (done.returncode, done.stdout) == (5, b"in\n"), done.stderr
    assert containerd.ctr("task", "pause", "stays").returncode == 0
    assert containerd.tasks()["stays"] == "PAUSED"
    assert containerd.ctr("task", "resume", "stays").returncode == 0
    assert b"memory.usage_in_bytes" in containerd.ctr("task", "metrics", "stays").stdout
    containerd.remove("stays")
    assert "stays" not in containerd.tasks()
    assert not (containerd.folder / "oci/default/stays").exists()


def test_ctr_tells_of_a_command_that_is_not_there(containerd: Containerd) -> None:
    done = containerd.run("wrong", "/bin/nosuch")
    assert done.returncode != 0
    assert b"/bin/nosuch" in done.stderr


def test_many_at_once(containerd: Containerd) -> None:
    words = ["ctr", "-a", str(containerd.socket), "run", "--rm", "--runc-binary", RUNTIME]
    words += ["--runc-root", str(containerd.folder / "oci"), "--rootfs", str(containerd.rootfs)]
    started = [
        subprocess.Popen([*words, f"many-{n}", "/bin/sh", "-c", f"exit {n}"], stdout=-3, stderr=-3)
        for n in range(12)
    ]
    assert [process.wait(120) for process in started] == list(range(12))
    assert not any(name.startswith("many") for name in containerd.tasks())


@pytest.fixture(scope="module")
def cri(containerd: Containerd) -> Iterator[Cri]:
    """The CRI socket, with an image to run."""
    from cri import Cri

    archive = containerd.folder / "image.tar"
    write_image(containerd.rootfs, archive, IMAGE, ["/bin/sleep", "1000000"])
    done = containerd.ctr("-n", "k8s.io", "images", "import", str(archive))
    assert done.returncode == 0, done.stderr
    logs = containerd.folder / "logs"
    logs.mkdir()
    made = Cri(str(containerd.socket), "viscum", IMAGE, str(logs))
    yield made
    for pod in list(made.pods()):
        made.call("StopPodSandbox", (1, pod))
        made.call("RemovePodSandbox", (1, pod))
    made.close()


def test_pod_with_a_container(cri: Cri, containerd: Containerd) -> None:
    pod = cri.run_pod("first")
    container = cri.create(pod, "main", ["/bin/sh", "-c", "echo to the log; sleep 1000"])
    cri.call("StartContainer", (1, container))
    assert cri.state(container) == RUNNING
    assert cri.exec(container, "/bin/sh", "-c", "echo hello; exit 3") == (3, b"hello\n")
    assert cri.call("ContainerStats", (1, container))[1]
    log = containerd.folder / "logs/main.log"
    end = time.monotonic() + 10
    while "to the log" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    cri.call("StopContainer", (1, container), (2, 1))
    assert cri.state(container) == EXITED
    cri.call("RemoveContainer", (1, container))
    cri.call("StopPodSandbox", (1, pod))
    cri.call("RemovePodSandbox", (1, pod))
    assert pod not in list(cri.pods())


def test_streams_of_attach_exec_and_forwarded_ports_are_offered(cri: Cri) -> None:
    pod = cri.run_pod("streams")
    container = cri.create(pod, "main", ["/bin/sleep", "1000"])
    cri.call("StartContainer", (1, container))
    answer = cri.call("Exec", (1, container), (2, "/bin/true"), (5, 1))
    assert answer[1][0].startswith(b"http://")
    assert cri.call("Attach", (1, container), (4, 1))[1][0].startswith(b"http://")
    assert cri.call("PortForward", (1, pod), (2, 80))[1][0].startswith(b"http://")


def test_bytes_flow_through_a_forwarded_port(cri: Cri) -> None:
    pod = cri.run_pod("forwards")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["/bin/busybox", "nc", "-l", "-p", str(port), "-e", "/bin/cat"]
    container = cri.create(pod, "echo", command)
    cri.call("StartContainer", (1, container))
    tables = [pathlib.Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    end = time.monotonic() + 10
    while not any(f":{port:04X} " in table.read_text() for table in tables):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert cri.forward(pod, port, b"there and back") == b"there and back"


def test_pod_whose_process_is_killed_is_seen_to_end(cri: Cri, containerd: Containerd) -> None:
    pod = cri.run_pod("killed")
    container = cri.create(pod, "main", ["/bin/sleep", "1000"])
    cri.call("StartContainer", (1, container))
    pid = int((containerd.folder / f"oci/k8s.io/{container}/pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while cri.state(container) != EXITED:
        assert time.monotonic() < end
        time.sleep(0.05)
    cri.call("StopPodSandbox", (1, pod))
    cri.call("RemovePodSandbox", (1, pod))


def test_containerd_restarts_under_running_pods(cri: Cri, containerd: Containerd) -> None:
    pod = cri.run_pod("survivor")
    container = cri.create(pod, "main", ["/bin/sleep", "1000"])
    cri.call("StartContainer", (1, container))
    containerd.stop(signal.SIGKILL)
    containerd.start()
    end = time.monotonic() + 30
    while True:
        try:
            assert cri.exec(container, "/bin/echo", "still here") == (0, b"still here\n")
            break
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    assert cri.state(container) == RUNNING
    cri.call("StopPodSandbox", (1, pod))
    cri.call("RemovePodSandbox", (1, pod))
