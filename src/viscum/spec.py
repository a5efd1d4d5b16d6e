"""What the user asks for, checked and frozen, with the units in the names' documentation."""

from __future__ import annotations

from .errors import SpecError
from .frozen import Frozen
from .limits import NAME_CHARACTERS, Limits, check_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_NAME",
    "Device",
    "Mount",
    "Rlimit",
    "Spec",
    "check_name",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_NAME = 128
SHARED = "machine"
"""Stands for the namespace of another machine, which is given at the launch."""
LINK = "eth0"
"""What the link of a private network is called in the machine."""


def check_name(name: str) -> str:
    """Return `name` if it can name a machine; raises SpecError otherwise."""
    if not name or len(name) > MAX_NAME or name[0] in "-." or not NAME_CHARACTERS.issuperset(name):
        raise SpecError(
            f"machine name {name!r} is not usable",
            hint=f"letters, digits, _ . - and at most {MAX_NAME} of them; a letter or digit first",
        )
    return name


class Mount(Frozen):
    """A folder or file of the host, or a tmpfs, in the machine.

    `source` and `target` are absolute paths; without `target` the machine sees it where the host
    does. `kind` is "bind" or "tmpfs"; `size` (bytes) and `mode` are of a tmpfs. `volume` is the
    name of a volume, made where it is missing; `source` is then left empty.
    """

    source: str
    target: str = ""
    read_only: bool = False
    kind: str = "bind"
    size: int | None = None
    mode: int = 0o1777
    recursive: bool = True
    exec: bool = True
    volume: str = ""

    @property
    def where(self) -> str:
        """The path in the machine."""
        return self.target or self.source


class Device(Frozen):
    """A device node of the host, shown at `target`; `access` is made of r, w and m."""

    source: str
    target: str = ""
    access: str = "rwm"


class Rlimit(Frozen):
    """A resource limit by its name in getrlimit(2), without RLIMIT_, in small letters."""

    name: str
    soft: int
    hard: int


class Spec(Frozen):
    """One machine as it was asked for. Every field that loosens isolation is off by default."""

    command: tuple[str, ...]
    rootfs: str | None = None
    layers: tuple[str, ...] = ()
    """Folders that make the root together, instead of `rootfs`; the highest first."""
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    user: str = ""
    groups: tuple[str, ...] = ()
    hostname: str | None = None
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    limits: Limits = Limits()
    rlimits: tuple[Rlimit, ...] = ()
    read_only: bool = False
    network: str = "none"
    userns: str = "private"
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = "default"
    no_new_privileges: bool = True
    unmask: bool = False
    sysctls: tuple[tuple[str, str], ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    init: bool = False
    idle: bool = False
    tty: bool = False
    strict: bool = False
    oom_policy: str = "kill"
    """Out of memory: `kill`, `pause`, or `grow:BYTES` up to so many bytes."""
    lives: bool = False
    """Outlives the thread that starts it: ends with the process, and may be resized."""
    detached: bool = False
    """Outlives whoever starts it, under a monitor; may be resized."""
    ends_with_monitor: bool = False
    layer: str = ""
    """Folder of the host that keeps the writable layer; none: it is in memory."""
    stop_signal: int = 15
    stop_timeout: float = 10.0
    identity: tuple[int, int, tuple[int, ...]] = (0, 0, ())
    """uid, gid and additional groups that `user` and `groups` stand for in this root."""
    home: str = "/root"
    cpu_bounds: tuple[float, float] | None = None
    """CPUs that the governor may move `limits.cpus` between."""
    memory_bounds: tuple[int, int] | None = None
    """Bytes that the governor may move `limits.memory` between."""
    machine_class: str = ""
    """How the governor treats it: "latency", "batch" or "idle"."""

    @property
    def bounded(self) -> bool:
        """Whether the governor may move a limit of it."""
        return self.cpu_bounds is not None or self.memory_bounds is not None

    image: str = ""
    """Name of the image that `layers` are of, and the digest of its manifest."""
    image_digest: str = ""
    image_notes: tuple[tuple[str, str], ...] = ()
    """What the store knows of it: what it was pulled as, and which signatures it has."""
    folders: tuple[str, ...] = ()
    """Folders to be made in the root where it lacks them."""

    @property
    def own_root(self) -> bool:
        """Whether the root is the machine's own, and not the host's."""
        return self.rootfs is not None or bool(self.layers)

    @property
    def shares(self) -> bool:
        """Whether a namespace is that of another machine."""
        return SHARED in (self.network, self.pid, self.ipc)

    @property
    def loosened(self) -> tuple[str, ...]:
        """What is given up of the default isolation, by field."""
        fields = (
            "network",
            "userns",
            "pid",
            "ipc",
            "uts",
            "seccomp",
            "unmask",
            "cap_add",
            "devices",
        )
        changed = [name for name in fields if getattr(self, name) != getattr(type(self), name)]
        return (*changed, *(() if self.no_new_privileges else ("no_new_privileges",)))

    def check(self) -> Spec:
        """Return the spec itself once its parts fit together; raises SpecError otherwise."""
        _check_words(self)
        _check_command(self)
        check_limits(self.limits)
        check_link(self)
        if self.oom_policy != "kill" and self.limits.memory is None:
            raise SpecError(f"oom-policy {self.oom_policy!r} needs a limit", hint="give --memory")
        for mount in self.mounts:
            _check_mount(mount)
        layers = ((path, "layer") for path in self.layers)
        for path, what in (
            (self.workdir, "working folder"),
            (self.rootfs, "rootfs"),
            *layers,
            *((path, "folder") for path in self.folders),
        ):
            if path is not None and (not path.startswith("/") or "\0" in path):
                raise SpecError(f"{what} {path!r} is not an absolute path")
        return self


_WORDS: Mapping[str, tuple[str, ...]] = {
    "machine_class": ("", "latency", "batch", "idle"),
    "network": ("none", "host", "private", SHARED),
    "userns": ("private", "host"),
    "pid": ("private", "host", SHARED),
    "ipc": ("private", "host", SHARED),
    "uts": ("private", "host"),
}


def _check_words(spec: Spec) -> None:
    for field, words in _WORDS.items():
        value = getattr(spec, field)
        if value not in words:
            known = ", ".join(filter(None, words))
            raise SpecError(
                f"{field.replace('_', ' ')} {value!r} is unknown", hint=f"one of: {known}"
            )
    if spec.machine_class and not spec.bounded:
        raise SpecError(
            f"class {spec.machine_class!r} without bounds says nothing",
            hint="give bounds to move limits in: --cpus 0.5..2 or --memory 64M..1G",
        )
    if spec.uts == "host" and spec.hostname is not None:
        raise SpecError("a hostname cannot be set with the host's uts namespace")
    if spec.pid != "private" and spec.init:
        raise SpecError("an init needs a pid namespace of its own", hint="drop --init or --pid")
    name = spec.hostname
    if name is not None and not (name.isprintable() and 0 < len(name.encode()) <= 64):
        raise SpecError(f"hostname {name!r} is not usable", hint="1 to 64 printable characters")


def _check_command(spec: Spec) -> None:
    if not spec.command and not spec.idle:
        raise SpecError("there is no command to run")
    for word in (*spec.command, *(text for pair in spec.env for text in pair)):
        _check_text(word)
    if spec.command and not spec.command[0]:
        raise SpecError("the command is empty")
    for name, value in spec.env:
        if not name or "=" in name:
            raise SpecError(f"the environment variable {name!r}={value!r} is not usable")


def _check_text(text: str) -> None:
    """Refuse what the kernel cannot take as a string."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SpecError(f"{text!r} is not text that can be encoded") from None
    if b"\0" in encoded:
        raise SpecError(f"{text!r} contains a NUL byte")


def check_link(spec: Spec) -> None:
    """Raise SpecError where a limit of the network has no link to hold, or cannot hold it."""
    if not spec.limits.of_network:
        return
    if spec.network != "private":
        raise SpecError(
            f"network-max with network {spec.network!r}: there is no link of its own to limit",
            hint="give --network private",
        )
    added = {name.upper().removeprefix("CAP_") for name in spec.cap_add}
    if not added.isdisjoint(("NET_ADMIN", "ALL")):
        raise SpecError("network-max cannot hold a machine with NET_ADMIN, which could lift it")


def _check_mount(mount: Mount) -> None:
    if mount.kind not in ("bind", "tmpfs"):
        raise SpecError(f"mount type {mount.kind!r} is unknown", hint="bind or tmpfs")
    if not mount.where.startswith("/") or "\0" in mount.where:
        raise SpecError(f"mount target {mount.where!r} is not an absolute path")
    parts = [part for part in mount.where.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or parts[0] in ("proc", "sys"):
        raise SpecError(
            f"mount target {mount.where!r} is refused", hint="not the root, /proc or /sys, no .."
        )
    if mount.kind == "bind" and (not mount.source.startswith("/") or "\0" in mount.source):
        raise SpecError(f"mount source {mount.source!r} is not an absolute path")
