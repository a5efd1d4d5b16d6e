"""Podman and Buildah on top of viscum-oci, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import callers
import terminals
from callers import script
from conformance.container import make_rootfs
from images import write_image
from needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [needs("root", "busybox", "podman"), pytest.mark.timeout(240)]

TIMEOUT = 60
USER = 60124
CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
events_logger = "none"
"""


class Podman:
    """Podman with folders of its own."""

    def __init__(self, folder: pathlib.Path, prefix: list[str], runtime: str) -> None:
        self.folder = folder
        self.prefix = prefix
        (folder / "containers.conf").write_text(CONF)
        self.words = ["podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        self.words += ["--tmpdir", f"{folder}/tmp", "--storage-driver", "vfs"]
        self.words += ["--cgroup-manager", "cgroupfs", "--runtime", runtime]
        self.rootfs = folder / "rootfs"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CONTAINERS_CONF": f"{folder}/containers.conf",
        }

    def call(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        command = [*self.prefix, *self.words, *words]
        settings = {"stdin": subprocess.DEVNULL, "timeout": TIMEOUT, **options}
        return subprocess.run(
            command, capture_output=True, check=False, env=self.environment, cwd="/", **settings
        )

    def run(self, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        given = ["--network", "none", *options, "--rootfs", str(self.rootfs)]
        return self.call("run", "--rm", *given, *words)

    def start(self, name: str, *words: str, options: tuple[str, ...] = ()) -> None:
        given = ["--name", name, "--network", "none", *options, "--rootfs", str(self.rootfs)]
        done = self.call("run", "-d", *given, *words)
        assert done.returncode == 0, done.stderr

    def inspect(self, name: str) -> dict:
        return json.loads(self.call("inspect", name).stdout)[0]

    def close(self) -> None:
        self.call("pod", "rm", "--all", "--force", "--time", "0")
        self.call("rm", "--all", "--force", "--time", "0")


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    folder = pathlib.Path(callers.shared_folder())
    made = Podman(folder, [], script("viscum-oci"))
    make_rootfs(made.rootfs)
    yield made
    made.close()
    for controller in pathlib.Path("/sys/fs/cgroup").iterdir():
        parent = controller / "libpod_parent"
        if parent.is_dir() and not any(each.is_dir() for each in parent.iterdir()):
            parent.rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def test_run(podman: Podman) -> None:
    done = podman.run("/bin/sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, b"out\n", b"err\n")


def test_run_of_a_missing_command_is_127(podman: Podman) -> None:
    done = podman.run("nosuch")
    assert done.returncode == 127
    assert b"nosuch" in done.stderr


def test_run_of_what_is_no_program_is_126(podman: Podman) -> None:
    (podman.rootfs / "tmp/plain").write_text("text")
    assert podman.run("/tmp/plain").returncode == 126


def test_run_with_what_people_ask_for(podman: Podman) -> None:
    source = podman.folder / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    options = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "20", "--read-only")
    options += ("-v", f"{source}:/mnt:ro", "--tmpfs", "/scratch", "--device", "/dev/fuse")
    options += ("-w", "/mnt", "-u", "1000:1000", "--hostname", "named", "--cap-drop", "all")
    text = "id -u; pwd; cat file; hostname; test -c /dev/fuse && echo fuse; touch /x 2>/dev/null || echo ro"
    done = podman.run("/bin/sh", "-c", text, options=options)
    assert done.stdout.split() == [b"1000", b"/mnt", b"content", b"named", b"fuse", b"ro"], (
        done.stderr
    )


def test_privileged(podman: Podman) -> None:
    done = podman.run("/bin/sh", "-c", "grep CapEff /proc/self/status", options=("--privileged",))
    assert int(done.stdout.split()[1], 16) >> 21 & 1


def test_user_namespace(podman: Podman) -> None:
    podman.run("/bin/true")  # as root: it makes what Podman mounts over in this rootfs of root's
    done = podman.run("/bin/cat", "/proc/self/uid_map", options=("--uidmap", "0:100000:2000"))
    assert done.stdout.split() == [b"0", b"100000", b"2000"], done.stderr


def test_life_of_a_container(podman: Podman) -> None:
    podman.start("life", "/bin/sleep", "1000")
    done = podman.call("exec", "life", "/bin/sh", "-c", "echo in; exit 3")
    assert (done.returncode, done.stdout) == (3, b"in\n"), done.stderr
    assert podman.call("exec", "life", "nosuch").returncode == 127
    assert b"sleep" in podman.call("top", "life").stdout
    stats = json.loads(podman.call("stats", "--no-stream", "--format", "json", "life").stdout)
    assert stats[0]["pids"] in ("1", 1)
    assert podman.call("pause", "life").returncode == 0
    assert podman.inspect("life")["State"]["Status"] == "paused"
    assert podman.call("unpause", "life").returncode == 0
    assert podman.call("kill", "life").returncode == 0
    podman.call("wait", "life")
    assert podman.inspect("life")["State"]["ExitCode"] == 137
    assert podman.call("start", "life").returncode == 0
    assert podman.call("rm", "--force", "--time", "0", "life").returncode == 0


def test_exec_with_a_terminal(podman: Podman) -> None:
    podman.start("terminal", "/bin/sleep", "1000")
    done = podman.call("exec", "--tty", "terminal", "/bin/sh", "-c", "tty; exit 4")
    assert done.returncode == 4
    assert b"/dev/pts/" in done.stdout


def test_attach(podman: Podman) -> None:
    podman.start("attached", "/bin/sh", "-c", "read line; echo got $line; exit 9", options=("-i",))
    done = podman.call("attach", "attached", stdin=None, input=b"word\n")
    assert done.stdout.split() == [b"got", b"word"], done.stderr
    assert podman.call("wait", "attached").stdout == b"9\n"


def test_healthcheck(podman: Podman) -> None:
    options = ("--health-cmd", "test -e /tmp/healthy", "--health-interval", "disable")
    podman.start("health", "/bin/sleep", "1000", options=options)
    assert podman.call("healthcheck", "run", "health").returncode == 1
    (podman.rootfs / "tmp/healthy").touch()
    assert podman.call("healthcheck", "run", "health").returncode == 0


def test_pod(podman: Podman) -> None:
    archive = podman.folder / "image.tar"
    write_image(podman.rootfs, archive, "localhost/viscum/small:1", ["/bin/sleep", "1000"])
    done = podman.call("load", "--input", str(archive))
    assert done.returncode == 0, done.stderr
    options = ["--infra-image", "localhost/viscum/small:1", "--infra-command", "/bin/sleep 1000"]
    options += ["--network", "none", "--share", "pid,net,ipc,uts"]
    done = podman.call("pod", "create", "--name", "group", *options)
    assert done.returncode == 0, done.stderr
    for name in ("one", "two"):
        given = ["--pod", "group", "--name", name, "localhost/viscum/small:1"]
        done = podman.call("run", "-d", *given, "/bin/sleep", "1000")
        assert done.returncode == 0, done.stderr
    script_ = "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; ps | grep -c [s]leep"
    shown = [podman.call("exec", name, "/bin/sh", "-c", script_).stdout for name in ("one", "two")]
    assert shown[0] == shown[1]
    assert int(shown[0].split()[-1]) >= 3
    assert podman.call("pod", "pause", "group").returncode == 0
    assert podman.call("pod", "unpause", "group").returncode == 0
    assert podman.call("pod", "rm", "--force", "--time", "0", "group").returncode == 0
    assert not podman.call("ps", "--all", "--quiet", "--filter", "pod=group").stdout


@needs("namespace-tools")
def test_user_namespaces_by_itself(podman: Podman) -> None:
    """`--userns=auto` takes ids of the user "containers", whom this host need not have."""
    etc = podman.folder / "etc"
    etc.mkdir()
    binds = []
    rows = {"passwd": "containers:x:60125:60125::/:/bin/sh\n"}
    rows |= dict.fromkeys(("subuid", "subgid"), "containers:2000000:131072\n")
    for name, row in rows.items():
        there = pathlib.Path("/etc", name)
        (etc / name).write_text((there.read_text() if there.exists() else "") + row)
        binds.append(f"mount --bind {etc / name} {there};")
    prefix, podman.prefix = podman.prefix, callers.in_mounts(" ".join(binds), [])
    try:
        image = podman.call("images", "--quiet").stdout
        if not image:
            archive = podman.folder / "auto.tar"
            write_image(podman.rootfs, archive, "localhost/viscum/small:1", ["/bin/sleep", "1000"])
            podman.call("load", "--input", str(archive))
        options = ["--network", "none", "--userns", "auto:size=2000", "localhost/viscum/small:1"]
        done = podman.call("run", "--rm", *options, "/bin/cat", "/proc/self/uid_map")
        assert done.stdout.split() == [b"0", b"2000000", b"2000"], done.stderr
    finally:
        podman.prefix = prefix


@needs("buildah")
def test_buildah_run(podman: Podman) -> None:
    def buildah(*words: str) -> subprocess.CompletedProcess:
        folders = ["--root", f"{podman.folder}/b-root", "--runroot", f"{podman.folder}/b-run"]
        command = ["buildah", *folders, "--storage-driver", "vfs", *words]
        return subprocess.run(
            command,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            env=podman.environment,
            stdin=subprocess.DEVNULL,
        )

    name = buildah("from", "scratch").stdout.decode().strip()
    buildah("add", name, str(podman.rootfs), "/")
    given = ["--isolation", "oci", "--runtime", script("viscum-oci"), "--network", "none"]
    done = buildah("run", *given, name, "--", "/bin/sh", "-c", "echo built > /tmp/built; echo ok")
    assert done.stdout == b"ok\n", done.stderr
    done = buildah("run", *given, name, "--", "/bin/sh", "-c", "cat /tmp/built; exit 3")
    assert (done.returncode, done.stdout) == (3, b"built\n"), done.stderr
    buildah("rm", name)


# As an ordinary user.


@pytest.fixture(params=[("subuid", "subgid"), ()], ids=["subids", "one-id"])
def rootless(request: pytest.FixtureRequest) -> Iterator[Podman]:
    """Podman of a user with subordinate ids, and of one without."""
    folder = pathlib.Path(callers.shared_folder())
    binds = []
    rows = {"passwd": f"ranged:x:{USER}:{USER}::{folder}:/bin/sh\n"}
    rows |= dict.fromkeys(request.param, "ranged:700000:65536\n")
    for name, row in rows.items():
        there = pathlib.Path("/etc", name)
        (folder / name).write_text((there.read_text() if there.exists() else "") + row)
        (folder / name).chmod(0o644)
        binds.append(f"mount --bind {folder / name} {there};")
    words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]
    made = Podman(folder, callers.in_mounts(" ".join(binds), words), callers.installation(folder))
    make_rootfs(made.rootfs)
    (made.rootfs / "etc/group").write_text("root:x:0:root\n")  # as images have it
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    made.environment["XDG_RUNTIME_DIR"] = str(runtime)
    for path in (folder, runtime, made.rootfs, *made.rootfs.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    yield made
    made.close()
    pause = list(folder.rglob("pause.pid"))
    for path in pause:
        os.kill(int(path.read_text()), 9)
    time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


@needs("python", "namespace-tools", "userns")
def test_rootless(rootless: Podman) -> None:
    done = rootless.run("/bin/sh", "-c", "id -u; cat /proc/self/uid_map; exit 6")
    assert done.returncode == 6, done.stderr
    assert done.stdout.split()[:4] == [b"0", b"0", b"60124", b"1"]
    rootless.start("stays", "/bin/sleep", "1000")
    assert rootless.call("exec", "stays", "/bin/echo", "in").stdout == b"in\n"
    assert rootless.call("rm", "--force", "--time", "0", "stays").returncode == 0


def test_terminal_of_the_runtime_itself(podman: Podman) -> None:
    """`run` with a terminal and no engine: ours is made raw and carried."""
    bundle = podman.folder / "bundle"
    bundle.mkdir()
    runtime = script("viscum-oci")
    subprocess.run([runtime, "spec", "--bundle", str(bundle)], check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["root"] = {"path": str(podman.rootfs), "readonly": True}
    config["process"]["args"] = [
        "/bin/sh",
        "-c",
        "echo size $(stty size); read x; tty; echo size $(stty size); exit 8",
    ]
    path.write_text(json.dumps(config))
    root = str(podman.folder / "oci")
    words = [runtime, "--root", root, "run", "--bundle", str(bundle), "tty"]
    with terminals.Terminal(words) as terminal:
        terminal.expect("size 24 80")
        terminal.resize(30, 90)
        terminal.type("go\r")
        terminal.expect("/dev/pts/0")
        terminal.expect("size 30 90")
        assert terminal.wait() == 8
