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
    "IoLimit",
    "Limits",
    "Mount",
    "Rlimit",
    "Spec",
    "check_limits",
    "check_name",
    "parse_cpu_bounds",
    "parse_cpus",
    "parse_memory_bounds",
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
LINK = "eth0"
"""What the link of a private network is called in the machine."""


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


def _ends(value: object, what: str) -> tuple[object, object]:
    """Return both ends of bounds given as `0.5..2` or as a pair."""
    if isinstance(value, str):
        low, dots, high = value.partition("..")
        if dots and low.strip() and high.strip() and ".." not in high:
            return low.strip(), high.strip()
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0], value[1]
    raise SpecError(f"{what} {value!r} are no bounds", hint="give MIN..MAX, such as 0.5..2")


def parse_cpu_bounds(value: object) -> tuple[float, float]:
    """Return the bounds in CPUs of `0.5..2` or of a pair; raises SpecError."""
    low, high = (parse_cpus(end) for end in _ends(value, "cpus"))  # type: ignore[arg-type]
    if low > high:
        raise SpecError(f"cpus {value!r}: the lower bound is above the upper one")
    most = float(os.cpu_count() or 1)
    if high > most:
        raise SpecError(
            f"cpus {value!r}: this host has {most:g} CPUs", hint=f"at most {most:g} as upper bound"
        )
    return low, high


def parse_memory_bounds(value: object) -> tuple[int, int]:
    """Return the bounds in bytes of `64M..1G` or of a pair; raises SpecError."""
    low, high = (parse_size(end, "memory") for end in _ends(value, "memory"))  # type: ignore[arg-type]
    if low > high:
        raise SpecError(f"memory {value!r}: the lower bound is above the upper one")
    if low < MIN_MEMORY:
        raise SpecError(f"memory {value!r}: the lower bound is too low", hint="at least 512K")
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if high > most:
        raise SpecError(f"memory {value!r}: this host has {most >> 20}M")
    return low, high


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


class IoLimit(Frozen):
    """Bounds of a machine's I/O on one device; None is no bound.

    `device` is a block device by number (`254:0`), or an absolute path, which stands for the
    device that what lies there is stored on. `rbps`, `wbps`: bytes a second read and written.
    `riops`, `wiops`: operations a second. `weight`: 1 to 10000, 100 by default. `latency_us`:
    the latency in microseconds that the machine is owed (version 2 only).
    """

    device: str
    rbps: int | None = None
    wbps: int | None = None
    riops: int | None = None
    wiops: int | None = None
    weight: int | None = None
    latency_us: int | None = None
    own_disk: bool = False
    """The device is a volume's own disk. Found out, not asked for."""


class Limits(Frozen):
    """What a machine may use; None is no limit.

    CPU. `cpus`: CPUs' worth of time; or `cpu_quota` microseconds (-1 for no limit) in each period
    of `cpu_period` microseconds, 100000 by default. `cpu_burst`: microseconds of unused quota that
    may be saved for later. `cpu_shares`: relative weight, 2 to 262144, 1024 by default; or
    `cpu_weight`, 1 to 10000, 100 by default. `cpu_idle`: runs only when nothing else wants to.
    `cpuset_cpus`, `cpuset_mems`: CPUs and memory nodes as `0-2,4`.

    Memory, in bytes. `memory`: the limit. `memory_swap`: of memory and swap together, -1 for no
    limit on swap. `memory_high`: reclaimed and slowed above it. `memory_low`, `memory_min`: not
    reclaimed below it as long as others have something, or ever. `memory_reservation`: what
    `memory_low` is on version 2, and the soft limit on version 1. `memory_zswap`: compressed swap.
    `memory_swappiness`: 0 to 100, version 1 only. `oom_group`: processes are killed together.
    `oom_kill_disable`: processes wait instead (version 1; else what `--oom-policy pause` does).

    Network, in bytes a second, -1 for no limit. `network_rx`, `network_tx`: received and sent over
    the link that a private network has.

    `pids`: number of tasks. `io`: bounds by device. `io_weight`: 1 to 10000, 100 by default.
    `hugetlb`: pairs of a page size (`2MB`) and bytes. `rdma`: pairs of a device and its bounds
    (`hca_handle=2 hca_object=2000`). `misc`: pairs of a resource and a number.
    """

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    pids: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_burst: int | None = None
    cpu_weight: int | None = None
    cpu_idle: bool | None = None
    cpuset_mems: str | None = None
    memory_high: int | None = None
    memory_low: int | None = None
    memory_min: int | None = None
    memory_reservation: int | None = None
    memory_zswap: int | None = None
    memory_swappiness: int | None = None
    oom_group: bool | None = None
    oom_kill_disable: bool | None = None
    io: tuple[IoLimit, ...] = ()
    io_weight: int | None = None
    hugetlb: tuple[tuple[str, int], ...] = ()
    rdma: tuple[tuple[str, str], ...] = ()
    misc: tuple[tuple[str, int], ...] = ()
    network_rx: int | None = None
    network_tx: int | None = None

    @property
    def of_network(self) -> bool:
        """Whether the link is limited."""
        return (self.network_rx, self.network_tx) != (None, None)


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


def check_limits(limits: Limits) -> None:
    """Raise SpecError where a limit makes no sense."""
    _check_memory(limits)
    _check_cpu(limits)
    for name, low, high in _RANGES:
        value = getattr(limits, name)
        if value is not None and not low <= value <= high:
            raise SpecError(
                f"{name.replace('_', '-')} {value} is out of range", hint=f"{low} to {high}"
            )
    for name in ("cpuset_cpus", "cpuset_mems"):
        value = getattr(limits, name)
        if value is not None:
            _check_set(value, name.replace("_", "-"))
    for bound in limits.io:
        _check_io(bound)
    for value in (limits.network_rx, limits.network_tx):
        if value is not None and value != -1 and not _SLOWEST <= value <= MAX_BYTES:
            raise SpecError(
                f"network-max of {value} bytes a second is out of range",
                hint=f"at least {_SLOWEST}, or -1 for no limit",
            )
    for size, _ in limits.hugetlb:
        if not (size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")):
            raise SpecError(f"hugetlb page size {size!r} is unknown", hint="such as 2MB or 1GB")
    for name, value in (*limits.rdma, *limits.misc):
        if not name or not NAME_CHARACTERS.issuperset(name) or "\n" in str(value):
            raise SpecError(f"the limit of {name!r} is not usable", hint="NAME=VALUE")


_SLOWEST = 1024
"""Bytes a second. Less than that is an outage, not a bandwidth."""


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


_RANGES = (
    ("cpu_shares", 2, 262144),
    ("cpu_weight", 1, 10000),
    ("cpu_period", 1000, 1_000_000),
    ("io_weight", 1, 10000),
    ("memory_swappiness", 0, 100),
    ("pids", 1, 1 << 22),
)


def _check_memory(limits: Limits) -> None:
    if limits.memory is not None and not MIN_MEMORY <= limits.memory <= MAX_BYTES:
        raise SpecError(
            f"memory of {limits.memory} bytes is out of range", hint="give at least 512K"
        )
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limits.memory is not None and limits.memory > there:
        raise SpecError(
            f"memory of {limits.memory} bytes is above what this host has",
            hint=f"at most {there >> 20}M",
        )
    swap = limits.memory_swap
    if swap is not None and swap != -1:
        if limits.memory is None:
            raise SpecError("memory-swap needs memory", hint="it is the sum of memory and swap")
        if swap < limits.memory:
            raise SpecError(
                f"memory-swap of {swap} bytes is below memory of {limits.memory}",
                hint="it is the sum of memory and swap",
            )
    bounds = [("memory", limits.memory), ("memory-high", limits.memory_high)]
    for name in ("memory_reservation", "memory_low", "memory_min"):
        value = getattr(limits, name)
        for other, most in bounds:
            if value is not None and most is not None and 0 <= most < value:
                raise SpecError(
                    f"{name.replace('_', '-')} of {value} bytes is above {other} of {most}",
                    hint="what is kept for a machine must fit into what it may use",
                )
    if limits.memory_low is not None and limits.memory_reservation is not None:
        raise SpecError("memory-low and memory-reservation are the same", hint="give one of them")


def _check_cpu(limits: Limits) -> None:
    quota, period = limits.cpu_quota, limits.cpu_period
    count = os.cpu_count() or 1
    if limits.cpus is not None and (quota is not None or period is not None):
        raise SpecError("cpus excludes cpu-quota and cpu-period", hint="cpus is their ratio")
    if limits.cpus is not None and limits.cpus > count:
        raise SpecError(
            f"cpus {limits.cpus:g} is above what this host has", hint=f"0.01 to {count}"
        )
    if limits.cpu_shares is not None and limits.cpu_weight is not None:
        raise SpecError("cpu-shares and cpu-weight are the same", hint="give one of them")
    if quota is not None and quota != -1 and quota < 1000:
        raise SpecError(f"cpu-quota {quota} is out of range", hint="microseconds from 1000, or -1")
    if quota is not None and quota > count * (period or 100_000):
        raise SpecError(
            f"cpu-quota {quota} is above what this host has",
            hint=f"at most {count * (period or 100_000)}: {count} CPUs in each period",
        )
    burst = limits.cpu_burst
    if burst is not None and burst < 0:
        raise SpecError(f"cpu-burst {burst} is out of range", hint="microseconds from 0")
    if burst and quota is not None and burst > quota:
        raise SpecError(f"cpu-burst {burst} is above cpu-quota {quota}")


def _check_set(text: str, what: str) -> None:
    for part in text.split(","):
        low, dash, high = part.partition("-")
        digits = low.isascii() and low.isdigit() and (high or low).isascii()
        if (
            (dash and not high)
            or not digits
            or not (high or low).isdigit()
            or int(high or low) < int(low)
        ):
            raise SpecError(f"{what} {text!r} is not a list of numbers", hint="such as 0-2,4")
        if what == "cpuset-cpus" and int(high or low) >= (os.cpu_count() or 1):
            raise SpecError(f"{what} {text!r} names a CPU that this host does not have")


def _check_io(bound: IoLimit) -> None:
    major, _, minor = bound.device.partition(":")
    if not (bound.device.isascii() and major.isdigit() and minor.isdigit()):
        raise SpecError(
            f"I/O device {bound.device!r} is not a device's number", hint="such as 254:0"
        )
    for name in ("rbps", "wbps", "riops", "wiops", "latency_us"):
        value = getattr(bound, name)
        if value is not None and not 0 < value <= MAX_BYTES:
            raise SpecError(f"I/O limit {name} {value} is out of range", hint="a number above 0")
    if bound.weight is not None and not 1 <= bound.weight <= 10000:
        raise SpecError(f"I/O weight {bound.weight} is out of range", hint="1 to 10000")


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
