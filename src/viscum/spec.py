"""What the user asks for, checked and frozen, with the units in the names' documentation."""

from __future__ import annotations

import os

from .errors import SpecError
from .frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_NAME",
    "NAME_CHARACTERS",
    "Device",
    "Limits",
    "Mount",
    "Rlimit",
    "Spec",
    "check_limits",
    "check_name",
    "parse_cpus",
    "parse_size",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
MAX_BYTES = (1 << 63) - 4096
MIN_MEMORY = 512 << 10
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
MAX_NAME = 128
SHARED = "machine"
"""Stands for the namespace of another machine, which is given at the launch."""


def parse_size(text: str | int, what: str = "size") -> int:
    """Return a number of bytes from `64m`, `1.5G`, `4096`; units are powers of 1024.

    Raises SpecError for anything that is not a positive, finite number of bytes.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        number, unit = float(min(max(text, -1), 1 << 64)), ""
    else:
        word = str(text).strip().lower()
        word = word.removesuffix("b") if word[-2:-1] in (*"kmgti",) else word
        word = word.removesuffix("i")
        unit = word[-1:] if word[-1:] in UNITS and word else ""
        number = _parse_number(word[: len(word) - len(unit)], text, what)
    size = number * UNITS[unit]
    if not 0 < size <= MAX_BYTES:
        raise SpecError(
            f"{what} {text!r} is out of range", hint="give bytes above 0, such as 512M or 2g"
        )
    return int(text) if isinstance(text, int) else int(size)


def _parse_number(word: str, text: object, what: str) -> float:
    if word and word.isascii() and word.replace(".", "", 1).isdigit():
        return float(word)
    if word[:1] == "-" and word[1:].replace(".", "", 1).isdigit():
        return float(word)
    raise SpecError(f"{what} {text!r} is not a size", hint="give bytes above 0, such as 512M or 2g")


def parse_cpus(value: str | float) -> float:
    """Return a number of CPUs, at least 0.01, from `1.5`; raises SpecError for anything else."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = 0.0
    if not 0.01 <= number <= 1 << 16:
        raise SpecError(f"cpus {value!r} is out of range", hint="give CPUs of at least 0.01: 1.5")
    return number


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
    name of the volume that `source` belongs to, where there is one.
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


class Limits(Frozen):
    """What a machine may use; None is no limit.

    `memory`: bytes. `memory_swap`: bytes of memory and swap together, -1 for no limit on swap.
    `cpus`: CPUs' worth of time. `cpu_shares`: relative weight, 2 to 262144, 1024 by default.
    `cpuset_cpus`: a list as `0-2,4`. `pids`: number of tasks.
    """

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    pids: int | None = None


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
    image: str = ""
    """Name of the image that `layers` are of, and the digest of its manifest."""
    image_digest: str = ""
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
            raise SpecError(f"{field} {value!r} is unknown", hint=f"one of: {', '.join(words)}")
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


def check_limits(limits: Limits) -> None:
    """Raise SpecError where a limit makes no sense."""
    if limits.memory is not None and not MIN_MEMORY <= limits.memory <= MAX_BYTES:
        raise SpecError(
            f"memory of {limits.memory} bytes is out of range", hint="give at least 512K"
        )
    swap = limits.memory_swap
    if swap is not None and swap != -1:
        if limits.memory is None:
            raise SpecError("memory-swap needs memory", hint="it is the sum of memory and swap")
        if swap < limits.memory:
            raise SpecError(f"memory-swap of {swap} bytes is below memory of {limits.memory}")
    if limits.cpu_shares is not None and not 2 <= limits.cpu_shares <= 262144:
        raise SpecError(f"cpu-shares {limits.cpu_shares} is out of range", hint="2 to 262144")
    if limits.pids is not None and not 1 <= limits.pids <= 1 << 22:
        raise SpecError(f"pids limit {limits.pids} is out of range", hint="1 to 4194304")
    if limits.cpuset_cpus is not None:
        _check_cpuset(limits.cpuset_cpus)


def _check_cpuset(text: str) -> None:
    for part in text.split(","):
        low, _, high = part.partition("-")
        digits = low.isascii() and low.isdigit() and (high or low).isascii()
        if not digits or not (high or low).isdigit() or int(high or low) < int(low):
            raise SpecError(f"cpuset-cpus {text!r} is not a list of CPUs", hint="such as 0-2,4")
        if int(high or low) >= (os.cpu_count() or 1):
            raise SpecError(f"cpuset-cpus {text!r} names a CPU that this host does not have")


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
