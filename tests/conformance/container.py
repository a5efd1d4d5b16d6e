"""A runtime under test, called as an engine calls it, and bundles for it."""

from __future__ import annotations

import array
import contextlib
import copy
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 30
UNIFIED = "/sys/fs/cgroup/unified"
BUSYBOX = "/bin/busybox"
APPLETS = (
    "cat chmod chown dd echo env false grep hostname id kill ls mkdir mknod mount mv nice ping ps "
    "pwd readlink rm sh sleep sort stat stty tail test touch tr true tty umount uname wc"
).split()
GUARDED = ["nosuid", "noexec", "nodev"]

CONFIG = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/true"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {
            name: ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"]
            for name in ("bounding", "effective", "permitted")
        },
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs"},
    "hostname": "conformance",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": [*GUARDED, "ro"],
        },
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
    },
}


def runtime_path() -> str:
    """Return the runtime to test: the one that was asked for, or ours."""
    given = os.environ.get("VISCUM_RUNTIME")
    return given or os.path.join(sysconfig.get_path("scripts"), "viscum-oci")


def make_rootfs(path: pathlib.Path) -> None:
    """Make a root of one static program under many names."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "var"):
        (path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in APPLETS:
        (path / "bin" / applet).symlink_to("busybox")
    (path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n"
    )
    (path / "tmp").chmod(0o1777)


def is_unified() -> bool:
    """Return whether this host has control groups of version 2 alone."""
    return os.path.exists("/sys/fs/cgroup/cgroup.controllers")


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Container:
    """A bundle and the container that a runtime makes of it."""

    def __init__(self, runtime: Runtime, folder: pathlib.Path, name: str) -> None:
        self.runtime = runtime
        self.folder = folder
        self.id = name
        self.config = copy.deepcopy(CONFIG)
        self.rootfs = folder / "rootfs"
        make_rootfs(self.rootfs)

    # The configuration.

    @property
    def process(self) -> dict:
        return self.config["process"]

    @property
    def linux(self) -> dict:
        return self.config["linux"]

    def script(self, text: str) -> None:
        self.process["args"] = ["/bin/sh", "-c", text]

    def namespace(self, kind: str, path: str = "") -> None:
        self.linux["namespaces"] = [
            each for each in self.linux["namespaces"] if each["type"] != kind
        ] + [{"type": kind, **({"path": path} if path else {})}]

    def without_namespace(self, kind: str) -> None:
        self.linux["namespaces"] = [
            each for each in self.linux["namespaces"] if each["type"] != kind
        ]

    def mount(self, target: str, kind: str, source: str, *options: str, **more: object) -> None:
        self.config["mounts"].append(
            {
                "destination": target,
                "type": kind,
                "source": source,
                "options": list(options),
                **more,
            }
        )

    def belonging_to(self, user: int) -> Container:
        """Make it one that an ordinary user can create, who has no other ids than that."""
        self.namespace("user")
        for name in ("uidMappings", "gidMappings"):
            self.linux[name] = [{"containerID": 0, "hostID": user, "size": 1}]
        for mount in self.config["mounts"]:
            mount["options"] = [text for text in mount.get("options", []) if text != "gid=5"]
        for path in (self.runtime.root, self.folder):
            os.chown(path, user, user)
        return self

    def write(self) -> None:
        (self.folder / "config.json").write_text(json.dumps(self.config))

    # The verbs.

    def call(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        return self.runtime.call(*words, **options)

    def create(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        self.write()
        pid_file = self.folder / "pid"
        return self.call(
            "create", "--bundle", self.folder, "--pid-file", pid_file, *words, self.id, **options
        )

    @property
    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def start(self) -> subprocess.CompletedProcess:
        return self.call("start", self.id)

    def state(self) -> dict:
        done = self.call("state", self.id)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def status(self) -> str:
        return self.state()["status"]

    def kill(self, *words: str) -> subprocess.CompletedProcess:
        return self.call("kill", *words[1:], self.id, *words[:1])

    def delete(self, *words: str) -> subprocess.CompletedProcess:
        return self.call("delete", *words, self.id)

    def exec(self, *words: object, given: tuple[object, ...] = ()) -> subprocess.CompletedProcess:
        return self.call("exec", *given, self.id, *words)

    def run(self, text: str = "", **options: object) -> subprocess.CompletedProcess:
        """Run the container to its end; its output is kept."""
        if text:
            self.script(text)
        self.write()
        return self.call("run", "--bundle", self.folder, self.id, **options)

    def output(self, text: str = "") -> str:
        """Return what the container prints; it must succeed."""
        done = self.run(text)
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def started(self, *words: str) -> Container:
        """Create and start the container."""
        done = self.create(*words)
        assert done.returncode == 0, done.stderr
        done = self.start()
        assert done.returncode == 0, done.stderr
        return self

    def idle(self) -> Container:
        """Have the container run until it is killed."""
        self.process["args"] = ["/bin/sleep", "1000"]
        return self.started()

    def wait(self, status: str = "stopped", seconds: float = 10) -> None:
        """Wait until the container has that status."""
        end = time.monotonic() + seconds
        while (is_ := self.status()) != status:
            assert time.monotonic() < end, f"still {is_}, not {status}"
            time.sleep(0.02)

    def refused(self, *parts: str) -> str:
        """Return the error of a `create` that must fail, and leave nothing."""
        done = self.create()
        assert done.returncode != 0
        text = done.stderr.decode()
        assert text.strip(), "no error was told"
        for part in parts:
            assert part.lower() in text.lower(), text
        assert self.call("state", self.id).returncode != 0, "the container is there"
        assert "Traceback" not in text
        return text

    def cgroup(self, controller: str) -> pathlib.Path:
        """Return the container's group of a controller, seen from outside."""
        for line in pathlib.Path(f"/proc/{self.pid}/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                return pathlib.Path("/sys/fs/cgroup") / controller / path.strip("/")
            if not names and is_unified():
                return pathlib.Path("/sys/fs/cgroup") / path.strip("/")
        raise AssertionError(f"no group of {controller}")


class Runtime:
    """A runtime by path, with a state folder of its own."""

    def __init__(self, path: str, folder: pathlib.Path) -> None:
        self.path = path
        self.folder = folder
        self.name = os.path.basename(path)
        self.root = folder / "state"
        self.root.mkdir()
        self.made: list[Container] = []

    def words(self, *words: object) -> list[str]:
        """Return the command line that calls the runtime."""
        command = [self.path, "--root", str(self.root), *(str(word) for word in words)]
        if self.name == "crun" and os.path.ismount(UNIFIED):  # a layout that crun 1.8 refuses
            text = f'umount {UNIFIED}; exec "$@"'
            prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", text, "sh"]
            return [*prefix, *command]
        return command

    def call(self, *words: object, **options: object) -> subprocess.CompletedProcess:
        """Call the runtime. Its output goes to files: a container may keep a pipe open."""
        settings = {"stdin": subprocess.DEVNULL, "timeout": TIMEOUT, "cwd": self.folder, **options}
        out, err = self.folder / "stdout", self.folder / "stderr"
        with out.open("wb") as first, err.open("wb") as second:
            done = subprocess.run(
                self.words(*words), stdout=first, stderr=second, check=False, **settings
            )
        return subprocess.CompletedProcess(
            done.args, done.returncode, out.read_bytes(), err.read_bytes()
        )

    def container(self) -> Container:
        """Return a new bundle."""
        name = f"conf-{os.getpid()}-{len(self.made)}"
        folder = self.folder / name
        folder.mkdir()
        made = Container(self, folder, name)
        self.made.append(made)
        return made

    def close(self) -> None:
        """Remove every container that is left."""
        for each in self.made:
            self.call("delete", "--force", each.id)


@contextlib.contextmanager
def runtime_of_its_own(path: str) -> Iterator[Runtime]:
    """Yield a runtime in a new folder; both go, with every container that is left."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="viscum-oci-"))
    folder.chmod(0o755)
    runtime = Runtime(path, folder)
    yield runtime
    runtime.close()
    shutil.rmtree(folder, ignore_errors=True)


class ConsoleSocket:
    """Receives the terminal of a container, as an engine does."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = str(folder / "tty.sock")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        self.master = -1

    def receive(self) -> int:
        self.socket.settimeout(TIMEOUT)
        connection, _ = self.socket.accept()
        with connection:
            _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        numbers.frombytes(control[0][2][:4])
        self.master = numbers[0]
        return self.master

    def read_until(self, text: bytes, seconds: float = 10) -> bytes:
        found, end = b"", time.monotonic() + seconds
        while text not in found:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, found
            try:
                part = os.read(self.master, 4096)
            except OSError:
                break
            if not part:
                break
            found += part
        return found

    def close(self) -> None:
        self.socket.close()
        if self.master >= 0:
            os.close(self.master)
