"""What is kept of containers: a folder each below the root, as `native/oci_record.c` reads it."""

from __future__ import annotations

import os

from ..errors import MachineError, SpecError
from ..host import owner_prefix
from .document import dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..drivers.container_groups import Hierarchies

__all__ = [
    "Stored",
    "check_id",
    "list_ids",
    "make",
    "open_stored",
    "remove_files",
    "write_file",
    "write_record",
]

_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_FILES = ("exec.fifo", "pid", ".pid", "config.json", "notify", "record", ".record", "restore.log")
DEAD = ("Z", "X")


def check_id(identity: str) -> str:
    """Return a container's id once it is one that a folder can be named by."""
    if not identity or identity in (".", "..") or set(identity) - _ID or len(identity) > 1024:
        raise SpecError(
            f"invalid container id {identity!r}", hint="letters, digits, and _+-. are allowed"
        )
    return identity


def make(root: str, identity: str) -> str:
    """Make the folder of a new container and return its path; raises MachineError."""
    folder = os.path.join(root, check_id(identity))
    try:
        os.makedirs(root, 0o711, exist_ok=True)
        os.mkdir(folder, 0o711)
    except FileExistsError:
        raise MachineError(f"container with id exists: {identity!r} is taken") from None
    except OSError as error:
        raise MachineError(f"{folder}: {(error.strerror or '').lower()}") from None
    return folder


def remove_files(folder: str) -> None:
    """Remove the folder of a container with what is in it."""
    for name in _FILES:
        try:
            os.unlink(f"{folder}/{name}")
        except OSError:
            continue
    for path in (f"{folder}/root", folder):  # the first is of `restore`
        try:
            os.rmdir(path)
        except OSError:
            continue


def start_time(pid: int) -> int:
    """Return when a process started (proc_pid_stat(5), field 22); 0 once it has ended."""
    try:
        return int(owner_prefix(pid).rpartition("-")[2], 16)
    except (OSError, ValueError):
        return 0


def write_file(path: str, data: bytes) -> None:
    """Write a file that nobody else may read: environments and annotations hold secrets."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=0) as file:
        file.write(data)


def write_record(
    folder: str,
    bundle: str,
    rootfs: str,
    config: dict[str, Any],
    groups: Hierarchies,
    created: str,
    scope: tuple[str, tuple[str, ...]] = ("", ()),
    classes: tuple[str, ...] = (),
) -> None:
    """Write what `state`, `kill` and `delete` need to know."""
    hooks = config.get("hooks", {})
    pid = os.getpid()
    lines = [
        f"id {os.path.basename(folder)}",
        f"version {dump(config['ociVersion'])}",
        f"bundle {dump(bundle)}",
        f"rootfs {dump(rootfs)}",
        f"created {dump(created)}",
        'owner ""',
        f"creator {pid} {start_time(pid)}",
    ]
    lines += [f"cgroup {group.folder}" for group in groups.groups]
    lines += [f"class {folder}" for folder in classes]
    lines += [f"scope {scope[0]}"] if scope[0] else []
    lines += [f"leave {folder}" for folder in scope[1]]
    lines += [f"freezer {groups.freezer}"] if groups.freezer else []
    lines += [f"{kind} 1" for kind in ("poststart", "poststop") if hooks.get(kind)]
    text = "\n".join(lines) + "\n\n" + dump(config.get("annotations", {})) + "\n"
    write_file(f"{folder}/.record", text.encode())
    os.rename(f"{folder}/.record", f"{folder}/record")


class Stored:
    """A container as its folder tells of it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.id = os.path.basename(folder)
        self.fields: dict[str, str] = {}
        self.cgroups: list[str] = []
        self.leave: list[str] = []
        """The groups that whoever creates it came from."""
        self.classes: list[str] = []
        """The folders of classes of service that were made for it."""
        self.annotations: Any = {}
        self.pid, self.started = 0, 0
        self._read()

    def _read(self) -> None:
        from .document import parse

        try:
            with open(f"{self.folder}/record", "rb") as file:
                head, _, tail = file.read().decode("utf-8", "surrogateescape").partition("\n\n")
        except OSError:
            return
        for line in head.splitlines():
            key, _, value = line.partition(" ")
            lists = {"cgroup": self.cgroups, "leave": self.leave, "class": self.classes}
            if key in lists:
                lists[key].append(value)
            else:
                self.fields[key] = value
        self.annotations = parse(tail.encode(), "record")
        try:
            with open(f"{self.folder}/pid", "rb") as file:
                self.pid, self.started = (int(word) for word in file.read().split())
        except (OSError, ValueError):
            return

    def text(self, key: str) -> str:
        """Return a field that is kept as JSON."""
        from .document import parse

        return str(parse(self.fields.get(key, '""').encode(), "record"))

    def lives(self) -> bool:
        """Return whether the first process is there."""
        return bool(self.pid) and start_time(self.pid) == self.started

    def frozen(self) -> bool:
        """Return whether the container is paused."""
        try:
            with open(self.fields.get("freezer", ""), "rb") as file:
                return file.read(2) in (b"FR", b"1\n", b"1")
        except OSError:
            return False

    def status(self) -> str:
        """Return the status as the runtime specification names it, or "paused"."""
        if not self.pid:
            return "creating"
        if not self.lives():
            return "stopped"
        if self.frozen():  # before it was started, too
            return "paused"
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
            os.close(os.open(f"{self.folder}/exec.fifo", flags))
        except OSError:
            return "running"
        return "created"

    def config(self) -> Any:
        """Return the configuration that the container was created with."""
        from .document import check, parse, read_file
        from .schema import CONFIG

        data = read_file(f"{self.folder}/config.json", "configuration")
        return check(parse(data, "config.json"), CONFIG, "")


def open_stored(root: str, identity: str) -> Stored:
    """Return a container; raises MachineError where there is none of that id."""
    folder = os.path.join(root, check_id(identity))
    if not os.path.isdir(folder):
        raise MachineError(f"container {identity} does not exist: container does not exist")
    return Stored(folder)


def list_ids(root: str) -> list[str]:
    """Return the ids of all containers below `root`."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MachineError(f"{root}: {(error.strerror or '').lower()}") from None
    return [name for name in names if os.path.isdir(f"{root}/{name}")]
