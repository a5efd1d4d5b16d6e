"""What is written down of a machine that lives on: what was asked for, and what became of it.

`config.json` is the `Config`, written by whoever creates the machine; `status.json` is the
`Status`, written by its monitor (`native/status.c`). Both are replaced by rename.
"""

from __future__ import annotations

import os

from .compact_json import dumps, loads
from .errors import MachineError
from .frozen import Frozen
from .limits import IoLimit, Limits
from .spec import Device, Mount, Rlimit, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    Made = TypeVar("Made")

__all__ = [
    "Brief",
    "Config",
    "Health",
    "LogOptions",
    "Restart",
    "Status",
    "boot_id",
    "pid_namespace",
]

VERSION = 1
DEFAULT_LOG_SIZE = 64 << 20
DEFAULT_LOG_FILES = 2


class Restart(Frozen):
    """When a machine that ended is started again: "no", "on-failure", "always" or
    "unless-stopped"; `maximum` is the number of tries of on-failure, 0 for no bound.
    """

    policy: str = "no"
    maximum: int = 0


class LogOptions(Frozen):
    """How a machine's log is bounded: bytes of a file, number of files, bytes a second (0: no
    bound; the machine waits while it writes faster).
    """

    max_size: int = DEFAULT_LOG_SIZE
    max_files: int = DEFAULT_LOG_FILES
    max_rate: int = 0


class Health(Frozen):
    """A command that tells whether a machine is healthy; times in seconds."""

    command: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    retries: int = 3


class Config(Frozen):
    """A machine as it was asked for. `created` is in nanoseconds of the epoch.

    `group` names its control groups, `owner` the process that a foreground machine ends with (as
    `host.owner_prefix` has it), empty for others. `remove`: it goes once it has ended.
    """

    id: str
    name: str
    created: int
    spec: Spec
    group: str
    owner: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    restart: Restart = Restart()
    log: LogOptions = LogOptions()
    health: Health | None = None
    interactive: bool = False
    remove: bool = False
    timeout: float | None = None
    target: str = ""
    """Id of the machine whose namespaces this one shares (`spec.joined`)."""

    def encode(self) -> bytes:
        """Return the config as JSON."""
        return dumps({"version": VERSION, **_plain(self)}).encode()

    @classmethod
    def decode(cls, data: bytes, path: str) -> Config:
        """Return the config in `data`, read from `path`; raises MachineError."""
        return _decoded(data, path, _config)


class Brief(Frozen):
    """What a listing tells of a config; building all of it takes five times as long."""

    name: str
    created: int
    owner: str
    labels: dict[str, str]
    command: str
    root: str
    network: str

    @classmethod
    def decode(cls, data: bytes, path: str) -> Brief:
        """Return what is told of the config in `data`, read from `path`; raises MachineError."""
        return _decoded(data, path, _brief)


def _decoded(data: bytes, path: str, make: Callable[[dict[str, Any]], Made]) -> Made:
    try:
        plain = loads(data)
        version = plain.pop("version")
        if version == VERSION:
            return make(plain)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MachineError(f"{path!r} is damaged: {error}", hint="viscum rm -f it") from None
    raise MachineError(
        f"{path!r} is of version {version!r}", hint="use the viscum that made it, or rm -f it"
    )


def _brief(plain: dict[str, Any]) -> Brief:
    spec = plain["spec"]
    return Brief(
        str(plain["name"]),
        int(plain["created"]),
        str(plain.get("owner", "")),
        dict(plain.get("labels", ())),
        " ".join(spec["command"]),
        spec.get("image") or spec.get("rootfs") or "host",
        spec.get("network", "none"),
    )


def _plain(value: object) -> Any:
    """Return frozen records as JSON has them, what is as by default left out."""
    if isinstance(value, Frozen):
        return {
            name: _plain(field)
            for name, field in value.__dict__.items()
            if field != getattr(type(value), name, _plain)
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _known(kind: type[Frozen], plain: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise TypeError(f"{kind.__name__} is no object")
    return {name: _tuples(value) for name, value in plain.items()}


_PARTS: Mapping[str, type[Frozen]] = {"mounts": Mount, "devices": Device, "rlimits": Rlimit}


def _spec(plain: Mapping[str, Any]) -> Spec:
    fields = _known(Spec, plain)
    for name, kind in _PARTS.items():
        if name in plain:
            fields[name] = tuple(kind(**_known(kind, item)) for item in plain[name])
    if "limits" in plain:
        limits = _known(Limits, plain["limits"])
        bounds = plain["limits"].get("io", ())
        limits["io"] = tuple(IoLimit(**_known(IoLimit, bound)) for bound in bounds)
        fields["limits"] = Limits(**limits)
    return Spec(**fields)


def _config(plain: Mapping[str, Any]) -> Config:
    fields = _known(Config, plain)
    fields["spec"] = _spec(plain["spec"])
    parts = {"restart": Restart, "log": LogOptions, "health": Health}
    for name, kind in parts.items():
        if name in plain:
            fields[name] = kind(**_known(kind, plain[name]))
    return Config(**fields)


class Status(Frozen):
    """What became of a machine, as its monitor wrote it last.

    Times are in nanoseconds of the epoch, 0 for never; `code` is -1 where it is not known; a
    process is named by its pid and its start time (proc_pid_stat(5), field 22).
    """

    state: str = "created"
    boot: str = ""
    pidns: int = 0
    pid: int = 0
    start: int = 0
    monitor: int = 0
    monitor_start: int = 0
    started: int = 0
    finished: int = 0
    code: int = -1
    signal: int = 0
    oom: int = 0
    restarts: int = 0
    health: str = ""
    failing: int = 0
    stopping: int = 0
    error: str = ""

    def encode(self) -> bytes:
        """Return the status as JSON."""
        return dumps({"version": VERSION, **self.__dict__}).encode()

    @classmethod
    def decode(cls, data: bytes, path: str) -> Status:
        """Return the status in `data`, read from `path`; raises MachineError."""
        try:
            plain = loads(data)
            plain.pop("version")
            return cls(**{name: plain[name] for name in cls.__fields__ if name in plain})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MachineError(f"{path!r} is damaged: {error}", hint="viscum rm -f it") from None


_here: tuple[int, str, int] | None = None


def _place() -> tuple[int, str, int]:
    global _here  # noqa: PLW0603 - this boot and this pid namespace; another one after a fork
    if _here is None or _here[0] != os.getpid():
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        _here = (os.getpid(), boot, os.stat("/proc/self/ns/pid").st_ino)
    return _here


def boot_id() -> str:
    """Return what names this boot of the host."""
    return _place()[1]


def pid_namespace() -> int:
    """Return what names the pid namespace that this process is in."""
    return _place()[2]
